mock_provider "aws" {
  source = "../../mocks"
}

variables {
  name                = "handoff-test"
  subnet_ids          = ["subnet-1", "subnet-2", "subnet-3"]
  admin_role_arns     = ["arn:aws:iam::123456789012:role/admin"]
  deletion_protection = true
  log_kms_key_arn     = "arn:aws:kms:eu-central-1:123456789012:key/logs"
  log_retention_days  = 30
}

run "private_by_default" {
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "The cluster's API is reached from the VPC only."
  }

  assert {
    condition     = tolist(aws_eks_cluster.this.encryption_config[0].resources) == tolist(["secrets"]) && aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == aws_kms_key.this.arn && aws_kms_key.this.enable_key_rotation
    error_message = "Kubernetes' secrets are encrypted by a key of our own that is rotated."
  }

  assert {
    condition     = length(aws_eks_cluster.this.enabled_cluster_log_types) == 5 && aws_cloudwatch_log_group.control_plane.name == "/aws/eks/handoff-test/cluster" && aws_cloudwatch_log_group.control_plane.retention_in_days == 30
    error_message = "The control plane logs everything, into a group that doesn't keep it for ever."
  }

  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API" && !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions && aws_eks_cluster.this.deletion_protection
    error_message = "Who administers the cluster is said by access entries alone."
  }

  assert {
    condition     = toset(keys(aws_eks_access_policy_association.admin)) == var.admin_role_arns
    error_message = "The roles named administer the cluster, and no others."
  }

  # Auto Mode is these three together; AWS refuses some of them.
  assert {
    condition     = aws_eks_cluster.this.compute_config[0].enabled && aws_eks_cluster.this.kubernetes_network_config[0].elastic_load_balancing[0].enabled && aws_eks_cluster.this.storage_config[0].block_storage[0].enabled
    error_message = "Compute, load balancing and storage are Auto Mode's."
  }

  assert {
    condition     = output.oidc_issuer == "oidc.eks.eu-central-1.amazonaws.com/id/MOCK" && output.certificate_authority == "mock"
    error_message = "The issuer goes without https://, the certificate as PEM."
  }
}

run "reached_from_an_office" {
  command = plan

  variables {
    public_access_cidrs = ["203.0.113.0/24"]
  }

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_public_access && tolist(aws_eks_cluster.this.vpc_config[0].public_access_cidrs) == tolist(["203.0.113.0/24"])
    error_message = "The cluster's API is reached from the office, and from nowhere else."
  }
}

run "wrong_values" {
  command = plan

  variables {
    public_access_cidrs = ["0.0.0.0/0"]
    admin_role_arns     = []
    kubernetes_version  = "1.29"
    subnet_ids          = ["subnet-1"]
  }

  expect_failures = [var.public_access_cidrs, var.admin_role_arns, var.kubernetes_version, var.subnet_ids]
}
