"""Who may read a document, and what is said of it, changes with the next request; nobody waits for the index."""

import time
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from core.principal import Principal, Role
from retrieval.documents import Document
from retrieval.embedder import Embedder
from retrieval.errors import CollectionShared, DocumentNotFound, DocumentTaken, InputInvalid, JobNotFound
from retrieval.intake import NewFile
from retrieval.query import Query
from retrieval.rows import fetch
from retrieval.search import Passage
from retrieval.status import JobStatus, Status
from storage.schema import documents, revisions
from tests.integration.retrieval.conftest import House, until

pytestmark = pytest.mark.slow  # each test has a collection of its own in the index
TIDE = b"The tide at Wellhaven rises by four metres every spring."
MOON = b"The moon of Wellhaven is seen twice in every spring."


def member(house: House, user: str | None = None, *groups: str) -> Principal:
    return Principal(house.principal.tenant_id, "key_m", Role.MEMBER, user_id=user, groups=frozenset(groups))


@pytest.fixture
async def filled(house: House) -> House:
    """`open.md` for everyone, `closed.md` for the user ann and the group sales; no worker runs any more."""
    await house.retrieval.collections.create(house.principal, "c")
    async with house.worker():
        files = [
            NewFile("open.md", None, MOON, {"year": 2020}),
            NewFile("closed.md", None, TIDE, {"year": 2024}, acl={"users": ["ann"], "groups": ["sales"]}),
        ]
        assert (await house.send("c", files)).status is JobStatus.SUCCEEDED
    return house


async def found(house: House, who: Principal, **more: Any) -> list[Passage]:
    result = await house.retrieval.searcher.search(who, Query("c", "Wellhaven spring", **more))
    assert not result.degraded
    return result.passages


async def names(house: House, who: Principal, **more: Any) -> set[str]:
    return {passage.filename for passage in await found(house, who, **more)}


async def named(house: House, name: str) -> Document:
    return next(one for one in await house.retrieval.documents.list(house.principal, "c") if one.filename == name)


