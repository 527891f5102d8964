"""Prometheus's recording rules and alerts, made by code so that a test can hold their names against what there is."""
