"""Migrated databases for tests; made in a thread of their own, since migrations run an event loop."""

import functools
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from storage.migrate import migrate


def fresh_sqlite(file: Path) -> str:
    """Make a migrated, empty database at `file`, copied from one that the migrations made. Returns: its URL."""
    shutil.copy(Path(_template().name) / "stoker.db", file)
    return _url(file)


def migrated(url: str) -> None:
    """Migrate a database, whether an event loop runs here or not."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(migrate, url).result()


@functools.cache
def _template() -> "TemporaryDirectory[str]":
    folder = TemporaryDirectory(prefix="stoker-migrated-")
    migrated(_url(Path(folder.name) / "stoker.db"))
    return folder


def _url(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"
