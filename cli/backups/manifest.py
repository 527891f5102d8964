"""A backup as a folder, and whether it is whole.

```
manifest.json   what it is of, and what is in it
settings.json   the stack's settings, without its secrets
sql/            all of SQL at one moment
objects/        files and normalised texts, by their keys
vectors/        the index's rows, a file for each revision
ledger/         lines that were not in SQL yet
SHA256SUMS      of every other file, as `sha256sum -c` reads it
```
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from cli.errors import CliError
from retrieval.index import Place
from storage.dump import Dumped, Kind

FORMAT = 1
SQL, OBJECTS, VECTORS, LEDGER = "sql", "objects", "vectors", "ledger"
MANIFEST, SETTINGS, SUMS = "manifest.json", "settings.json", "SHA256SUMS"

_OTHER_COPY = "take another copy of the backup, or an older one"
_SUM = re.compile(r"([0-9a-f]{64})  (\S.*)")
_READ_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Placed:
    """Where rows of the index are, and how long their dense vectors."""

    place: Place
    dimensions: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup is of.

    Attributes:
        made_at: the moment of which SQL is, in seconds since the epoch.
        stoker: the version that made it.
        schema: SQL's revision.
        rounds: moments that were tried until nothing had been deleted meanwhile.
        lost: what the stack itself had lost: SQL names it, and no store has it.
        files, size_bytes: of all but the manifest and the sums.
    """

    id: str
    made_at: float
    stoker: str
    schema: str
    sql: Kind
    tables: list[Dumped]
    places: list[Placed]
    objects: int
    revisions: int
    rows: int
    rounds: int
    lost: list[str] = field(default_factory=list)
    files: int = 0
    size_bytes: int = 0
    format: int = FORMAT


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest and the sums, and have every byte on the disk."""
    found = _files(folder)
    sums = {name: _sum(folder / name) for name in found}
    told = {
        **asdict(manifest),
        "files": len(found),
        "size_bytes": sum((folder / name).stat().st_size for name in found),
    }
    (folder / MANIFEST).write_text(json.dumps(told, indent=1))
    sums[MANIFEST] = _sum(folder / MANIFEST)
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))
    for name in (*found, MANIFEST, SUMS):
        _sync(folder / name)
    for each in {path.parent for path in folder.rglob("*")}:
        _sync(each)


def read(folder: Path, looked_at: Callable[[int], object] = lambda _: None) -> Manifest:
    """Read every byte of a backup.

    Args:
        looked_at: told of bytes as they are read.

    Raises: CliError: it is none of ours, of another format, not whole, or not as it was written.
    """
    try:
        manifest = _manifest(folder)
        sums = _sums(folder)
        there = {*_files(folder)}
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{folder} can't be read: {error}", "name a folder that ./stoker backup has written") from error
    if missing := sorted(sums.keys() - there - {MANIFEST}):
        raise CliError(f"{folder} is not whole: {missing[0]} is missing, one of {len(missing)}", _OTHER_COPY)
    if strange := sorted(there - sums.keys()):
        raise CliError(f"{folder / strange[0]} is no part of the backup, one of {len(strange)}", "take it out")
    if len(sums) != manifest.files + 1:
        raise CliError(f"{folder / SUMS} is not whole", _OTHER_COPY)
    for name, digest in sums.items():
        if _sum(folder / name, looked_at) != digest:
            raise CliError(f"{folder / name} is damaged: its SHA-256 is another one", _OTHER_COPY)
    return manifest


def _manifest(folder: Path) -> Manifest:
    try:
        told: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        if told["format"] != FORMAT:
            wanted = f"use the version of Stoker that made it: {told.get('stoker')}"
            raise CliError(f"{folder} has format {told['format']}, and this version reads {FORMAT}", wanted)
        tables = [Dumped(**table) for table in told["tables"]]
        places = [Placed(Place(**each["place"]), each["dimensions"]) for each in told["places"]]
        return Manifest(**{**told, "tables": tables, "places": places})
    except FileNotFoundError as error:
        raise CliError(f"{folder} is no backup: it has no {MANIFEST}", "name a folder that is whole") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CliError(f"{folder / MANIFEST} is damaged", _OTHER_COPY) from error


def _sums(folder: Path) -> dict[str, str]:
    found = {}
    for line in (folder / SUMS).read_text().splitlines():
        match = _SUM.fullmatch(line)
        if match is None or not _inside(match[2]):
            raise CliError(f"{folder / SUMS} is damaged", _OTHER_COPY)
        found[match[2]] = match[1]
    return found


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _files(folder: Path) -> list[str]:
    """All but the manifest and the sums. Raises: CliError: one is a link, or something else that is no file."""
    found = []
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise CliError(f"{path} is no plain file", "take it out: a backup has files and folders alone")
        if path.is_file() and path.relative_to(folder).as_posix() not in (MANIFEST, SUMS):
            found.append(path.relative_to(folder).as_posix())
    return sorted(found)


def _sum(file: Path, looked_at: Callable[[int], object] = lambda _: None) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(_READ_BYTES):
            digest.update(piece)
            looked_at(len(piece))
    return digest.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
