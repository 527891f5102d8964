"""The secret of a session: how it is made, recognised and named, and the CSRF token that follows from it."""

import hashlib
import hmac
import re
import secrets

_FORM = re.compile(r"[A-Za-z0-9_-]{43}")
_NAME_START = "session:"  # so that no text shown as a key ever names a session


def new_secret() -> str:
    """A new secret of 256 random bits."""
    return secrets.token_urlsafe(32)


def has_secret_form(text: str) -> bool:
    """Whether a text could be a secret; what could not needs no look into SQL."""
    return _FORM.fullmatch(text) is not None


def sha256_of(text: str) -> str:
    """The hash under which a secret or token is kept, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def name_of(secret: str) -> str:
    """Under which name a worker remembers a session."""
    return _NAME_START + sha256_of(secret)


def name_of_hash(sha256: str) -> str:
    """The same, from the hash of its secret."""
    return _NAME_START + sha256


def hash_of_name(name: str) -> str:
    """The way back."""
    return name.removeprefix(_NAME_START)


def is_session_name(name: str) -> bool:
    """Whether a name is a session's, and not a key's hash."""
    return name.startswith(_NAME_START)


def csrf_token_of(secret: str) -> str:
    """The token that pages send with what changes something; whoever only sees it learns nothing of the secret."""
    return hmac.digest(secret.encode(), b"csrf", hashlib.sha256).hex()
