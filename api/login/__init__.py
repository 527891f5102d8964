"""Signing in to the console: by key or by an identity provider, into a session that a cookie carries."""
