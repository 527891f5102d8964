# For `externalName` in k8s/components/stores-ha/services.yaml, and for settings.

output "sql" {
  description = "Of the Service stoker-postgres-rw."
  value       = aws_db_instance.sql.address
}

output "redis" {
  description = "Of the Service stoker-redis-master; it speaks TLS: write rediss:// in STOKER_REDIS_URL."
  value       = aws_elasticache_replication_group.redis.primary_endpoint_address
}

output "object_store" {
  description = "STOKER_OBJECT_STORE."
  value       = "s3://${aws_s3_bucket.bucket["documents"].id}"
}

output "models" {
  description = "File system of the claim stoker-models."
  value       = aws_efs_file_system.models.id
}
