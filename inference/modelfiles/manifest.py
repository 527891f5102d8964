"""stoker.json: where a model came from and what its folder must hold, and whether it does."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from inference.modelfiles.errors import Damaged, NameRefused
from inference.modelfiles.names import MANIFEST, safe_path

FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_READ = 1 << 20
_REMEDY = "./stoker models remove it, and pull or import it again"


@dataclass(frozen=True, slots=True)
class File:
    """One file: its path in the folder, its bytes, their digest in hexadecimal."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a model is.

    Attributes:
        name: as a person names it.
        source: the hub's address, or the file that it was converted from.
        revision: what was asked of the hub; None: its main branch, or no hub.
        commit: what that was then.
        source_bytes: of the file that it was converted from.
        files: in the order of their paths; empty where an older Stoker made the folder.
    """

    name: str
    source: str
    files: tuple[File, ...]
    revision: str | None = None
    commit: str | None = None
    source_bytes: int | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def as_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def of(cls, value: object) -> "Manifest":
        """Read one that somebody else may have written. Raises: ValueError, NameRefused."""
        if not isinstance(value, dict) or value.get("format", FORMAT) != FORMAT:
            raise ValueError(f"no manifest of format {FORMAT}")
        texts = {key: value.get(key) for key in ("revision", "commit")}
        source_bytes = value.get("source_bytes")
        name, source, listed = value.get("name", ""), value.get("source"), value.get("files", [])
        if not isinstance(name, str) or not isinstance(source, str) or not isinstance(listed, list):
            raise ValueError("a manifest without name, source or files")
        if not all(text is None or isinstance(text, str) for text in texts.values()):
            raise ValueError("a revision that is no text")
        if source_bytes is not None and not _is_count(source_bytes):
            raise ValueError("a size that is none")
        files = tuple(_file(each) for each in listed)
        if len({file.path for file in files}) != len(files):
            raise ValueError("it names a file twice")
        return cls(name, source, files, texts["revision"], texts["commit"], source_bytes)


def read(folder: Path) -> Manifest | None:
    """The folder's manifest; None where there is none that can be read."""
    try:
        found = Manifest.of(json.loads((folder / MANIFEST).read_text()))
    except (OSError, ValueError, NameRefused):
        return None
    return found if found.name else replace(found, name=folder.name)


def write(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest.as_json(), indent=1))


def files_of(folder: Path, told: Callable[[int], None] = lambda _: None) -> tuple[File, ...]:
    """What a folder holds, hidden files and compiled ones left out."""
    found = []
    for path in sorted(_paths(folder)):
        place = folder / path
        found.append(File(path, place.stat().st_size, digest_of(place, told)))
    return tuple(found)


def digest_of(path: Path, told: Callable[[int], None] = lambda _: None, git: bool = False) -> str:
    """SHA-256 of a file, or the digest that git gives it, in hexadecimal.

    Source: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
    """
    digest = hashlib.sha1(usedforsecurity=False) if git else hashlib.sha256()
    if git:
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(_READ):
            digest.update(chunk)
            told(len(chunk))
    return digest.hexdigest()


def is_whole(folder: Path, manifest: Manifest) -> bool:
    """Whether every file is there in its size; their bytes are not read."""
    return all(_size_of(folder / file.path) == file.size for file in manifest.files)


def problems_of(folder: Path, manifest: Manifest, told: Callable[[int], None] = lambda _: None) -> list[str]:
    """Read all bytes again. Returns: what is not as the manifest says; nothing, if all is."""
    if not manifest.files:
        raise Damaged(f"{manifest.name} has no checksums: an older Stoker made it", "remove it and have it made again")
    found = []
    for file in manifest.files:
        size = _size_of(folder / file.path)
        if size is None:
            found.append(f"{file.path} is missing")
        elif size != file.size:
            found.append(f"{file.path} has {size} bytes and should have {file.size}")
        elif digest_of(folder / file.path, told) != file.sha256:
            found.append(f"{file.path} has a wrong checksum")
    known = {file.path for file in manifest.files}
    return found + [f"{path} does not belong to it" for path in sorted(set(_paths(folder)) - known)]


def damaged(manifest: Manifest, problems: list[str]) -> Damaged:
    return Damaged(f"{manifest.name} is damaged: {'; '.join(problems[:5])}", _REMEDY)


def _paths(folder: Path) -> list[str]:
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    hidden = [any(part.startswith(".") or part == "__pycache__" for part in path.parts) for path in paths]
    return [
        path.as_posix() for path, left_out in zip(paths, hidden, strict=True) if not left_out and str(path) != MANIFEST
    ]


def _file(value: object) -> File:
    if not isinstance(value, dict):
        raise ValueError("a file that is no object")
    path, size, sha256 = value.get("path"), value.get("size"), value.get("sha256")
    if not isinstance(path, str) or not _is_count(size) or not isinstance(sha256, str):
        raise ValueError("a file without path, size or sha256")
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"a checksum that is none: {sha256[:80]!r}")
    if path.lower() == MANIFEST:
        raise ValueError(f"it brings a {path} of its own")
    return File(safe_path(path), size, sha256)  # type: ignore[arg-type]  # it is a count


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60


def _size_of(path: Path) -> int | None:
    """None where there is no file of its own; a link is none."""
    return path.stat().st_size if path.is_file() and not path.is_symlink() else None
