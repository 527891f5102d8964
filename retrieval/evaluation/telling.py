"""Tells the metrics what daily evaluations have come to; each keeper does, so that every host says the same."""

import math

import sqlalchemy as sa

from monitoring.metrics import EVALUATED_AT, EVALUATION_SCORE, samples_of
from retrieval.rows import fetch
from storage.schema import collections, daily_evaluations, evaluations
from storage.sql import Database


async def tell(database: Database) -> None:
    """Set the scores of collections that are evaluated; take back those of others. Raises: DependencyError."""
    last = (
        sa.select(evaluations.c.collection_id, evaluations.c.result, evaluations.c.at)
        .join(daily_evaluations, daily_evaluations.c.last_id == evaluations.c.id)
        .join(collections, collections.c.id == evaluations.c.collection_id)
        .where(collections.c.deleted_at.is_(None), collections.c.expired_at.is_(None))
    )
    told: set[tuple[str, ...]] = set()
    for row in await fetch(database, last):
        EVALUATED_AT.labels(row.collection_id).set(row.at)
        told.add((row.collection_id,))
        for name, measure in row.result["measures"].items():
            EVALUATION_SCORE.labels(row.collection_id, name).set(measure["mean"])
            told.add((row.collection_id, name))
    for gauge, names in ((EVALUATED_AT, ("collection",)), (EVALUATION_SCORE, ("collection", "metric"))):
        for sample in samples_of(gauge):
            labels = tuple(sample.labels[name] for name in names)
            if labels not in told:  # also what a keeper left that has ended
                gauge.labels(*labels).set(math.nan)
