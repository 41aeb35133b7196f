output "url" {
  description = "Where the relay is, for agents (RELAY_API_URL)."
  value       = module.handoff.url
}

output "cluster_name" {
  description = "For aws eks update-kubeconfig --name."
  value       = module.handoff.cluster.name
}

output "database" {
  description = "The database's identifier, its host and the secret with its password."
  value       = module.handoff.database
}

output "connections" {
  description = "Connections that all replicas can use at most, and those that Postgres accepts."
  value       = module.handoff.connections
}

output "observability" {
  description = "Where metrics, logs and alarms are."
  value       = module.handoff.observability
}
