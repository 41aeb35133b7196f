mock_provider "aws" {
  source = "../mocks"

  # Nothing is made here, since the bucket can't be destroyed after the test.
  override_during = plan
}

variables {
  account_id = "123456789012"
}

run "bucket" {
  command = plan

  assert {
    condition     = aws_s3_bucket.state.bucket == "handoff-terraform-123456789012" && aws_s3_bucket_versioning.state.versioning_configuration[0].status == "Enabled"
    error_message = "States are kept in versions."
  }

  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.state.rule).apply_server_side_encryption_by_default[0].kms_master_key_id == aws_kms_key.state.arn
    error_message = "States are encrypted by a key of their own."
  }

  assert {
    condition     = aws_s3_bucket_public_access_block.state.block_public_acls && aws_s3_bucket_public_access_block.state.block_public_policy && aws_s3_bucket_public_access_block.state.ignore_public_acls && aws_s3_bucket_public_access_block.state.restrict_public_buckets
    error_message = "States are never public."
  }
}

run "wrong_values" {
  command = plan

  variables {
    account_id = "handoff"
    region     = "Frankfurt"
  }

  expect_failures = [var.account_id, var.region]
}
