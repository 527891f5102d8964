"""What one request cost, by the ledger's lines of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.ledger.reports import GROUPS, Filter
from storage.schema import ledger, ledger_asked
from storage.sql import Database

ASKED_SIGNS = 103  # of a request's id that the ledger keeps


@dataclass(frozen=True, slots=True)
class Segment:
    """What one deployment did for a request; the ledger's columns of these names."""

    route: str
    model_group: str
    deployment: str
    tokens_in: int
    tokens_cached: int
    tokens_out: int
    nano_usd: int
    nano_usd_saved: int
    cache: str
    outcome: str
    latency_ms: float
    ttft_ms: float | None
    at: float


_FIELDS = tuple(Segment.__slots__)


async def segments_of(database: Database, request_id: str, only: Mapping[Filter, str]) -> Sequence[Segment]:
    """The segments of the newest request that its client knows by this `x-request-id`; empty: there is none.

    Args:
        only: lines of this tenant, which must be named, and of this key or user.

    Raises: DependencyError: SQL is away.
    """
    mine = [ledger_asked == request_id[:ASKED_SIGNS], *(GROUPS[name] == value for name, value in only.items())]
    newest = sa.select(ledger.c.request_id).where(*mine).order_by(ledger.c.at.desc()).limit(1).scalar_subquery()
    query = sa.select(ledger).where(*mine, ledger.c.request_id == newest).order_by(ledger.c.segment)

    async def find(connection: AsyncConnection) -> Sequence[Any]:
        return (await connection.execute(query)).all()

    return [Segment(*(getattr(row, name) for name in _FIELDS)) for row in await database.read(find)]
