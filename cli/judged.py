"""Judged questions in files: BEIR's layout, and trec_eval's judgements."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.errors import CliError


@dataclass(frozen=True, slots=True)
class Text:
    """A line of corpus.jsonl or queries.jsonl; a question has no title."""

    id: str
    title: str
    text: str
    metadata: dict[str, Any]


def texts(file: Path) -> list[Text]:
    """Read a file of lines such as {"_id": "1", "title": "...", "text": "..."}.

    Raises: CliError: it can't be read, or a line is no such object.
    """
    found = []
    for number, line in _lines(file):
        try:
            row: Any = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str) or "_id" not in row:
            raise CliError(
                f"{file}, line {number} is no question or document",
                'each line is an object such as {"_id": "1", "text": "..."}, as in BEIR\'s queries.jsonl',
            )
        metadata = row.get("metadata")
        found.append(
            Text(
                str(row["_id"]),
                str(row.get("title") or ""),
                row["text"],
                metadata if isinstance(metadata, dict) else {},
            )
        )
    return found


def judgements(file: Path) -> list[dict[str, Any]]:
    """Read BEIR's table (query, document, grade) or trec_eval's (query, 0, document, grade) as /v1/evals takes it.

    Raises: CliError: it can't be read, or a line is neither.
    """
    found = []
    for number, line in _lines(file):
        cells = line.split("\t") if "\t" in line else line.split()
        if len(cells) == 4:
            del cells[1]
        if len(cells) != 3 or not cells[2].strip().lstrip("-").isdigit():
            if number == 1:  # names of the columns
                continue
            raise CliError(f"{file}, line {number} is no judgement", "each line is: question, document, grade")
        found.append({"query_id": cells[0], "document": cells[1], "grade": int(cells[2])})
    return found


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}", "check the path") from error
    except UnicodeDecodeError as error:
        raise CliError(f"{file} is not UTF-8", "save it as UTF-8") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")
