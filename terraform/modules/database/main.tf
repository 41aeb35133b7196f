# One Postgres on RDS with a synchronous standby: a commit is answered when both zones have it, which
# is what the relay's guarantee G1 asks for. RDS and not Aurora, since each of the relay's batches
# waits for one flush, and since failover keeps the database's timeline, by which the relay tells a
# restore (its epoch).

locals {
  identifier = "${var.name}-${var.generation}"

  # A backend of Postgres takes about 10 MB at work; half of the memory is for the buffers.
  connections_that_fit = floor(data.aws_ec2_instance_type.this.memory_size / 2 / 10)
}

data "aws_ec2_instance_type" "this" {
  instance_type = trimprefix(var.instance_class, "db.")
}

resource "aws_kms_key" "this" {
  # checkov:skip=CKV2_AWS_64:AWS' default policy is what is wanted: the account decides, by IAM

  description             = "${var.name}: database, backups, password"
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.name}-database"
  target_key_id = aws_kms_key.this.key_id
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

# Without an egress rule the database can call nobody.
resource "aws_security_group" "this" {
  name        = "${var.name}-database"
  description = "Postgres of ${var.name}"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-database" }
}

resource "aws_vpc_security_group_ingress_rule" "cluster" {
  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = var.client_security_group_id
  description                  = "The relay's replicas"
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${var.name}-pg${var.engine_version}-"
  description = "What the relay needs of Postgres"
  family      = "postgres${var.engine_version}"

  dynamic "parameter" {
    for_each = {
      # A 2xx means committed, on the standby too (guarantee G1).
      synchronous_commit = { value = "on" }
      "rds.force_ssl"    = { value = "1" }
      # Read at start only: a change waits for a reboot.
      max_connections          = { value = tostring(var.max_connections), at_reboot = true }
      shared_preload_libraries = { value = "pg_stat_statements", at_reboot = true }
      # A replica that hangs in a transaction must not keep the lanes of the others waiting.
      idle_in_transaction_session_timeout = { value = "60000" }
      # A dead replica's connections, and its locks, go within 30 s.
      tcp_keepalives_idle     = { value = "15" }
      tcp_keepalives_interval = { value = "5" }
      tcp_keepalives_count    = { value = "3" }
      log_lock_waits          = { value = "1" }
      # Statements carry no values: messages' texts must not be in the log.
      log_min_duration_statement        = { value = "1000" }
      log_parameter_max_length          = { value = "0" }
      log_parameter_max_length_on_error = { value = "0" }
    }

    content {
      name         = parameter.key
      value        = parameter.value.value
      apply_method = try(parameter.value.at_reboot, false) ? "pending-reboot" : "immediate"
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_iam_role" "monitoring" {
  name = "${var.name}-database-monitoring"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "monitoring.rds.amazonaws.com" }
    }]
  })
}

data "aws_partition" "this" {}

resource "aws_iam_role_policy_attachment" "monitoring" {
  role       = aws_iam_role.monitoring.name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}

# Made before the instance, so that its logs are never kept for ever.
resource "aws_cloudwatch_log_group" "postgresql" {
  name              = "/aws/rds/instance/${local.identifier}/postgresql"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
}

resource "aws_db_instance" "this" {
  # checkov:skip=CKV2_AWS_69:rds.force_ssl is set, in a dynamic block that isn't seen; the tests look at it

  identifier     = local.identifier
  engine         = "postgres"
  engine_version = var.engine_version
  instance_class = var.instance_class
  db_name        = var.restore == null ? "handoff" : null

  dynamic "restore_to_point_in_time" {
    for_each = var.restore == null ? [] : [var.restore]

    content {
      source_db_instance_identifier = restore_to_point_in_time.value.source
      restore_time                  = restore_to_point_in_time.value.time
      use_latest_restorable_time    = restore_to_point_in_time.value.time == null ? true : null
    }
  }

  # RDS makes the password, keeps it in Secrets Manager and never shows it to Terraform.
  username                            = "handoff"
  manage_master_user_password         = true
  master_user_secret_kms_key_id       = aws_kms_key.this.arn
  iam_database_authentication_enabled = true

  allocated_storage     = var.storage_gb.initial
  max_allocated_storage = var.storage_gb.limit
  storage_type          = "gp3"
  storage_encrypted     = true
  kms_key_id            = aws_kms_key.this.arn

  multi_az               = var.multi_az
  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.this.id]
  publicly_accessible    = false
  port                   = 5432
  parameter_group_name   = aws_db_parameter_group.this.name
  ca_cert_identifier     = "rds-ca-rsa2048-g1"

  backup_retention_period   = var.backup_retention_days
  backup_window             = "02:00-03:00"
  maintenance_window        = "sun:03:30-sun:04:30"
  copy_tags_to_snapshot     = true
  delete_automated_backups  = false
  deletion_protection       = var.deletion_protection
  skip_final_snapshot       = false
  final_snapshot_identifier = "${local.identifier}-final"

  auto_minor_version_upgrade  = true
  allow_major_version_upgrade = false
  apply_immediately           = false

  enabled_cloudwatch_logs_exports       = ["postgresql"]
  monitoring_interval                   = 60
  monitoring_role_arn                   = aws_iam_role.monitoring.arn
  performance_insights_enabled          = true
  performance_insights_kms_key_id       = aws_kms_key.this.arn
  performance_insights_retention_period = 7

  lifecycle {
    precondition {
      condition     = var.max_connections <= local.connections_that_fit
      error_message = "${var.max_connections} connections don't fit into half of the memory of ${var.instance_class} (${local.connections_that_fit} do): take a larger class, fewer replicas or smaller pools."
    }
  }

  depends_on = [aws_cloudwatch_log_group.postgresql]
}

# The relay reads its password at start. RDS would change it every 7 days by default; see the README
# for how to change it on purpose.
resource "aws_secretsmanager_secret_rotation" "password" {
  # checkov:skip=CKV_AWS_304:replicas must be restarted after it; people choose the day

  secret_id          = aws_db_instance.this.master_user_secret[0].secret_arn
  rotate_immediately = false

  rotation_rules {
    automatically_after_days = var.password_rotation_days
  }
}
