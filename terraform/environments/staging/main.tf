# Small, and may be torn down: one NAT gateway, no standby.

locals {
  environment = "staging"
  region      = "eu-central-1"
}

module "handoff" {
  source = "../../modules/handoff"

  environment        = local.environment
  protected          = false
  cidr               = "10.20.0.0/16"
  domain             = var.domain
  zone_id            = var.zone_id
  client_cidrs       = ["0.0.0.0/0"]
  admin_role_arns    = var.admin_role_arns
  admin_cidrs        = var.admin_cidrs
  alarm_emails       = var.alarm_emails
  grafana            = false
  log_retention_days = 14
  database_ca        = var.database_ca_file == null ? null : file(var.database_ca_file)

  database = {
    instance_class        = "db.t4g.medium"
    storage_gb            = { initial = 20, limit = 50 }
    backup_retention_days = 7
    generation            = var.restore.generation
    restore               = var.restore.source == null ? null : { source = var.restore.source, time = var.restore.time }
  }

  relay = {
    image       = var.image
    replicas    = { min = 2, max = 4 }
    resources   = { cpu = "250m", memory = "512Mi" }
    trace_share = 1
    settings    = { HANDOFF_SIGNUPS_PER_HOUR = "10" }
  }
}
