mock_provider "aws" {
  source = "../../mocks"
}

mock_provider "helm" {}

variables {
  account_id      = "123456789012"
  domain          = "relay.example.com"
  zone_id         = "Z0123456789"
  admin_role_arns = ["arn:aws:iam::123456789012:role/admin"]
  alarm_emails    = ["on-call@example.com"]
  image           = { repository = "example.com/handoff", digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000" }
}


run "production" {
  assert {
    condition     = output.connections.relay + 20 == output.connections.database
    error_message = "The database accepts what the replicas can use, and some more."
  }

  assert {
    condition     = output.url == "https://relay.example.com" && output.cluster_name == "handoff-production" && output.database.identifier == "handoff-production-1"
    error_message = "Things are named after the environment."
  }
}

run "without_a_digest" {
  command = plan

  variables {
    account_id = "production"
    image      = { repository = "example.com/handoff", digest = "latest" }
  }

  expect_failures = [var.account_id, var.image]
}

run "restore_needs_a_new_generation" {
  command = plan

  variables {
    restore = { source = "handoff-production-1" }
  }

  expect_failures = [var.restore]
}
