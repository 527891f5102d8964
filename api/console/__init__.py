"""The console: a page at `/` that people use Stoker with. It calls the public HTTP API and nothing else."""
