"""Tells the metrics what daily evaluations have come to; each keeper does, so that every host says the same."""

import asyncio
import math

import sqlalchemy as sa
from prometheus_client import Gauge

from monitoring.metrics import EVALUATED_AT, EVALUATION_SCORE, samples_of
from retrieval.rows import fetch
from storage.schema import collections, daily_evaluations, evaluations
from storage.sql import Database

_NAMES: dict[Gauge, tuple[str, ...]] = {EVALUATED_AT: ("collection",), EVALUATION_SCORE: ("collection", "metric")}

Told = set[tuple[Gauge, tuple[str, ...]]]


class Telling:
    """One for each keeper."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._told: Told | None = None  # None: not known, since nothing was told yet

    async def tell(self) -> None:
        """Set the scores of collections that are evaluated; take back those of others. Raises: DependencyError."""
        last = (
            sa.select(evaluations.c.collection_id, evaluations.c.result, evaluations.c.at)
            .join(daily_evaluations, daily_evaluations.c.last_id == evaluations.c.id)
            .join(collections, collections.c.id == evaluations.c.collection_id)
            .where(collections.c.deleted_at.is_(None), collections.c.expired_at.is_(None))
        )
        rows = await fetch(self._database, last)
        if self._told is None:
            self._told = await asyncio.to_thread(_left)
        values: dict[tuple[Gauge, tuple[str, ...]], float] = dict.fromkeys(self._told, math.nan)
        for row in rows:
            values[EVALUATED_AT, (row.collection_id,)] = row.at
            for name, measure in row.result["measures"].items():
                values[EVALUATION_SCORE, (row.collection_id, name)] = measure["mean"]
        for (gauge, labels), value in values.items():
            gauge.labels(*labels).set(value)
        self._told = {series for series, value in values.items() if not math.isnan(value)}


def _left() -> Told:
    """What a keeper that has ended told."""
    return {
        (gauge, tuple(sample.labels[name] for name in names))
        for gauge, names in _NAMES.items()
        for sample in samples_of(gauge)
    }
