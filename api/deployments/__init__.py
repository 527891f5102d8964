"""Deployments while the gateway runs: listed, added, drained and removed, and the configuration read anew."""
