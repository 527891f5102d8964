"""Which buckets a tenant may take documents from, and what is in them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from retrieval.errors import FetchFailed, InputInvalid
from retrieval.sources.fetcher import Fetched, Known
from storage.objects import ObjectNotFound, ObjectRefused

if TYPE_CHECKING:
    from storage.s3 import S3Source  # boto3 takes a third of a second to import

_EVERYONE = "*"


class Buckets:
    """Reads what tenants were allowed.

    Args:
        source: None where nobody is allowed anything.
        allowed: `BUCKET` or `BUCKET/PREFIX` by id or name of a tenant; `*` is everyone.
    """

    def __init__(self, source: "S3Source | None", allowed: Mapping[str, Sequence[str]], most_bytes: int) -> None:
        self._source = source
        self._allowed = allowed
        self._most_bytes = most_bytes

    async def list(self, address: str, limit: int) -> tuple[list[str], int]:
        """Addresses of the objects below one, and how many were left out: too large, or beyond the limit.

        Raises: FetchFailed; DependencyError: the store is away.
        """
        bucket, prefix = split(address)
        try:
            found = await self._asked().list(bucket, prefix, limit)
        except (ObjectNotFound, ObjectRefused) as error:
            raise FetchFailed(str(error)) from error
        taken = [f"s3://{bucket}/{key}" for key, size in found[:limit] if size <= self._most_bytes and len(key) <= 400]
        return taken, len(found) - len(taken)

    async def get(self, address: str, known: Known | None) -> Fetched | None:
        """An object; None: it is as it was. Raises: FetchFailed; DependencyError: the store is away."""
        bucket, key = split(address)
        try:
            found = await self._asked().get(bucket, key, known.etag if known else None, self._most_bytes)
        except (ObjectNotFound, ObjectRefused) as error:
            raise FetchFailed(str(error)) from error
        return None if found is None else Fetched(found.data, found.media_type, Known(address, found.etag, None))

    def check(self, tenant_id: str, tenant_name: str, address: str) -> None:
        """Raises: InputInvalid: the tenant may not take anything from there."""
        bucket, key = split(address)
        entries = [entry for name in (_EVERYONE, tenant_id, tenant_name) for entry in self._allowed.get(name, ())]
        for entry in entries:
            allowed, _, prefix = entry.partition("/")
            prefix = prefix.strip("/")
            if bucket == allowed and (not prefix or key.startswith(f"{prefix}/")):
                return
        raise InputInvalid(
            "s3",
            f"Your tenant may not take documents from s3://{bucket}/{key}: have the operator add it to "
            "STOKER_S3_SOURCES, such as "
            f'{{"{tenant_name}": ["{bucket}"]}}. A prefix that stands there ends with a slash in a request.',
        )

    def _asked(self) -> "S3Source":
        if self._source is None:
            raise FetchFailed("Nobody may take documents from buckets here: STOKER_S3_SOURCES is empty.")
        return self._source


def split(address: str) -> tuple[str, str]:
    """Bucket and key of `s3://BUCKET/KEY`."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return bucket, key
