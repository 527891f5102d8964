"""Opaque ids: a short prefix that says what it is, then time-ordered randomness."""

import os
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


def new_id(prefix: str) -> str:
    """Make an id such as `doc_01k9x3...`: 48 bits of milliseconds, then 80 random bits.

    Ids of one prefix sort by the millisecond in which they were made.
    """
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_{_base32(number, digits=26)}"


def made_at(identifier: str) -> float:
    """Seconds since the epoch at which `new_id` made an id. Raises: ValueError: it made no such id."""
    digits = identifier.rpartition("_")[2]
    if len(digits) != 26 or not set(digits) <= set(_ALPHABET):
        raise ValueError(f"{identifier!r} is no id of ours")
    number = 0
    for digit in digits:
        number = number * 32 + _ALPHABET.index(digit)
    return (number >> 80) / 1000


def is_id(text: str, prefix: str) -> bool:
    """Whether `new_id` could have made this; anything else names nothing, and need not reach a database."""
    return text.startswith(f"{prefix}_") and len(text) == len(prefix) + 27 and set(text[-26:]) <= set(_ALPHABET)


def _base32(number: int, digits: int) -> str:
    out = []
    for _ in range(digits):
        number, digit = divmod(number, 32)
        out.append(_ALPHABET[digit])
    return "".join(reversed(out))


class _RandomBytes:
    """The system's random bytes, fetched 4 KiB at a time: a system call for each name is dear."""

    def __init__(self) -> None:
        self._bytes = b""
        self._at = 0
        os.register_at_fork(after_in_child=self._forget)

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._bytes):
            self._bytes, self._at = os.urandom(4096), 0
        self._at += count
        return self._bytes[self._at - count : self._at]

    def _forget(self) -> None:
        self._bytes, self._at = b"", 0  # or parent and child would take the same


_random = _RandomBytes()


def unique_hex() -> str:
    """A name of 24 hexadecimal digits, 96 random bits; unique, but no secret."""
    return _random.take(12).hex()
