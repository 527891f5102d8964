"""`./stoker collections export` and `import`: a collection in one file, as it was sent in.

The file is a tar: `collection.json`, then for each document its description and its bytes, and `end.json`, without
which the file is not whole. What was embedded is not in it: an import sends the documents in anew, and so fits any
embedding model.
"""

import hashlib
import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from rich.markup import escape
from rich.progress import track
from rich.table import Table

from cli.client import Client
from cli.console import err, out
from cli.errors import ApiRefused, CliError
from cli.filed import send_filed
from cli.ingest import Outcome, send, shown_progress

FORMAT = 1
_MOST_FAILED = 100  # documents that are counted for a list
_COLLECTION, _END = "collection.json", "end.json"
_OF_COLLECTION = (
    "description",
    "metadata",
    "chunking",
    "language",
    "search",
    "answers",
    "placement",
    "local_only",
    "providers",
    "regions",
)
_KEPT = ("filename", "media_type", "sha256", "metadata", "acl", "expires_at")
_KEPT_OF_FILES = ("file_id", "chunking")  # what older gateways do not tell


def export(client: Client, name: str, to: Path) -> tuple[int, list[str]]:
    """Write a collection's documents, as they were last sent, to a file.

    Returns: how many, and the names of those that are left out because their bytes are gone or have expired.
    Raises: CliError: there is no such collection, or the file exists or can't be written; nothing is left of it then.
    """
    if to.exists():
        raise CliError(f"{to} exists", "choose another file with --to, or delete it")
    where = f"/v1/collections/{quote(name, safe='')}"
    about = client.get(where)
    left_out = []
    with _written(to) as archive:
        _add(archive, _COLLECTION, _json({"format": FORMAT, **about}))
        count = 0
        documents = list(client.pages(f"{where}/documents"))
        for document in track(documents, f"exporting {escape(name)}", console=err, disable=not err.is_terminal):
            try:
                data = client.bytes_of(f"{where}/documents/{document['id']}/source")
            except ApiRefused as error:
                if error.status != 404:
                    raise
                left_out.append(document["filename"])  # deleted meanwhile
                continue
            described = {key: document[key] for key in _KEPT} | {"sha256": hashlib.sha256(data).hexdigest()}
            described |= {key: document[key] for key in _KEPT_OF_FILES if document.get(key) is not None}
            count += 1
            _add(archive, f"documents/{count:06}.json", _json(described))
            _add(archive, f"documents/{count:06}", data)
        _add(archive, _END, _json({"documents": count}))
    return count, left_out


def restore(client: Client, file: Path, name: str | None, model: str | None = None) -> tuple[str, list[Outcome]]:
    """Make a collection from such a file and send its documents in; run again, it goes on where it was interrupted.

    Args:
        name: of the new collection; None: the one that it had.
        model: its embedding model; None: the server's first, whatever it had.

    Returns: its name, and how each document ended.
    Raises: CliError: the file is none of ours, or damaged; then nothing of it has been sent.
    """
    about, documents = _checked(file)
    name = name or str(about["name"])
    _make(client, name, about, model)
    living = [each for each in documents if not each.expired]
    outcomes = send(client, {"collection": name}, [each for each in living if not each.filed])
    if filed := [each for each in living if each.filed]:
        with shown_progress() as bars:
            outcomes += send_filed(client, name, filed, bars)
    return name, outcomes


def listed(client: Client, *, as_json: bool) -> None:
    """Print the collections that the key may see."""
    found = list(client.pages("/v1/collections"))
    if as_json:
        out.print_json(data=found)
        return
    table = Table("name", "documents", "failed", "chunks", "description", box=None)
    for each in found:
        failed = _failed(client, each["name"]) if each["documents"] else ""
        about = (str(each["documents"]), failed, str(each["chunks"]), escape(each["description"]))
        table.add_row(escape(each["name"]), *about)
    out.print(table)


