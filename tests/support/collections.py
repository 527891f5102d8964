"""Judged retrieval collections in BEIR's layout, where the folder of shared data is there; and nDCG."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "retrieval"
NAMES = ("cranfield", "llm-docs-qa")


@dataclass(frozen=True, slots=True)
class Judged:
    """A collection.

    Attributes:
        documents, queries: texts by id; a document's title stands before its text.
        relevant: by query, the grade of each relevant document.
    """

    documents: dict[str, str]
    queries: dict[str, str]
    relevant: dict[str, dict[str, int]]


def load(name: str) -> Judged | None:
    """A collection by its name; None where the folder is not there."""
    folder = FOLDER / name
    if not folder.is_dir():
        return None
    documents = {row["_id"]: f"{row.get('title', '')}\n{row['text']}".strip() for row in _rows(folder / "corpus.jsonl")}
    relevant: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        if int(grade) > 0:
            relevant.setdefault(query, {})[document] = int(grade)
    queries = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl") if row["_id"] in relevant}
    return Judged(documents, queries, relevant)


def ndcg_at_10(ranked: Sequence[str], relevant: Mapping[str, int]) -> float:
    """How near a ranking's first ten are to the best possible ones: 0 to 1.

    Source: Järvelin and Kekäläinen, 2002; gains are the grades themselves, as trec_eval's ndcg_cut has them.
    """
    gained = sum(relevant.get(document, 0) / math.log2(place + 2) for place, document in enumerate(ranked[:10]))
    best = sum(grade / math.log2(place + 2) for place, grade in enumerate(sorted(relevant.values(), reverse=True)[:10]))
    return gained / best if best else 0.0


def _rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
