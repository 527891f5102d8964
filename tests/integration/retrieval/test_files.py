"""Documents that are copies of files: named by the file, cut as they ask, and gone with it."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from api.errors import FileNotFound
from api.files.store import Files, StoredFile
from api.files.store import NewFile as NewStored
from api.vectorstores.attaching import Attaching, Attachment
from core.clock import ManualClock, SystemClock
from core.principal import Principal, Role
from retrieval import expiry
from retrieval.collections import Collections
from retrieval.cutting import OVERLAP, SIZE
from retrieval.documents import Documents
from retrieval.errors import CollectionExpired, DocumentNotFound, InputInvalid
from retrieval.exporting import Exporter
from retrieval.intake import Intake, NewFile
from retrieval.life import DAY_S, Life
from retrieval.query import Query
from retrieval.rows import fetch
from retrieval.search import Searcher
from retrieval.status import Fault, JobStatus
from retrieval.sweep import Sweep
from storage.schema import collections, documents, revisions, term_frequencies
from tests.integration.retrieval.conftest import House, until

PROSE = " ".join(f"The harbour of quay {n} opens at seven and closes at noon on most days." for n in range(120))
SMALL, LARGE = {SIZE: 100, OVERLAP: 0}, {SIZE: 4096, OVERLAP: 0}


class Desk:
    """The doors of files over a house."""

    def __init__(self, house: House, at_once: int = 100) -> None:
        self.house = house
        self.files = Files(house.database, house.objects, house.retrieval.documents, SystemClock())
        self.attaching = Attaching(self.files, house.retrieval.intake, SystemClock(), at_once)

    async def keep(
        self, text: str = PROSE, name: str = "a.md", who: Principal | None = None, **about: object
    ) -> StoredFile:
        return await self.files.keep(who or self.house.principal, NewStored(name, "assistants", text.encode(), **about))  # type: ignore[arg-type]

    async def attach(
        self, *files: StoredFile, chunking: dict[str, int] | None = None, **attributes: object
    ) -> list[str]:
        wanted = [Attachment(file.id, attributes, chunking) for file in files]
        accepted = await self.attaching.attach(self.house.principal, "c", wanted)
        job = await self.house.ended(accepted.job_id)
        assert job.status is JobStatus.SUCCEEDED, job
        assert len(job.documents) == len(files)
        return accepted.document_ids

    async def attach_known(self, file: StoredFile, chunking: dict[str, int] | None, **attributes: object) -> str:
        """Attach a file that is known to be the same: it is ready at once. Returns: its document."""
        wanted = [Attachment(file.id, attributes, chunking)]
        accepted = await self.attaching.attach(self.house.principal, "c", wanted)
        job = await self.house.retrieval.jobs.get(self.house.principal, accepted.job_id)
        assert job.status is JobStatus.SUCCEEDED, job
        return accepted.document_ids[0]

    async def found(self, who: Principal | None = None, question: str = "harbour") -> set[str]:
        query = Query("c", question, top_k=100, mode="lexical")
        result = await self.house.retrieval.searcher.search(who or self.house.principal, query)
        return {one.document_id for one in result.passages}

    async def chunks(self, document_id: str) -> int:
        statement = sa.select(revisions.c.chunks).join(documents, documents.c.revision_id == revisions.c.id)
        (row,) = await fetch(self.house.database, statement.where(documents.c.id == document_id))
        return int(row.chunks)


@pytest.fixture
async def desk(house: House) -> Desk:
    await house.retrieval.collections.create(house.principal, "c")
    return Desk(house)


async def switched(desk: Desk) -> bool | None:
    """True once no reindex is under way."""
    known = await desk.house.retrieval.collections.get(desk.house.principal, "c")
    return True if known.reindex is None else None


async def test_two_files_of_one_name_are_two_documents_and_neither_is_the_one_without_a_file(desk: Desk) -> None:
    async with desk.house.worker():
        job = await desk.house.send("c", [NewFile("a.md", None, b"The harbour without a file.")])
        (plain,) = [one.id for one in job.documents]
        one, two = await desk.keep("The first harbour."), await desk.keep("The second harbour.")
        (first,) = await desk.attach(one)
        (second,) = await desk.attach(two)
        assert len({plain, first, second}) == 3
        assert await desk.found() == {plain, first, second}
        # A new version of each finds its own document again.
        assert await desk.attach(one) == [first]
        job = await desk.house.send("c", [NewFile("a.md", None, b"The harbour, once more.")])
        assert [each.id for each in job.documents] == [plain]
        assert await desk.attach(two) == [second]
        assert await desk.found() == {plain, first, second}


async def test_one_call_takes_files_of_one_name_but_no_file_twice(desk: Desk) -> None:
    one, two = await desk.keep(), await desk.keep()
    accept = desk.house.retrieval.intake.accept
    files = [NewFile("a.md", None, b"text", file_id=one.id), NewFile("a.md", None, b"text", file_id=two.id)]
    assert (
        len(set((await accept(desk.house.principal, "c", [*files, NewFile("a.md", None, b"text")])).document_ids)) == 3
    )
    with pytest.raises(InputInvalid):
        await accept(desk.house.principal, "c", [files[0], replace(files[0], filename="b.md")])


async def test_a_document_is_cut_as_it_asks_and_its_collection_stays_as_it_is(desk: Desk) -> None:
    async with desk.house.worker():
        fine, coarse, usual = [await desk.keep() for _ in range(3)]
        (small,) = await desk.attach(fine, chunking=SMALL)
        (large,) = await desk.attach(coarse, chunking=LARGE)
        (plain,) = await desk.attach(usual)
    sizes = [await desk.chunks(one) for one in (small, plain, large)]
    assert sizes[0] > sizes[1] >= sizes[2] > 1, sizes  # what the embedder's window doesn't hold is cut smaller
    assert (await desk.house.retrieval.collections.get(desk.house.principal, "c")).chunking == {}


async def test_the_same_file_attached_again_costs_no_embedding_and_with_another_cutting_it_does(desk: Desk) -> None:
    file = await desk.keep()
    async with desk.house.worker():
        (document,) = await desk.attach(file, chunking=SMALL, year=2020)
    assert await desk.attach_known(file, SMALL, year=2021) == document
    known = await desk.house.retrieval.documents.get(desk.house.principal, "c", document)
    assert (known.version, known.metadata) == (1, {"year": 2021})
    async with desk.house.worker():
        assert await desk.attach(file, chunking=None) == [document]
    assert (await desk.house.retrieval.documents.get(desk.house.principal, "c", document)).version == 2


async def test_a_reindex_keeps_a_documents_own_cutting_and_gives_the_others_the_new_one(desk: Desk) -> None:
    own, others = await desk.keep(), await desk.keep()
    retrieval, who = desk.house.retrieval, desk.house.principal
    async with desk.house.worker():
        (fine,) = await desk.attach(own, chunking=SMALL)
        (usual,) = await desk.attach(others)
        before = await desk.chunks(fine), await desk.chunks(usual)
        space = (await retrieval.collections.get(who, "c")).embedding_space
        await retrieval.reindexes.begin(who, "c", space, {"characters": 300})
        await until(lambda: switched(desk))
    assert await desk.chunks(fine) == before[0]
    assert await desk.chunks(usual) > before[1]
    assert (await retrieval.collections.get(who, "c")).chunking == {"characters": 300}
    # The twin's fingerprint tells of the document's own cutting.
    assert await desk.attach_known(own, SMALL) == fine
    assert (await retrieval.documents.get(who, "c", fine)).version == 2


async def test_a_deleted_file_takes_its_documents_along_but_none_that_the_caller_may_not_read(desk: Desk) -> None:
    manager = desk.house.principal
    ann = replace(manager, role=Role.MEMBER, user_id="ann")
    await desk.house.retrieval.collections.create(manager, "d")
    file = await desk.keep("The harbour of all.")
    async with desk.house.worker():
        (open_one,) = await desk.attach(file)
        accepted = await desk.attaching.attach(manager, "d", [Attachment(file.id, {}, None)])
        await desk.house.ended(accepted.job_id)
        (closed,) = accepted.document_ids
        job = await desk.house.send("c", [NewFile("a.md", None, b"The harbour without a file.")])
        (plain,) = [one.id for one in job.documents]
        await desk.house.retrieval.documents.change(manager, "d", closed, acl={"users": ["bob"]})
    await desk.files.delete(ann, file.id)
    assert await desk.found() == {plain}
    assert open_one != plain
    assert (await desk.house.retrieval.documents.get(manager, "d", closed)).file_id == file.id
    with pytest.raises(FileNotFound):
        await desk.files.get(manager, file.id)


async def test_no_document_is_made_of_a_file_that_is_deleted_meanwhile(desk: Desk) -> None:
    file = await desk.keep()

    async def slow() -> bytes:
        await desk.files.delete(desk.house.principal, file.id)
        return b"The harbour."

    with pytest.raises(InputInvalid, match="deleted meanwhile"):
        await desk.house.retrieval.intake.accept(
            desk.house.principal, "c", [NewFile("a.md", None, slow, file_id=file.id)]
        )
    assert await desk.house.retrieval.documents.list(desk.house.principal, "c") == []
    assert await desk.house.objects.list_keys("sources/") == []


async def test_a_document_has_its_files_readers_and_end(desk: Desk) -> None:
    ann = replace(desk.house.principal, role=Role.MEMBER, user_id="ann")
    bob = replace(ann, user_id="bob")
    file = await desk.keep("The harbour of ann.", acl={"users": ["ann"]}, expires_after_s=1000)
    async with desk.house.worker():
        (document,) = await desk.attach(file)
    assert await desk.found(ann) == {document}
    assert await desk.found(bob) == set()
    known = await desk.house.retrieval.documents.get(ann, "c", document)
    assert file.expires_at is not None
    assert known.expires_at == pytest.approx(file.expires_at, abs=5)
    with pytest.raises(FileNotFound):  # who may not read a file attaches it nowhere
        await desk.attaching.attach(bob, "c", [Attachment(file.id, {}, None)])


async def test_many_files_come_in_parts_that_are_one_job(desk: Desk) -> None:
    many = Desk(desk.house, at_once=3)
    files = [await desk.keep(f"The harbour {n}.") for n in range(8)]
    async with desk.house.worker():
        assert len(set(await many.attach(*files))) == 8
    assert len(await desk.found()) == 8


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("program.bin", b"\x7fELF nothing of the kind", Fault.UNSUPPORTED),
        ("sheet.xlsx", b"PK\x03\x04 nothing of the kind", Fault.INVALID),
        ("bad.pdf", b"%PDF-1.4 nothing", Fault.INVALID),
        ("empty.txt", b"", Fault.INVALID),
    ],
)
async def test_whose_fault_a_failure_is(desk: Desk, name: str, data: bytes, fault: Fault) -> None:
    async with desk.house.worker():
        job = await desk.house.send("c", [NewFile(name, None, data)])
    assert job.status is JobStatus.FAILED
    known = await desk.house.retrieval.documents.get(desk.house.principal, "c", job.documents[0].id)
    assert known.fault is fault


class Ageing:
    """A house whose doors go by a clock that tests set."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.clock = ManualClock(SystemClock().time())
        retrieval, settings = house.retrieval, house.settings
        self.collections = Collections(house.database, retrieval.embedder, self.clock, settings)
        self.documents = Documents(house.database, house.redis, house.objects, self.clock)
        self.intake = Intake(house.database, house.redis, house.objects, self.clock, settings)
        self.searcher = Searcher(house.database, retrieval.index, retrieval.embedder, retrieval.reranker, self.clock)

    async def finds(self, name: str = "v") -> int:
        query = Query(name, "harbour", mode="lexical")
        return len((await self.searcher.search(self.house.principal, query)).passages)

    async def life(self) -> Life:
        return (await self.collections.get(self.house.principal, "v")).life

    async def sweep(self) -> int:
        return await expiry.end_unused(self.house.database, self.clock)


