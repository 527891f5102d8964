"""Facets and suggestions count the documents that a caller may read, as a count by hand does, on both databases."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection

from core.ids import new_id
from retrieval import facets, snapshot
from retrieval.access import reads_as
from retrieval.errors import InputInvalid
from retrieval.expression import Filter, parse_filter
from retrieval.facets import Facet, Suggestion
from retrieval.intake import NewFile
from retrieval.status import JobStatus, Status
from storage.schema import document_readers, documents, revisions
from storage.sql import Database
from tests.integration.retrieval.conftest import House
from tests.integration.retrieval.test_access import member
from tests.integration.retrieval.test_hostile_filters import FILTERS, KEYS, SCALARS, holds
from tests.support.catalog import Catalog, new_catalog

NOW_S = 1000.0
GENERATED = [Phase.generate]  # each example is a collection: making a failing one smaller takes minutes
READERS: list[list[str] | None] = [None, ["*"], ["*", "user:ann"], ["*", "group:sales", "user:bob"]]
ACLS: list[dict[str, list[str]] | None] = [
    None,
    {"users": ["ann"], "groups": []},
    {"users": [], "groups": ["sales"]},
    {"users": [], "groups": []},
]
ASKED = [*KEYS, "n", "absent"]


@dataclass(frozen=True)
class Sent:
    """A document, and what becomes of it around the moment at which the version is pinned."""

    metadata: dict[str, Any]
    acl: dict[str, list[str]] | None
    fate: str

    def counts_for(self, readers: Sequence[str] | None) -> bool:
        if self.fate not in ("shown", "replaced", "replaced after the pin", "expires later"):
            return False
        return readers is None or self.acl is None or not set(self.names).isdisjoint(readers)

    @property
    def names(self) -> list[str]:
        acl = self.acl or {}
        return [f"user:{name}" for name in acl.get("users", [])] + [f"group:{name}" for name in acl.get("groups", [])]


SENT = st.builds(
    Sent,
    st.dictionaries(st.sampled_from([*KEYS, "n"]), SCALARS, max_size=4),
    st.sampled_from(ACLS),
    st.sampled_from(
        ["shown", "shown", "shown", "replaced", "replaced after the pin", "expires later", "expired", "deleted",
         "deleted after the pin", "unpublished", "published after the pin"]
    ),
)  # fmt: skip


async def filled(database: Database, sent: Sequence[Sent]) -> tuple[Catalog, snapshot.Snapshot]:
    """A collection of its own with these documents, and its pinned version."""
    catalog = await new_catalog(database)
    life = {"expired": NOW_S, "expires later": NOW_S + 1}

    async def put(one: Sent, publish: bool = True) -> str:
        return await catalog.put("text", one.metadata, one.acl, life.get(one.fate), publish)

    ids = {}
    for number, one in enumerate(sent):
        if one.fate != "published after the pin":
            ids[number] = await put(one, one.fate != "unpublished")
        if one.fate == "replaced":
            await catalog.replace(ids[number], "more", one.metadata, one.acl)
        if one.fate == "deleted":
            await catalog.hide(ids[number])
    pinned = await catalog.pin()
    for number, one in enumerate(sent):
        if one.fate == "published after the pin":
            await put(one)
        if one.fate == "replaced after the pin":
            await catalog.replace(ids[number], "more", one.metadata, one.acl)
        if one.fate == "deleted after the pin":
            await catalog.hide(ids[number])
    return catalog, pinned


def kind(value: Any) -> str:
    return "truth" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def by_hand(counted: Sequence[dict[str, Any]], key: str) -> Counter[tuple[str, Any]]:
    return Counter((kind(one[key]), one[key]) for one in counted if key in one)


async def count(
    catalog: Catalog, keys: Sequence[str], readers: Sequence[str] | None = None, raw: dict[str, Any] | None = None
) -> list[Facet]:
    user_filter: Filter | None = None if raw is None else parse_filter(raw)
    return await facets.count(catalog.database, await catalog.pin(), readers, user_filter, keys, NOW_S)


async def suggest(
    catalog: Catalog, question: str, readers: Sequence[str] | None = None, raw: dict[str, Any] | None = None
) -> list[Suggestion]:
    user_filter: Filter | None = None if raw is None else parse_filter(raw)
    return await facets.suggest(catalog.database, await catalog.pin(), readers, user_filter, question, NOW_S)


def values(facet: Facet) -> list[tuple[Any, int]]:
    return [(one.value, one.documents) for one in facet.values]


async def test_counts_are_those_of_a_count_by_hand_for_every_reader_filter_and_fate(database: Database) -> None:
    loop = asyncio.get_running_loop()

    async def counted(sent: Sequence[Sent], readers: Sequence[str] | None, raw: dict[str, Any] | None) -> list[Facet]:
        catalog, pinned = await filled(database, sent)
        user_filter = None if raw is None else parse_filter(raw)
        return await facets.count(catalog.database, pinned, readers, user_filter, ASKED, NOW_S)

    @settings(deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=GENERATED)
    @given(st.lists(SENT, max_size=6), st.sampled_from(READERS), st.none() | FILTERS)
    def check(sent: list[Sent], readers: list[str] | None, raw: dict[str, Any] | None) -> None:
        found = asyncio.run_coroutine_threadsafe(counted(sent, readers, raw), loop).result(60)
        metadata = [
            one.metadata for one in sent if one.counts_for(readers) and (raw is None or holds(raw, one.metadata))
        ]
        assert [facet.key for facet in found] == ASKED
        for facet in found:
            expected = by_hand(metadata, facet.key)
            assert {(kind(value), value): number for value, number in values(facet)} == expected
            assert (facet.documents, facet.more, facet.partial) == (expected.total(), 0, False)

    await asyncio.to_thread(check)


async def test_what_one_may_not_read_changes_nothing_that_one_is_told(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts, suggestions and where counting ends are those of a collection that never held the other documents."""
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(facets, "MOST_DOCUMENTS", 3)
    question = "line break true en 5 漢 é tenant_id 7 3 or"

    async def told(sent: Sequence[Sent], readers: Sequence[str] | None) -> tuple[list[Facet], list[Suggestion]]:
        _, pinned = await filled(database, sent)
        return (
            await facets.count(database, pinned, readers, None, ASKED, NOW_S),
            await facets.suggest(database, pinned, readers, None, question, NOW_S),
        )

    @settings(deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=GENERATED)
    @given(st.lists(SENT, max_size=6), st.sampled_from(READERS))
    def check(sent: list[Sent], readers: list[str] | None) -> None:
        whole = asyncio.run_coroutine_threadsafe(told(sent, readers), loop).result(60)
        theirs = [one for one in sent if one.counts_for(readers)]
        assert whole == asyncio.run_coroutine_threadsafe(told(theirs, readers), loop).result(60)

    await asyncio.to_thread(check)


