"""A migrated SQLite file for each test, copied from one that the migrations made."""

import functools
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from storage.migrate import migrate


def fresh_sqlite(file: Path) -> str:
    """Make a migrated, empty database at `file`. Returns: its URL."""
    shutil.copy(Path(_template().name) / "stoker.db", file)
    return _url(file)


@functools.cache
def _template() -> "TemporaryDirectory[str]":
    folder = TemporaryDirectory(prefix="stoker-migrated-")
    migrate(_url(Path(folder.name) / "stoker.db"))
    return folder


def _url(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"
