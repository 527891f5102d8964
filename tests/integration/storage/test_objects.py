"""One contract for both object stores: a folder, and S3 on a local moto server."""

import asyncio
import os
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from storage.objects import FolderStore, ObjectError, ObjectNotFound, ObjectStore
from storage.open import open_store
from storage.s3 import S3Store


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(os.environ)
    os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_DEFAULT_REGION="us-east-1")
    try:
        yield f"http://{host}:{port}"
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.stop()


@pytest.fixture(params=["folder", "s3", "s3 with a prefix"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    if request.param == "folder":
        yield open_store(f"folder:{tmp_path}", 10.0)
        return
    url: str = request.getfixturevalue("s3_url")
    bucket = tmp_path.name.replace("_", "-").lower()[:40]
    await asyncio.to_thread(boto3.client("s3", endpoint_url=url).create_bucket, Bucket=f"b-{bucket}")
    yield open_store(f"s3://b-{bucket}" + ("/some/prefix" if "prefix" in request.param else ""), 10.0, url)


async def test_what_was_put_is_there_and_is_replaced_whole(store: ObjectStore) -> None:
    await store.put("sources/doc_1", b"first\x00bytes")
    assert await store.get("sources/doc_1") == b"first\x00bytes"
    await store.put("sources/doc_1", b"")
    assert await store.get("sources/doc_1") == b""


async def _in_parts(size: int, part: bytes) -> AsyncIterator[bytes]:
    for _ in range(size // len(part)):
        yield part


@pytest.mark.parametrize("size", [0, 3000, 20_000_000], ids=["nothing", "little", "more than a part"])
async def test_what_comes_in_parts_is_put_as_one(store: ObjectStore, size: int) -> None:
    await store.put("files/f_1", b"before")
    await store.put_parts("files/f_1", _in_parts(size, b"0123456789" * 100))
    assert await store.get("files/f_1") == b"0123456789" * (size // 10)
    assert await store.list_keys("") == ["files/f_1"]


@pytest.mark.parametrize("size", [3000, 20_000_000], ids=["little", "more than a part"])
async def test_parts_that_break_off_leave_what_was_there(store: ObjectStore, size: int) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        async for part in _in_parts(size, b"0123456789" * 100):
            yield part
        raise LookupError("the source is gone")

    await store.put("files/f_1", b"before")
    for key in ("files/f_1", "files/f_2"):
        with pytest.raises(LookupError):
            await store.put_parts(key, breaking())
    assert await store.get("files/f_1") == b"before"
    assert await store.list_keys("") == ["files/f_1"]


async def test_parts_are_not_gathered_in_memory(tmp_path: Path) -> None:
    """Regression: what came out of a batch was held whole, twice, before it was kept."""
    tracemalloc.start()
    try:
        await FolderStore(tmp_path, 10.0).put_parts("files/f_1", _in_parts(60_000_000, b"x" * 500_000))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 30_000_000  # the whole is 60 MB; a server of another test may hold a part of its own


async def test_parts_for_s3_are_sent_as_they_come(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.to_thread(boto3.client("s3", endpoint_url=s3_url).create_bucket, Bucket="b-parts")
    store = open_store("s3://b-parts", 10.0, s3_url)
    assert isinstance(store, S3Store)
    sent: list[int] = []
    usual = store._client.upload_part

    def upload(**words: Any) -> Any:
        sent.append(len(words["Body"]))
        return usual(**words)

    monkeypatch.setattr(store._client, "upload_part", upload)
    await store.put_parts("files/f_1", _in_parts(20_000_000, b"x" * 500_000))
    assert sent == [8_500_000, 8_500_000, 3_000_000]


async def test_a_missing_object_is_named(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound, match="sources/none"):
        await store.get("sources/none")


async def test_a_deleted_object_is_gone_and_may_be_deleted_again(store: ObjectStore) -> None:
    await store.put("texts/rev_1", b"x")
    await store.delete("texts/rev_1")
    await store.delete("texts/rev_1")
    with pytest.raises(ObjectNotFound):
        await store.get("texts/rev_1")


async def test_keys_are_listed_by_prefix_in_order(store: ObjectStore) -> None:
    for key in ("texts/b", "texts/a", "sources/a"):
        await store.put(key, b"x")
    assert await store.list_keys("texts/") == ["texts/a", "texts/b"]
    assert await store.list_keys("") == ["sources/a", "texts/a", "texts/b"]


@pytest.mark.parametrize("key", ["../escape", "/absolute", "a/../../b", "a/..", "", "a//b", "a b", ".", "a/."])
async def test_a_key_that_could_leave_its_place_is_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(ObjectError, match="no object key"):
        await store.put(key, b"x")


async def test_a_folder_never_shows_half_an_object(tmp_path: Path) -> None:
    """Readers running beside a writer see one of the two contents, whole."""
    store = FolderStore(tmp_path, 10.0)
    contents = [bytes([letter]) * 300_000 for letter in b"ab"]
    await store.put("k", contents[0])

    async def write() -> None:
        for turn in range(40):
            await store.put("k", contents[turn % 2])

    writing = asyncio.create_task(write())
    reads = 0
    while not writing.done():
        assert await store.get("k") in contents
        reads += 1
    await writing
    assert reads > 5
    assert await store.list_keys("") == ["k"]


def test_an_address_of_neither_kind_is_refused_with_the_remedy() -> None:
    with pytest.raises(ObjectError, match="use folder:PATH or s3://BUCKET/PREFIX"):
        open_store("ftp://host", 1.0)