@pytest.fixture
async def ageing(house: House) -> Ageing:
    """With a collection that lasts two days, and another that stays; each has a document."""
    one = Ageing(house)
    await one.collections.create(house.principal, "v", expires_after_days=2)
    await one.collections.create(house.principal, "stays")
    async with house.worker():
        for name in ("v", "stays"):
            accepted = await one.intake.accept(house.principal, name, [NewFile("a.md", None, b"The harbour.")])
            await house.ended(accepted.job_id)
    return one


async def test_a_store_lasts_as_long_as_it_is_used(ageing: Ageing) -> None:
    for _ in range(3):
        ageing.clock.advance(1.5 * DAY_S)
        assert await ageing.finds() == 1
        assert await ageing.sweep() == 0
    ageing.clock.advance(1.5 * DAY_S)
    await ageing.documents.change(
        ageing.house.principal, "v", (await ageing.documents.list(ageing.house.principal, "v"))[0].id, metadata={"a": 1}
    )
    ageing.clock.advance(1.5 * DAY_S)
    await ageing.intake.accept(ageing.house.principal, "v", [NewFile("b.md", None, b"The harbour.")])
    ageing.clock.advance(1.5 * DAY_S)
    assert await ageing.finds() == 1


async def test_an_expired_store_finds_nothing_from_that_second_on(ageing: Ageing) -> None:
    who = ageing.house.principal
    (document,) = await ageing.documents.list(who, "v")
    ageing.clock.advance(2 * DAY_S - 1)
    listed = await ageing.documents.list(who, "v")
    assert [one.id for one in listed] == [document.id]
    ageing.clock.advance(2)
    assert await ageing.finds() == 0  # and that it was asked revives nothing
    assert await ageing.finds() == 0
    assert (await ageing.life()).is_over(ageing.clock.time())
    assert await ageing.documents.list(who, "v") == []
    for act in (
        ageing.documents.get(who, "v", document.id),
        ageing.documents.content(who, "v", document.id),
    ):
        with pytest.raises(DocumentNotFound):
            await act
    exporter = Exporter(ageing.house.database, ageing.house.retrieval.index, ageing.house.objects, ageing.clock, 5.0)
    for change in (
        exporter.begin(who, "v", ()),  # no worker has come to its documents yet
        ageing.intake.accept(who, "v", [NewFile("b.md", None, b"The harbour.")]),
        ageing.documents.delete(who, "v", document.id),
        ageing.collections.change(who, "v", life=Life(5)),
    ):
        with pytest.raises(CollectionExpired):
            await change
    assert await ageing.finds("stays") == 1


