"""Secrets of hooks and webhooks: they follow from an id and the house's key, so that no table holds any.

HMAC needs its secret in clear, so a hash of it would not do, and what is stored encrypted needs a key beside it anyway.
"""

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from api.errors import SettingsRefused
from api.settings import ApiSettings

_START = "whsec_"
_KEY_CHARACTERS = 43  # of 256 bits in base64
_FILE = "hooks.key"


class HouseKey:
    """The key of the house; it is read, or made, when it is needed first.

    Args:
        given: as the operator set it; None: a file is made once, with mode 0600.
        hosts: that must have the same key.
    """

    def __init__(self, given: SecretStr | None, file: Path, hosts: int = 1) -> None:
        self._given = given
        self._file = file
        self._hosts = hosts
        self._key: bytes | None = None

    @classmethod
    def of(cls, settings: ApiSettings) -> "HouseKey":
        return cls(settings.hooks_key, settings.data_dir / _FILE, settings.hosts)

    def secret_of(self, identifier: str) -> str:
        """The secret of a hook, in the form of Standard Webhooks. Raises: SettingsRefused: there is no key."""
        derived = hmac.digest(self._read(), f"webhook secret of {identifier}".encode(), hashlib.sha256)
        return _START + base64.b64encode(derived).decode()

    def mark_of(self, identifier: str) -> str:
        """What tells whether a secret is still the same, and nothing else of it."""
        return hashlib.sha256(self.secret_of(identifier).encode()).hexdigest()[:16]

    def _read(self) -> bytes:
        if self._given is None and self._hosts > 1:
            raise SettingsRefused("several hosts sign and check alike: set STOKER_HOOKS_KEY to one key on all of them")
        if self._key is None:
            self._key = self._given.get_secret_value().encode() if self._given is not None else _kept(self._file)
        return self._key


def _kept(file: Path) -> bytes:
    """The file's key; of several processes that make it at once one does."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as out:
            out.write(secrets.token_urlsafe(32) + "\n")
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(draft, file)
        except FileExistsError:
            pass  # another process was first
        finally:
            draft.unlink()
    key = file.read_text(encoding="ascii", errors="replace").strip()
    if len(key) < _KEY_CHARACTERS:
        raise SettingsRefused(f"{file} holds no key of 256 bits: bring it back, or remove it and make all hooks anew")
    return key.encode()
