"""A line of the ledger, and how it is written in a journal and in SQL.

A journal holds one record for each line: eight hexadecimal digits of the CRC-32 of the text that follows, the text (a
JSON list of the fields in their order, which holds no line break), a line break. A record that is torn or altered
fails its check; the next line break is where reading goes on.
"""

import zlib
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Literal

import orjson
import sqlalchemy as sa

from storage.schema import ledger

CacheOutcome = Literal["off", "miss", "hit"]
Outcome = Literal["ok", "client_left", "failed", "lost", "rescued"]

# More than any honest count. An upstream's lie above it must neither make a line unwritable nor a sum overflow.
_MOST = 2**50
_CRC_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Line:
    """What one deployment did for one request; `(request_id, segment)` names it once and for all.

    The fields are the columns of the table `ledger`. Their order is that of the journal: new ones go to the end, with
    a default, so that records of an older version stay readable.

    Attributes:
        request_id: given by the gateway, never by a client: a second line of the same name is ignored.
        at: when it was admitted, in seconds since the epoch.
        tokens_in: cached ones included.
        nano_usd: reckoned when the line is made, so that a later price changes nothing.
        nano_usd_saved: what an answer out of the cache cost when it was made.
        outcome: `lost` until the request ends; `rescued` where another deployment went on, with the next segment.
        latency_ms, ttft_ms: 0 and None in a lost line.
    """

    request_id: str
    segment: int
    tenant_id: str
    route: str
    model_group: str
    deployment: str
    at: float
    user_id: str | None = None
    team_id: str | None = None
    key_id: str | None = None
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    nano_usd: int = 0
    cache: CacheOutcome = "off"
    outcome: Outcome = "lost"
    status: int = 0
    latency_ms: float = 0.0
    ttft_ms: float | None = None
    nano_usd_saved: int = 0

    @property
    def name(self) -> tuple[str, int]:
        return self.request_id, self.segment


FIELDS = tuple(field.name for field in fields(Line))
_values = attrgetter(*FIELDS)


def encode(line: Line) -> bytes:
    """The line's record, line break included."""
    text = as_json(line)
    return b"%08x%b\n" % (zlib.crc32(text), text)


def decode(record: bytes) -> Line | None:
    """Read a record without its line break; None where it was torn or altered."""
    text = record[_CRC_DIGITS:]
    if not text or record[:_CRC_DIGITS] != b"%08x" % zlib.crc32(text):
        return None
    return from_json(text)


def as_json(line: Line) -> bytes:
    """The line as a JSON list, its fields in their order."""
    values: tuple[Any, ...] = _values(line)
    try:
        return orjson.dumps(values)
    except TypeError:  # a whole number beyond 64 bits, or a text that is no Unicode
        return orjson.dumps([_writable(value) for value in values])


def from_json(text: bytes) -> Line:
    """The reverse of `as_json`; the text must have passed its check."""
    return Line(*orjson.loads(text)[: len(FIELDS)])


def row(line: Line) -> dict[str, Any]:
    """The line as every database takes it, so that no line can hold up those behind it.

    Texts are cut to their columns and lose NUL signs, counts are at most 2^50, a time that was no number is 0.
    """
    return {name: _fitting(value, ledger.columns[name]) for name, value in zip(FIELDS, _values(line), strict=True)}


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return min(value, _MOST) if isinstance(value, int) else value


def _fitting(value: Any, column: sa.Column[Any]) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")[: column.type.length]  # type: ignore[attr-defined]  # a text's column is a String
    if isinstance(value, int):
        return min(value, _MOST)
    return 0.0 if value is None and not column.nullable else value
