"""What engines and GPUs say of now, for operators."""
