"""Signed webhooks: what comes in by them, and the ends of jobs that are told by them."""
