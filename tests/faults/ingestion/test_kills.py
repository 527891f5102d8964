"""`kill -9` of worker, embedding server, Valkey and Milvus at random moments, while readers search all the time.

Every accepted document ends; nothing is lost, doubled, left over or half visible, and no result mixes two versions.
`KILLS_SEED` names the run: the moments follow from it, and a long one can be gone on with by another seed.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa

from core.clock import SystemClock
from core.dependency import DependencyError
from retrieval.errors import DocumentNotFound
from retrieval.index import Place
from retrieval.intake import NewFile
from retrieval.orphans import Found, Orphans
from retrieval.query import Mode, Query
from retrieval.rows import fetch
from retrieval.search import Passage
from retrieval.status import STAGES, UNFINISHED, Status
from retrieval.sweep import Sweep
from storage.schema import collections, documents, revisions, tasks
from tests.faults.ingestion.parts import Part
from tests.integration.retrieval.conftest import House

pytestmark = pytest.mark.heavy
SEED = int(os.environ.get("KILLS_SEED", "1"))
_ENDS_S = 60.0  # from the last restart
_BACKLOG = 12  # documents waiting: there is always work, and never a minute of it
_READERS = 2


@dataclass
class Sent:
    """A document as its sender knows it."""

    id: str
    editions: int = 1
    deleted: bool = False


@dataclass
class Shelf:
    """Sends, changes and deletes documents, and remembers what should be there."""

    house: House
    random: random.Random
    sent: dict[int, Sent] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)

    async def work(self, count: int) -> None:
        """Send `count` documents, a few at a time, and in between change or delete some that are there."""
        while len(self.sent) < count:
            if await self.waiting() >= _BACKLOG:
                await asyncio.sleep(0.05)
            elif self.sent and self.random.random() < 0.3:
                await self.change()
            else:
                await self.send(min(count - len(self.sent), self.random.randint(1, 6)))

    async def send(self, count: int) -> None:
        numbers = range(len(self.sent), len(self.sent) + count)
        accepted = await self.accept([(number, 1) for number in numbers])
        for number, document_id in zip(numbers, accepted, strict=True):
            self.sent[number] = Sent(document_id)
        self.done["documents"] += count

    async def change(self) -> None:
        """A new edition of a document, or its end; whatever state it is in."""
        number = self.random.choice([number for number, sent in self.sent.items() if not sent.deleted])
        sent = self.sent[number]
        if self.random.random() < 0.15:
            await self.house.retrieval.documents.delete(self.house.principal, "dock", sent.id)
            sent.deleted = True
            self.done["deletes"] += 1
            return
        (document_id,) = await self.accept([(number, sent.editions + 1)])
        assert document_id == sent.id
        sent.editions += 1
        self.done["new editions"] += 1

    async def accept(self, editions: list[tuple[int, int]]) -> list[str]:
        files = [NewFile(f"ship{number}.md", None, text(number, edition)) for number, edition in editions]
        return (await self.house.retrieval.intake.accept(self.house.principal, "dock", files)).document_ids

    async def waiting(self) -> int:
        statement = sa.select(sa.func.count().label("n")).select_from(tasks).where(tasks.c.status.in_(UNFINISHED))
        return int((await fetch(self.house.database, statement))[0].n)


def text(number: int, edition: int) -> bytes:
    """Some paragraphs, each naming ship and edition; how many there are depends on both."""
    of_ship = random.Random(number * 1000 + edition)
    parts = [
        f"## Hold {part}\n\nShip{number} edition{edition} hold {part}. "
        + " ".join(f"Crate {of_ship.randrange(10**6)} of tea." for _ in range(16))
        for part in range(of_ship.randint(1, 9))
    ]
    return "\n\n".join(parts).encode()


@dataclass
class Readers:
    """Search all the time, and keep what was seen of each version of each document."""

    house: House
    shelf: Shelf
    random: random.Random
    seen: Counter[str] = field(default_factory=Counter)
    whole: dict[tuple[str, int], set[frozenset[int]]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    async def read(self) -> None:
        while True:
            if self.shelf.sent:
                await self.search(self.random.choice(list(self.shelf.sent)), self.random.choice(["lexical", "hybrid"]))
            await asyncio.sleep(0.02)

    async def search(self, number: int, mode: Mode) -> None:
        gone = self.shelf.sent[number].deleted
        try:
            found = await self.house.retrieval.searcher.search(
                self.house.principal, Query("dock", f"Ship{number}", top_k=100, mode=mode)
            )
        except DependencyError:
            self.seen["searches that were told that a part is away"] += 1
            return
        self.seen["degraded searches" if found.degraded else "searches"] += 1
        by_document: dict[str, list[Passage]] = {}
        for passage in found.passages:
            by_document.setdefault(passage.document_id, []).append(passage)
        for document_id, passages in by_document.items():
            if len({(one.document_version, one.text.split("edition")[1].split()[0]) for one in passages}) != 1:
                self.wrong.append(f"a result mixes versions of {document_id}: {passages}")
        mine = by_document.get(self.shelf.sent[number].id, [])
        if gone and mine:
            self.wrong.append(f"the deleted ship {number} is found")
        if mine and mode == "lexical":  # each of its passages names the ship
            starts = frozenset(one.start for one in mine)
            self.whole.setdefault((mine[0].document_id, mine[0].document_version), set()).add(starts)
            self.seen["whole documents"] += 1


@dataclass
class Killer:
    """Kills one part after the other, each while a document is under way, and starts it again."""

    house: House
    parts: dict[str, Part]
    random: random.Random
    met: Counter[str] = field(default_factory=Counter)

    async def work(self, kills: int) -> None:
        for _ in range(kills):
            name = self.random.choice(sorted(self.parts))
            await self.progress(2)
            await asyncio.sleep(self.random.uniform(0, 0.6))
            self.parts[name].kill()
            self.met[f"{name} killed while {await self.stage()}"] += 1
            await asyncio.sleep(self.random.uniform(0, 1))
            await asyncio.to_thread(self.parts[name].start)

    async def progress(self, patience_s: float) -> None:
        """Wait for a document to end, so that there is something to read and to be broken."""
        before, end_s = await self.ended(), time.monotonic() + patience_s
        while await self.ended() == before and time.monotonic() < end_s:  # noqa: ASYNC110  # another process's
            await asyncio.sleep(0.05)

    async def ended(self) -> int:
        statement = sa.select(sa.func.count().label("n")).select_from(tasks).where(tasks.c.status.not_in(UNFINISHED))
        return int((await fetch(self.house.database, statement))[0].n)

    async def stage(self) -> str:
        """Of the document that the worker is at, whose lease was renewed last."""
        statement = (
            sa.select(tasks.c.status)
            .where(tasks.c.status.in_(STAGES), tasks.c.lease_until > time.time())
            .order_by(tasks.c.lease_until.desc())
            .limit(1)
        )
        found = await fetch(self.house.database, statement)
        return str(found[0].status) if found else "nothing was under way"


@pytest.mark.parametrize(("count", "kills"), [(60, 20), pytest.param(500, 200, marks=pytest.mark.long)])
async def test_whatever_is_killed_every_document_ends_and_nothing_is_left_over(
    house: House, killable: dict[str, Part], count: int, kills: int, figure: Callable[[str], None]
) -> None:
    await house.retrieval.collections.create(house.principal, "dock")
    shelf = Shelf(house, random.Random(SEED))
    readers = Readers(house, shelf, random.Random(SEED + 1))
    killer = Killer(house, killable, random.Random(SEED + 2))
    reading = [asyncio.create_task(readers.read()) for _ in range(_READERS)]

    async def work_on() -> None:
        await shelf.work(count)
        while True:  # there is something to do until the last kill
            if await shelf.waiting() < _BACKLOG // 2:
                await shelf.change()
            await asyncio.sleep(0.05)

    working = asyncio.create_task(work_on())
    await killer.work(kills)
    while len(shelf.sent) < count and not working.done():  # noqa: ASYNC110  # it is a count that grows
        await asyncio.sleep(0.1)
    working.cancel()
    (trouble,) = await asyncio.gather(working, return_exceptions=True)
    assert isinstance(trouble, asyncio.CancelledError), trouble
    restarted_s = time.monotonic()
    while await shelf.waiting():
        assert time.monotonic() - restarted_s < _ENDS_S, f"{await shelf.waiting()} documents have not ended"
        await asyncio.sleep(0.1)
    ended_s = time.monotonic() - restarted_s
    for each in reading:
        each.cancel()
    troubles = await asyncio.gather(*reading, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in troubles), troubles

    failed = await _audit(house, shelf)
    await _audit_what_was_read(house, readers)
    figure(
        f"seed {SEED}: {kills} kills, {dict(sorted(killer.met.items()))}; {dict(shelf.done)}, {failed} failed; all "
        f"ended {ended_s:.1f} s after the last restart; {dict(readers.seen)}"
    )
    assert sum(number for what, number in killer.met.items() if "nothing" not in what) >= kills * 0.6


async def _audit(house: House, shelf: Shelf) -> int:
    """Catalog, index and object store hold what was sent, once, and nothing else. Returns: how many have failed."""
    index, clock = house.retrieval.index, SystemClock()
    rows = await fetch(house.database, sa.select(documents))
    by_id = {row.id: row for row in rows}
    assert len(rows) == len(shelf.sent), "each name is one document"
    for number, sent in shelf.sent.items():
        document = by_id[sent.id]
        if sent.deleted:
            with pytest.raises(DocumentNotFound):
                await house.retrieval.documents.content(house.principal, "dock", sent.id)
        elif document.status == Status.FAILED:
            assert document.error
        else:
            assert document.status == Status.READY, document
            content = await house.retrieval.documents.content(house.principal, "dock", sent.id)
            assert f"edition{sent.editions}" in content, f"ship {number} shows an older edition"
            query = Query("dock", f"Ship{number}", top_k=100, mode="lexical")
            found = (await house.retrieval.searcher.search(house.principal, query)).passages
            assert {one.document_version for one in found} == {document.version}, f"ship {number} is not found"
            assert all(content[one.start : one.end] == one.text for one in found)
    while await Sweep(house.database, index, house.objects, clock, grace_s=0).run():
        pass
    assert await Orphans(house.database, index, house.objects, clock, grace_s=0).run() == Found()
    (collection,) = await fetch(house.database, sa.select(collections))
    kept = await fetch(house.database, sa.select(revisions).where(revisions.c.swept_at.is_(None)))
    visible = [row for row in kept if row.visible_from is not None and row.visible_to is None]
    assert [row.id for row in kept] == [row.id for row in visible]
    assert collection.chunks == sum(row.chunks for row in visible) == await index.count(Place(collection.id))
    for row in visible:
        assert await index.count(Place(collection.id), [row.id]) == row.chunks
    failed = [row for row in rows if row.status == Status.FAILED and row.deleted_at is None]
    for document in failed:
        await house.retrieval.documents.delete(house.principal, "dock", document.id)
    return len(failed)


async def _audit_what_was_read(house: House, readers: Readers) -> None:
    """Each version of each document was seen whole, each time."""
    assert readers.wrong == []
    assert readers.seen["searches"]
    chunks = {
        (row.document_id, row.number): row.chunks
        for row in await fetch(house.database, sa.select(revisions).where(revisions.c.number > 0))
    }
    halves = [
        f"{document_id} version {version}: {sorted(starts)} of {chunks[document_id, version]}"
        for (document_id, version), all_starts in readers.whole.items()
        for starts in all_starts
        if len(starts) != chunks[document_id, version]
    ]
    assert halves == []
