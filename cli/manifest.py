"""`./stoker ingest --manifest`: a file of JSON lines, each a document by its path or its address."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.client import Client
from cli.errors import ApiRefused, CliError
from cli.ingest import Outcome, Source, ensure_collection, follow, send, shown_progress

_KEYS = frozenset({"path", "url", "title", "metadata", "acl", "expires_after"})
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is to be taken in: files of this machine, and addresses as POST /v1/ingest/batch takes them."""

    files: list[Source]
    addresses: list[dict[str, Any]]


def read_manifest(file: Path) -> Manifest:
    """Read a manifest; paths count from its own folder.

    Raises: CliError: it can't be read, or a line is at fault; then nothing was sent.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{file} cannot be read: {error}", "name a file of JSON lines in UTF-8") from error
    found = Manifest([], [])
    for number, line in enumerate(lines, start=1):
        if line.strip():
            _add(found, file, number, line)
    if not found.files and not found.addresses:
        raise CliError(f"{file} names no document", 'write lines such as {"path": "a.md"} or {"url": "https://..."}')
    _check_names(found, file)
    return found


def ingest_manifest(client: Client, collection: str, manifest: Manifest) -> list[Outcome]:
    """Send everything and wait for the end. Returns: one outcome per document."""
    ensure_collection(client, collection)
    outcomes = send(client, {"collection": collection}, manifest.files) if manifest.files else []
    with shown_progress() as bars:
        for first in range(0, len(manifest.addresses), _AT_ONCE):
            part = manifest.addresses[first : first + _AT_ONCE]
            for job_id in _jobs(client, collection, part, outcomes):
                outcomes += follow(client, job_id, bars)
    return outcomes


def _jobs(client: Client, collection: str, items: Sequence[dict[str, Any]], outcomes: list[Outcome]) -> Iterator[str]:
    """One request; where one address spoils it, each goes alone, so that the others still arrive."""
    try:
        yield client.post("/v1/ingest/batch", {"collection": collection, "items": list(items)})["job_id"]
    except ApiRefused as error:
        if error.status != 400:
            raise
        if len(items) == 1:
            outcomes.append(Outcome(items[0].get("title") or items[0]["url"], "failed", error.message))
            return
        for item in items:
            yield from _jobs(client, collection, [item], outcomes)


def _add(found: Manifest, file: Path, number: int, line: str) -> None:
    def refused(what: str) -> CliError:
        return CliError(f"{file}, line {number}: {what}", "mend it and run it again; nothing was sent")

    try:
        row = json.loads(line)
    except ValueError as error:
        raise refused(f"no JSON: {error}") from error
    if not isinstance(row, dict) or not row.keys() <= _KEYS:
        raise refused(f"a line is an object with some of {', '.join(sorted(_KEYS))}")
    path, url, title = row.get("path"), row.get("url"), row.get("title")
    if (path is None) == (url is None) or not isinstance(path or url, str):
        raise refused("it needs a path or a url, and not both")
    if title is not None and (not isinstance(title, str) or not title):
        raise refused("title must be a text")
    said = {name: row[name] for name in ("metadata", "acl", "expires_after") if row.get(name) is not None}
    if any(not isinstance(value, dict) for value in said.values()):
        raise refused("metadata, acl and expires_after are objects")
    if isinstance(url, str):
        found.addresses.append({"url": url, **({"title": title} if title else {}), **said})
        return
    where = file.parent / str(path)
    if not where.is_file():
        raise refused(f"there is no file {where}")
    fields = {name: json.dumps(value, sort_keys=True) for name, value in said.items()}
    found.files.append(Source(where, title or str(path), fields=fields))


def _check_names(found: Manifest, file: Path) -> None:
    """A name stands for one document."""
    names = [source.name for source in found.files]
    names += [item.get("title") or item["url"] for item in found.addresses]
    double = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if double is not None:
        raise CliError(f"{file} names {double!r} twice", "give each document a title of its own; nothing was sent")
