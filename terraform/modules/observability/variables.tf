variable "name" {
  description = "Name of the environment's things, like handoff-staging."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,40}$", var.name))
    error_message = "The name is 3 to 41 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "cluster" {
  description = "The cluster: its name and ARN, its private subnets, and the security group of its pods."
  type = object({
    name              = string
    arn               = string
    subnet_ids        = list(string)
    security_group_id = string
  })

  validation {
    condition     = startswith(var.cluster.arn, "arn:") && startswith(var.cluster.security_group_id, "sg-") && length(var.cluster.subnet_ids) >= 2
    error_message = "The cluster is named by its ARN, its security group by its id, and has two subnets or more."
  }
}

variable "relay_namespace" {
  description = "The namespace that the relay runs in."
  type        = string
  default     = "handoff"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]*$", var.relay_namespace))
    error_message = "A namespace's name is lower-case letters, digits and hyphens."
  }
}

variable "alert_rules" {
  description = "Prometheus rules, YAML: the chart's files/alerts.yaml."
  type        = string

  validation {
    condition     = can(yamldecode(var.alert_rules).groups)
    error_message = "The rules are a YAML document with `groups`, as promtool checks it."
  }
}

variable "alarm_emails" {
  description = "Who is told of alarms; each has to confirm a mail from AWS. People on call are better reached by a subscription of their own on the topic."
  type        = set(string)

  validation {
    condition     = alltrue([for email in var.alarm_emails : can(regex("^[^@ ]+@[^@ ]+$", email))])
    error_message = "Name mail addresses."
  }
}

variable "log_kms_key_arn" {
  description = "KMS key of the log groups."
  type        = string

  validation {
    condition     = startswith(var.log_kms_key_arn, "arn:")
    error_message = "The key is named by its ARN."
  }
}

variable "log_retention_days" {
  description = "How long the relay's logs are kept, in days."
  type        = number

  validation {
    condition     = contains([7, 14, 30, 60, 90, 180, 365, 400, 731], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 7, 14, 30, 60, 90, 180, 365, 400 or 731 days."
  }
}

variable "grafana" {
  description = "Make a Grafana workspace, for people of IAM Identity Center."
  type        = bool
  default     = false
}

variable "collector_version" {
  description = "Version of the OpenTelemetry collector's chart."
  type        = string
  default     = "0.139.0"

  validation {
    condition     = can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+$", var.collector_version))
    error_message = "The version is written in full, like 0.139.0."
  }
}

variable "database" {
  description = "What to watch of the database: the instance's identifier, its connections, its storage limit in GB."
  type = object({
    identifier       = string
    max_connections  = number
    storage_limit_gb = number
  })

  validation {
    condition     = var.database.max_connections > 0 && var.database.storage_limit_gb > 0
    error_message = "Connections and storage are more than 0."
  }
}

variable "load_balancer" {
  description = "What to watch of the load balancer: the suffixes of its ARN and of its target group's."
  type = object({
    arn_suffix              = string
    target_group_arn_suffix = string
  })

  validation {
    condition     = !startswith(var.load_balancer.arn_suffix, "arn:")
    error_message = "CloudWatch wants the suffix of the ARN."
  }
}

variable "certificate_arn" {
  description = "The certificate whose end to watch."
  type        = string

  validation {
    condition     = startswith(var.certificate_arn, "arn:")
    error_message = "The certificate is named by its ARN."
  }
}

variable "replicas_min" {
  description = "Fewest healthy replicas."
  type        = number

  validation {
    condition     = var.replicas_min >= 2
    error_message = "Two replicas at least."
  }
}
