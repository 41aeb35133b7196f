mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name               = "handoff-test"
  cidr               = "10.99.0.0/16"
  nat_per_zone       = true
  log_kms_key_arn    = "arn:aws:kms:eu-central-1:123456789012:key/logs"
  log_retention_days = 30
}

run "subnets" {
  assert {
    condition     = length(output.private_subnet_ids) == 3 && length(output.public_subnet_ids) == 3 && length(output.database_subnet_ids) == 3
    error_message = "Each of the three zones has its public, private and database subnet."
  }

  assert {
    condition = length(distinct(concat(
      [for subnet in aws_subnet.public : subnet.cidr_block],
      [for subnet in aws_subnet.private : subnet.cidr_block],
      [for subnet in aws_subnet.database : subnet.cidr_block],
    ))) == 9
    error_message = "No two subnets have the same addresses."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.public : subnet.map_public_ip_on_launch == false])
    error_message = "Nothing gets a public address by itself."
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 3
    error_message = "Each zone has its own NAT gateway."
  }

  assert {
    condition = alltrue([
      for route in concat([aws_route.internet], values(aws_route.nat)) : route.route_table_id != aws_route_table.database.id
    ])
    error_message = "No route leads out of the database's subnets."
  }

  assert {
    condition     = try(length(aws_default_security_group.this.ingress), 0) == 0 && try(length(aws_default_security_group.this.egress), 0) == 0
    error_message = "The default security group allows nothing."
  }

  assert {
    condition     = aws_cloudwatch_log_group.flow.retention_in_days == 30 && aws_cloudwatch_log_group.flow.kms_key_id == var.log_kms_key_arn
    error_message = "The flow log is encrypted and doesn't stay for ever."
  }

  assert {
    condition     = alltrue([for statement in jsondecode(aws_iam_role_policy.flow.policy).Statement : alltrue([for resource in statement.Resource : startswith(resource, aws_cloudwatch_log_group.flow.arn)])])
    error_message = "The flow log's role writes to its own group only."
  }
}

run "one_nat_gateway" {
  variables {
    nat_per_zone = false
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(distinct([for route in aws_route.nat : route.nat_gateway_id])) == 1
    error_message = "All private subnets share one NAT gateway."
  }
}

run "wrong_values" {
  command = plan

  variables {
    cidr               = "10.99.0.0/20"
    zone_count         = 1
    log_retention_days = 31
  }

  expect_failures = [var.cidr, var.zone_count, var.log_retention_days]
}
