mock_provider "aws" {
  source = "../../mocks"
}

mock_provider "helm" {}

variables {
  name               = "handoff-test"
  alert_rules        = "groups: []"
  alarm_emails       = ["on-call@example.com"]
  log_kms_key_arn    = "arn:aws:kms:eu-central-1:123456789012:key/logs"
  log_retention_days = 30
  database           = { identifier = "handoff-test-1", max_connections = 200, storage_limit_gb = 100 }
  load_balancer      = { arn_suffix = "app/test/1", target_group_arn_suffix = "targetgroup/test/2" }
  certificate_arn    = "arn:aws:acm:eu-central-1:123456789012:certificate/1"
  replicas_min       = 3

  cluster = {
    name              = "handoff-test"
    arn               = "arn:aws:eks:eu-central-1:123456789012:cluster/handoff-test"
    subnet_ids        = ["subnet-1", "subnet-2"]
    security_group_id = "sg-cluster"
  }
}

run "everything" {
  variables {
    grafana = true
  }

  assert {
    condition     = aws_prometheus_rule_group_namespace.relay.data == var.alert_rules && strcontains(aws_prometheus_scraper.this.scrape_configuration, "handoff;9464")
    error_message = "Prometheus reads the relay's metrics and minds the chart's rules."
  }

  assert {
    condition     = yamldecode(yamldecode(aws_prometheus_alert_manager_definition.this.definition).alertmanager_config).receivers[0].sns_configs[0].topic_arn == aws_sns_topic.alarms.arn
    error_message = "Prometheus' alerts go where CloudWatch's alarms go."
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : contains(alarm.alarm_actions, aws_sns_topic.alarms.arn) && length(alarm.alarm_description) > 20])
    error_message = "Each alarm tells somebody, in a sentence."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["database-connections"].threshold == 160 && aws_cloudwatch_metric_alarm.this["database-connections"].dimensions.DBInstanceIdentifier == "handoff-test-1" && aws_cloudwatch_metric_alarm.this["healthy-replicas"].threshold == 3 && aws_cloudwatch_metric_alarm.this["healthy-replicas"].treat_missing_data == "breaching"
    error_message = "Thresholds follow the sizes that were given; no replica at all is an alarm too."
  }

  assert {
    condition     = aws_cloudwatch_log_group.relay.retention_in_days == 30 && aws_cloudwatch_log_group.relay.kms_key_id == var.log_kms_key_arn && aws_sns_topic.alarms.kms_master_key_id == aws_kms_key.alarms.arn
    error_message = "Logs and alarms are encrypted, and logs don't stay for ever."
  }

  assert {
    condition     = [for statement in jsondecode(aws_iam_role_policy.collector.policy).Statement : statement.Sid if statement.Resource == "*"] == ["Traces"]
    error_message = "Only X-Ray, which knows no narrower resource, gets a star."
  }

  assert {
    condition     = aws_eks_pod_identity_association.collector.namespace == helm_release.collector.namespace && aws_eks_pod_identity_association.collector.service_account == yamldecode(helm_release.collector.values[0]).serviceAccount.name
    error_message = "The collector's own ServiceAccount has the role."
  }

  assert {
    condition     = output.otlp_endpoint == "http://${yamldecode(helm_release.collector.values[0]).fullnameOverride}.observability:4318"
    error_message = "Traces go to the collector's Service."
  }

  assert {
    condition     = alltrue([for statement in jsondecode(aws_iam_role_policy.grafana[0].policy).Statement : statement.Resource == aws_prometheus_workspace.this.arn])
    error_message = "Grafana reads this environment's metrics only."
  }
}

run "without_grafana" {
  command = plan

  assert {
    condition     = length(aws_grafana_workspace.this) == 0 && length(aws_iam_role.grafana) == 0 && output.grafana_endpoint == null
    error_message = "Grafana is made only when it is asked for."
  }
}

run "wrong_values" {
  command = plan

  variables {
    alert_rules     = "rules: []"
    alarm_emails    = ["nobody"]
    replicas_min    = 1
    certificate_arn = "relay.example.com"
  }

  expect_failures = [var.alert_rules, var.alarm_emails, var.replicas_min, var.certificate_arn]
}
