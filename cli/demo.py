"""The project's own documentation in the collection `demo`, kept as the files are now."""

import hashlib
import json
from typing import Any

from cli.client import Client
from cli.console import Steps
from cli.errors import ApiRefused, CliError
from cli.ingest import Source, ingest
from cli.settings import ROOT

COLLECTION = "demo"
FIRST_QUESTION = "Where are the logs?"
"""That `up` proposes, as README does: a small model's answer to it stands up to the documents."""

_PATTERNS = ("README.md", "docs/**/*.md", "CHANGELOG.md", "CONTRIBUTING.md")
_MARK = {"source": "stoker-docs"}  # tells our documents from those that a person adds to the collection


def fill(client: Client, steps: Steps) -> None:
    """Ingest what is new or changed and take out what is gone; what is unchanged costs nothing.

    Raises: CliError: a document could not be ingested.
    """
    files = [Source(path, path.relative_to(ROOT).as_posix()) for glob in _PATTERNS for path in sorted(ROOT.glob(glob))]
    files = [source for source in files if source.path.stat().st_size > 0]
    known = _known(client)
    live = {document["filename"]: document["sha256"] for document in known if document["status"] == "ready"}
    new = [source for source in files if live.get(source.name) != _sha256(source)]
    if new:
        steps.say(f"demo: reading Stoker's own documentation, {len(new)} of {len(files)} documents")
        failed = [each for each in ingest(client, COLLECTION, new, json.dumps(_MARK)) if each.status != "ready"]
        if failed:
            reasons = "; ".join(f"{each.filename}: {each.error or each.status}" for each in failed)
            raise CliError(f"the demo could not be ingested: {reasons}", "./stoker logs worker may say more")
    names = {source.name for source in files}
    for document in known:
        if document["filename"] not in names and document["metadata"].get("source") == _MARK["source"]:
            client.delete(f"/v1/collections/{COLLECTION}/documents/{document['id']}")
    steps.say(f"demo: Stoker's own documentation, {len(files)} documents, {len(files) - len(new)} of them unchanged")


def _known(client: Client) -> list[dict[str, Any]]:
    try:
        return list(client.pages(f"/v1/collections/{COLLECTION}/documents"))
    except ApiRefused as error:
        if error.status == 404:
            return []
        raise


def _sha256(source: Source) -> str:
    return hashlib.sha256(source.path.read_bytes()).hexdigest()