async def test_the_sweep_deletes_what_an_expired_store_held_and_nothing_else(ageing: Ageing) -> None:
    house = ageing.house
    made = await ageing.collections.get(house.principal, "v")
    await ageing.intake.accept(house.principal, "v", [NewFile("late.md", None, b"On its way.")])  # no worker runs
    ageing.clock.advance(2 * DAY_S + 1)
    assert await ageing.sweep() == 1
    assert await ageing.sweep() == 0
    (row,) = await fetch(house.database, sa.select(collections).where(collections.c.id == made.id))
    assert (row.chunks, row.terms, row.version) == (0, 0, made.version + 1)
    assert row.expired_at == ageing.clock.time()
    theirs = sa.select(documents.c.id).where(documents.c.collection_id == made.id, documents.c.deleted_at.is_(None))
    assert await fetch(house.database, theirs) == []
    terms = sa.select(term_frequencies.c.term).where(term_frequencies.c.collection_id == made.id)
    assert await fetch(house.database, terms) == []
    assert await house.leases().acquire() is None  # what was on its way is given up
    ageing.clock.advance(house.settings.reader_grace_s + 1)
    sweep = Sweep(house.database, house.retrieval.index, house.objects, ageing.clock, house.settings.reader_grace_s)
    await sweep.run()
    assert len(await house.objects.list_keys("sources/")) == 1  # of the collection that stays
    assert len(await house.objects.list_keys("texts/")) == 1
    assert await ageing.finds("stays") == 1
    assert await ageing.finds() == 0


async def test_searches_write_at_most_once_a_minute_and_never_for_a_store_that_stays(ageing: Ageing) -> None:
    at_first = (await ageing.life()).used_at
    assert at_first is not None
    ageing.clock.advance(30)
    await ageing.finds()
    assert (await ageing.life()).used_at == at_first
    ageing.clock.advance(31)
    await ageing.finds()
    assert (await ageing.life()).used_at == at_first + 61
    await ageing.finds("stays")
    assert (await ageing.collections.get(ageing.house.principal, "stays")).life.used_at is None


async def test_a_life_is_given_changed_and_taken_back(ageing: Ageing) -> None:
    who = ageing.house.principal
    ageing.clock.advance(DAY_S)
    assert (await ageing.collections.change(who, "v", life=Life(1))).life.ends_at == ageing.clock.time() + DAY_S
    assert (await ageing.collections.change(who, "v", life=Life())).life == Life()
    ageing.clock.advance(300 * DAY_S)
    assert await ageing.finds() == 1
    for days in (0, 366, 1.5, True):
        with pytest.raises(InputInvalid):
            await ageing.collections.change(who, "v", life=Life(days))  # type: ignore[arg-type]
