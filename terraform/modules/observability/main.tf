# What the relay says of itself: metrics to Prometheus, whose rules are the chart's; traces and logs
# through a collector on each node to X-Ray and CloudWatch. Alarms on AWS' own things are in alarms.tf.

data "aws_caller_identity" "this" {}

data "aws_region" "this" {}

locals {
  account   = data.aws_caller_identity.this.account_id
  region    = data.aws_region.this.region
  namespace = "observability"
  collector = "otel-collector"
}

resource "aws_prometheus_workspace" "this" {
  alias = var.name
}

# AWS runs the scraper; it reads the pods through the cluster's subnets.
resource "aws_prometheus_scraper" "this" {
  alias = var.name

  source {
    eks {
      cluster_arn        = var.cluster.arn
      subnet_ids         = var.cluster.subnet_ids
      security_group_ids = [var.cluster.security_group_id]
    }
  }

  destination {
    amp {
      workspace_arn = aws_prometheus_workspace.this.arn
    }
  }

  scrape_configuration = yamlencode({
    global = { scrape_interval = "30s" }
    scrape_configs = [{
      job_name              = "handoff"
      kubernetes_sd_configs = [{ role = "pod", namespaces = { names = [var.relay_namespace] } }]
      relabel_configs = [
        {
          source_labels = ["__meta_kubernetes_pod_label_app_kubernetes_io_name", "__meta_kubernetes_pod_container_port_number"]
          regex         = "handoff;9464"
          action        = "keep"
        },
        { source_labels = ["__meta_kubernetes_namespace"], target_label = "namespace" },
        { source_labels = ["__meta_kubernetes_pod_name"], target_label = "pod" },
      ]
    }]
  })
}

resource "aws_prometheus_rule_group_namespace" "relay" {
  name         = "handoff"
  workspace_id = aws_prometheus_workspace.this.id
  data         = var.alert_rules
}

resource "aws_prometheus_alert_manager_definition" "this" {
  workspace_id = aws_prometheus_workspace.this.id

  definition = yamlencode({
    alertmanager_config = yamlencode({
      route = {
        receiver        = "alarms"
        group_by        = ["alertname"]
        group_wait      = "30s"
        group_interval  = "5m"
        repeat_interval = "4h"
      }
      receivers = [{
        name = "alarms"
        sns_configs = [{
          topic_arn     = aws_sns_topic.alarms.arn
          sigv4         = { region = local.region }
          send_resolved = true
        }]
      }]
    })
  })

  depends_on = [aws_sns_topic_policy.alarms]
}

resource "aws_kms_key" "alarms" {
  description             = "${var.name}: alarms"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  # In a key's policy the resource "*" is the key itself.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Account"
        Effect    = "Allow"
        Action    = "kms:*"
        Resource  = "*"
        Principal = { AWS = "arn:aws:iam::${local.account}:root" }
      },
      {
        Sid       = "Publishers"
        Effect    = "Allow"
        Action    = ["kms:GenerateDataKey", "kms:Decrypt"]
        Resource  = "*"
        Principal = { Service = ["aps.amazonaws.com", "cloudwatch.amazonaws.com"] }
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      },
    ]
  })
}

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = aws_kms_key.alarms.arn
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.alarms.arn
      Principal = { Service = ["aps.amazonaws.com", "cloudwatch.amazonaws.com"] }
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_sns_topic_subscription" "email" {
  for_each = var.alarm_emails

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.key
}

resource "aws_cloudwatch_log_group" "relay" {
  name              = "/handoff/${var.name}/relay"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
}

resource "aws_iam_role" "collector" {
  name = "${var.name}-collector"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Principal = { Service = "pods.eks.amazonaws.com" }
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnEquals    = { "aws:SourceArn" = var.cluster.arn }
      }
    }]
  })
}

resource "aws_iam_role_policy" "collector" {
  name = "write-traces-and-logs"
  role = aws_iam_role.collector.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "Traces"
        Effect = "Allow"
        Action = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
        # These two know no narrower resource.
        Resource = "*"
      },
      {
        Sid      = "Logs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
        Resource = [aws_cloudwatch_log_group.relay.arn, "${aws_cloudwatch_log_group.relay.arn}:log-stream:*"]
      },
    ]
  })
}

resource "aws_eks_pod_identity_association" "collector" {
  cluster_name    = var.cluster.name
  namespace       = local.namespace
  service_account = local.collector
  role_arn        = aws_iam_role.collector.arn
}

# One on each node: it takes its pods' traces, and reads their logs from the node's files.
resource "helm_release" "collector" {
  name             = local.collector
  namespace        = local.namespace
  create_namespace = true
  repository       = "https://open-telemetry.github.io/opentelemetry-helm-charts"
  chart            = "opentelemetry-collector"
  version          = var.collector_version
  atomic           = true

  values = [yamlencode({
    mode             = "daemonset"
    fullnameOverride = local.collector
    image            = { repository = "otel/opentelemetry-collector-contrib" }
    serviceAccount   = { create = true, name = local.collector }
    service          = { enabled = true, internalTrafficPolicy = "Local" }
    presets = {
      logsCollection       = { enabled = true, includeCollectorLogs = false }
      kubernetesAttributes = { enabled = true }
    }
    ports     = { jaeger-compact = { enabled = false }, jaeger-grpc = { enabled = false }, jaeger-thrift = { enabled = false }, zipkin = { enabled = false } }
    resources = { requests = { cpu = "50m", memory = "128Mi" }, limits = { memory = "256Mi" } }
    config = {
      receivers = {
        # Of the nodes' logs only the relay's.
        filelog = { include = ["/var/log/pods/${var.relay_namespace}_*/*/*.log"] }
      }
      exporters = {
        awsxray           = { region = local.region }
        awscloudwatchlogs = { region = local.region, log_group_name = aws_cloudwatch_log_group.relay.name, log_stream_name = "relay" }
      }
      service = {
        pipelines = {
          traces  = { receivers = ["otlp"], exporters = ["awsxray"] }
          logs    = { receivers = ["filelog"], exporters = ["awscloudwatchlogs"] }
          metrics = null
        }
      }
    }
  })]

  depends_on = [aws_eks_pod_identity_association.collector, aws_iam_role_policy.collector]
}

resource "aws_iam_role" "grafana" {
  count = var.grafana ? 1 : 0

  name = "${var.name}-grafana"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "grafana.amazonaws.com" }
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role_policy" "grafana" {
  count = var.grafana ? 1 : 0

  name = "read-metrics"
  role = aws_iam_role.grafana[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["aps:DescribeWorkspace", "aps:QueryMetrics", "aps:GetLabels", "aps:GetSeries", "aps:GetMetricMetadata"]
      Resource = aws_prometheus_workspace.this.arn
    }]
  })
}

resource "aws_grafana_workspace" "this" {
  count = var.grafana ? 1 : 0

  name                     = var.name
  account_access_type      = "CURRENT_ACCOUNT"
  authentication_providers = ["AWS_SSO"]
  permission_type          = "CUSTOMER_MANAGED"
  role_arn                 = aws_iam_role.grafana[0].arn
  data_sources             = ["PROMETHEUS"]
}
