"""The object store of an address."""

from pathlib import Path
from typing import TYPE_CHECKING

from storage.objects import FolderStore, ObjectError, ObjectStore

if TYPE_CHECKING:
    from storage.s3 import S3Source


def open_source(deadline_s: float, s3_endpoint_url: str | None = None) -> "S3Source":
    """Open what reads other buckets than our own."""
    from storage.s3 import S3Source

    return S3Source(deadline_s, s3_endpoint_url)


def open_store(address: str, deadline_s: float, s3_endpoint_url: str | None = None) -> ObjectStore:
    """Open `folder:PATH` or `s3://BUCKET/PREFIX`.

    Raises: ObjectError: the address is neither.
    """
    if address.startswith("folder:"):
        return FolderStore(Path(address.removeprefix("folder:")), deadline_s)
    if address.startswith("s3://"):
        from storage.s3 import S3Store  # boto3 takes a third of a second to import

        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        return S3Store(bucket, prefix.rstrip("/"), deadline_s, s3_endpoint_url)
    raise ObjectError(f"{address!r} is no object store: use folder:PATH or s3://BUCKET/PREFIX")
