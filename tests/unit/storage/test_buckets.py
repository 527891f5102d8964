"""A store of objects that is too busy is asked again, and one that refuses is not."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from core.dependency import DependencyError
from retrieval.errors import FetchFailed
from retrieval.sources.buckets import Buckets
from storage.s3 import S3Source, S3Store


class Source(S3Source):
    """Answers with an error."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(1.0, None)
        answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
        self._error = ClientError(answer, "GetObject")

    def _client(self) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (503, "SlowDown", DependencyError),
        (500, "InternalError", DependencyError),
        (403, "AccessDenied", FetchFailed),
        (404, "NoSuchKey", FetchFailed),
    ],
)
async def test_only_what_will_not_change_is_final(status: int, code: str, error: type[Exception]) -> None:
    buckets = Buckets(Source(status, code), {"*": ["papers"]}, 1000)
    with pytest.raises(error):
        await buckets.get("s3://papers/a.md", None)
    with pytest.raises(error):
        await buckets.list("s3://papers/", 10)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(503, "SlowDown", DependencyError), (429, "TooMany", DependencyError), (403, "AccessDenied", ClientError)],
)
async def test_a_store_of_our_own_that_is_too_busy_is_away_and_not_broken(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, error: type[Exception]
) -> None:
    """A document that can't be written just now waits; it failed for good after three tries within seconds."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}

    def refuse(**_: object) -> None:
        raise ClientError(answer, "Any")

    store = S3Store("bucket", "", 5.0, "http://127.0.0.1:9")
    store._client = SimpleNamespace(  # type: ignore[assignment]
        put_object=refuse, get_object=refuse, delete_object=refuse, get_paginator=lambda _: refuse()
    )
    works = (store.put("a", b""), store.get("a"), store.delete("a"), store.list_keys(""))
    told = await asyncio.gather(*works, return_exceptions=True)
    assert [isinstance(one, error) for one in told] == [True] * 4, told
