"""Which metadata the documents of a collection carry, as one reader sees it: what a filter of theirs can name."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.principal import Principal
from retrieval.access import live, may_read, reads_as
from retrieval.called import of_tenant
from retrieval.errors import CollectionNotFound
from retrieval.expression import Scalar
from retrieval.life import Life
from storage.schema import collections, documents
from storage.sql import Database

Kind = Literal["text", "number", "boolean"]

_MOST_DOCUMENTS = 5_000
_MOST_KEYS = 64
_MOST_EXAMPLES = 20
_MOST_SHOWN = 100  # characters of an example; what is longer is prose, and no value that a question names
_MOST_VALUES = 1_000  # distinct values of a key that are counted; of texts like ids the newest documents' will do
_MOST_COUNTED = 2_000  # distinct keys that are counted; more of them are no fields of records, but each one's own


@dataclass(frozen=True, slots=True)
class FieldSummary:
    """One key of the metadata.

    Attributes:
        kinds: of its values.
        documents: how many carry it.
        examples: values of it, the most frequent first, at most 20; long texts are left out.
    """

    kinds: frozenset[Kind]
    documents: int
    examples: tuple[Scalar, ...]


class MetadataFields:
    """Reads them from the catalog. Nothing of a document that the caller may not read is in what it says."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def of(self, principal: Principal, collection_name: str) -> dict[str, FieldSummary]:
        """The keys of the newest 5,000 documents that this caller may find, the most common first, at most 64.

        Raises: CollectionNotFound; DependencyError: SQL is away.
        """
        collection = sa.select(collections).where(of_tenant(principal.tenant_id, collection_name))

        async def find(connection: AsyncConnection) -> Sequence[str]:
            known = (await connection.execute(collection)).one_or_none()
            if known is None:
                raise CollectionNotFound(collection_name)
            if Life.of(known).is_over(self._clock.time()):
                return ()
            # As text: decoding so many on the event loop would hold up everybody else.
            found = (
                sa.select(sa.cast(documents.c.metadata, sa.Text))
                .where(
                    documents.c.collection_id == known.id,
                    documents.c.tenant_id == principal.tenant_id,
                    documents.c.revision_id.is_not(None),
                    live(self._clock.time()),
                    may_read(reads_as(principal)),
                )
                .order_by(documents.c.id.desc())
                .limit(_MOST_DOCUMENTS)
            )
            return (await connection.execute(found)).scalars().all()

        return await asyncio.to_thread(_summarise, await self._database.read(find))


def kind_of(value: Scalar) -> Kind:
    """What a value is, as JSON has it: true is no number."""
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


@dataclass(slots=True)
class _Counted:
    """What is known of a key so far. Values are counted by kind too: in a dict, true would be 1."""

    kinds: set[Kind] = field(default_factory=set)
    documents: int = 0
    values: Counter[tuple[Kind, Scalar]] = field(default_factory=Counter)

    def add(self, value: Scalar) -> None:
        kind = kind_of(value)
        self.kinds.add(kind)
        self.documents += 1
        if isinstance(value, str) and len(value) > _MOST_SHOWN:
            return
        if (kind, value) in self.values or len(self.values) < _MOST_VALUES:
            self.values[kind, value] += 1

    def summary(self) -> FieldSummary:
        ranked = sorted(self.values.items(), key=lambda item: (-item[1], item[0]))
        return FieldSummary(
            frozenset(self.kinds), self.documents, tuple(value for (_, value), _ in ranked[:_MOST_EXAMPLES])
        )


def _summarise(texts: Sequence[str]) -> dict[str, FieldSummary]:
    counted: dict[str, _Counted] = {}
    for text in texts:
        metadata: Mapping[str, Scalar] = orjson.loads(text)
        for key, value in metadata.items():
            if key in counted or len(counted) < _MOST_COUNTED:
                counted.setdefault(key, _Counted()).add(value)
    ranked = sorted(counted.items(), key=lambda item: (-item[1].documents, item[0]))
    return {key: found.summary() for key, found in ranked[:_MOST_KEYS]}
