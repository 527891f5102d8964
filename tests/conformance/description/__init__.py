"""Requests made from our own description of the API."""
