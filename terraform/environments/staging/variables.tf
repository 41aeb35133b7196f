# What depends on whose account it is. It goes into terraform.tfvars, which is not in the repository;
# everything else about this environment is in main.tf.

variable "account_id" {
  description = "The AWS account."
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}$", var.account_id))
    error_message = "An account's id is 12 digits."
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

variable "admin_role_arns" {
  description = "IAM roles that administer the cluster; the one that runs Terraform must be among them."
  type        = set(string)

  validation {
    condition     = length(var.admin_role_arns) > 0
    error_message = "Name one role or more."
  }
}

variable "admin_cidrs" {
  description = "Networks from which the cluster's API is reached: where Terraform runs. None: from the VPC only."
  type        = list(string)
  default     = []

  validation {
    condition     = !contains(var.admin_cidrs, "0.0.0.0/0")
    error_message = "The cluster's API isn't for the whole Internet."
  }
}

variable "alarm_emails" {
  description = "Who is told of alarms."
  type        = set(string)

  validation {
    condition     = alltrue([for email in var.alarm_emails : can(regex("^[^@ ]+@[^@ ]+$", email))])
    error_message = "Name mail addresses."
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
    error_message = "The digest is written like sha256:…, 64 hexadecimal digits."
  }
}

variable "database_ca_file" {
  description = "File with AWS' certificates for the region's databases (see the README); null: the database's isn't checked."
  type        = string
  default     = null

  validation {
    condition     = var.database_ca_file == null ? true : fileexists(var.database_ca_file)
    error_message = "There is no such file."
  }
}

variable "restore" {
  description = "For restoring the database (see the README): the new instance's number, the old one's identifier, the time."
  type = object({
    generation = optional(number, 1)
    source     = optional(string)
    time       = optional(string)
  })
  default = {}

  validation {
    condition     = var.restore.source == null || var.restore.generation > 1
    error_message = "A restore makes a new instance: raise the generation."
  }
}
