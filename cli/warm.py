"""`./stoker warm`: has questions answered before anybody asks them, so that the cache has them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from cli.client import Client
from cli.console import err, out
from cli.errors import CliError

_ANSWER_S = 660.0  # the gateway's own deadline


def read_questions(file: Path) -> list[str]:
    """The questions of a file: one in each line, as it is or as a JSON object with `text` or `query`.

    Raises: CliError: the file can't be read, or holds none.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{file} can't be read: {error}", "name a text file in UTF-8") from error
    questions = [_question(line.strip(), f"{file}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not questions:
        raise CliError(f"{file} holds no question", "write one in each line")
    return list(dict.fromkeys(questions))


def warm(client: Client, collection: str, questions: list[str], model: str | None, *, as_json: bool = False) -> bool:
    """Ask each question, and print what became of it.

    Returns: whether an answer to each is kept now.
    Raises: CliError: one was refused; those before it are kept, so that another run goes on behind them.
    """
    counted: Counter[str] = Counter()
    left: list[dict[str, str]] = []
    for number, question in enumerate(questions, 1):
        body: dict[str, Any] = {"query": question, "collection": collection}
        if model is not None:
            body["model"] = model
        try:
            answer = client.post("/v1/query", body, _ANSWER_S)
            kept = _kept(answer)
            if kept == "made" and _kept(client.post("/v1/query", body, _ANSWER_S)) != "there":
                kept = "not kept"
        except CliError:
            err.print(f"question {number} of {len(questions)} was refused: {question}", markup=False)
            raise
        counted[kept] += 1
        if kept == "not kept":
            reason = answer.get("degraded_reason") or "the cache is away or switched off, or the answer is none to keep"
            err.print(f"not kept: {question} ({reason})", markup=False)
            left.append({"question": question, "reason": str(reason)})
    if as_json:
        out.print_json(data={"made": counted["made"], "there": counted["there"], "not_kept": left})
        return not left
    out.print(
        f"{counted['made']} answers were made, {counted['there']} were there, {counted['not kept']} could not be kept; "
        "they are told to callers who may read what this key may"
    )
    return counted["not kept"] == 0


def _kept(answer: dict[str, Any]) -> str:
    if answer.get("degraded"):  # a stale answer among others, which is told only while no model answers
        return "not kept"
    return {"exact": "there", "semantic": "there", "miss": "made"}.get(str(answer.get("cache")), "not kept")


def _question(line: str, where: str) -> str:
    if not line.startswith("{"):
        return line
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise CliError(f"{where} is no JSON: {error}", 'write {"text": "..."}') from error
    text = row.get("text") or row.get("query")
    if not isinstance(text, str) or not text.strip():
        raise CliError(f"{where} names no question", 'write {"text": "..."}')
    return text.strip()
