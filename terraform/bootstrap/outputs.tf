output "bucket" {
  description = "The bucket, for `bucket` in the environments' backend.hcl."
  value       = aws_s3_bucket.state.bucket
}
