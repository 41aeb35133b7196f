# Protected: a standby, a NAT gateway in every zone, nothing that deletes itself.

locals {
  environment = "production"
  region      = "eu-central-1"
}

module "handoff" {
  source = "../../modules/handoff"

  environment        = local.environment
  protected          = true
  cidr               = "10.30.0.0/16"
  domain             = var.domain
  zone_id            = var.zone_id
  client_cidrs       = ["0.0.0.0/0"]
  admin_role_arns    = var.admin_role_arns
  admin_cidrs        = var.admin_cidrs
  alarm_emails       = var.alarm_emails
  grafana            = true
  log_retention_days = 90
  database_ca        = var.database_ca_file == null ? null : file(var.database_ca_file)

  database = {
    instance_class        = "db.m7g.large"
    storage_gb            = { initial = 100, limit = 1000 }
    backup_retention_days = 35
    generation            = var.restore.generation
    restore               = var.restore.source == null ? null : { source = var.restore.source, time = var.restore.time }
  }

  relay = {
    image       = var.image
    replicas    = { min = 3, max = 10 }
    resources   = { cpu = "1", memory = "1Gi" }
    trace_share = 0.1
    settings    = { HANDOFF_SIGNUPS_PER_HOUR = "10" }
  }
}
