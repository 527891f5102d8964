"""Tells the metrics what daily evaluations have come to; each keeper does, so that every host says the same."""

import asyncio

import sqlalchemy as sa

from monitoring.metrics import EVALUATED_AT, EVALUATION_SCORE
from monitoring.replaced import Series
from retrieval.rows import fetch
from storage.schema import collections, daily_evaluations, evaluations
from storage.sql import Database


class Telling:
    """One for each keeper."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tell(self) -> None:
        """Set the scores of collections that are evaluated, and of no others. Raises: DependencyError."""
        last = (
            sa.select(evaluations.c.collection_id, evaluations.c.result, evaluations.c.at)
            .join(daily_evaluations, daily_evaluations.c.last_id == evaluations.c.id)
            .join(collections, collections.c.id == evaluations.c.collection_id)
            .where(collections.c.deleted_at.is_(None), collections.c.expired_at.is_(None))
        )
        rows = await fetch(self._database, last)
        scores: Series = {
            (row.collection_id, name): measure["mean"]
            for row in rows
            for name, measure in row.result["measures"].items()
        }
        ended: Series = {(row.collection_id,): row.at for row in rows}
        await asyncio.to_thread(EVALUATED_AT.replace, ended)
        await asyncio.to_thread(EVALUATION_SCORE.replace, scores)
