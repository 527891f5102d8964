"""What an export tells, and to whom."""

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.principal import Principal, Role
from retrieval.errors import CollectionMoved, CollectionNotFound, InputInvalid
from retrieval.index import row_id
from retrieval.intake import NewFile
from tests.integration.retrieval.conftest import House, until

_OPEN = "The pier opens at nine. The ferry waits there."
_CLOSED = "The pier gate has the code xylophone."


@pytest.fixture
async def filled(house: House) -> AsyncIterator[House]:
    async with house.worker():
        await house.retrieval.collections.create(house.principal, "c")
        await house.ingest("c", open=_OPEN)
        acl = {"users": ["usr_1"], "groups": ["crew"]}
        await house.send("c", [NewFile("closed.md", None, _CLOSED.encode(), acl=acl)])
        yield house


async def _told(house: House, *readers: str, principal: Principal | None = None) -> list[dict[str, Any]]:
    export = await house.retrieval.exporter.begin(principal or house.principal, "c", readers)
    return [record async for record in house.retrieval.exporter.records(export, {})]


def _texts(records: list[dict[str, Any]]) -> list[str]:
    return [record["text"] for record in records if record["kind"] == "document"]


def _terms(records: list[dict[str, Any]]) -> dict[str, int]:
    return {
        term: count for record in records if record["kind"] == "statistics" for term, count in record["terms"].items()
    }


async def test_everyones_documents_are_told_with_no_word_of_the_others(filled: House) -> None:
    records = await _told(filled)
    assert _texts(records) == [_OPEN]
    assert "xylophon" not in str(records)
    assert _terms(records)["pier"] == 2  # counted as searches count it
    assert records[0]["version"] == 2
    assert records[-1] == {"kind": "end", "documents": 1, "chunks": 1}


async def test_readers_add_what_they_may_read_and_never_more_than_the_caller(filled: House) -> None:
    for reader in ("user:usr_1", "group:crew"):
        assert _texts(await _told(filled, reader)) == [_OPEN, _CLOSED]
    assert _texts(await _told(filled, "user:usr_2")) == [_OPEN]
    member = replace(filled.principal, role=Role.MEMBER, user_id="usr_2")
    assert _texts(await _told(filled, "user:usr_1", principal=member)) == [_OPEN]
    stranger = await filled.tenant()
    with pytest.raises(CollectionNotFound):
        await _told(filled, principal=stranger)


@pytest.mark.parametrize("reader", ["usr_1", "user:", "*", "role:admin", "user:a\n", "user:" + "a" * 400])
async def test_a_reader_that_is_none_is_refused(house: House, reader: str) -> None:
    with pytest.raises(InputInvalid):
        await house.retrieval.exporter.begin(house.principal, "c", [reader])


async def test_vectors_and_weights_are_those_of_the_index(filled: House) -> None:
    records = await _told(filled)
    document = next(record for record in records if record["kind"] == "document")
    chunks = next(record for record in records if record["kind"] == "chunks")
    place = (await filled.retrieval.exporter.begin(filled.principal, "c", ())).pinned.place
    (row,) = await filled.retrieval.index.rows(place, [row_id(document["revision_id"], 0)], 10)
    assert base64.b64decode(chunks["dense"]) == row.dense.astype("<f4").tobytes()
    terms = np.frombuffer(base64.b64decode(chunks["terms"]), "<u4").tolist()
    weights = np.frombuffer(base64.b64decode(chunks["weights"]), "<f4").tolist()
    assert dict(zip(terms, weights, strict=True)) == pytest.approx(row.sparse)
    assert document["text"][chunks["start"][0] : chunks["end"][0]] == row.text


async def test_what_was_swept_meanwhile_breaks_it_off(filled: House) -> None:
    export = await filled.retrieval.exporter.begin(filled.principal, "c", ())
    await filled.retrieval.index.delete_revisions(export.pinned.place, [export.documents[0].revision])

    async def gone() -> bool | None:
        return None if await filled.retrieval.index.count(export.pinned.place) == 2 else True

    await until(gone)
    with pytest.raises(CollectionMoved):
        _ = [record async for record in filled.retrieval.exporter.records(export, {})]
