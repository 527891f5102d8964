"""Opaque ids: a short prefix that says what it is, then time-ordered randomness."""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


def new_id(prefix: str) -> str:
    """Make an id such as `doc_01k9x3...`: 48 bits of milliseconds, then 80 random bits.

    Ids of one prefix sort by the millisecond in which they were made.
    """
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_{_base32(number, digits=26)}"


def _base32(number: int, digits: int) -> str:
    out = []
    for _ in range(digits):
        number, digit = divmod(number, 32)
        out.append(_ALPHABET[digit])
    return "".join(reversed(out))
