"""Corrections on the real catalog: nobody is told a word, or made to feel one, that he may not read."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection

from core.ids import new_id
from core.principal import Principal
from retrieval import facets, fuzzy, snapshot
from retrieval.access import reads_as
from retrieval.analyzer import ENGLISH, analyze, analyzer
from retrieval.fuzzy import Correction, nearest
from retrieval.intake import NewFile
from retrieval.query import Query
from retrieval.status import JobStatus, Status
from storage.schema import document_readers, documents, revision_terms, revisions, term_frequencies
from storage.sql import Database
from tests.integration.retrieval.conftest import House
from tests.integration.retrieval.test_access import member
from tests.support.catalog import Catalog, new_catalog

_ENGLISH = analyzer(ENGLISH)

NOW_S = 1000.0
GENERATED = [Phase.generate]  # each example is a collection: making a failing one smaller takes minutes
CLOSED = {"users": ["ann"], "groups": []}
BOB, ANN = ["*", "user:bob"], ["*", "user:ann"]
ALPHABET = "aeinrst"
TEXTS = st.lists(st.lists(st.text(ALPHABET, min_size=3, max_size=7), min_size=1, max_size=4), max_size=3)
SENT = st.tuples(TEXTS, st.sampled_from([None, None, CLOSED, {"users": ["bob"], "groups": []}]), st.booleans())
ASKED = st.lists(st.text(ALPHABET, min_size=3, max_size=8), min_size=1, max_size=3)
Sent = tuple[list[list[str]], dict[str, list[str]] | None, bool]


async def correct(catalog: Catalog, question: str, readers: Sequence[str] | None = None) -> list[Correction]:
    terms = analyze(question)
    return await fuzzy.correct(catalog.database, await catalog.pin(*terms), terms, readers, NOW_S)


def told(corrections: Sequence[Correction]) -> dict[str, tuple[str, ...]]:
    return {one.term: one.replaced_by for one in corrections}


async def test_an_unknown_term_is_corrected_by_what_chunks_hold(catalog: Catalog) -> None:
    assert await correct(catalog, "harbuor") == [], "nothing in an empty collection"
    await catalog.put("The harbour of Wellhaven.\nA harbour fee.\nBoats of the harvest.")
    assert await correct(catalog, "What is the harbuor fee in Welhaven") == [
        Correction("harbuor", ("harbour",), 1, (2,)),
        Correction("welhaven", (_ENGLISH.stem("wellhaven"),), 1, (1,)),
    ]
    assert await correct(catalog, "harbours and fees and 12 boats, by the sea") == []
    assert await correct(catalog, "the") == []


async def test_what_one_may_not_read_changes_no_correction(database: Database) -> None:
    """They are those of a collection that never held the other documents, and those of a search by hand in it."""
    loop = asyncio.get_running_loop()

    async def corrected(sent: Sequence[Sent], question: str, readers: Sequence[str] | None) -> list[Correction]:
        catalog = await new_catalog(database)
        for texts, acl, expired in sent:
            expires_at = NOW_S if expired and acl is not None else None
            await catalog.put("\n".join(map(" ".join, texts)), None, acl, expires_at)
        return await correct(catalog, question, readers)

    @settings(deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=GENERATED)
    @given(st.lists(SENT, max_size=5), ASKED, st.sampled_from([None, ["*"], ANN, BOB]))
    def check(sent: list[Sent], asked: list[str], readers: list[str] | None) -> None:
        question = " ".join(asked)
        whole = asyncio.run_coroutine_threadsafe(corrected(sent, question, readers), loop).result(60)
        theirs = [one for one in sent if may_read(one, readers)]
        alone = asyncio.run_coroutine_threadsafe(corrected(theirs, question, readers), loop).result(60)
        vocabulary = Counter(term for texts, _, _ in theirs for line in texts for term in set(analyze(" ".join(line))))
        terms = [term for term in dict.fromkeys(analyze(question)) if fuzzy._most_mistakes(term)]
        assert whole == alone == nearest(terms, vocabulary)

    await asyncio.to_thread(check)


def may_read(sent: Sent, readers: Sequence[str] | None) -> bool:
    _, acl, expired = sent
    if acl is None:
        return True
    return not expired and (readers is None or not {f"user:{name}" for name in acl["users"]}.isdisjoint(readers))


async def test_a_word_that_only_a_closed_document_holds_is_never_told(catalog: Catalog) -> None:
    await catalog.put("The gulls of Wellhaven.")
    closed = await catalog.put("Quillfeather was here.", None, CLOSED)
    asked, whole = _ENGLISH.stem("quillfeathr"), _ENGLISH.stem("quillfeather")
    assert told(await correct(catalog, "Quillfeathr", ANN)) == {asked: (whole,)}
    assert told(await correct(catalog, "Quillfeathr", None)) == {asked: (whole,)}
    for readers in (BOB, ["*"], []):
        assert await correct(catalog, "Quillfeathr", readers) == []
    await catalog.change(closed, acl={"users": ["bob"], "groups": []})
    assert told(await correct(catalog, "Quillfeathr", BOB)) == {asked: (whole,)}
    assert await correct(catalog, "Quillfeathr", ANN) == []


async def test_a_closed_word_takes_no_place_gives_no_weight_and_makes_nothing_known(catalog: Catalog) -> None:
    await catalog.put("marten martin\nmarten merlin")
    for _ in range(3):
        await catalog.put("marton martyn martin mortin\nmartin", None, CLOSED)
    assert await correct(catalog, "marton", BOB) == [Correction("marton", ("marten", "martin"), 1, (2, 1))]
    assert await correct(catalog, "marton", ANN) == []
    assert await correct(catalog, "mattin", BOB) == [Correction("mattin", ("martin", "marten"), 1, (1, 2))]
    assert await correct(catalog, "mattin", ANN) == [Correction("mattin", ("martin", "marton", "martyn"), 1, (7, 3, 3))]


async def test_a_closed_document_that_comes_after_the_version_was_pinned_tells_nothing(catalog: Catalog) -> None:
    await catalog.put("The gulls of Wellhaven.")
    terms = analyze("Quillfeathr")
    pinned = await catalog.pin(*terms)
    await catalog.put("Quillfeather was here.", None, CLOSED)
    assert await fuzzy.correct(catalog.database, pinned, terms, ["*"], NOW_S) == []


async def test_words_of_what_expired_or_was_deleted_are_told_to_nobody(catalog: Catalog) -> None:
    await catalog.put("The gulls of Wellhaven.")
    fleeting = await catalog.put("Quillfeather was here.", None, None, NOW_S + 1)
    assert len(await correct(catalog, "Quillfeathr", None)) == 1
    await catalog.change(fleeting, expires_at=NOW_S)
    assert await correct(catalog, "Quillfeathr", None) == []
    assert await correct(catalog, "Quillfeathr", ["*"]) == []
    await catalog.change(fleeting, expires_at=None)
    await catalog.hide(fleeting)
    assert await correct(catalog, "Quillfeathr", None) == []


async def test_only_the_newest_are_read_for_who_may_not_read_all(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzzy, "_AT_ONCE", 1)
    await catalog.put("harbour")
    await catalog.put("lighthouse")
    await catalog.put("closed", None, CLOSED)
    assert told(await correct(catalog, "harbuor lighthuose", BOB)) == {
        "harbuor": ("harbour",),
        "lighthuos": (_ENGLISH.stem("lighthouse"),),
    }
    for name in ("MOST_DOCUMENTS", "_MOST_CHARACTERS"):
        with monkeypatch.context() as bounds:
            bounds.setattr(fuzzy, name, 1)
            assert told(await correct(catalog, "harbuor lighthuose", BOB)) == {
                "lighthuos": (_ENGLISH.stem("lighthouse"),)
            }


async def test_no_more_terms_are_looked_for_than_the_first_eight_that_are_unknown(catalog: Catalog) -> None:
    words = "harbour lighthouse seagull mooring captain lantern compass rudder anchor".split()
    await catalog.put(" ".join(words))
    closed = await catalog.put("closed", None, CLOSED)
    question = " ".join([*words[:3], *(f"{word[0]}x{word[1:]}" for word in words)])
    for readers in (None, BOB):
        assert len(await correct(catalog, question, readers)) == fuzzy.MOST_TERMS
    await catalog.hide(closed)
    assert len(await correct(catalog, question, BOB)) == fuzzy.MOST_TERMS


@pytest.mark.slow
async def test_a_closed_word_is_neither_told_nor_felt_on_the_real_parts(house: House) -> None:
    """The only document with the word is ann's. Bob's searches are those of a collection without it."""
    closed = b"Quillfeather keeps the tide tables of the harbour."
    files = [NewFile("open.md", None, b"The gulls of the harbour are fed at noon.")]
    await house.retrieval.collections.create(house.principal, "with")
    await house.retrieval.collections.create(house.principal, "without")
    async with house.worker():
        secret = NewFile("closed.md", None, closed, {"keeper": "Quillfeather"}, acl={"users": ["ann"]})
        assert (await house.send("with", [*files, secret])).status is JobStatus.SUCCEEDED
        assert (await house.send("without", files)).status is JobStatus.SUCCEEDED
    question = "Quillfeathr and the gulls of Quillfeather"

    async def asked(who: Principal, collection: str) -> tuple[list[Correction], list[facets.Suggestion], list[Any]]:
        terms = analyze(question)
        pinned = await snapshot.pin(house.database, who.tenant_id, collection, terms)
        readers, now_s = reads_as(who), time.time()
        found = await house.retrieval.searcher.search(who, Query(collection, "quillfeather", mode="lexical"))
        return (
            await fuzzy.correct(house.database, pinned, terms, readers, now_s),
            await facets.suggest(house.database, pinned, readers, None, question, now_s),
            [(one.filename, one.score) for one in found.passages],
        )

    bob, ann = member(house, "bob"), member(house, "ann")
    assert await asked(bob, "with") == await asked(bob, "without")
    corrections, suggestions, passages = await asked(ann, "with")
    assert told(corrections) == {_ENGLISH.stem("quillfeathr"): (_ENGLISH.stem("quillfeather"),)}
    assert [one.value for one in suggestions] == ["Quillfeather"]
    assert [name for name, _ in passages] == ["closed.md"]


@pytest.mark.slow
async def test_how_long_two_hundred_thousand_terms_take(catalog: Catalog, figure: Callable[[str], None]) -> None:
    """No assertion of speed; the machine may be busy."""
    chance = random.Random(7)
    vocabulary = sorted({"".join(chance.choices("etaoinshrdlu", k=chance.randint(4, 13))) for _ in range(200_000)})
    rows = [{"collection_id": catalog.collection_id, "term": term, "chunks": 1} for term in vocabulary]

    async def insert(connection: AsyncConnection) -> None:
        for first in range(0, len(rows), 10_000):
            await connection.execute(term_frequencies.insert(), rows[first : first + 10_000])

    await catalog.database.write(insert)
    for count in (1, 8):
        wrong = [f"{term[:3]}z{term[3:]}" for term in chance.sample(vocabulary, count)]
        pinned = await catalog.pin(*wrong)
        began = time.perf_counter()
        found = await fuzzy.correct(catalog.database, pinned, wrong, None, NOW_S)
        spent = time.perf_counter() - began
        figure(f"{count} unknown of {len(vocabulary):,} terms: {spent * 1000:.0f} ms")
        assert len(found) == sum(fuzzy._most_mistakes(term) > 0 for term in wrong)


@pytest.mark.slow
async def test_how_long_the_terms_of_a_thousand_documents_take(catalog: Catalog, figure: Callable[[str], None]) -> None:
    """No assertion of speed; what a caller costs who may not read all."""
    chance = random.Random(7)
    common = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(3, 12))) for _ in range(20_000)]
    owner = {"tenant_id": catalog.tenant_id, "collection_id": catalog.collection_id}
    rows, shown, held, open_to = [], [], [], []
    for number in range(fuzzy.MOST_DOCUMENTS + 1):
        document_id, revision_id = new_id("doc"), new_id("rev")
        rows.append(
            {**owner, "id": document_id, "filename": "f", "media_type": "", "sha256": "", "source_key": ""}
            | {"metadata": {}, "status": Status.READY, "version": 1, "revision_id": revision_id}
            | {"created_at": 0.0, "updated_at": 0.0}
        )
        shown.append(
            {"id": revision_id, "document_id": document_id, "collection_id": catalog.collection_id, "number": 1}
            | {"text_key": "", "pages": [], "characters": 0, "chunks": 0, "terms": 0}
            | {"visible_from": 0, "created_at": 0.0}
        )
        held.append({"revision_id": revision_id, "terms": dict.fromkeys(chance.choices(common, k=500), 1)})
        open_to.append({"document_id": document_id, "reader": "user:ann" if number == 0 else "*"})

    async def insert(connection: AsyncConnection) -> None:
        for table, lines in (
            (documents, rows),
            (revisions, shown),
            (revision_terms, held),
            (document_readers, open_to),
        ):
            for first in range(0, len(lines), 500):
                await connection.execute(table.insert(), lines[first : first + 500])

    await catalog.database.write(insert)
    wrong = [f"{term[:3]}z{term[3:]}" for term in chance.sample(common, 3)]
    for name, terms in (("three unknown terms", wrong), ("three known terms", chance.sample(common, 3))):
        pinned = await catalog.pin(*terms)
        began = time.perf_counter()
        await fuzzy.correct(catalog.database, pinned, terms, ["*"], NOW_S)
        figure(f"{name}, 1,000 documents of 500: {(time.perf_counter() - began) * 1000:.0f} ms")
