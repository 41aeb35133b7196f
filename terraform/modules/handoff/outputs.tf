output "url" {
  description = "Where the relay is, for agents (RELAY_API_URL)."
  value       = module.relay.url
}

output "cluster" {
  description = "The cluster's name, address and certificate, for the helm provider and for `aws eks update-kubeconfig`."
  value = {
    name                  = module.cluster.name
    endpoint              = module.cluster.endpoint
    certificate_authority = module.cluster.certificate_authority
  }
}

output "database" {
  description = "The database's identifier, its host and the secret with its password."
  value = {
    identifier = module.database.identifier
    address    = module.database.address
    secret_arn = module.database.secret_arn
  }
}

output "connections" {
  description = "Connections that all replicas can use at most, and those that Postgres accepts."
  value = {
    relay    = module.relay.connections
    database = module.database.max_connections
  }
}

output "observability" {
  description = "Where metrics, logs and alarms are."
  value = {
    prometheus_endpoint = module.observability.prometheus_endpoint
    grafana_endpoint    = module.observability.grafana_endpoint
    log_group           = module.observability.log_group
    alarm_topic_arn     = module.observability.alarm_topic_arn
  }
}
