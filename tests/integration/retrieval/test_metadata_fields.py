"""What a reader is told of the metadata of a collection: all of the documents that it may find, and of no other."""

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clock import SystemClock
from core.ids import new_id
from core.principal import Principal, Role
from retrieval import metadata_fields
from retrieval.access import set_readers
from retrieval.errors import CollectionNotFound
from retrieval.metadata_fields import FieldSummary, MetadataFields
from storage.migrate import migrate
from storage.schema import collections, documents, tenants
from storage.sql import Database
from tests.support.database import fresh_sqlite
from tests.support.postgres import postgres_server

NUMBER, TEXT, BOOLEAN = (frozenset({kind}) for kind in ("number", "text", "boolean"))


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with postgres_server() as server:
        migrate(server.url())
        yield server.url()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.heavy)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return fresh_sqlite(tmp_path / "stoker.db")
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(url, 10.0)
    yield opened
    await opened.close()


class Shelf:
    """A tenant's collection `c`, and what is put into it: rows of the catalog, without their texts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.tenant_id, self._collection_id = new_id("ten"), new_id("col")
        self.fields = MetadataFields(database, SystemClock())

    async def open(self) -> "Shelf":
        row = {
            "id": self._collection_id, "tenant_id": self.tenant_id, "name": "c", "live_name": "c", "metadata": {},
            "chunking": {}, "embedding_space": "s", "dimensions": 2, "average_terms": 65.0, "created_at": 0.0,
        }  # fmt: skip

        async def write(connection: Any) -> None:
            tenant = {"id": self.tenant_id, "name": self.tenant_id, "created_at": 0.0}
            await connection.execute(tenants.insert().values(tenant))
            await connection.execute(collections.insert().values(row))

        await self._database.write(write)
        return self

    async def put(self, metadata: dict[str, Any], acl: dict[str, list[str]] | None = None, **columns: Any) -> None:
        row = {
            "id": new_id("doc"), "collection_id": self._collection_id, "tenant_id": self.tenant_id, "filename": "f",
            "media_type": "text/plain", "sha256": "0", "source_key": "k", "metadata": metadata, "status": "ready",
            "revision_id": "rev_1", "acl": acl, "created_at": 0.0, "updated_at": 0.0, **columns,
        }  # fmt: skip

        async def write(connection: Any) -> None:
            await connection.execute(documents.insert().values(row))
            await set_readers(connection, row["id"], acl)

        await self._database.write(write)

    def member(self, user: str | None = None, *groups: str) -> Principal:
        return Principal(self.tenant_id, "key_m", Role.MEMBER, user_id=user, groups=frozenset(groups))

    async def seen(self, who: Principal) -> dict[str, FieldSummary]:
        return await self.fields.of(who, "c")


@pytest.fixture
async def shelf(database: Database) -> Shelf:
    return await Shelf(database).open()


async def test_each_key_has_its_kinds_its_count_and_its_most_frequent_values(shelf: Shelf) -> None:
    for metadata in (
        {"year": 2024, "lang": "en", "draft": True},
        {"year": 2024, "lang": "de", "mixed": 1},
        {"year": 2023.5, "lang": "en", "mixed": "1"},
        {"lang": "en", "mixed": True},
    ):
        await shelf.put(metadata)
    seen = await shelf.seen(shelf.member())
    assert list(seen) == ["lang", "mixed", "year", "draft"], "the most common first"
    assert seen["lang"] == FieldSummary(TEXT, 4, ("en", "de"))
    assert seen["year"] == FieldSummary(NUMBER, 3, (2024, 2023.5))
    assert seen["draft"] == FieldSummary(BOOLEAN, 1, (True,))
    assert seen["mixed"].kinds == NUMBER | TEXT | BOOLEAN
    assert {(type(value), value) for value in seen["mixed"].examples} == {(int, 1), (str, "1"), (bool, True)}


async def test_nothing_is_told_of_what_one_may_not_read(shelf: Shelf) -> None:
    await shelf.put({"year": 2024, "lang": "en"})
    await shelf.put({"year": 1999, "codename": "Quillfeather"}, {"users": ["ann"], "groups": ["sales"]})
    open_to_all = {"year": (2024,), "lang": ("en",)}
    everything = {"year": (1999, 2024), "lang": ("en",), "codename": ("Quillfeather",)}
    for who, told in (
        (shelf.member(), open_to_all),
        (shelf.member("bob", "legal"), open_to_all),
        (shelf.member("sales"), open_to_all),  # a user of a group's name is not the group
        (replace(shelf.member("bob"), role=Role.READER), open_to_all),
        (shelf.member("ann"), everything),
        (shelf.member("bob", "sales"), everything),
        (replace(shelf.member(), role=Role.MANAGER), everything),
    ):
        seen = await shelf.seen(who)
        assert {key: field.examples for key, field in seen.items()} == told, who
        assert seen["year"].documents == len(told["year"])


async def test_nor_of_what_cannot_be_found_any_more_or_yet(shelf: Shelf) -> None:
    now_s = time.time()
    await shelf.put({"seen": 1}, expires_at=now_s + 600)
    await shelf.put({"deleted": 1}, deleted_at=now_s)
    await shelf.put({"expired": 1}, expires_at=now_s - 1)
    await shelf.put({"queued": 1}, revision_id=None, status="queued")
    assert list(await shelf.seen(shelf.member())) == ["seen"]


async def test_nor_of_another_tenants_documents(shelf: Shelf, database: Database) -> None:
    other = await Shelf(database).open()
    await other.put({"theirs": 1})
    assert await shelf.seen(replace(shelf.member(), role=Role.ADMIN)) == {}
    with pytest.raises(CollectionNotFound):
        await shelf.fields.of(shelf.member(), "d")
    with pytest.raises(CollectionNotFound):
        await shelf.fields.of(replace(shelf.member(), tenant_id="nobody"), "c")


async def test_the_newest_documents_are_read_and_no_more(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_fields, "_MOST_DOCUMENTS", 3)
    for number in range(5):
        await shelf.put({"n": number}, id=f"doc_{number}")
    assert (await shelf.seen(shelf.member()))["n"] == FieldSummary(NUMBER, 3, (2, 3, 4))


METADATA = st.dictionaries(
    st.text(min_size=1, max_size=3), st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b", "x" * 101])
)


@given(st.lists(METADATA, max_size=30))
def test_keys_and_examples_are_those_of_the_documents_and_bounded(found: list[dict[str, Any]]) -> None:
    told = metadata_fields._summarise([orjson.dumps(metadata).decode() for metadata in found])
    assert set(told) == {key for metadata in found for key in metadata} or len(told) == 64
    for key, field in told.items():
        carried = [metadata[key] for metadata in found if key in metadata]
        assert field.documents == len(carried)
        assert field.kinds == {metadata_fields.kind_of(value) for value in carried}
        kept = {(type(value), value) for value in carried if value != "x" * 101}
        assert {(type(value), value) for value in field.examples} == kept, "no key has more than 20 here"


def test_what_a_hostile_tenant_puts_in_is_bounded() -> None:
    texts = [orjson.dumps({f"k{number}-{at}": at for at in range(64)}).decode() for number in range(100)]
    texts += [orjson.dumps({"same": f"value {number}"}).decode() for number in range(1500)]
    told = metadata_fields._summarise(texts)
    assert len(told) == 64
    told = metadata_fields._summarise(texts[100:])
    assert told["same"].documents == 1500
    assert len(told["same"].examples) == 20
