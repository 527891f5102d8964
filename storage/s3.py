"""Objects in a bucket of an S3-compatible server; imported only where one is used."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from core.dependency import Dependency, DependencyError, DependencyUnavailable
from storage.objects import ObjectNotFound, ObjectRefused, checked_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
_LATER = frozenset((429, 500, 502, 503, 504))  # of these a store says that it will answer again


_PART_BYTES = 8 * 2**20  # S3 takes no smaller ones than 5 MiB, but for the last, and 10,000 of them at most


class S3Store:
    """Objects in a bucket; boto3 blocks, so each call runs in a thread."""

    def __init__(self, bucket: str, prefix: str, deadline_s: float, endpoint_url: str | None) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._dependency = Dependency("objects", deadline_s, (OSError, BotoCoreError))
        self._client: S3Client = boto3.client(
            "s3",
            endpoint_url=endpoint_url,
            config=Config(connect_timeout=5, read_timeout=deadline_s, retries={"max_attempts": 2}),
        )

    @property
    def dependency(self) -> Dependency:
        return self._dependency

    async def put(self, key: str, data: bytes) -> None:
        name = self._name(key)
        await self._call(lambda: self._client.put_object(Bucket=self._bucket, Key=name, Body=data))

    async def put_parts(self, key: str, parts: AsyncIterator[bytes]) -> None:
        """In S3's own parts, which nobody sees before the last; what fits into one is put whole."""
        held = bytearray()
        upload: _Upload | None = None
        try:
            async for part in parts:
                held += part
                if len(held) >= _PART_BYTES:
                    if upload is None:
                        upload = await self._begun(self._name(key))
                    await self._add(upload, bytes(held))
                    held.clear()
            if upload is None:
                await self.put(key, bytes(held))
                return
            if held:
                await self._add(upload, bytes(held))
            await self._call(lambda: self._client.complete_multipart_upload(**upload.whole()))
        except BaseException:
            if upload is not None:
                with contextlib.suppress(DependencyError):  # a bucket's lifecycle rule removes what is left
                    await self._call(lambda: self._client.abort_multipart_upload(**upload.named))
            raise

    async def _begun(self, name: str) -> "_Upload":
        made = await self._call(lambda: self._client.create_multipart_upload(Bucket=self._bucket, Key=name))
        return _Upload({"Bucket": self._bucket, "Key": name, "UploadId": made["UploadId"]}, [])

    async def _add(self, upload: "_Upload", data: bytes) -> None:
        number = len(upload.parts) + 1
        done = await self._call(lambda: self._client.upload_part(**upload.named, PartNumber=number, Body=data))
        upload.parts.append({"PartNumber": number, "ETag": done["ETag"]})

    async def _call(self, work: Callable[[], T]) -> T:
        """Raises: DependencyError: the store is away, or too busy; ClientError: it refuses."""

        def run() -> T:
            try:
                return work()
            except ClientError as error:
                if _is_for_later(error):
                    raise ConnectionError(f"the object store is too busy ({_code(error)})") from error
                raise

        return await self._dependency.call(lambda: asyncio.to_thread(run))

    async def get(self, key: str) -> bytes:
        name = self._name(key)

        def read() -> bytes:
            return self._client.get_object(Bucket=self._bucket, Key=name)["Body"].read()

        try:
            return await self._call(read)
        except ClientError as error:
            if _code(error) in ("NoSuchKey", "404"):
                raise ObjectNotFound(f"no object {key!r}") from error
            raise

    async def delete(self, key: str) -> None:
        name = self._name(key)
        await self._call(lambda: self._client.delete_object(Bucket=self._bucket, Key=name))

    async def list_keys(self, prefix: str) -> list[str]:
        def walk() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            names = (item["Key"] for page in pages for item in page.get("Contents", []))
            return sorted(name.removeprefix(self._prefix) for name in names)

        return await self._call(walk)

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)


@dataclass(frozen=True, slots=True)
class S3Object:
    """An object of a bucket that is not ours."""

    data: bytes
    media_type: str
    etag: str | None


class S3Source:
    """Reads buckets with the credentials of this process, which callers never see."""

    def __init__(self, deadline_s: float, endpoint_url: str | None) -> None:
        self._dependency = Dependency("s3", deadline_s, (OSError, BotoCoreError))
        self._deadline_s = deadline_s
        self._endpoint_url = endpoint_url
        self._made: S3Client | None = None

    async def list(self, bucket: str, prefix: str, limit: int) -> list[tuple[str, int]]:
        """Keys and sizes of the first objects that begin with `prefix`, folders' marks left out; one more than `limit`.

        Raises: ObjectRefused; DependencyError: the store is away.
        """

        def walk() -> list[tuple[str, int]]:
            pages = self._client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            objects = (item for page in pages for item in page.get("Contents", []))
            found = ((item["Key"], item["Size"]) for item in objects if not item["Key"].endswith("/"))
            return list(itertools.islice(found, limit + 1))

        return await self._asked(walk, bucket)

    async def get(self, bucket: str, key: str, etag: str | None, most_bytes: int) -> S3Object | None:
        """An object; None: it still has this `etag`.

        Raises: ObjectNotFound; ObjectRefused: it is larger than `most_bytes`, too; DependencyError.
        """

        def read() -> S3Object | None:
            mark = {"IfNoneMatch": etag} if etag else {}
            try:
                answer = self._client().get_object(Bucket=bucket, Key=key, **mark)  # type: ignore[arg-type]
            except ClientError as error:
                if _code(error) in ("304", "NotModified"):
                    return None
                raise
            if answer["ContentLength"] > most_bytes:
                raise ObjectRefused(f"s3://{bucket}/{key} has more than {most_bytes:,} bytes.")
            data = answer["Body"].read(most_bytes + 1)
            return S3Object(data, answer.get("ContentType", ""), answer.get("ETag"))

        return await self._asked(read, f"{bucket}/{key}")

    def _client(self) -> "S3Client":
        """Made when it is needed first: it looks for credentials."""
        if self._made is None:
            config = Config(connect_timeout=5, read_timeout=self._deadline_s, retries={"max_attempts": 2})
            self._made = boto3.client("s3", endpoint_url=self._endpoint_url, config=config)
        return self._made

    async def _asked(self, work: Callable[[], T], what: str) -> T:
        try:
            return await self._dependency.call(lambda: asyncio.to_thread(work))
        except ClientError as error:
            if _is_for_later(error):
                raise DependencyUnavailable("s3", f"The object store is too busy ({_code(error)}).") from error
            if _code(error) in ("NoSuchKey", "404"):
                raise ObjectNotFound(f"There is no object s3://{what}.") from error
            raise ObjectRefused(f"The object store refuses s3://{what} ({_code(error)}).") from error


def _is_for_later(error: ClientError) -> bool:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) in _LATER


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


@dataclass(frozen=True, slots=True)
class _Upload:
    """One in parts, under way."""

    named: dict[str, Any]
    parts: list[dict[str, Any]]

    def whole(self) -> dict[str, Any]:
        return {**self.named, "MultipartUpload": {"Parts": self.parts}}
