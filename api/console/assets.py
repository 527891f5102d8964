"""The console's files, read once: their types, names of their content, and their bytes, small and whole."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).parent / "static"
PAGE = "index.html"
ROUTES_PAGE = "docs.html"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file.

    Attributes:
        etag: a name of its content, in quotes.
        small: the same bytes by gzip.
    """

    body: bytes
    small: bytes
    media_type: str
    etag: str


def read_assets(folder: Path = FOLDER) -> Mapping[str, Asset]:
    """All files of the folder, by their names relative to it. Raises: KeyError: of a kind that has no type here."""
    return {file.relative_to(folder).as_posix(): _read(file) for file in sorted(folder.rglob("*")) if file.is_file()}


def _read(file: Path) -> Asset:
    body = file.read_bytes()
    return Asset(
        body=body,
        small=gzip.compress(body, mtime=0),
        media_type=_TYPES[file.suffix],
        etag=f'"{sha256(body).hexdigest()[:24]}"',
    )
