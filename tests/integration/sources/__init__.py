"""Documents that are fetched, and webhooks in and out."""
