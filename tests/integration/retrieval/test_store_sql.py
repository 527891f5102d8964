"""What files and vector stores ask of SQL, on each database, without an index."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from api.errors import FileNotFound
from api.files.store import Files, NewFile
from api.files.sweep import FileSweep
from api.vectorstores.shown import WORDS
from api.vectorstores.store import VectorStores
from api.vectorstores.turning import Turn
from core.clock import ManualClock, SystemClock
from core.principal import Principal, Role
from retrieval import expiry
from retrieval.called import CollectionId
from retrieval.documents import Documents
from retrieval.errors import CollectionNotFound, DocumentNotFound
from retrieval.life import DAY_S
from retrieval.settings import RetrievalSettings
from retrieval.snapshot import pin
from storage.objects import FolderStore
from storage.schema import collections
from tests.support.catalog import Catalog

SETTINGS = RetrievalSettings()


class Desk:
    """Doors over one catalog, by a clock of their own."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        self.catalog, self.clock = catalog, ManualClock(SystemClock().time())
        self.manager = Principal(catalog.tenant_id, "key", Role.MANAGER)
        self.ann = Principal(catalog.tenant_id, "key", Role.MEMBER, user_id="ann", groups=frozenset({"sales"}))
        self.bob = Principal(catalog.tenant_id, "key", Role.MEMBER, user_id="bob")
        objects = FolderStore(folder, 10)
        unused = None  # nobody is nudged
        documents = Documents(catalog.database, unused, objects, self.clock)  # type: ignore[arg-type]
        self.files = Files(catalog.database, objects, documents, self.clock)
        self.sweep = FileSweep(catalog.database, objects, self.clock, 0)
        self.stores = VectorStores(catalog.database, self.clock, SETTINGS)

    async def set(self, **values: object) -> None:
        own = collections.c.id == self.catalog.collection_id
        changed = collections.update().where(own).values(**values)
        await self.catalog.database.write(lambda connection: connection.execute(changed))


@pytest.fixture
def desk(catalog: Catalog, tmp_path: Path) -> Desk:
    return Desk(catalog, tmp_path)


async def test_files_are_kept_listed_and_swept(desk: Desk) -> None:
    secret = NewFile("a.md", "batch", b"one", acl={"groups": ["sales"]}, expires_after_s=100)
    closed = await desk.files.keep(desk.ann, secret)
    common = await desk.files.keep(desk.bob, NewFile("a.md", "assistants", b"two"))
    assert [one.id for one in await desk.files.list(desk.ann)] == [common.id, closed.id]
    assert [one.id for one in await desk.files.list(desk.ann, newest_first=False, limit=1)] == [closed.id]
    assert await desk.files.list(desk.bob) == [common]
    assert await desk.files.list(desk.manager, purpose="batch") == [closed]
    assert await desk.files.get_all(desk.ann, [common.id, closed.id]) == [common, closed]
    assert await desk.files.content(desk.ann, closed.id) == b"one"
    for act in (desk.files.get(desk.bob, closed.id), desk.files.get_all(desk.bob, [common.id, closed.id])):
        with pytest.raises(FileNotFound):
            await act
    assert await desk.sweep.run() == 0
    desk.clock.advance(101)
    assert await desk.files.list(desk.ann) == [common]
    await desk.files.delete(desk.ann, common.id)
    assert await desk.sweep.run() == 2
    assert await desk.sweep.run() == await desk.sweep.orphans() == 0


async def test_a_store_counts_and_lists_what_its_reader_may_read(desk: Desk) -> None:
    put, store_id = desk.catalog.put, desk.catalog.collection_id
    opened = await put("one line\nand another", {"a": 1})
    closed = await put("another", acl={"users": ["bob"], "groups": []})
    waiting = await put("never published", publish=False)
    everything = [waiting, closed, opened]
    for who, ids in ((desk.manager, everything), (desk.bob, everything), (desk.ann, [waiting, opened])):
        page = await desk.stores.files(who, store_id, Turn())
        assert [one.id for one in page.items] == ids
        counted = (await desk.stores.get(who, store_id)).counted
        assert sum(counted.files.values()) == len(ids)
        assert counted.usage_bytes == sum(one.usage_bytes for one in page.items) > 0
    known = await desk.stores.file(desk.ann, store_id, opened)
    assert (known.attributes, known.usage_bytes) == ({"a": 1}, len("one line\nand another") + 2 * 1 * 4)
    with pytest.raises(DocumentNotFound):
        await desk.stores.file(desk.ann, store_id, closed)
    done = await desk.stores.files(desk.manager, store_id, Turn(1, before=opened), WORDS["completed"])
    assert ([one.id for one in done.items], done.has_more) == ([closed], False)
    listed = await desk.stores.list(desk.manager, Turn())
    assert [one.id for one in listed.items] == [store_id]
    stranger = Principal("ten_other", "key", Role.MANAGER)
    assert (await desk.stores.list(stranger, Turn())).items == []
    with pytest.raises(CollectionNotFound):
        await desk.stores.get(stranger, store_id)


async def test_a_store_that_nobody_uses_is_emptied(desk: Desk) -> None:
    await desk.catalog.put("a line")
    await desk.set(expires_after_days=1, used_at=desk.clock.time())
    desk.clock.advance(DAY_S - 5)
    database, store_id = desk.catalog.database, desk.catalog.collection_id
    assert await expiry.end_unused(database, desk.clock) == 0
    pinned = await pin(database, desk.catalog.tenant_id, CollectionId(store_id), ["line"])
    await expiry.note_use(database, store_id, pinned.life, desk.clock.time())
    desk.clock.advance(DAY_S - 5)
    assert await expiry.end_unused(database, desk.clock) == 0
    desk.clock.advance(10)
    assert (await desk.stores.files(desk.manager, store_id, Turn())).items == []
    assert await expiry.end_unused(database, desk.clock) == 1
    told = await desk.stores.get(desk.manager, store_id)
    assert (told.over, told.counted.files) == (True, {})
    version = sa.select(collections.c.chunks, collections.c.terms).where(collections.c.id == store_id)
    row = await database.read(lambda connection: connection.execute(version))
    assert tuple(row.one()) == (0, 0)
