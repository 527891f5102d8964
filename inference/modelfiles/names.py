"""Names of models, and paths of their files."""

import re
from dataclasses import dataclass

from inference.modelfiles.errors import NameRefused

MANIFEST = "stoker.json"
"""The one path that no model may bring along."""

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REPO = re.compile(rf"{_PART}(?:/{_PART})?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
_MAIN = "main"
_MOST_FOLDER = 160  # characters; a file's name may have 255 bytes, and a claim adds its own
_MOST_PATH = 1000


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model as a person names it.

    Attributes:
        repo: its name on the hub, `[ORGANISATION/]NAME`.
        gguf: the one file that is wanted, and converted; None: the model as it is.
        revision: branch, tag or commit; None: the hub's main branch.
    """

    repo: str
    gguf: str | None = None
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelName":
        """Read `NAME[:FILE.gguf][@REVISION]`. Raises: NameRefused."""
        rest, at, revision = text.partition("@")
        repo, colon, gguf = rest.partition(":")
        name = cls(repo, gguf if colon else None, revision if at and revision != _MAIN else None)
        if not _is_repo(repo) or (at and not _is_revision(revision)) or (colon and not _is_gguf(gguf)):
            raise NameRefused(
                f"{text!r} is no name of a model", "write ORGANISATION/NAME, NAME@REVISION or NAME:FILE.gguf"
            )
        if len(name.folder) > _MOST_FOLDER:
            raise NameRefused(f"{text!r} is too long", f"a model's folder may have {_MOST_FOLDER} characters")
        return name

    def __str__(self) -> str:
        gguf = f":{self.gguf}" if self.gguf else ""
        return f"{self.repo}{gguf}{f'@{self.revision}' if self.revision else ''}"

    @property
    def folder(self) -> str:
        """The folder's name; the hub allows no `--` in names, so it says where the parts meet."""
        gguf = f"--{self.gguf}" if self.gguf else ""
        return f"{self.repo}{gguf}{f'@{self.revision}' if self.revision else ''}".replace("/", "--")

    @property
    def served(self) -> str:
        """The name that clients use."""
        return self.repo.rpartition("/")[2]


def safe_path(path: str) -> str:
    """The path, if it stays within its folder. Raises: NameRefused."""
    parts = path.split("/")
    reasons = {
        "it is too long": len(path) > _MOST_PATH or any(len(part.encode()) > 255 for part in parts),
        "it is absolute": path.startswith("/"),
        "it leaves its folder": ".." in parts,
        "it has empty parts": "" in parts or "." in parts,
        "it has letters that no file's name has": "\\" in path or not path.isprintable(),
    }
    for reason, holds in reasons.items():
        if holds:
            raise NameRefused(f"the file name {path[:200]!r} is refused: {reason}", "nobody should trust this source")
    return path


def _is_repo(repo: str) -> bool:
    return _REPO.fullmatch(repo) is not None and "--" not in repo and ".." not in repo


def _is_revision(revision: str) -> bool:
    return _REVISION.fullmatch(revision) is not None and ".." not in revision and "//" not in revision


def _is_gguf(path: str) -> bool:
    try:
        return safe_path(path).lower().endswith(".gguf") and "@" not in path
    except NameRefused:
        return False
