"""What the exact provider has read of prompts: in blocks, as vLLM does, each named by all before it and by the salt."""

from collections.abc import Sequence
from typing import Any

BLOCK_TOKENS = 16
_NOT_IN_A_SALT = frozenset("@/\\\0")


def salt_refusal(body: dict[str, Any]) -> str | None:
    """What vLLM says of a request's `cache_salt`; None: it takes it."""
    salt = body.get("cache_salt")
    if salt is None:
        return None
    if not isinstance(salt, str) or not salt:
        return "Parameter 'cache_salt' must be a non-empty string if provided."
    if len(salt) > 128 or not _NOT_IN_A_SALT.isdisjoint(salt):
        return "Parameter 'cache_salt' must be at most 128 characters and must not contain '@', '/', '\\\\', or NUL."
    return None


class Prefixes:
    """What was read so far; nothing is ever forgotten.

    Attributes:
        hits: tokens of all prompts that were found.
    """

    def __init__(self) -> None:
        self._held: set[int] = set()
        self.hits = 0

    def read(self, prompt: Sequence[int], salt: str | None) -> int:
        """Read a prompt. Returns: how many of its tokens, from its beginning, were there before.

        The last token is always computed, so a block that ends with it is not found.
        """
        chain, found, missed = hash(salt), 0, False
        for at in range(0, len(prompt) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            chain = hash((chain, *prompt[at : at + BLOCK_TOKENS]))
            missed = missed or chain not in self._held
            if not missed and at + BLOCK_TOKENS < len(prompt):
                found += BLOCK_TOKENS
            self._held.add(chain)
        self.hits += found
        return found
