"""The house of retrieval's tests; these run beside them."""

from tests.integration.retrieval.conftest import house, servers

__all__ = ["house", "servers"]
