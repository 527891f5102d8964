# SQL, Redis, buckets, model files, and the secrets that External Secrets brings into the cluster.

resource "random_password" "secret" {
  for_each = local.secrets
  length   = 48
  special  = false # passwords stand in addresses
}

resource "aws_secretsmanager_secret" "secret" {
  for_each = local.secrets
  name     = "${var.name}/${each.key}"
}

resource "aws_secretsmanager_secret_version" "secret" {
  for_each      = local.secrets
  secret_id     = aws_secretsmanager_secret.secret[each.key].id
  secret_string = "${each.key == "admin" ? "sk-stoker-" : ""}${random_password.secret[each.key].result}"
}

resource "aws_security_group" "stores" {
  name   = "${var.name}-stores"
  vpc_id = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "stores" {
  for_each                     = { sql = 5432, redis = 6379, files = 2049 }
  security_group_id            = aws_security_group.stores.id
  referenced_security_group_id = aws_eks_cluster.stoker.vpc_config[0].cluster_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_db_subnet_group" "sql" {
  name       = var.name
  subnet_ids = var.private_subnet_ids
}

resource "aws_db_instance" "sql" {
  identifier                = var.name
  engine                    = "postgres"
  engine_version            = "16"
  instance_class            = "db.m7g.large"
  allocated_storage         = 100
  max_allocated_storage     = 1000
  storage_encrypted         = true
  multi_az                  = true
  db_name                   = "stoker"
  username                  = "stoker"
  password                  = random_password.secret["sql"].result
  db_subnet_group_name      = aws_db_subnet_group.sql.name
  vpc_security_group_ids    = [aws_security_group.stores.id]
  backup_retention_period   = 30
  deletion_protection       = true
  final_snapshot_identifier = "${var.name}-last"
}

resource "aws_elasticache_subnet_group" "redis" {
  name       = var.name
  subnet_ids = var.private_subnet_ids
}

resource "aws_elasticache_replication_group" "redis" {
  replication_group_id       = var.name
  description                = "Limits, reservations, caches"
  engine                     = "valkey"
  node_type                  = "cache.m7g.large"
  num_cache_clusters         = 2
  automatic_failover_enabled = true
  multi_az_enabled           = true
  at_rest_encryption_enabled = true
  transit_encryption_enabled = true
  auth_token                 = random_password.secret["redis"].result
  subnet_group_name          = aws_elasticache_subnet_group.redis.name
  security_group_ids         = [aws_security_group.stores.id]
}

resource "aws_s3_bucket" "bucket" {
  for_each = toset(["documents", "milvus", "backups"])
  bucket   = "${var.name}-${each.key}"
}

resource "aws_s3_bucket_versioning" "documents" {
  bucket = aws_s3_bucket.bucket["documents"].id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_public_access_block" "bucket" {
  for_each                = aws_s3_bucket.bucket
  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_efs_file_system" "models" {
  creation_token  = "${var.name}-models"
  encrypted       = true
  throughput_mode = "elastic"
}

resource "aws_efs_mount_target" "models" {
  for_each        = toset(var.private_subnet_ids)
  file_system_id  = aws_efs_file_system.models.id
  subnet_id       = each.key
  security_groups = [aws_security_group.stores.id]
}
