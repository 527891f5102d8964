"""Facets: how many documents carry which value of their metadata; and the values that a question names.

Counted are documents, not chunks: those that the pinned version shows, that the caller may read now, and for which
the caller's filter holds, each by the same rule as in a search. A document that the caller may not read changes
nothing, not even where counting ends.

Values are one where a filter takes them for one: 1 and 1.0 are, and text is never a number. True is not 1 here.
"""

import asyncio
import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from retrieval import expression
from retrieval.analyzer import Analyzer, analyzer
from retrieval.errors import InputInvalid
from retrieval.expression import Scalar
from retrieval.snapshot import Snapshot, shown
from storage.schema import collections, documents, revisions
from storage.sql import Database

MOST_KEYS = 10
MOST_VALUES = 50  # of a key
MOST_DOCUMENTS = 20_000  # that one request looks at
MOST_SUGGESTIONS = 5
_MOST_CHARACTERS = 32 * 2**20  # of metadata as JSON that one request reads; what came first when it is reached counts
_AT_ONCE = 1000
_LONGEST_KEY = 200
_LONGEST_NAMED = 200  # characters of a value that a question may name
_MOST_NAMED = 5000  # values that are held against a question, those first that most documents carry
_WHOLE_BELOW = 2**53  # a number without a fraction is shown without a point up to here

_NUMBER, _TEXT, _BOOLEAN = range(3)
_Identity = tuple[int, Scalar]


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value and how many documents carry it."""

    value: Scalar
    documents: int


@dataclass(frozen=True, slots=True)
class Facet:
    """The values of one key, those of most documents first.

    Attributes:
        documents: how many carry the key.
        more: distinct values that were left out.
        partial: only the newest documents were counted, and there are more.
    """

    key: str
    values: list[FacetValue]
    documents: int
    more: int
    partial: bool


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A value that the question names, and how many documents carry it."""

    key: str
    value: Scalar
    documents: int

    @property
    def filter(self) -> dict[str, Any]:
        """The filter that would search these documents alone, as JSON."""
        return {"type": "eq", "key": self.key, "value": self.value}


async def count(
    database: Database,
    snapshot: Snapshot,
    readers: Sequence[str] | None,
    user_filter: expression.Filter | None,
    keys: Sequence[str],
    now_s: float,
) -> list[Facet]:
    """Count the values of these keys, each key once, in their order.

    Args:
        readers: as `access.reads_as` gives them; None: the caller reads everything in the tenant.

    Raises: InputInvalid: too many keys, or none that metadata can have; DependencyError: SQL is away.
    """
    _check(keys)
    if not keys:
        return []
    tally = _Tally(user_filter, frozenset(keys))
    partial = await _read(database, snapshot, readers, now_s, tally)
    return await asyncio.to_thread(lambda: [tally.facet(key, partial) for key in dict.fromkeys(keys)])


async def suggest(
    database: Database,
    snapshot: Snapshot,
    readers: Sequence[str] | None,
    user_filter: expression.Filter | None,
    question: str,
    now_s: float,
) -> list[Suggestion]:
    """Find values all of whose words stand in the question, those of most words first.

    Inflections count as in lexical search; numbers stand in it as they are. True and false are never named. Of the
    newest documents, as facets count them; a key whose value the filter fixes already is left out.

    Raises: DependencyError: SQL is away.
    """
    words = analyzer(snapshot.language)
    asked = set(words.named(question))
    if not asked:
        return []
    tally = _Tally(user_filter, None)
    await _read(database, snapshot, readers, now_s, tally)
    return await asyncio.to_thread(tally.named, words, asked, _fixed(user_filter))


def _check(keys: Sequence[str]) -> None:
    if len(set(keys)) > MOST_KEYS:
        raise InputInvalid("facets", f"facets names at most {MOST_KEYS} keys of metadata; ask for the others apart.")
    if any(not 1 <= len(key) <= _LONGEST_KEY for key in keys):
        raise InputInvalid("facets", f"A key in facets has 1 to {_LONGEST_KEY} characters, as metadata's keys have.")


