variable "region" {
  description = "Where everything is."
  type        = string
  default     = "eu-central-1"
}

variable "name" {
  description = "Of the cluster, and the beginning of other names."
  type        = string
  default     = "stoker"
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "private_subnet_ids" {
  description = "Subnets without an address of their own in the internet, in at least two zones."
  type        = list(string)
}

variable "kubernetes_version" {
  description = "Of the cluster; 1.30 or newer."
  type        = string
  default     = "1.32"
}

variable "gpu_instance_type" {
  description = "Nodes of the pool gpu: one L40S with 48 GB each."
  type        = string
  default     = "g6e.2xlarge"
}

variable "gpu_nodes_most" {
  description = "Nodes of the pool gpu at most; with none at least, engines that are scaled to zero cost nothing."
  type        = number
  default     = 4
}

variable "api_cidrs" {
  description = "Addresses that may reach the cluster's API."
  type        = list(string)

  validation {
    condition     = !contains(var.api_cidrs, "0.0.0.0/0")
    error_message = "Name the networks of those who run the cluster, not the whole internet."
  }
}
