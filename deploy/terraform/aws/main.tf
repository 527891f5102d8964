# An example of what Stoker stands on in AWS: docs/deploy/aws.md. Parsed by a test, never applied.
# The network (a VPC with private subnets in at least two zones) is yours.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
    random = {
      source  = "hashicorp/random"
      version = ">= 3.0"
    }
  }
}

provider "aws" {
  region = var.region
}

locals {
  secrets = toset(["sql", "redis", "admin"])
}

data "aws_iam_policy_document" "assumed_by" {
  for_each = toset(["eks", "ec2"])
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["${each.key}.amazonaws.com"]
    }
  }
}