async def _read(
    database: Database, snapshot: Snapshot, readers: Sequence[str] | None, now_s: float, tally: "_Tally"
) -> bool:
    """Give the tally the metadata of all documents that count, the newest first. Returns: whether there are more."""
    statement = (
        # As text: parsing twenty thousand of them is not for the event loop.
        sa.select(sa.cast(documents.c.metadata, sa.Text))
        .select_from(revisions)
        .join(documents, documents.c.id == revisions.c.document_id)
        .join(collections, collections.c.id == revisions.c.collection_id)
        .where(documents.c.collection_id == snapshot.collection_id, shown(snapshot, readers, now_s))
        .order_by(documents.c.id.desc())
        .limit(MOST_DOCUMENTS + 1)
    )

    async def read(connection: AsyncConnection) -> bool:
        left, characters = MOST_DOCUMENTS, 0
        async with connection.stream(statement) as result:
            async for texts in result.scalars().partitions(_AT_ONCE):
                if characters > _MOST_CHARACTERS:
                    return True
                await asyncio.to_thread(tally.add, texts[:left])
                left -= len(texts)
                characters += sum(map(len, texts))
        return left < 0

    return await database.read(read)


class _Tally:
    """Counts values of documents for which a filter holds; of these keys, or of all."""

    def __init__(self, user_filter: expression.Filter | None, keys: Collection[str] | None) -> None:
        self._filter = user_filter
        self._keys = keys
        self._counts: defaultdict[str, Counter[_Identity]] = defaultdict(Counter)

    def add(self, texts: Sequence[str]) -> None:
        """Count documents by their metadata as JSON."""
        for text in texts:
            metadata = orjson.loads(text)
            if self._filter is not None and not expression.holds(self._filter, metadata):
                continue
            for key, value in metadata.items():
                if self._keys is None or key in self._keys:
                    self._counts[key][_identity(value)] += 1

    def facet(self, key: str, partial: bool) -> Facet:
        counts = self._counts.get(key, Counter())
        best = heapq.nsmallest(MOST_VALUES, counts.items(), key=lambda one: (-one[1], one[0]))
        values = [FacetValue(identity[1], found) for identity, found in best]
        return Facet(key, values, counts.total(), len(counts) - len(values), partial)

    def named(self, words: Analyzer, asked: Collection[str], fixed: Collection[str]) -> list[Suggestion]:
        """The values whose words are all among these."""
        carried = [
            (-found, key, identity)
            for key, counts in self._counts.items()
            if key not in fixed
            for identity, found in counts.items()
            if identity[0] != _BOOLEAN and len(str(identity[1])) <= _LONGEST_NAMED
        ]
        matches = []
        for found, key, identity in heapq.nsmallest(_MOST_NAMED, carried):
            if count := _words_among(words, identity, asked):
                matches.append((-count, found, key, identity))
        return [Suggestion(key, identity[1], -found) for _, found, key, identity in sorted(matches)[:MOST_SUGGESTIONS]]


def _identity(value: Scalar) -> _Identity:
    """What is equal for values that are one, and sorts beside any other."""
    if isinstance(value, bool):
        return _BOOLEAN, value
    if isinstance(value, str):
        return _TEXT, value
    if isinstance(value, float) and value.is_integer() and abs(value) <= _WHOLE_BELOW:
        value = int(value)
    return _NUMBER, value


def _words_among(words: Analyzer, identity: _Identity, asked: Collection[str]) -> int:
    """How many words a value has, if all of them are among these; else 0."""
    kind, value = identity
    if kind == _NUMBER:
        # A sign is no part of a word, so 5 in a question would name -5.
        return int(float(value) >= 0 and str(value) in asked)
    found = set()
    for word in words.named(str(value)):
        if word not in asked:
            return 0
        found.add(word)
    return len(found)


def _fixed(user_filter: expression.Filter | None) -> set[str]:
    """The keys of which a filter lets one value pass."""
    if isinstance(user_filter, expression.Compound):
        if user_filter.type == "and" or len(user_filter.filters) == 1:
            return set().union(*map(_fixed, user_filter.filters))
        return set()
    if user_filter is None:
        return set()
    single = not isinstance(user_filter.value, tuple) or len(user_filter.value) == 1
    return {user_filter.key} if user_filter.type in ("eq", "in") and single else set()
