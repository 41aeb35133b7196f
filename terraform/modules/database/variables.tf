variable "name" {
  description = "Name of the database; others' names begin with it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,40}$", var.name))
    error_message = "The name is 3 to 41 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "generation" {
  description = "Number in the instance's name. A restore makes the next one beside the old."
  type        = number
  default     = 1

  validation {
    condition     = var.generation >= 1 && floor(var.generation) == var.generation
    error_message = "The generation is a whole number from 1."
  }
}

variable "restore" {
  description = "Make the instance from another one's backups, as of `time` (RFC 3339), or as late as possible."
  type = object({
    source = string
    time   = optional(string)
  })
  default = null

  validation {
    condition     = var.restore == null || can(formatdate("YYYY", coalesce(var.restore.time, "2020-01-01T00:00:00Z")))
    error_message = "The time to restore to is written like 2026-11-22T10:00:00Z."
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

variable "subnet_ids" {
  description = "Subnets without a way out, in two zones or more."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "A standby needs subnets in two zones or more."
  }
}

variable "client_security_group_id" {
  description = "The only security group that may connect: the cluster's."
  type        = string

  validation {
    condition     = startswith(var.client_security_group_id, "sg-")
    error_message = "The security group is named by its id, sg-…."
  }
}

variable "engine_version" {
  description = "Postgres' major version; minor ones are taken as they come."
  type        = string
  default     = "17"

  validation {
    condition     = contains(["15", "16", "17", "18"], var.engine_version)
    error_message = "The relay supports Postgres 15 and later; name the major version alone."
  }
}

variable "instance_class" {
  description = "The instance's class, like db.m7g.large."
  type        = string

  validation {
    condition     = can(regex("^db\\.[a-z0-9]+\\.[a-z0-9]+$", var.instance_class))
    error_message = "The class is written like db.m7g.large."
  }
}

variable "max_connections" {
  description = "Postgres' max_connections: what all replicas of the relay can use at most, and a reserve."
  type        = number

  validation {
    condition     = var.max_connections >= 30 && var.max_connections <= 5000
    error_message = "max_connections is 30 to 5000; beyond that a pooler is needed."
  }
}

variable "storage_gb" {
  description = "Storage to begin with and to grow to by itself, in GB."
  type = object({
    initial = number
    limit   = number
  })

  validation {
    condition     = var.storage_gb.initial >= 20 && var.storage_gb.limit >= ceil(var.storage_gb.initial * 1.1)
    error_message = "Begin with 20 GB or more; the limit is at least a tenth above that, as RDS wants it."
  }
}

variable "multi_az" {
  description = "A synchronous standby in another zone."
  type        = bool
}

variable "backup_retention_days" {
  description = "How far back the database can be restored to any second, in days."
  type        = number

  validation {
    condition     = var.backup_retention_days >= 7 && var.backup_retention_days <= 35
    error_message = "Backups are kept for 7 to 35 days."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the instance."
  type        = bool
}

variable "password_rotation_days" {
  description = "How often RDS changes the password. Replicas must be restarted after each time."
  type        = number
  default     = 365

  validation {
    condition     = var.password_rotation_days >= 7 && var.password_rotation_days <= 1000
    error_message = "The password is changed every 7 to 1000 days."
  }
}

variable "log_kms_key_arn" {
  description = "KMS key of the log group."
  type        = string

  validation {
    condition     = startswith(var.log_kms_key_arn, "arn:")
    error_message = "The key is named by its ARN."
  }
}

variable "log_retention_days" {
  description = "How long Postgres' logs are kept, in days."
  type        = number

  validation {
    condition     = contains([7, 14, 30, 60, 90, 180, 365, 400, 731], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 7, 14, 30, 60, 90, 180, 365, 400 or 731 days."
  }
}
