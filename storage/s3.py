"""Objects in a bucket of an S3-compatible server; imported only where one is used."""

import asyncio
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from core.dependency import Dependency
from storage.objects import ObjectNotFound, checked_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


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
        await self._dependency.call(
            lambda: asyncio.to_thread(self._client.put_object, Bucket=self._bucket, Key=name, Body=data)
        )

    async def get(self, key: str) -> bytes:
        name = self._name(key)

        def read() -> bytes:
            return self._client.get_object(Bucket=self._bucket, Key=name)["Body"].read()

        try:
            return await self._dependency.call(lambda: asyncio.to_thread(read))
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                raise ObjectNotFound(f"no object {key!r}") from error
            raise

    async def delete(self, key: str) -> None:
        name = self._name(key)
        await self._dependency.call(
            lambda: asyncio.to_thread(self._client.delete_object, Bucket=self._bucket, Key=name)
        )

    async def list_keys(self, prefix: str) -> list[str]:
        def walk() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            names = (item["Key"] for page in pages for item in page.get("Contents", []))
            return sorted(name.removeprefix(self._prefix) for name in names)

        return await self._dependency.call(lambda: asyncio.to_thread(walk))

    def _name(self, key: str) -> str:
        return self._prefix + checked_key(key)
