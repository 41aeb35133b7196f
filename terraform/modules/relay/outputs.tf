output "url" {
  description = "Where the relay is, for agents (RELAY_API_URL)."
  value       = "https://${aws_route53_record.this.name}"
}

output "load_balancer" {
  description = "Names of the load balancer and its target group in CloudWatch's metrics."
  value = {
    arn_suffix              = aws_lb.this.arn_suffix
    target_group_arn_suffix = aws_lb_target_group.this.arn_suffix
  }
}

output "certificate_arn" {
  description = "The certificate of the host name."
  value       = aws_acm_certificate.this.arn
}

output "namespace" {
  description = "The namespace that the relay runs in."
  value       = local.namespace
}

output "connections" {
  description = "Connections that all replicas can use at most, during an upgrade too."
  value       = local.connections
}

output "values" {
  description = "What the chart is told."
  value       = local.values
}
