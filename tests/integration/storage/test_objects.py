"""One contract for both object stores: a folder, and S3 on a local moto server."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from storage.objects import FolderStore, ObjectError, ObjectNotFound, ObjectStore
from storage.open import open_store


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
