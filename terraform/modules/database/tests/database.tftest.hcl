mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name                     = "handoff-test"
  vpc_id                   = "vpc-1"
  subnet_ids               = ["subnet-1", "subnet-2", "subnet-3"]
  client_security_group_id = "sg-cluster"
  instance_class           = "db.m7g.large"
  max_connections          = 200
  storage_gb               = { initial = 100, limit = 500 }
  multi_az                 = true
  backup_retention_days    = 14
  deletion_protection      = true
  log_kms_key_arn          = "arn:aws:kms:eu-central-1:123456789012:key/logs"
  log_retention_days       = 30
}

run "instance" {
  assert {
    condition     = aws_db_instance.this.storage_encrypted && aws_db_instance.this.kms_key_id == aws_kms_key.this.arn && aws_kms_key.this.enable_key_rotation
    error_message = "Storage is encrypted by a key of our own that is rotated."
  }

  assert {
    condition     = aws_db_instance.this.performance_insights_enabled && aws_db_instance.this.performance_insights_kms_key_id == aws_kms_key.this.arn
    error_message = "Performance Insights are on and encrypted."
  }

  assert {
    condition     = aws_db_instance.this.multi_az && aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot && !aws_db_instance.this.delete_automated_backups
    error_message = "There is a standby, and nothing is lost when somebody deletes the instance."
  }

  assert {
    condition     = aws_db_instance.this.publicly_accessible == false
    error_message = "The database has no public address."
  }

  assert {
    condition     = aws_db_instance.this.backup_retention_period == 14 && aws_db_instance.this.copy_tags_to_snapshot
    error_message = "Backups are kept as long as was asked for."
  }

  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.master_user_secret_kms_key_id == aws_kms_key.this.arn
    error_message = "RDS makes the password and keeps it under our key; Terraform never has it."
  }

  assert {
    condition     = aws_secretsmanager_secret_rotation.password.rotation_rules[0].automatically_after_days == 365 && aws_secretsmanager_secret_rotation.password.rotate_immediately == false
    error_message = "The password isn't changed every 7 days, which RDS does by itself."
  }

  assert {
    condition     = aws_db_instance.this.identifier == "handoff-test-1" && aws_db_instance.this.db_name == "handoff"
    error_message = "The first generation is made empty."
  }
}

run "parameters" {
  assert {
    condition = alltrue([
      for name, value in { synchronous_commit = "on", "rds.force_ssl" = "1", max_connections = "200", log_parameter_max_length = "0", log_parameter_max_length_on_error = "0" } :
      contains([for parameter in aws_db_parameter_group.this.parameter : "${parameter.name}=${parameter.value}"], "${name}=${value}")
    ])
    error_message = "Commits are synchronous, connections encrypted and as many as was asked for; no value of a statement is logged."
  }

  assert {
    condition = alltrue([
      for parameter in aws_db_parameter_group.this.parameter :
      parameter.apply_method == "pending-reboot" if contains(["max_connections", "shared_preload_libraries"], parameter.name)
    ])
    error_message = "RDS refuses to apply at once what Postgres reads at its start."
  }
}

run "who_may_connect" {
  assert {
    condition     = aws_vpc_security_group_ingress_rule.cluster.referenced_security_group_id == "sg-cluster" && aws_vpc_security_group_ingress_rule.cluster.from_port == 5432 && aws_vpc_security_group_ingress_rule.cluster.to_port == 5432
    error_message = "Only the cluster may connect, and only to Postgres."
  }

  assert {
    condition     = tolist(aws_db_instance.this.vpc_security_group_ids) == tolist([aws_security_group.this.id])
    error_message = "No other security group opens the database."
  }
}

run "too_many_connections_for_the_memory" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type.this
    values = { memory_size = 2048 }
  }

  expect_failures = [aws_db_instance.this]
}

run "restored" {
  variables {
    generation = 2
    restore    = { source = "handoff-test-1", time = "2026-11-22T10:00:00Z" }
  }

  assert {
    condition     = aws_db_instance.this.identifier == "handoff-test-2" && aws_db_instance.this.restore_to_point_in_time[0].source_db_instance_identifier == "handoff-test-1" && aws_db_instance.this.restore_to_point_in_time[0].restore_time == "2026-11-22T10:00:00Z"
    error_message = "A restore makes the next instance from the old one's backups."
  }
}

run "wrong_values" {
  command = plan

  variables {
    backup_retention_days = 1
    engine_version        = "14"
    instance_class        = "m7g.large"
    max_connections       = 9000
    storage_gb            = { initial = 100, limit = 100 }
    subnet_ids            = ["subnet-1"]
    restore               = { source = "handoff-test-1", time = "yesterday" }
  }

  expect_failures = [
    var.backup_retention_days, var.engine_version, var.instance_class, var.max_connections,
    var.storage_gb, var.subnet_ids, var.restore,
  ]
}
