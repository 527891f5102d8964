"""What k8s/ renders to, and what must hold of it."""
