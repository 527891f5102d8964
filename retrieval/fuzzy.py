"""Fuzzy terms: what a question's words that no chunk holds may have been meant to be.

A term is compared with the terms of the collection's chunks by their Damerau-Levenshtein distance (optimal string
alignment): one mistake in terms of 4 and 5 characters, two from 6 on, none in shorter ones; numbers, and all that
holds a digit or a joint, is exact or nothing. Terms are stems, and a mistake in a word's ending keeps the stemmer from
taking it off (`authenticaton` stays as it is, where `authentication` becomes `authent`). So a term whose last letters
are an English ending but for one mistake is looked for without them too, which counts as one mistake: of 92 common
mistakes 85 are put right, and 76 without this.

The vocabulary holds words of documents that a caller may not read, and must not tell them: not as a correction, not
by what it puts in a correction's place, not by a word that is taken for known. Whoever may read every document that
has a share in the collection's statistics is answered from those. Anybody else is answered from the terms of the newest
documents that he may read, as if there were no others.

No index is kept. Of 200,000 terms those of fitting length come out of SQL as one text, and are compared by rapidfuzz
outside of the interpreter's lock: 0.11 s of a processor, of which 0.02 s go to comparing. A row for each takes 0.5 s; a
list of all deletions, as SymSpell keeps it, is 30 rows for each term, written in the transaction that publishes a
document; the terms of one first letter take 0.03 s, and mistakes in it are lost. For a caller who may not read all,
1,000 documents of 500 terms take 0.2 s.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import sqlalchemy as sa
from rapidfuzz import process
from rapidfuzz.distance import OSA
from sqlalchemy.ext.asyncio import AsyncConnection

from retrieval import access
from retrieval.analyzer import ENGLISH, Analyzer, analyzer
from retrieval.snapshot import Snapshot, shown
from storage.schema import collections, documents, revision_terms, revisions, term_frequencies
from storage.sql import Database

MOST_REPLACEMENTS = 3  # of a term
MOST_TERMS = 8  # of a question that are put right, the first ones
_MOST_ASKED = 24  # of a question that are looked at
MOST_DOCUMENTS = 1000  # whose terms are read for a caller who may not read all
_MOST_CHARACTERS = 8 * 2**20  # of these terms as JSON; what came first when it is reached counts
_MOST_VOCABULARY = 1_000_000  # terms of fitting length that are compared for a caller who may read all
_MOST_WEIGHED = 1000  # of these that are near, whose chunks are counted; the nearest
_LONGEST = 30  # characters of a term that is looked for; longer ones are data
_AT_ONCE = 50  # documents
_COMPARED_AT_ONCE = 50_000  # terms

# As the stemmer leaves them: it has made an i of a y at the end.
_ENDINGS = (
    "ation", "ition", "ement", "ment", "ness", "ance", "ence", "anci", "enci", "able", "ible", "abli", "ibli", "alli",
    "ical", "ious", "ized", "ised", "abiliti", "ibiliti",
)  # fmt: skip
_SHORTEST_WITH_ENDING = 7
_SHORTEST_WITHOUT = 3


@dataclass(frozen=True, slots=True)
class Correction:
    """What may stand in a term's place, the nearest first, then what more chunks hold; terms as `analyze` makes them.

    Attributes:
        distance: mistakes between the term and the nearest of them; 1 or 2.
        chunks: how many chunks that the caller may read hold each of them.
    """

    term: str
    replaced_by: tuple[str, ...]
    distance: int
    chunks: tuple[int, ...]


async def correct(
    database: Database, snapshot: Snapshot, terms: Sequence[str], readers: Sequence[str] | None, now_s: float
) -> list[Correction]:
    """Find corrections for those of a question's terms that stand in no chunk that the caller may read.

    Args:
        terms: all of them, known or not: the snapshot's frequencies count chunks that the caller may not read, and a
            word that only those hold is as unknown to him as any other.
        readers: as `access.reads_as` gives them; None: the caller reads everything in the tenant.

    Raises: DependencyError: SQL is away.
    """
    asked = [term for term in dict.fromkeys(terms) if _most_mistakes(term) and len(term) <= _LONGEST][:_MOST_ASKED]
    if not asked:
        return []

    async def read(connection: AsyncConnection) -> list[Correction]:
        if await _reads_all(connection, snapshot.collection_id, readers, now_s):
            return await _among_all(connection, snapshot, asked)
        return await _among_readable(connection, snapshot, asked, readers, now_s)

    return await database.read(read)


def nearest(unknown: Sequence[str], vocabulary: Mapping[str, int], language: str = ENGLISH) -> list[Correction]:
    """Find corrections in a vocabulary, in the order of the terms; a term that it knows has none.

    Args:
        vocabulary: of each term, how many chunks hold it.
    """
    return _best(_near(unknown, list(vocabulary), analyzer(language)), vocabulary)


def spellings(terms: Collection[str], texts: Iterable[str], language: str = ENGLISH) -> dict[str, str]:
    """How these terms are written in texts, each in its commonest form; what stands in none is missing.

    Of texts that the caller was shown, so that nobody reads a word here that he could not read there.
    """
    forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text in texts:
        for word, term in analyzer(language).written(text):
            if term in terms:
                forms[term][word] += 1
    return {term: min(counts, key=lambda word: (-counts[word], word)) for term, counts in forms.items()}


async def _reads_all(
    connection: AsyncConnection, collection_id: str, readers: Sequence[str] | None, now_s: float
) -> bool:
    """Whether no document that has a share in the statistics, as they are now, is hidden from the caller."""
    hidden = sa.select(documents.c.id).where(
        documents.c.collection_id == collection_id,
        documents.c.revision_id.is_not(None),
        documents.c.deleted_at.is_(None),
        ~sa.and_(access.live(now_s), access.may_read(readers)),
    )
    return (await connection.execute(hidden.limit(1))).first() is None


async def _among_all(connection: AsyncConnection, snapshot: Snapshot, asked: Sequence[str]) -> list[Correction]:
    theirs = term_frequencies.c.collection_id == snapshot.collection_id
    term = term_frequencies.c.term
    # Not by the snapshot's frequencies: in its version there may have been documents that were hidden from the caller.
    known = set((await connection.execute(sa.select(term).where(theirs, term.in_(asked)))).scalars())
    unknown = [one for one in asked if one not in known]
    if not unknown:
        return []
    of = analyzer(snapshot.language)
    shortest, longest = _lengths(unknown, of)
    fitting = (
        sa.select(term)
        .where(theirs, sa.func.length(term).between(shortest, longest))
        .limit(_MOST_VOCABULARY)
        .subquery()
    )
    whole = await connection.execute(sa.select(sa.func.aggregate_strings(fitting.c.term, "\n")))
    text: str | None = whole.scalar()
    if text is None:
        return []
    near = await asyncio.to_thread(lambda: _near(unknown, text.split("\n"), of))
    by_distance = sorted((distance, word) for found in near.values() for word, distance in found.items())
    weighed = {word for _, word in by_distance[:_MOST_WEIGHED]}
    counts = await connection.execute(sa.select(term, term_frequencies.c.chunks).where(theirs, term.in_(weighed)))
    return _best(near, {row.term: row.chunks for row in counts})


async def _among_readable(
    connection: AsyncConnection, snapshot: Snapshot, asked: Sequence[str], readers: Sequence[str] | None, now_s: float
) -> list[Correction]:
    statement = (
        sa.select(sa.cast(revision_terms.c.terms, sa.Text))
        .select_from(revisions)
        .join(documents, documents.c.id == revisions.c.document_id)
        .join(collections, collections.c.id == revisions.c.collection_id)
        .join(revision_terms, revision_terms.c.revision_id == revisions.c.id)
        .where(documents.c.collection_id == snapshot.collection_id, shown(snapshot, readers, now_s))
        .order_by(documents.c.id.desc())
        .limit(MOST_DOCUMENTS)
    )
    of = analyzer(snapshot.language)
    near: dict[str, dict[str, int]] = {term: {} for term in asked}
    seen: set[str] = set()
    chunks: Counter[str] = Counter()

    def look(texts: Sequence[str]) -> None:
        held = [orjson.loads(text) for text in texts]
        new = set().union(*held) - seen
        seen.update(new)
        for term, found in _near(asked, list(new), of).items():
            near[term] |= found
        words = {word for found in near.values() for word in found}
        for terms in held:
            for word in words & terms.keys():
                chunks[word] += terms[word]

    characters = 0
    async with connection.stream(statement) as result:
        async for texts in result.scalars().partitions(_AT_ONCE):
            await asyncio.to_thread(look, texts)
            characters += sum(map(len, texts))
            if chunks.keys() >= set(asked):
                return []
            if characters > _MOST_CHARACTERS:
                break
    return _best(near, chunks)


def _near(unknown: Sequence[str], vocabulary: Sequence[str], of: Analyzer) -> dict[str, dict[str, int]]:
    """For each term the words that are near enough, each with its distance; 0 for the term itself."""
    near: dict[str, dict[str, int]] = {term: {} for term in unknown}
    forms = [form for term in unknown for form in _forms(term, of)]
    for first in range(0, len(vocabulary) if forms else 0, _COMPARED_AT_ONCE):
        part = vocabulary[first : first + _COMPARED_AT_ONCE]
        distances = process.cdist(
            [form.text for form in forms],
            part,
            scorer=OSA.distance,
            score_cutoff=max(form.most for form in forms),
            dtype=np.uint8,
        )
        for form, row in zip(forms, distances, strict=True):
            found = near[form.term]
            for place in np.flatnonzero(row <= form.most).tolist():
                word = part[place]
                if _is_word(word):
                    distance = 0 if word == form.term else form.cost + int(row[place])
                    found[word] = min(distance, found.get(word, distance))
    return near


def _best(near: Mapping[str, Mapping[str, int]], chunks: Mapping[str, int]) -> list[Correction]:
    made: list[Correction] = []
    for term, found in near.items():
        weighed = sorted((distance, -chunks[word], word) for word, distance in found.items() if word in chunks)
        best = weighed[:MOST_REPLACEMENTS]
        if best and best[0][0] > 0:  # else it is known
            words, counts = tuple(word for *_, word in best), tuple(-count for _, count, _ in best)
            made.append(Correction(term, words, best[0][0], counts))
    return made[:MOST_TERMS]


@dataclass(frozen=True, slots=True)
class _Form:
    """A way in which a term is looked for.

    Attributes:
        cost: mistakes that it takes for granted.
        most: mistakes that it may have beside them.
    """

    term: str
    text: str
    cost: int
    most: int


def _forms(term: str, of: Analyzer) -> list[_Form]:
    """The term as it is, and without what may be meant to be an English ending."""
    most = _most_mistakes(term)
    texts: dict[str, None] = {}
    if len(term) >= _SHORTEST_WITH_ENDING and of.language == ENGLISH:
        for ending in _ENDINGS:
            for cut in (len(ending) - 1, len(ending), len(ending) + 1):
                rest, tail = term[:-cut], term[-cut:]
                if len(rest) >= _SHORTEST_WITHOUT and OSA.distance(tail, ending) <= 1:
                    texts |= {rest: None, of.stem(rest + ending): None}
    texts.pop(term, None)
    shorter = [_Form(term, text, 1, min(most - 1, _most_mistakes(text))) for text in texts]
    return [_Form(term, term, 0, most), *shorter]


def _lengths(terms: Sequence[str], of: Analyzer) -> tuple[int, int]:
    """The lengths between which a term of the vocabulary may be near to one of these, both included."""
    forms = [form for term in terms for form in _forms(term, of)]
    return min(len(form.text) - form.most for form in forms), max(len(form.text) + form.most for form in forms)


def _most_mistakes(term: str) -> int:
    if not _is_word(term) or len(term) < 4:
        return 0
    return 1 if len(term) < 6 else 2


def _is_word(term: str) -> bool:
    """Whether it is one word of letters alone: neither a number, nor an identifier, nor a compound."""
    return term.isalpha()
