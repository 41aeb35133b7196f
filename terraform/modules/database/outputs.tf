output "identifier" {
  description = "The instance's identifier."
  value       = local.identifier
}

output "address" {
  description = "The host name of the instance; a failover keeps it."
  value       = aws_db_instance.this.address
}

output "secret_arn" {
  description = "The secret with the user's name and password, of RDS' making."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}

output "kms_key_arn" {
  description = "The key that the secret is encrypted with."
  value       = aws_kms_key.this.arn
}

output "max_connections" {
  description = "Connections that Postgres accepts."
  value       = var.max_connections
}
