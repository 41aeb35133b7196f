provider "aws" {
  region = local.region

  # Applying one environment with another's credentials fails before anything is touched.
  allowed_account_ids = [var.account_id]

  default_tags {
    tags = {
      Project     = "handoff"
      Environment = local.environment
      ManagedBy   = "terraform"
    }
  }
}

provider "helm" {
  kubernetes = {
    host                   = module.handoff.cluster.endpoint
    cluster_ca_certificate = module.handoff.cluster.certificate_authority

    exec = {
      api_version = "client.authentication.k8s.io/v1beta1"
      command     = "aws"
      args        = ["eks", "get-token", "--region", local.region, "--cluster-name", module.handoff.cluster.name]
    }
  }
}
