# Values are checked by the modules that use them; here are only those that several need.

variable "environment" {
  description = "The environment's name, such as staging. Everything's name begins with handoff- and it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,18}$", var.environment))
    error_message = "The environment's name is 3 to 19 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "protected" {
  description = "Refuse to delete database, cluster and load balancer; a standby and a NAT gateway in every zone."
  type        = bool
}

variable "cidr" {
  description = "Addresses of the VPC: a private /16."
  type        = string

  validation {
    condition     = can(cidrnetmask(var.cidr))
    error_message = "The CIDR is an IPv4 /16, like 10.20.0.0/16."
  }
}

variable "domain" {
  description = "The relay's host name."
  type        = string

  validation {
    condition     = length(split(".", var.domain)) >= 3
    error_message = "The domain is a host in a zone, like relay.example.com."
  }
}

variable "zone_id" {
  description = "The Route 53 zone that the host name is in."
  type        = string

  validation {
    condition     = startswith(var.zone_id, "Z")
    error_message = "The zone is named by its id, Z…."
  }
}

variable "client_cidrs" {
  description = "Networks whose agents may reach the relay."
  type        = set(string)

  validation {
    condition     = length(var.client_cidrs) > 0
    error_message = "Name one network or more."
  }
}

variable "admin_role_arns" {
  description = "IAM roles that administer the cluster; the one that runs Terraform must be among them."
  type        = set(string)

  validation {
    condition     = length(var.admin_role_arns) > 0
    error_message = "Name one role or more."
  }
}

variable "admin_cidrs" {
  description = "Networks from which the cluster's API is reached; none: from the VPC only."
  type        = list(string)

  validation {
    condition     = !contains(var.admin_cidrs, "0.0.0.0/0")
    error_message = "The cluster's API isn't for the whole Internet."
  }
}

variable "database" {
  description = "The database's class, storage and backups. `generation` and `restore` are for restoring it."
  type = object({
    instance_class        = string
    storage_gb            = object({ initial = number, limit = number })
    backup_retention_days = number
    generation            = optional(number, 1)
    restore               = optional(object({ source = string, time = optional(string) }))
  })

  validation {
    condition     = !var.protected || var.database.backup_retention_days >= 14
    error_message = "A protected environment keeps backups for 14 days or more."
  }
}

variable "database_ca" {
  description = "Certificates that may have signed the database's, PEM; null: not checked."
  type        = string
  default     = null

  validation {
    condition     = var.database_ca == null || can(regex("-----BEGIN CERTIFICATE-----", var.database_ca))
    error_message = "The certificates are PEM."
  }
}

variable "relay" {
  description = "The relay's image, replicas, connections, size and further settings."
  type = object({
    image       = object({ repository = string, digest = string })
    replicas    = object({ min = number, max = number })
    pool_size   = optional(number, 10)
    lanes       = optional(number, 2)
    resources   = object({ cpu = string, memory = string })
    trace_share = number
    settings    = optional(map(string), {})
  })

  validation {
    condition     = !var.protected || var.relay.replicas.min >= 3
    error_message = "A protected environment has three replicas or more: one in each zone."
  }
}

variable "log_retention_days" {
  description = "How long all logs are kept, in days."
  type        = number

  validation {
    condition     = contains([7, 14, 30, 60, 90, 180, 365, 400, 731], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 7, 14, 30, 60, 90, 180, 365, 400 or 731 days."
  }
}

variable "alarm_emails" {
  description = "Who is told of alarms."
  type        = set(string)

  validation {
    condition     = !var.protected || length(var.alarm_emails) > 0
    error_message = "A protected environment has somebody who hears its alarms."
  }
}

variable "grafana" {
  description = "Make a Grafana workspace (needs IAM Identity Center)."
  type        = bool
  default     = false
}