def _failed(client: Client, name: str) -> str:
    """How many of its documents failed, as far as one page tells; empty: none, or the key may not see them."""
    try:
        page = client.get(f"/v1/collections/{quote(name, safe='')}/documents", status="failed", limit=_MOST_FAILED)
    except ApiRefused:  # it is gone by now, or the key lists collections alone
        return ""
    count = len(page["data"])
    return f"{count} or more" if page.get("has_more") else str(count or "")


@dataclass(frozen=True, slots=True)
class _Document:
    """A document in a file: an `Upload`."""

    file: Path
    member: str
    size: int
    about: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.about["filename"])

    @property
    def media_type(self) -> str:
        return str(self.about["media_type"])

    @property
    def fields(self) -> dict[str, str]:
        found = {"metadata": json.dumps(self.about["metadata"])}
        if self.about["acl"] is not None:
            found["acl"] = json.dumps(self.about["acl"])
        if self.about["expires_at"] is not None:
            found["expires_after"] = json.dumps({"seconds": max(1, int(self.about["expires_at"] - time.time()))})
        return found

    @property
    def filed(self) -> bool:
        """Whether it is a copy of a file: another one may have its name."""
        return self.about.get("file_id") is not None

    @property
    def expired(self) -> bool:
        return self.about["expires_at"] is not None and self.about["expires_at"] <= time.time()

    def open(self) -> BinaryIO:
        with _opened(self.file) as archive:
            return io.BytesIO(_member(archive, self.member))


def _make(client: Client, name: str, about: dict[str, Any], model: str | None) -> None:
    """Make the collection, or find the one that an interrupted import has made: the same in all that was exported."""
    wanted: dict[str, Any] = {key: about[key] for key in _OF_COLLECTION if key in about}
    if model is not None:
        wanted["embedding_model"] = model
    try:
        client.post("/v1/collections", {"name": name, **wanted})
    except ApiRefused as error:
        if error.status != 409:
            raise
        there = client.get(f"/v1/collections/{quote(name, safe='')}")
        if {key: there[key] for key in wanted} != wanted:
            raise CliError(f"there is another collection {name}", "choose another name with --as") from error
        err.print(f"{name} is there: going on with it; documents that have not changed are ready at once")


def _checked(file: Path) -> tuple[dict[str, Any], list[_Document]]:
    """Read the whole file once: each document has its description and the bytes that this speaks of."""
    documents = []
    about: dict[str, Any] | None = None
    end: dict[str, Any] | None = None
    with _opened(file) as archive:
        described: dict[str, Any] | None = None
        for member in archive:
            data = _member(archive, member.name)
            if member.name == _COLLECTION:
                about = json.loads(data)
            elif member.name == _END:
                end = json.loads(data)
            elif member.name.endswith(".json"):
                described = json.loads(data)
            elif described is None or described["sha256"] != hashlib.sha256(data).hexdigest():
                raise CliError(f"{file}: {member.name} is damaged", "take another copy of the file")
            else:
                documents.append(_Document(file, member.name, len(data), described))
                described = None
    if about is None or about.get("format") != FORMAT:
        raise CliError(f"{file} is no export of a collection of format {FORMAT}", "name what collections export wrote")
    if end is None or end["documents"] != len(documents):
        raise CliError(f"{file} is not whole", "take another copy of the file")
    return about, documents


@contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(file) as archive:
            yield archive
    except (OSError, EOFError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise CliError(f"{file} can't be read: {error}", "name what collections export wrote") from error


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    reader = archive.extractfile(name)
    return b"" if reader is None else reader.read()


@contextmanager
def _written(to: Path) -> Iterator[tarfile.TarFile]:
    """A new archive beside its place, moved there when it is whole."""
    try:
        handle, temporary = tempfile.mkstemp(dir=to.resolve().parent, prefix=f".{to.name}.")
    except OSError as error:
        raise CliError(f"{to} can't be written: {error.strerror}", "name a folder of yours with --to") from error
    try:
        with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            yield archive
        os.replace(temporary, to)
    except OSError as error:
        raise CliError(f"{to} can't be written: {error.strerror}", "make room, or choose another file") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mtime = int(time.time())
    member.mode = 0o600
    archive.addfile(member, io.BytesIO(data))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode()
