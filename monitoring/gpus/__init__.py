"""Which model a GPU works for, and what that costs: exporters' figures joined with deployments."""
