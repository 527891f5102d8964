"""Judged retrieval collections in BEIR's layout.

One is the project's own; the others are there where the folder of shared data is.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "retrieval"
NAMES = ("cranfield", "llm-docs-qa")
OWN_FOLDER = Path(__file__).resolve().parents[1] / "retrieval_quality"
OWN_NAME = "handbook"


@dataclass(frozen=True, slots=True)
class Judged:
    """A collection.

    Attributes:
        documents, queries: texts by id; a document's title stands before its text.
        relevant: by query, the grade of each relevant document.
        metadata: by document; empty where the collection has none.
        kinds: by query, what is hard about it; "" where the collection does not say.
    """

    documents: dict[str, str]
    queries: dict[str, str]
    relevant: dict[str, dict[str, int]]
    metadata: dict[str, dict[str, Any]]
    kinds: dict[str, str]


def load(name: str, folder: Path = FOLDER) -> Judged | None:
    """A collection by its name; None where it is not in the folder."""
    folder = folder / name
    if not folder.is_dir():
        return None
    corpus = _rows(folder / "corpus.jsonl")
    documents = {row["_id"]: f"{row.get('title', '')}\n{row['text']}".strip() for row in corpus}
    metadata = {row["_id"]: row.get("metadata", {}) for row in corpus}
    relevant: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        if int(grade) > 0:
            relevant.setdefault(query, {})[document] = int(grade)
    asked = [row for row in _rows(folder / "queries.jsonl") if row["_id"] in relevant]
    queries = {row["_id"]: row["text"] for row in asked}
    kinds = {row["_id"]: row.get("metadata", {}).get("kind", "") for row in asked}
    return Judged(documents, queries, relevant, metadata, kinds)


def load_own() -> Judged:
    """The handbook, which is in the repository and so always there."""
    judged = load(OWN_NAME, OWN_FOLDER)
    if judged is None:
        raise FileNotFoundError(f"{OWN_FOLDER / OWN_NAME} is part of the repository: check it out again")
    return judged


def is_held_out(query: str) -> bool:
    """Whether a query of the handbook is for the reported number; the others are for trying things out."""
    return int(query.removeprefix("q")) % 2 == 0


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
