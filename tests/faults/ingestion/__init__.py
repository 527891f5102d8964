"""Ingestion while what it leans on is killed."""