async def stale(house: House) -> int:
    return len(await fetch(house.database, sa.select(documents.c.id).where(documents.c.stale)))


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that anybody has embedded."""
    texts: list[str] = []
    embed = Embedder.embed

    async def counted(self: Embedder, wanted: Any, *rest: Any, **named: Any) -> Any:
        texts.extend(wanted)
        return await embed(self, wanted, *rest, **named)

    monkeypatch.setattr(Embedder, "embed", counted)
    return texts


async def test_only_its_readers_find_a_document(filled: House) -> None:
    for who, sees in (
        (member(filled), {"open.md"}),
        (member(filled, "bob", "legal"), {"open.md"}),
        (member(filled, "sales"), {"open.md"}),  # a user of a group's name is not the group
        (member(filled, "ann"), {"open.md", "closed.md"}),
        (member(filled, "bob", "sales"), {"open.md", "closed.md"}),
        (replace(member(filled), role=Role.READER), {"open.md"}),
        (replace(member(filled), role=Role.MANAGER), {"open.md", "closed.md"}),
        (filled.principal, {"open.md", "closed.md"}),
    ):
        for mode in ("hybrid", "dense", "lexical"):
            assert await names(filled, who, mode=mode) == sees, (who, mode)


async def test_who_may_not_read_a_document_meets_it_nowhere(filled: House) -> None:
    closed, stranger, ann = await named(filled, "closed.md"), member(filled, "bob"), member(filled, "ann")
    door = filled.retrieval.documents
    assert [one.filename for one in await door.list(stranger, "c")] == ["open.md"]
    for act in (
        door.get(stranger, "c", closed.id),
        door.content(stranger, "c", closed.id),
        door.content(stranger, "c", closed.id, 1),
        door.change(stranger, "c", closed.id, acl=None),
        door.delete(stranger, "c", closed.id),
    ):
        with pytest.raises(DocumentNotFound):
            await act
    with pytest.raises(DocumentTaken):
        await filled.retrieval.intake.accept(stranger, "c", [NewFile("closed.md", None, b"Mine now.")])
    assert (await door.content(ann, "c", closed.id)).startswith("The tide")
    assert (await door.get(ann, "c", closed.id)).acl == {"users": ["ann"], "groups": ["sales"]}


async def test_a_collection_that_holds_what_one_may_not_read_is_not_ones_own_to_delete(filled: House) -> None:
    door = filled.retrieval.collections
    with pytest.raises(CollectionShared):
        await door.delete(member(filled, "bob"), "c")
    assert len(await filled.retrieval.documents.list(filled.principal, "c")) == 2
    await door.delete(member(filled, "ann"), "c")


async def test_a_job_shows_documents_to_its_maker_and_to_their_readers(filled: House) -> None:
    maker = member(filled, "carl")
    accepted = await filled.retrieval.intake.accept(
        maker, "c", [NewFile("secret.md", None, b"Hush.", acl={"users": ["ann"]})]
    )
    door = filled.retrieval.jobs
    for who in (maker, member(filled, "ann"), filled.principal):
        assert len((await door.get(who, accepted.job_id)).documents) == 1
    with pytest.raises(JobNotFound):
        await door.get(member(filled, "bob"), accepted.job_id)


async def test_a_revoked_reader_finds_nothing_from_the_next_request_on(filled: House) -> None:
    ann, closed = member(filled, "ann"), await named(filled, "closed.md")
    await filled.retrieval.documents.change(filled.principal, "c", closed.id, acl={"users": ["bob"]})
    assert await names(filled, ann) == {"open.md"}
    assert await names(filled, member(filled, "bob")) == {"open.md", "closed.md"}, "and a new reader finds it"
    await filled.retrieval.documents.change(filled.principal, "c", closed.id, acl=None)
    assert await names(filled, member(filled)) == {"open.md", "closed.md"}
    opened = await named(filled, "open.md")
    await filled.retrieval.documents.change(filled.principal, "c", opened.id, acl={"groups": []})
    assert await names(filled, ann) == {"closed.md"}, "an empty list is for nobody but managers"


async def test_who_takes_himself_out_is_told_what_he_did(filled: House) -> None:
    ann, closed = member(filled, "ann"), await named(filled, "closed.md")
    changed = await filled.retrieval.documents.change(ann, "c", closed.id, acl={"users": ["bob"]})
    assert changed.acl == {"users": ["bob"], "groups": []}
    with pytest.raises(DocumentNotFound):
        await filled.retrieval.documents.get(ann, "c", closed.id)


async def test_changed_metadata_is_filtered_by_from_the_next_request_on(filled: House) -> None:
    closed, ann = await named(filled, "closed.md"), member(filled, "ann")
    new, old = {"type": "eq", "key": "year", "value": 1999}, {"type": "eq", "key": "year", "value": 2024}
    before = (await filled.retrieval.collections.get(filled.principal, "c")).version
    await filled.retrieval.documents.change(filled.principal, "c", closed.id, metadata={"year": 1999})
    assert await names(filled, ann, filter=new) == {"closed.md"}
    assert await names(filled, ann, filter=old) == set()
    assert await names(filled, member(filled), filter=new) == set()
    assert next(one for one in await found(filled, ann) if one.filename == "closed.md").metadata == {"year": 1999}
    assert (await filled.retrieval.collections.get(filled.principal, "c")).version > before


async def test_the_index_follows_without_embedding_anything(embedded: list[str], filled: House) -> None:
    closed, ann = await named(filled, "closed.md"), member(filled, "ann")
    await filled.retrieval.documents.change(
        filled.principal, "c", closed.id, metadata={"year": 1999}, acl={"groups": ["legal"]}
    )
    assert any("tide" in text for text in embedded)
    embedded.clear()
    async with filled.worker():

        async def fresh() -> bool | None:
            return True if await stale(filled) == 0 else None

        await until(fresh)
    assert embedded == []
    legal = member(filled, "bob", "legal")
    assert await names(filled, legal, filter={"type": "eq", "key": "year", "value": 1999}) == {"closed.md"}
    assert await names(filled, ann) == {"open.md"}
    again = await named(filled, "closed.md")
    assert (again.status, again.version) == (Status.READY, closed.version + 1)
    assert await filled.retrieval.documents.content(legal, "c", closed.id) == TIDE.decode()
    assert await filled.retrieval.documents.content(legal, "c", closed.id, closed.version) == TIDE.decode()


async def test_a_file_that_has_not_changed_is_ready_at_once_and_costs_no_embedding(
    embedded: list[str], filled: House
) -> None:
    before = await named(filled, "open.md")
    embedded.clear()
    job = await filled.send("c", [NewFile("open.md", None, MOON, {"year": 2021})])  # no worker runs
    assert (job.status, embedded) == (JobStatus.SUCCEEDED, [])
    after = await named(filled, "open.md")
    assert (after.status, after.version, after.metadata) == (Status.READY, before.version, {"year": 2021})
    assert await names(filled, member(filled), filter={"type": "eq", "key": "year", "value": 2021}) == {"open.md"}


async def test_a_new_version_opens_nothing_that_was_closed_and_says_nothing_before_it_is_there(filled: House) -> None:
    ann, bob = member(filled, "ann"), member(filled, "bob")
    await filled.retrieval.intake.accept(ann, "c", [NewFile("closed.md", None, TIDE + b" Anew.", {"year": 2030})])
    assert (await named(filled, "closed.md")).metadata == {"year": 2024}
    assert await names(filled, ann, filter={"type": "eq", "key": "year", "value": 2030}) == set()
    assert await names(filled, ann, filter={"type": "eq", "key": "year", "value": 2024}) == {"closed.md"}
    async with filled.worker():

        async def there() -> bool | None:
            return True if (await named(filled, "closed.md")).metadata == {"year": 2030} else None

        await until(there)
    assert await names(filled, ann, filter={"type": "eq", "key": "year", "value": 2030}) == {"closed.md"}
    assert await names(filled, bob) == {"open.md"}


async def test_a_change_while_a_new_version_is_on_its_way_holds_for_it_too(filled: House) -> None:
    closed = await named(filled, "closed.md")
    await filled.retrieval.intake.accept(
        filled.principal, "c", [NewFile("closed.md", None, TIDE + b" Anew.", {"year": 2030})]
    )
    await filled.retrieval.documents.change(filled.principal, "c", closed.id, metadata={"year": 7}, acl=None)
    async with filled.worker():

        async def there() -> bool | None:
            return True if (await named(filled, "closed.md")).version > closed.version else None

        await until(there)
    assert await names(filled, member(filled), filter={"type": "eq", "key": "year", "value": 7}) == {"closed.md"}


async def test_a_failed_upload_changes_nothing_that_is_said(filled: House) -> None:
    async with filled.worker():
        job = await filled.send("c", [NewFile("open.md", None, b" \n ", {"year": 1})])
    assert job.status is JobStatus.FAILED
    assert (await named(filled, "open.md")).metadata == {"year": 2020}
    assert await names(filled, member(filled), filter={"type": "eq", "key": "year", "value": 2020}) == {"open.md"}


async def end_life(house: House, name: str) -> None:
    """Let a document's time be up."""
    ended = documents.update().where(documents.c.filename == name).values(expires_at=time.time() - 0.01)
    await house.database.write(lambda connection: connection.execute(ended))


