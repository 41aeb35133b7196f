# One environment of Handoff: what staging and production have in common, which is everything but
# the values of variables.

locals {
  name  = "handoff-${var.environment}"
  chart = "${path.module}/../../../helm/handoff"
}

data "aws_caller_identity" "this" {}

data "aws_region" "this" {}

# One key for all logs. In a key's policy the resource "*" is the key itself.
resource "aws_kms_key" "logs" {
  description             = "${local.name}: logs"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Account"
        Effect    = "Allow"
        Action    = "kms:*"
        Resource  = "*"
        Principal = { AWS = "arn:aws:iam::${data.aws_caller_identity.this.account_id}:root" }
      },
      {
        Sid       = "Logs"
        Effect    = "Allow"
        Action    = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey"]
        Resource  = "*"
        Principal = { Service = "logs.${data.aws_region.this.region}.amazonaws.com" }
        Condition = {
          ArnLike = { "kms:EncryptionContext:aws:logs:arn" = "arn:aws:logs:${data.aws_region.this.region}:${data.aws_caller_identity.this.account_id}:log-group:*" }
        }
      },
    ]
  })
}

module "network" {
  source = "../network"

  name               = local.name
  cidr               = var.cidr
  nat_per_zone       = var.protected
  log_kms_key_arn    = aws_kms_key.logs.arn
  log_retention_days = var.log_retention_days
}

module "cluster" {
  source = "../cluster"

  name                = local.name
  subnet_ids          = module.network.private_subnet_ids
  public_access_cidrs = var.admin_cidrs
  admin_role_arns     = var.admin_role_arns
  deletion_protection = var.protected
  log_kms_key_arn     = aws_kms_key.logs.arn
  log_retention_days  = var.log_retention_days
}

module "database" {
  source = "../database"

  name                     = local.name
  generation               = var.database.generation
  restore                  = var.database.restore
  vpc_id                   = module.network.vpc_id
  subnet_ids               = module.network.database_subnet_ids
  client_security_group_id = module.cluster.security_group_id
  instance_class           = var.database.instance_class
  storage_gb               = var.database.storage_gb
  multi_az                 = var.protected
  backup_retention_days    = var.database.backup_retention_days
  deletion_protection      = var.protected
  log_kms_key_arn          = aws_kms_key.logs.arn
  log_retention_days       = var.log_retention_days

  # 20 for migrations, for people and for what RDS and Postgres keep for themselves.
  max_connections = module.relay.connections + 20
}

module "relay" {
  source = "../relay"

  name                = local.name
  domain              = var.domain
  zone_id             = var.zone_id
  client_cidrs        = var.client_cidrs
  vpc_id              = module.network.vpc_id
  public_subnet_ids   = module.network.public_subnet_ids
  image               = var.relay.image
  replicas            = var.relay.replicas
  pool_size           = var.relay.pool_size
  lanes               = var.relay.lanes
  resources           = var.relay.resources
  settings            = var.relay.settings
  trace_share         = var.relay.trace_share
  database_ca         = var.database_ca
  otlp_endpoint       = module.observability.otlp_endpoint
  deletion_protection = var.protected

  cluster = {
    name              = module.cluster.name
    security_group_id = module.cluster.security_group_id
    oidc_provider_arn = module.cluster.oidc_provider_arn
    oidc_issuer       = module.cluster.oidc_issuer
  }

  database = {
    address         = module.database.address
    secret_arn      = module.database.secret_arn
    kms_key_arn     = module.database.kms_key_arn
    max_connections = module.database.max_connections
  }
}

module "observability" {
  source = "../observability"

  name               = local.name
  alert_rules        = file("${local.chart}/files/alerts.yaml")
  alarm_emails       = var.alarm_emails
  grafana            = var.grafana
  log_kms_key_arn    = aws_kms_key.logs.arn
  log_retention_days = var.log_retention_days
  load_balancer      = module.relay.load_balancer
  certificate_arn    = module.relay.certificate_arn
  replicas_min       = var.relay.replicas.min

  cluster = {
    name              = module.cluster.name
    arn               = module.cluster.arn
    subnet_ids        = module.network.private_subnet_ids
    security_group_id = module.cluster.security_group_id
  }

  database = {
    identifier       = module.database.identifier
    max_connections  = module.database.max_connections
    storage_limit_gb = var.database.storage_gb.limit
  }
}
