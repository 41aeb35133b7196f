variable "name" {
  description = "Name of the cluster; others' names begin with it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,40}$", var.name))
    error_message = "The name is 3 to 41 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "kubernetes_version" {
  description = "Version of Kubernetes."
  type        = string
  default     = "1.35"

  validation {
    condition     = can(regex("^1\\.(3[0-9])$", var.kubernetes_version))
    error_message = "The chart needs Kubernetes 1.30 or later, written like 1.35."
  }
}

variable "subnet_ids" {
  description = "Private subnets of the nodes, in two zones or more."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "The control plane needs subnets in two zones or more."
  }
}

variable "public_access_cidrs" {
  description = "Networks that may reach the cluster's API from outside. None: it is reached from the VPC only."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.public_access_cidrs : can(cidrnetmask(cidr)) && !endswith(cidr, "/0")])
    error_message = "Name IPv4 networks like 203.0.113.0/24; not the whole Internet."
  }
}

variable "admin_role_arns" {
  description = "IAM roles that administer the cluster; the one that runs Terraform must be among them."
  type        = set(string)

  validation {
    condition     = length(var.admin_role_arns) > 0 && alltrue([for arn in var.admin_role_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/", arn))])
    error_message = "Name one role or more, by ARN: without one nobody can administer the cluster."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the cluster."
  type        = bool
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
  description = "How long the control plane's logs are kept, in days."
  type        = number

  validation {
    condition     = contains([7, 14, 30, 60, 90, 180, 365, 400, 731], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 7, 14, 30, 60, 90, 180, 365, 400 or 731 days."
  }
}
