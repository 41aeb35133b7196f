# The bucket is made by terraform/bootstrap; put its name here.
bucket       = "handoff-terraform-ACCOUNT_ID"
key          = "production/terraform.tfstate"
region       = "eu-central-1"
encrypt      = true
use_lockfile = true
