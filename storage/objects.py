"""Files: one small interface, a folder or an S3-compatible store behind it.

ObjectError
├── ObjectNotFound      no such key
├── ObjectRefused       the store does not let us, or has no such bucket
└── (DependencyError)   the store is away: from `core.dependency`
"""

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Protocol

from core.dependency import Dependency

_KEY = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_.-]*[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")


class ObjectError(Exception):
    """The object store could not do what was asked."""


class ObjectNotFound(ObjectError):
    """There is no object under this key."""


class ObjectRefused(ObjectError):
    """The store understood and said no; the message is for whoever named the bucket."""


class ObjectStore(Protocol):
    """Whole objects under keys such as `sources/doc_01k9`; a put replaces, and is all or nothing."""

    @property
    def dependency(self) -> Dependency: ...

    async def put(self, key: str, data: bytes) -> None: ...

    async def put_parts(self, key: str, parts: AsyncIterator[bytes]) -> None:
        """Put what comes in parts, of which few are held at a time; whatever interrupts it leaves what was there."""
        ...

    async def get(self, key: str) -> bytes:
        """Raises: ObjectNotFound."""
        ...

    async def delete(self, key: str) -> None:
        """Delete the object; one that is already gone is no error."""
        ...

    async def list_keys(self, prefix: str) -> list[str]:
        """All keys that begin with `prefix`, sorted."""
        ...


class FolderStore:
    """Objects as files below one folder."""

    def __init__(self, root: Path, deadline_s: float) -> None:
        self._root = root
        self._dependency = Dependency("objects", deadline_s)

    @property
    def dependency(self) -> Dependency:
        return self._dependency

    async def put(self, key: str, data: bytes) -> None:
        path = self._path(key)
        await self._dependency.call(lambda: asyncio.to_thread(_write_whole, path, data))

    async def put_parts(self, key: str, parts: AsyncIterator[bytes]) -> None:
        path = self._path(key)
        handle, temporary = await self._dependency.call(lambda: asyncio.to_thread(_begin, path))
        try:
            with os.fdopen(handle, "wb") as file:
                async for part in parts:
                    await self._dependency.call(lambda: asyncio.to_thread(file.write, part))  # noqa: B023
                await self._dependency.call(lambda: asyncio.to_thread(_settle, file))
            await self._dependency.call(lambda: asyncio.to_thread(os.replace, temporary, path))
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise

    async def get(self, key: str) -> bytes:
        path = self._path(key)

        def read() -> bytes | None:
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

        data = await self._dependency.call(lambda: asyncio.to_thread(read))
        if data is None:
            raise ObjectNotFound(f"no object {key!r}")
        return data

    async def delete(self, key: str) -> None:
        path = self._path(key)
        await self._dependency.call(lambda: asyncio.to_thread(path.unlink, missing_ok=True))

    async def list_keys(self, prefix: str) -> list[str]:
        def walk() -> list[str]:
            files = (path for path in self._root.rglob("*") if path.is_file() and not path.name.startswith("."))
            return sorted(key for path in files if (key := path.relative_to(self._root).as_posix()).startswith(prefix))

        return await self._dependency.call(lambda: asyncio.to_thread(walk))

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)


def checked_key(key: str) -> str:
    """Keys are made by Stoker from ids; anything else (a `..`, a leading `/`) is a bug that must not reach a disk."""
    if not _KEY.fullmatch(key):
        raise ObjectError(f"{key!r} is no object key")
    return key


def _write_whole(path: Path, data: bytes) -> None:
    """Write beside the target and rename, so that a reader or a crash never meets half a file."""
    handle, temporary = _begin(path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            _settle(file)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _begin(path: Path) -> tuple[int, str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.mkstemp(dir=path.parent, prefix=".")


def _settle(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
