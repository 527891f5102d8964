"""The gateway's identity part on SQLite and PostgreSQL."""

from tests.integration.identity.conftest import gate, light_gate, postgres, postgres_url, sqlite_url, url

__all__ = ["gate", "light_gate", "postgres", "postgres_url", "sqlite_url", "url"]
