"""Grafana's dashboards, made by code so that a test can hold the names in them against what there is."""
