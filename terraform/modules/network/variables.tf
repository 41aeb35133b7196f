variable "name" {
  description = "Name of the network; others' names begin with it."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,30}$", var.name))
    error_message = "The name is 3 to 31 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "cidr" {
  description = "Addresses of the VPC: a private /16."
  type        = string

  validation {
    condition     = can(cidrnetmask(var.cidr)) && try(split("/", var.cidr)[1], "") == "16"
    error_message = "The CIDR is an IPv4 /16, like 10.20.0.0/16."
  }
}

variable "zone_count" {
  description = "Availability zones to use."
  type        = number
  default     = 3

  validation {
    condition     = contains([2, 3, 4], var.zone_count)
    error_message = "Use 2 to 4 zones: one can't fail over, and the address plan has room for 4."
  }
}

variable "nat_per_zone" {
  description = "A NAT gateway in every zone, so that the loss of a zone cuts off no other; false: one for all."
  type        = bool
}

variable "log_kms_key_arn" {
  description = "KMS key of the flow log's log group."
  type        = string

  validation {
    condition     = startswith(var.log_kms_key_arn, "arn:")
    error_message = "The key is named by its ARN."
  }
}

variable "log_retention_days" {
  description = "How long flow logs are kept, in days."
  type        = number

  validation {
    condition     = contains([7, 14, 30, 60, 90, 180, 365, 400, 731], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 7, 14, 30, 60, 90, 180, 365, 400 or 731 days."
  }
}
