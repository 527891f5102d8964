"""Bringing back documents that are copies of files: each gets a file again, under a new id where it had none there.

Run again, it goes on: what the collection has of the same name and bytes is taken for the same, and what is as it
should be is left alone.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from rich.progress import Progress

from cli.client import Client
from cli.ingest import Outcome, Upload, follow

_AT_ONCE = 100
_MOST_KEYS, _LONGEST_KEY, _LONGEST_TEXT = 16, 64, 512  # of what a file is attached with; more is said afterwards


class Filed(Upload, Protocol):
    """A document that is a copy of a file; `about` is its description in the archive."""

    @property
    def about(self) -> dict[str, Any]: ...


def send_filed(client: Client, name: str, documents: Sequence[Filed], bars: Progress) -> list[Outcome]:
    """Keep files and attach them. Returns: how each document ended."""
    where = f"/v1/collections/{quote(name, safe='')}"
    store_id = client.get(where)["id"]
    there: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for each in client.pages(f"{where}/documents"):
        if each["file_id"] is not None:
            there[each["filename"], each["sha256"]].append(each)
    outcomes: list[Outcome] = []
    wanted: dict[str, Filed] = {}
    for document in documents:
        same = there[document.name, document.about["sha256"]]
        known = same.pop(0) if same else None
        if known is not None and _is_as_it_should_be(known, document):
            outcomes.append(Outcome(document.name, "ready", None))
        else:
            wanted[_file(client, document) if known is None else known["file_id"]] = document
    for part in _parts(list(wanted)):
        attached = [_attachment(file_id, wanted[file_id].about) for file_id in part]
        batch = client.post(f"/v1/vector_stores/{store_id}/file_batches", {"files": attached})
        outcomes += follow(client, batch["id"], bars)
    _say_the_rest(client, where, wanted)
    return outcomes


def _is_as_it_should_be(known: Mapping[str, Any], document: Filed) -> bool:
    told = ("metadata", "acl", "chunking")
    return known["status"] == "ready" and all(known[key] == document.about.get(key) for key in told)


def _file(client: Client, document: Filed) -> str:
    fields = {key: value for key, value in document.fields.items() if key != "metadata"}
    with document.open() as data:
        answer = client.upload(
            "/v1/files", {**fields, "purpose": "assistants"}, [(document.name, data, document.media_type)]
        )
    return str(answer["id"])


def _attachment(file_id: str, about: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"file_id": file_id}
    if _fits(about["metadata"]):
        found["attributes"] = about["metadata"]
    if about.get("chunking") is not None:
        found["chunking_strategy"] = {"type": "static", "static": about["chunking"]}
    return found


def _fits(metadata: Mapping[str, Any]) -> bool:
    """Whether a file may be attached with it."""
    return len(metadata) <= _MOST_KEYS and all(
        len(key) <= _LONGEST_KEY and (not isinstance(value, str) or len(value) <= _LONGEST_TEXT)
        for key, value in metadata.items()
    )


def _say_the_rest(client: Client, where: str, wanted: Mapping[str, Filed]) -> None:
    """Metadata beyond what a file is attached with."""
    large = {file_id: one for file_id, one in wanted.items() if not _fits(one.about["metadata"])}
    if not large:
        return
    for known in list(client.pages(f"{where}/documents")):
        if known["file_id"] in large:
            metadata = large[known["file_id"]].about["metadata"]
            client.patch(f"{where}/documents/{known['id']}", {"metadata": metadata})


def _parts(file_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (file_ids[first : first + _AT_ONCE] for first in range(0, len(file_ids), _AT_ONCE))
