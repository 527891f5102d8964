"""What must hold when the load has ended and everything is back: money, documents, places and tenants."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import sqlalchemy as sa

from core.clock import SystemClock
from retrieval.index import Place
from retrieval.milvus import VectorIndex
from retrieval.orphans import Found, Orphans
from retrieval.rows import fetch
from retrieval.status import UNFINISHED, Status
from retrieval.sweep import Sweep
from storage.open import open_store
from storage.schema import api_keys, collections, documents, jobs, ledger, revisions, tasks
from storage.sql import Database
from tests.faults.chaos.load import Seen, Tenant
from tests.load.client import Connection, chat
from tests.support.exact.server import ExactServer

ENDS_S = 90.0


@dataclass(frozen=True)
class Books:
    """Where the truth is kept.

    Attributes:
        engines: with logs of what they made; none: their logs went with them.
        price: nano-USD a token.
    """

    database_url: str
    milvus_uri: str
    folder: Path
    tenants: Sequence[Tenant]
    engines: Sequence[ExactServer] = ()
    price: int = 0


@dataclass
class Audited:
    """What was looked at, so that nobody believes a look at nothing."""

    counted: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def note(self, ok: bool, complaint: str) -> None:
        if not ok:
            self.wrong.append(complaint)


async def audit(books: Books, seen: Seen) -> Audited:
    """Wait until what was under way has ended, and look at everything. Nothing may ask meanwhile."""
    found = Audited()
    database = Database(books.database_url, 10.0)
    index = VectorIndex(books.milvus_uri, 10.0, 500)
    try:
        await _ended(database, found)
        await _ledger(books, database, seen, found)
        await _documents(books, database, index, seen, found)
        await _tenants(books, database, found)
    finally:
        await index.close()
        await database.close()
    for what in seen.foreign:
        found.note(False, f"shown to another tenant: {what}")
    return found


async def _ended(database: Database, found: Audited) -> None:
    """Until no document is under way."""
    statement = sa.select(sa.func.count().label("n")).select_from(tasks).where(tasks.c.status.in_(UNFINISHED))
    limit_s = time.monotonic() + ENDS_S
    while left := int((await fetch(database, statement))[0].n):
        if time.monotonic() > limit_s:
            found.note(False, f"{left} documents have not ended")
            return
        await asyncio.sleep(0.2)


async def _ledger(books: Books, database: Database, seen: Seen, found: Audited) -> None:
    """Whole answers are billed as their clients were told, nothing beyond what was made, and nothing twice."""
    whole = {one.name: one for one in seen.operations if one.outcome == "whole" and one.usage is not None}
    limit_s = time.monotonic() + ENDS_S
    while True:
        lines = defaultdict(list)
        for row in await fetch(database, sa.select(ledger)):
            lines[row.request_id.partition(".")[2]].append(row)
        missing = whole.keys() - lines.keys()
        if not missing or time.monotonic() > limit_s:
            break
        await asyncio.sleep(0.3)
    for name in missing:
        found.note(False, f"{name} was whole and has no line")
    made: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for engine in books.engines:
        for served in engine.log:
            of = made[served.name.rpartition(".")[2]]
            of[0] += served.prompt_tokens
            of[1] += len(served.made)
    owners = {tenant.word: tenant.id for tenant in books.tenants}
    for name, rows in lines.items():
        tokens = (sum(row.tokens_in for row in rows), sum(row.tokens_out for row in rows))
        requests = {row.request_id for row in rows}
        found.note(len(requests) == 1, f"{name} has lines of {len(requests)} requests")
        found.note(
            sorted(row.segment for row in rows) == list(range(len(rows))), f"{name}: {[row.segment for row in rows]}"
        )
        if name in whole:
            found.counted["lines of whole answers"] += 1
            found.note(tokens == whole[name].usage, f"{name} is billed {tokens}, and was told {whole[name].usage}")
        elif name.partition("-")[0] in owners:
            found.counted["lines of others"] += 1
        if books.engines and name in made:
            found.counted["lines held against an engine's log"] += 1
            found.note(
                tokens[0] <= made[name][0] and tokens[1] <= made[name][1],
                f"{name} is billed {tokens}, and its engines made {made[name]}",
            )
        if name.partition("-")[0] in owners:
            found.note(
                {row.tenant_id for row in rows} == {owners[name.partition("-")[0]]}, f"{name} is billed to another"
            )
        if books.price and name.partition("-")[0] in owners:
            cost = sum(row.nano_usd for row in rows)
            found.note(cost == sum(tokens) * books.price, f"{name} costs {cost} for {tokens}")


async def _documents(books: Books, database: Database, index: VectorIndex, seen: Seen, found: Audited) -> None:
    """What was accepted is there once, whole, in all three stores; what nobody said yes to is there once or not."""
    rows = await fetch(database, sa.select(documents).where(documents.c.deleted_at.is_(None)))
    by_title = defaultdict(list)
    for row in rows:
        by_title[row.filename.partition(".")[0]].append(row)
    for title, document_id in seen.accepted.items():
        found.counted["accepted documents"] += 1
        there = by_title.get(title, [])
        found.note([row.id for row in there] == [document_id], f"{title} was accepted and is there {len(there)} times")
        for row in there:
            ended = row.status == Status.READY or (row.status == Status.FAILED and row.error)
            found.note(bool(ended), f"{title} is {row.status}: {row.error}")
            found.counted[f"documents {row.status}"] += 1
    for title, there in by_title.items():
        found.note(len(there) == 1, f"{title} is there {len(there)} times")
    objects = open_store(f"folder:{books.folder / 'objects'}", 30.0, None)
    while await Sweep(database, index, objects, SystemClock(), grace_s=0).run():
        pass
    # Who was told that SQL is away had sent a file, which is kept before it is noted: the hourly look removes it.
    refused = len(seen.sent.keys() - seen.accepted.keys())
    orphans = Orphans(database, index, objects, SystemClock(), grace_s=0)
    strays = await orphans.run()
    found.counted["files of refused documents"] += strays.sources
    found.note(replace(strays, sources=0) == Found(), f"what belongs to nothing: {strays}")
    found.note(strays.sources <= refused, f"{strays.sources} files of no document, and {refused} were refused")
    found.note(await orphans.run() == Found(), "what belongs to nothing is still there")
    kept = await fetch(database, sa.select(revisions).where(revisions.c.swept_at.is_(None)))
    visible = [row for row in kept if row.visible_from is not None and row.visible_to is None]
    found.note(len(kept) == len(visible), f"{len(kept) - len(visible)} revisions are neither visible nor swept")
    for collection in await fetch(database, sa.select(collections).where(collections.c.live_name.is_not(None))):
        chunks = sum(row.chunks for row in visible if row.collection_id == collection.id)
        counted = await index.count(Place(collection.id))
        found.counted["rows in the index"] += counted
        found.note(
            collection.chunks == chunks == counted,
            f"{collection.name}: {collection.chunks} chunks in the catalog, {chunks} visible, {counted} in the index",
        )


async def _tenants(books: Books, database: Database, found: Audited) -> None:
    """Each row belongs to the tenant of what it hangs on."""
    owners = {row.id: row.tenant_id for row in await fetch(database, sa.select(collections))}
    for table in (documents, jobs):
        for row in await fetch(database, sa.select(table.c.tenant_id, table.c.collection_id)):
            found.counted["rows with an owner"] += 1
            found.note(row.tenant_id == owners[row.collection_id], f"a row of {table.name} belongs to another tenant")
    keys = {row.id: row.tenant_id for row in await fetch(database, sa.select(api_keys.c.id, api_keys.c.tenant_id))}
    for row in await fetch(database, sa.select(ledger.c.request_id, ledger.c.key_id, ledger.c.tenant_id)):
        if row.key_id is not None:
            found.note(keys[row.key_id] == row.tenant_id, f"{row.request_id} is billed to another tenant")
    words = {tenant.id: tenant.word for tenant in books.tenants}
    for row in await fetch(database, sa.select(documents.c.tenant_id, documents.c.filename)):
        if row.tenant_id in words:
            found.note(row.filename.startswith(words[row.tenant_id]), f"{row.filename} belongs to another tenant")


async def places(port: int, key: str, model: str, at_once: int) -> Counter[int]:
    """Statuses of as many streams at once as the key may have: all 200 where nobody dead holds a place.

    A worker to which Valkey was slow once admits its share alone for a moment: that passes, a leak does not.
    """

    async def one() -> int:
        connection = await Connection.open(port)
        try:
            return (await connection.ask(chat(port, key, model, tokens=30, stream=True))).status
        finally:
            connection.close()

    for _ in range(8):
        found = Counter(await asyncio.gather(*(one() for _ in range(at_once))))
        if found == Counter({200: at_once}):
            break
        await asyncio.sleep(2)
    return found
