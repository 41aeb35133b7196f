mock_provider "aws" {
  source = "../../mocks"
}

mock_provider "helm" {}

variables {
  environment        = "test"
  protected          = false
  cidr               = "10.99.0.0/16"
  domain             = "relay.example.com"
  zone_id            = "Z0123456789"
  client_cidrs       = ["0.0.0.0/0"]
  admin_role_arns    = ["arn:aws:iam::123456789012:role/admin"]
  admin_cidrs        = []
  alarm_emails       = []
  log_retention_days = 30

  database = {
    instance_class        = "db.m7g.large"
    storage_gb            = { initial = 20, limit = 100 }
    backup_retention_days = 7
  }

  relay = {
    image       = { repository = "example.com/handoff", digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000" }
    replicas    = { min = 2, max = 6 }
    pool_size   = 12
    lanes       = 4
    resources   = { cpu = "1", memory = "1Gi" }
    trace_share = 1
  }
}

# The database accepts what the replicas can use, by the values of another environment too.
run "connections" {
  assert {
    condition     = output.connections == { relay = (6 + 2) * (12 + 2 * 4 + 6), database = (6 + 2) * (12 + 2 * 4 + 6) + 20 }
    error_message = "max_connections follows replicas, pool and lanes."
  }
}

run "wrong_values" {
  command = plan

  variables {
    protected   = true
    environment = "Test"
    admin_cidrs = ["0.0.0.0/0"]
  }

  # A protected environment has longer backups, more replicas and somebody to tell.
  expect_failures = [var.environment, var.admin_cidrs, var.database, var.relay, var.alarm_emails]
}
