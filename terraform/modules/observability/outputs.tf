output "otlp_endpoint" {
  description = "Where traces go, OTLP over HTTP."
  value       = "http://${helm_release.collector.name}.${helm_release.collector.namespace}:4318"
}

output "prometheus_endpoint" {
  description = "Where metrics are asked for (AWS' signatures needed)."
  value       = aws_prometheus_workspace.this.prometheus_endpoint
}

output "grafana_endpoint" {
  description = "Grafana's host, where there is one."
  value       = one(aws_grafana_workspace.this[*].endpoint)
}

output "alarm_topic_arn" {
  description = "The topic that all alarms go to."
  value       = aws_sns_topic.alarms.arn
}

output "log_group" {
  description = "The log group of the relay."
  value       = aws_cloudwatch_log_group.relay.name
}
