"""What an export holds: `manifest.json`, with the checksum of every file and of itself.

A folder is served only when it holds exactly what its manifest says: a file that was cut off, changed or added is
refused. Checksums tell accidents, and files that were put in; who can write a folder can write its manifest, too.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.errors import FolderRefused

FORMAT = 1
NAME = "manifest.json"
_AGAIN = "copy the folder again from where it was exported, or export it anew with ./stoker edge export"
_MOST_BYTES = 64 * 2**20  # of a manifest


@dataclass(frozen=True, slots=True)
class FileSum:
    """Size and SHA-256 of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Of one folder.

    Attributes:
        stoker: the version that exported it.
        collection: as the gateway described it at the version that was exported.
        index: what the vectors' index is: `kind`, `dimensions`, `chunks`.
        models: `embedding`, and `llm` where there is one: the name it is served under; their files lie in a folder of
            that word.
        warnings: for whoever carries it.
    """

    stoker: str
    exported_at: float
    collection: Mapping[str, Any]
    index: Mapping[str, Any]
    models: Mapping[str, str]
    documents: int
    files: Mapping[str, FileSum] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(one.bytes for one in self.files.values())

    def write(self, folder: Path) -> None:
        """Into its folder."""
        body = {
            "format": FORMAT,
            "stoker": self.stoker,
            "exported_at": self.exported_at,
            "collection": dict(self.collection),
            "index": dict(self.index),
            "models": dict(self.models),
            "documents": self.documents,
            "bytes": self.bytes,
            "warnings": list(self.warnings),
            "files": {name: {"bytes": one.bytes, "sha256": one.sha256} for name, one in sorted(self.files.items())},
        }
        (folder / NAME).write_text(json.dumps({**body, "sha256": _digest(body)}, ensure_ascii=False, indent=1))

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Of a folder; what it says of its files is not looked at. Raises: FolderRefused."""
        try:
            with (folder / NAME).open("rb") as file:
                raw = json.loads(file.read(_MOST_BYTES))
        except FileNotFoundError as error:
            raise FolderRefused(
                f"{folder} is no export of an edge: it has no {NAME}", "name a folder that ./stoker edge export made"
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise FolderRefused(f"{folder / NAME} can't be read: {error}", _AGAIN) from error
        if not isinstance(raw, dict):
            raise FolderRefused(f"{folder / NAME} is damaged", _AGAIN)
        if raw.get("format") != FORMAT:
            raise FolderRefused(
                f"{folder} is of format {str(raw.get('format'))[:20]}, and this Stoker reads format {FORMAT}",
                f"export it anew with this version, or serve it with Stoker {str(raw.get('stoker'))[:40]}",
            )
        said = raw.pop("sha256", None)
        if said != _digest(raw):
            raise FolderRefused(f"{folder / NAME} is damaged: its checksum is another", _AGAIN)
        files = {name: FileSum(one["bytes"], one["sha256"]) for name, one in raw["files"].items()}
        return cls(
            stoker=raw["stoker"],
            exported_at=raw["exported_at"],
            collection=raw["collection"],
            index=raw["index"],
            models=raw["models"],
            documents=raw["documents"],
            files=files,
            warnings=tuple(raw["warnings"]),
        )

    def check(self, folder: Path) -> None:
        """Hold every file against its checksum. Raises: FolderRefused: names the first that differs."""
        there = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}
        if added := sorted(there - self.files.keys() - {NAME}):
            raise FolderRefused(f"{folder / added[0]} is no part of the export", f"take it away, or {_AGAIN}")
        if missing := sorted(self.files.keys() - there):
            raise FolderRefused(f"{folder / missing[0]} is missing", _AGAIN)
        with ThreadPoolExecutor() as pool:
            for name, found in zip(self.files, pool.map(lambda name: _sum_of(folder / name), self.files), strict=True):
                if found != self.files[name]:
                    raise FolderRefused(f"{folder / name} is damaged: {_difference(self.files[name], found)}", _AGAIN)


def sums(folder: Path) -> dict[str, FileSum]:
    """Of all files below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:
        return dict(zip((str(path.relative_to(folder)) for path in paths), pool.map(_sum_of, paths), strict=True))


def _sum_of(path: Path) -> FileSum:
    """Raises: FolderRefused: it is no plain file, or can't be read."""
    if path.is_symlink():
        raise FolderRefused(f"{path} is a link", _AGAIN)
    try:
        with path.open("rb") as file:
            return FileSum(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise FolderRefused(f"{path} can't be read: {error.strerror}", "make it readable") from error


def _difference(said: FileSum, found: FileSum) -> str:
    if said.bytes != found.bytes:
        return f"it has {found.bytes:,} bytes of {said.bytes:,}"
    return "its checksum is another"


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
