"""`./stoker ingest`: files and folders into a collection, with a bar for each document."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cli.client import Client
from cli.console import err
from cli.errors import ApiRefused, CliError
from retrieval import media

SUPPORTED = tuple(sorted(media.EXTENSIONS))
_PICTURES = media.PICTURE_EXTENSIONS

_BATCH_FILES = 50
_BATCH_BYTES = 30_000_000
_POLL_S = 0.3
_ENDED = ("succeeded", "failed", "cancelled")


class Upload(Protocol):
    """A document to be sent.

    Attributes:
        name: that it gets in the collection.
        media_type: None: it follows from name and content.
        fields: of the form that it is sent in, beside those of all.
    """

    @property
    def name(self) -> str: ...

    @property
    def media_type(self) -> str | None: ...

    @property
    def fields(self) -> Mapping[str, str]: ...

    @property
    def size(self) -> int: ...

    def open(self) -> BinaryIO:
        """Its bytes. Raises: CliError: they can't be read."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """A file on this machine, and the name it gets in the collection."""

    path: Path
    name: str
    media_type: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise CliError(
                f"{self.path} cannot be read: {error.strerror}", "mend its permissions or leave it out"
            ) from error


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one document ended."""

    filename: str
    status: str
    error: str | None


def find_sources(paths: Sequence[Path]) -> tuple[list[Source], list[Path]]:
    """Walk files and folders; hidden files and folders inside a folder are left out, and pictures, which pages beside
    them mostly show already: a picture that is meant is named.

    A file keeps its name, a file in a folder is named by its path below that folder; where two names are equal
    (the server would take the second file for a new version of the first), both become the path as given.

    Returns: what can be ingested, and what is skipped because of its extension.
    Raises: CliError: a path does not exist, a named file has no supported format, or nothing can be ingested.
    """
    found: list[Source] = []
    skipped: list[Path] = []
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                below = file.relative_to(path)
                if file.is_file() and not any(part.startswith(".") for part in below.parts):
                    _sort(Source(file, below.as_posix()), found, skipped)
        elif path.is_file():
            if path.suffix.lower() not in SUPPORTED:
                raise CliError(f"{path} has no supported format", f"supported are {', '.join(SUPPORTED)}")
            found.append(Source(path, path.name))
        else:
            raise CliError(f"{path} does not exist", "check the path")
    if not found:
        raise CliError("nothing to ingest", f"name files, or folders with files, that end in {', '.join(SUPPORTED)}")
    count = Counter(source.name for source in found)
    return [Source(each.path, each.path.as_posix()) if count[each.name] > 1 else each for each in found], skipped


def ingest(client: Client, collection: str, sources: Sequence[Source], metadata: str | None = None) -> list[Outcome]:
    """Upload, wait for the end, show progress. Returns: one outcome per document, in the order of their end.

    Args:
        metadata: a JSON object for every document.
    """
    ensure_collection(client, collection)
    return send(client, {"collection": collection, **({"metadata": metadata} if metadata else {})}, sources)


def send(client: Client, fields: Mapping[str, str], uploads: Iterable[Upload]) -> list[Outcome]:
    """Upload to a collection that is there, wait for the end, show progress.

    Args:
        fields: of the form for all of them, `collection` among them.

    Returns: one outcome per document, in the order of their end.
    """
    outcomes: list[Outcome] = []
    with shown_progress() as bars:
        for batch in _batches(uploads):
            outcomes += _send(client, fields, batch, bars)
    return outcomes


def shown_progress() -> Progress:
    """A bar for each document, where somebody looks."""
    columns = (
        TextColumn("{task.description}", markup=False),  # a file's name
        BarColumn(20),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=err, disable=not err.is_terminal)


def _send(client: Client, fields: Mapping[str, str], batch: Sequence[Upload], bars: Progress) -> list[Outcome]:
    """One request; where one file spoils it, each goes alone, so that the others still arrive."""
    try:
        with ExitStack() as opened:
            files = [(each.name, opened.enter_context(each.open()), each.media_type) for each in batch]
            job = client.upload("/v1/ingest", {**fields, **batch[0].fields}, files)["job_id"]
    except ApiRefused as error:
        if error.status not in (400, 413):
            raise
        if len(batch) == 1:
            return [Outcome(batch[0].name, "failed", error.message)]
        return [outcome for each in batch for outcome in _send(client, fields, [each], bars)]
    return follow(client, job, bars)


def follow(client: Client, job_id: str, bars: Progress) -> list[Outcome]:
    """Wait for a job's end, a bar for each document. Returns: one outcome per document."""
    tasks: dict[str, TaskID] = {}
    while True:
        job = client.get(f"/v1/jobs/{job_id}")
        for document in job["documents"]:
            _show(document, bars, tasks)
        if job["status"] in _ENDED:
            return [Outcome(each["filename"], each["status"], each.get("error")) for each in job["documents"]]
        time.sleep(_POLL_S)


def ensure_collection(client: Client, name: str) -> None:
    """Make the collection unless it is there."""
    try:
        client.get(f"/v1/collections/{quote(name, safe='')}")
    except ApiRefused as error:
        if error.status != 404:
            raise
        try:
            client.post("/v1/collections", {"name": name})
        except ApiRefused as refused:
            if refused.status != 409:  # somebody else has just made it
                raise
        else:
            err.print(f"made the collection {name}", markup=False)


def _sort(source: Source, found: list[Source], skipped: list[Path]) -> None:
    if source.path.suffix.lower() in SUPPORTED and source.path.suffix.lower() not in _PICTURES:
        found.append(source)
    else:
        skipped.append(source.path)


def _batches(uploads: Iterable[Upload]) -> Iterator[list[Upload]]:
    """Groups of equal fields, small enough for one request; a file above the limit goes alone."""
    batch: list[Upload] = []
    size = 0
    for upload in uploads:
        full = len(batch) == _BATCH_FILES or size + upload.size > _BATCH_BYTES
        if batch and (full or upload.fields != batch[0].fields):
            yield batch
            batch, size = [], 0
        batch.append(upload)
        size += upload.size
    if batch:
        yield batch


def _show(document: dict[str, Any], bars: Progress, tasks: dict[str, TaskID]) -> None:
    key = document["id"]
    if key not in tasks:
        tasks[key] = bars.add_task(document["filename"], total=1.0, status="queued")
    done = 1.0 if document["status"] == "ready" else float(document.get("progress") or 0.0)
    bars.update(tasks[key], completed=done, status=document["status"])
