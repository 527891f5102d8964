"""A store of objects that is too busy is asked again, and one that refuses is not."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from core.dependency import DependencyError
from retrieval.errors import FetchFailed
from retrieval.sources.buckets import Buckets
from storage.s3 import S3Source


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