async def test_values_come_by_count_and_then_by_value_and_text_number_and_truth_are_three(catalog: Catalog) -> None:
    for value in ("b", "a", "b", 1, 1.0, True, "1", 2.5, -0.0, 0, "true"):
        await catalog.put("text", {"k": value})
    (facet,) = await count(catalog, ["k"])
    shown = values(facet)
    assert shown == [(0, 2), (1, 2), ("b", 2), (2.5, 1), ("1", 1), ("a", 1), ("true", 1), (True, 1)]
    assert [kind(value) for value, _ in shown] == ["number", "number", "text", "number", *["text"] * 3, "truth"]
    assert not any(isinstance(value, float) for value, _ in shown if value in (0, 1)), "whole numbers have no point"


async def test_of_many_values_the_first_are_shown_and_the_others_counted(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert facets.MOST_VALUES == 50
    monkeypatch.setattr(facets, "MOST_VALUES", 5)
    for number in range(8):
        await catalog.put("text", {"k": number, "all": "same"})
    await catalog.put("text", {"k": 7})
    every, numbered = await count(catalog, ["all", "k", "all"])
    assert (values(every), every.documents, every.more) == ([("same", 8)], 8, 0)
    assert (values(numbered), numbered.documents, numbered.more) == ([(7, 2), (0, 1), (1, 1), (2, 1), (3, 1)], 9, 3)


async def test_only_the_newest_that_one_may_read_are_counted_and_partial_says_so(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facets, "MOST_DOCUMENTS", 3)
    monkeypatch.setattr(facets, "_AT_ONCE", 2)
    for number in range(4):
        await catalog.put("text", {"k": number})
        await catalog.put("text", {"k": -number}, {"users": ["ann"], "groups": []})
        (facet,) = await count(catalog, ["k"], ["*"])
        assert facet.partial == (number == 3)
    assert values(facet) == [(1, 1), (2, 1), (3, 1)]
    monkeypatch.setattr(facets, "MOST_DOCUMENTS", 100)
    monkeypatch.setattr(facets, "_MOST_CHARACTERS", 10)
    (facet,) = await count(catalog, ["k"], ["*"])
    assert (facet.partial, facet.documents) == (True, 2), "metadata that is long is counted as far as it goes"


async def test_keys_that_are_too_many_or_none_are_refused(catalog: Catalog) -> None:
    assert await count(catalog, []) == []
    assert len(await count(catalog, [*map(str, range(10)), "0"])) == 10
    for keys in ([str(number) for number in range(11)], [""], ["x" * 201]):
        with pytest.raises(InputInvalid, match="facets"):
            await count(catalog, keys)


async def test_changed_metadata_and_readers_count_from_the_next_request_on(catalog: Catalog) -> None:
    document = await catalog.put("text", {"year": 2020})
    pinned = await catalog.pin()
    await catalog.change(document, metadata={"year": 2021})
    (facet,) = await facets.count(catalog.database, pinned, ["*"], None, ["year"], NOW_S)
    assert values(facet) == [(2021, 1)], "as the passages of a search say it"
    await catalog.change(document, acl={"users": ["ann"], "groups": []})
    (facet,) = await facets.count(catalog.database, pinned, ["*"], None, ["year"], NOW_S)
    assert (values(facet), facet.documents) == ([], 0)


async def test_a_question_names_the_values_all_of_whose_words_stand_in_it(catalog: Catalog) -> None:
    for metadata in (
        {"topic": "harbour fees", "year": 2024, "draft": True},
        {"topic": "Harbour-Fees", "year": 2023, "by": "The"},
        {"topic": "fees", "version": 3, "ratio": 3.5, "below": -5},
        {"topic": "fees", "area": "pier K", "long": "fees " * 100},
    ):
        await catalog.put("text", metadata)
    found = await suggest(catalog, "What is the fee of harbours in 2024, is it true?")
    assert [(one.key, one.value, one.documents) for one in found] == [
        ("topic", "Harbour-Fees", 1),
        ("topic", "harbour fees", 1),
        ("topic", "fees", 2),
        ("year", 2024, 1),
    ]
    assert found[3].filter == {"type": "eq", "key": "year", "value": 2024}
    assert [one.value for one in await suggest(catalog, "3.5 and 5")] == [3.5]
    assert [one.value for one in await suggest(catalog, "version 3 of pier K")] == ["pier K", 3]
    for nothing in ("2024-05-01", "the", "", "pier", "?!"):
        assert await suggest(catalog, nothing) == []


async def test_no_more_than_five_are_suggested_and_none_that_the_filter_fixes(catalog: Catalog) -> None:
    for number in range(7):
        await catalog.put("text", {f"k{number}": "tide", "year": 2024})
    found = await suggest(catalog, "tide of 2024")
    assert [(one.key, one.documents) for one in found] == [("year", 7), *((f"k{number}", 1) for number in range(4))]
    year = {"type": "eq", "key": "year", "value": 2024}
    either = {"type": "or", "filters": [year, {"type": "eq", "key": "k6", "value": "tide"}]}
    for raw, told in (
        (year, False),
        ({"type": "in", "key": "year", "value": [2024]}, False),
        ({"type": "and", "filters": [{"type": "ne", "key": "k0", "value": "ebb"}, year]}, False),
        ({"type": "in", "key": "year", "value": [2023, 2024]}, True),
        ({"type": "gte", "key": "year", "value": 2024}, True),
        (either, True),
    ):
        found = await suggest(catalog, "tide of 2024", None, raw)
        assert ("year" in {one.key for one in found}) == told, raw
    found = await suggest(catalog, "tide", None, {"type": "eq", "key": "k6", "value": "tide"})
    assert found == [], "only of documents for which the filter holds"


@pytest.mark.slow
async def test_facets_and_suggestions_of_documents_that_were_taken_in(house: House) -> None:
    """`open.md` for everyone, `closed.md` for ann alone, on the real parts."""
    await house.retrieval.collections.create(house.principal, "c")
    async with house.worker():
        files = [
            NewFile("open.md", None, b"The moon of Wellhaven.", {"bird": "gull", "year": 2020}),
            NewFile("closed.md", None, b"The tide.", {"bird": "Quillfeather", "year": 2020}, acl={"users": ["ann"]}),
        ]
        assert (await house.send("c", files)).status is JobStatus.SUCCEEDED
    pinned = await snapshot.pin(house.database, house.principal.tenant_id, "c", [])
    for who, birds in (
        (member(house, "bob"), {"gull": 1}),
        (member(house, "ann"), {"gull": 1, "Quillfeather": 1}),
        (house.principal, {"gull": 1, "Quillfeather": 1}),
    ):
        readers = reads_as(who)
        (facet,) = await facets.count(house.database, pinned, readers, None, ["bird"], time.time())
        assert dict(values(facet)) == birds
        found = await facets.suggest(
            house.database, pinned, readers, None, "Which quillfeathers came in 2020?", time.time()
        )
        assert {one.value: one.documents for one in found} == {
            **({"Quillfeather": 1} if "Quillfeather" in birds else {}),
            2020: len(birds),
        }


@pytest.mark.slow
async def test_how_long_twenty_thousand_documents_take(catalog: Catalog, figure: Callable[[str], None]) -> None:
    """No assertion of speed; the machine may be busy."""
    chance = random.Random(7)
    await fill(catalog, 20_000, chance)
    question = "reports of 2024 about topic 17 in english"
    for name, readers in (("who reads all", None), ("a reader", ["*", "user:ann"])):
        began = time.perf_counter()
        year, topic = await count(catalog, ["year", "topic"], readers)
        counted = time.perf_counter()
        found = await suggest(catalog, question, readers)
        ended = time.perf_counter()
        figure(f"{name}: two facets {(counted - began) * 1000:.0f} ms, suggestions {(ended - counted) * 1000:.0f} ms")
        assert year.documents == topic.documents == (20_000 if readers is None else 15_000)
        assert ("topic", "topic 17") in {(one.key, one.value) for one in found}


async def fill(catalog: Catalog, most: int, chance: random.Random) -> None:
    """Write rows of visible documents, of which each fourth is closed to all but bob."""
    owner = {"tenant_id": catalog.tenant_id, "collection_id": catalog.collection_id}
    rows, shown, open_to = [], [], []
    for number in range(most):
        document_id, revision_id = new_id("doc"), new_id("rev")
        metadata = {
            "title": f"Report number {number} of the harbour office",
            "year": chance.randrange(2000, 2026),
            "topic": f"topic {chance.randrange(40)}",
            "language": chance.choice(["english", "french"]),
            "final": chance.random() < 0.5,
        }
        rows.append(
            {**owner, "id": document_id, "filename": "f", "media_type": "", "sha256": "", "source_key": ""}
            | {"metadata": metadata, "status": Status.READY, "version": 1, "revision_id": revision_id}
            | {"created_at": 0.0, "updated_at": 0.0}
        )
        shown.append(
            {"id": revision_id, "document_id": document_id, "collection_id": catalog.collection_id, "number": 1}
            | {"text_key": "", "pages": [], "characters": 0, "chunks": 0, "terms": 0}
            | {"visible_from": 0, "created_at": 0.0}
        )
        open_to.append({"document_id": document_id, "reader": "user:bob" if number % 4 == 0 else "*"})

    for first in range(0, most, 1000):  # each a transaction, whose deadline a busy machine keeps

        async def insert(connection: AsyncConnection, first: int = first) -> None:
            for table, lines in ((documents, rows), (revisions, shown), (document_readers, open_to)):
                await connection.execute(table.insert(), lines[first : first + 1000])

        await catalog.database.write(insert)
