# Alarms on what Prometheus can't see: the database, the load balancer and the certificate as AWS
# measures them. The relay's own alerts are the chart's rules.

locals {
  database      = { DBInstanceIdentifier = var.database.identifier }
  load_balancer = { LoadBalancer = var.load_balancer.arn_suffix }
  targets       = merge(local.load_balancer, { TargetGroup = var.load_balancer.target_group_arn_suffix })

  alarms = {
    database-cpu = {
      text       = "The database's CPU is over 80 % for 15 minutes: commits wait.", namespace = "AWS/RDS", metric = "CPUUtilization"
      dimensions = local.database, statistic = "Average", over = true, threshold = 80, minutes = 15
    }
    database-connections = {
      text       = "80 % of the database's connections are taken.", namespace = "AWS/RDS", metric = "DatabaseConnections"
      dimensions = local.database, statistic = "Maximum", over = true, threshold = floor(var.database.max_connections * 0.8), minutes = 5
    }
    database-storage = {
      text       = "Less than 10 % of the storage limit is free: it no longer grows, and a full disk stops Postgres.", namespace = "AWS/RDS", metric = "FreeStorageSpace"
      dimensions = local.database, statistic = "Minimum", over = false, threshold = var.database.storage_limit_gb * 0.1 * pow(1024, 3), minutes = 15
    }
    database-memory = {
      text       = "The database has less than 256 MB of memory left.", namespace = "AWS/RDS", metric = "FreeableMemory"
      dimensions = local.database, statistic = "Minimum", over = false, threshold = 256 * pow(1024, 2), minutes = 15
    }
    database-write-latency = {
      text       = "A write to the database's disk takes more than 20 ms: so does each commit.", namespace = "AWS/RDS", metric = "WriteLatency"
      dimensions = local.database, statistic = "Average", over = true, threshold = 0.02, minutes = 10
    }
    database-transaction-ids = {
      text       = "Half of the transaction ids are used: vacuum isn't keeping up.", namespace = "AWS/RDS", metric = "MaximumUsedTransactionIDs"
      dimensions = local.database, statistic = "Maximum", over = true, threshold = 1000000000, minutes = 15
    }
    load-balancer-errors = {
      text       = "The load balancer itself answers 5xx: no replica is there, or one hung up.", namespace = "AWS/ApplicationELB", metric = "HTTPCode_ELB_5XX_Count"
      dimensions = local.load_balancer, statistic = "Sum", over = true, threshold = 10, minutes = 5
    }
    relay-errors = {
      text       = "Replicas answer requests with 5xx.", namespace = "AWS/ApplicationELB", metric = "HTTPCode_Target_5XX_Count"
      dimensions = local.targets, statistic = "Sum", over = true, threshold = 10, minutes = 5
    }
    healthy-replicas = {
      text       = "Fewer replicas are healthy than there should be.", namespace = "AWS/ApplicationELB", metric = "HealthyHostCount"
      dimensions = local.targets, statistic = "Minimum", over = false, threshold = var.replicas_min, minutes = 5, missing = "breaching"
    }
    certificate = {
      text       = "The certificate ends within 21 days: AWS could not renew it.", namespace = "AWS/CertificateManager", metric = "DaysToExpiry"
      dimensions = { CertificateArn = var.certificate_arn }, statistic = "Minimum", over = false, threshold = 21, minutes = 1440
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.text
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = each.value.over ? "GreaterThanThreshold" : "LessThanThreshold"
  threshold           = each.value.threshold
  # A day's value comes once a day; the others count when each of their minutes is bad.
  period             = each.value.minutes == 1440 ? 86400 : 60
  evaluation_periods = each.value.minutes == 1440 ? 1 : each.value.minutes
  treat_missing_data = try(each.value.missing, "notBreaching")
  alarm_actions      = [aws_sns_topic.alarms.arn]
  ok_actions         = [aws_sns_topic.alarms.arn]
}
