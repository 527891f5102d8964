"""`./stoker top`: models, deployments, engines and GPUs, live."""
