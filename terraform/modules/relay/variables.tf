variable "name" {
  description = "Name of the environment's things, like handoff-staging."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,27}$", var.name))
    error_message = "The name is 3 to 28 lower-case letters, digits and hyphens (a load balancer's is 32 at most), and begins with a letter."
  }
}

variable "domain" {
  description = "The relay's host name, like relay.example.com."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.domain))
    error_message = "The domain is a host name in lower case, like relay.example.com."
  }
}

variable "zone_id" {
  description = "The Route 53 zone that the host name is in."
  type        = string

  validation {
    condition     = can(regex("^Z[A-Z0-9]+$", var.zone_id))
    error_message = "The zone is named by its id, Z…."
  }
}

variable "vpc_id" {
  description = "The VPC."
  type        = string

  validation {
    condition     = startswith(var.vpc_id, "vpc-")
    error_message = "The VPC is named by its id, vpc-…."
  }
}

variable "public_subnet_ids" {
  description = "Subnets of the load balancer, in two zones or more."
  type        = list(string)

  validation {
    condition     = length(var.public_subnet_ids) >= 2
    error_message = "A load balancer needs subnets in two zones or more."
  }
}

variable "client_cidrs" {
  description = "Networks whose agents may reach the relay."
  type        = set(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = length(var.client_cidrs) > 0 && alltrue([for cidr in var.client_cidrs : can(cidrnetmask(cidr))])
    error_message = "Name one IPv4 network or more."
  }
}

variable "cluster" {
  description = "The cluster: its name, the security group of its pods, and the provider of its ServiceAccounts."
  type = object({
    name              = string
    security_group_id = string
    oidc_provider_arn = string
    oidc_issuer       = string
  })

  validation {
    condition     = startswith(var.cluster.security_group_id, "sg-") && !startswith(var.cluster.oidc_issuer, "https://")
    error_message = "The security group is named by its id, sg-…; the issuer goes without https://."
  }
}

variable "database" {
  description = "The database: its host, the secret with its user and password, the secret's key, its max_connections."
  type = object({
    address         = string
    secret_arn      = string
    kms_key_arn     = string
    max_connections = number
  })

  validation {
    condition     = startswith(var.database.secret_arn, "arn:") && startswith(var.database.kms_key_arn, "arn:")
    error_message = "The secret and its key are named by their ARNs."
  }
}

variable "database_ca" {
  description = "Certificates that may have signed the database's, PEM (AWS' bundle for the region). Null: the connection is encrypted, but who answers isn't checked."
  type        = string
  default     = null

  validation {
    condition     = var.database_ca == null || can(regex("-----BEGIN CERTIFICATE-----", var.database_ca))
    error_message = "The certificates are PEM."
  }
}

variable "image" {
  description = "The relay's image: where it is, and its digest."
  type = object({
    repository = string
    digest     = string
  })

  validation {
    condition     = can(regex("^sha256:[0-9a-f]{64}$", var.image.digest))
    error_message = "The digest is written like sha256:…, 64 hexadecimal digits: a tag could change under us."
  }
}

variable "replicas" {
  description = "Fewest and most replicas."
  type = object({
    min = number
    max = number
  })

  validation {
    condition     = var.replicas.min >= 2 && var.replicas.max >= var.replicas.min
    error_message = "Two replicas at least, so that an upgrade and the loss of a node go unnoticed."
  }
}

variable "pool_size" {
  description = "Connections of a replica for reads (HANDOFF_POOL_SIZE)."
  type        = number
  default     = 10

  validation {
    condition     = var.pool_size >= 2 && var.pool_size <= 1000
    error_message = "The pool holds 2 to 1,000 connections."
  }
}

variable "lanes" {
  description = "Lanes of a replica that commit writes, each with up to two connections (HANDOFF_LANES)."
  type        = number
  default     = 2

  validation {
    condition     = var.lanes >= 1 && var.lanes <= 64
    error_message = "A replica has 1 to 64 lanes."
  }
}

variable "settings" {
  description = "Further settings of the relay by their own names, like HANDOFF_SIGNUPS_PER_HOUR."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([
      for name in keys(var.settings) :
      can(regex("^[A-Z][A-Z0-9_]+$", name)) && !contains(["DATABASE_URL", "DATABASE_LISTEN_URL", "HANDOFF_POOL_SIZE", "HANDOFF_LANES", "HANDOFF_SHUTDOWN_MS"], name)
    ])
    error_message = "Settings are named like HANDOFF_SIGNUPS_PER_HOUR; the database, pool, lanes and shutdown are set elsewhere."
  }
}

variable "resources" {
  description = "CPU that a replica asks for, and its memory."
  type = object({
    cpu    = string
    memory = string
  })
  default = {
    cpu    = "1"
    memory = "1Gi"
  }

  validation {
    condition     = can(regex("^[0-9]+m?$", var.resources.cpu)) && can(regex("^[0-9]+(Mi|Gi)$", var.resources.memory))
    error_message = "CPU is written like 500m or 2, memory like 512Mi or 2Gi."
  }
}

variable "otlp_endpoint" {
  description = "Where traces go, OTLP over HTTP."
  type        = string

  validation {
    condition     = can(regex("^https?://", var.otlp_endpoint))
    error_message = "The endpoint is a URL, like http://collector:4318."
  }
}

variable "trace_share" {
  description = "The share of traces that is kept, 0 to 1."
  type        = number

  validation {
    condition     = var.trace_share >= 0 && var.trace_share <= 1
    error_message = "The share is 0 to 1."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the load balancer."
  type        = bool
}

variable "external_secrets_version" {
  description = "Version of the External Secrets chart."
  type        = string
  default     = "0.20.4"

  validation {
    condition     = can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+$", var.external_secrets_version))
    error_message = "The version is written in full, like 0.20.4."
  }
}