async def test_an_expired_document_is_seen_by_nobody_and_swept(filled: House) -> None:
    async with filled.worker():
        await filled.send("c", [NewFile("short.md", None, b"Wellhaven in spring, for a moment.", expires_after_s=600)])
        short = await named(filled, "short.md")
        assert short.expires_at is not None
        assert 500 < short.expires_at - time.time() < 600
        assert "short.md" in await names(filled, filled.principal)
        await end_life(filled, "short.md")
        assert "short.md" not in await names(filled, filled.principal)
        with pytest.raises(DocumentNotFound):
            await filled.retrieval.documents.content(filled.principal, "c", short.id)

        async def hidden() -> bool | None:
            rows = await fetch(filled.database, sa.select(documents.c.deleted_at).where(documents.c.id == short.id))
            return rows[0].deleted_at is not None or None

        await until(hidden)
    gone = await fetch(filled.database, sa.select(revisions.c.retired_at).where(revisions.c.document_id == short.id))
    assert all(row.retired_at is not None for row in gone)


async def test_a_name_that_expired_is_free_and_shows_nothing_of_what_it_was(filled: House) -> None:
    async with filled.worker():
        await filled.send("c", [NewFile("short.md", None, b"Wellhaven in spring, for a moment.", expires_after_s=600)])
    await end_life(filled, "short.md")
    await filled.retrieval.intake.accept(filled.principal, "c", [NewFile("short.md", None, b"Quite another thing.")])
    assert "short.md" not in await names(filled, filled.principal)


async def test_a_list_that_is_none_and_a_life_that_is_none_are_refused(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "c")
    lists: list[object] = [
        {}, [], "all", {"users": "ann"}, {"users": [1]}, {"roles": ["x"]}, {"users": [""]}, {"groups": ["a\nb"]},
        {"users": [f"u{number}" for number in range(1001)]}, {"users": ["x" * 201]},
    ]  # fmt: skip
    for acl in lists:
        with pytest.raises(InputInvalid, match="acl"):
            await house.retrieval.intake.accept(house.principal, "c", [NewFile("a.md", None, b"text", acl=acl)])
    for seconds in (0, -1, 10**12):
        file = NewFile("a.md", None, b"text", expires_after_s=seconds)
        with pytest.raises(InputInvalid, match="expires"):
            await house.retrieval.intake.accept(house.principal, "c", [file])
    assert await house.retrieval.documents.list(house.principal, "c") == []
