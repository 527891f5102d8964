"""The text of an API key: how it is made, recognised and hashed."""

import hashlib
import secrets

KEY_START = "sk-stoker-"
PREFIX_LENGTH = len(KEY_START) + 6
_MAX_LENGTH = 200
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # 32 signs, none of which looks like another


def new_text() -> str:
    """A new key of 160 random bits."""
    return KEY_START + "".join(secrets.choice(_ALPHABET) for _ in range(32))


def has_key_form(text: str) -> bool:
    """Whether a text could be a key; what could not needs no look into SQL."""
    return text.startswith(KEY_START) and len(text) <= _MAX_LENGTH


def digest_of(text: str) -> str:
    """The hash under which a key is kept, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
