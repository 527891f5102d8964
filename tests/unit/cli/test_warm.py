"""What `./stoker warm` reads, asks and says."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.client import Client
from cli.errors import CliError
from cli.warm import read_questions, warm


def _warm(
    *answers: dict[str, Any], questions: int | None = None, model: str | None = None
) -> tuple[bool, list[dict[str, Any]]]:
    asked: list[dict[str, Any]] = []
    left = iter(answers)

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        said = next(left)
        return httpx.Response(said.pop("status", 200), json=said)

    client = Client("http://stoker.test", "k", httpx.MockTransport(handle))
    count = len(answers) if questions is None else questions
    return warm(client, "demo", [f"Question {at}?" for at in range(count)], model), asked


def test_questions_come_one_in_a_line_or_as_json(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('\ufeffWhich port?\n\n  Which port? \n{"_id": "1", "text": "Who?"}\n{"query": "Why?"}\n')
    assert read_questions(file) == ["Which port?", "Who?", "Why?"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "holds no question"), ("{", ":1 is no JSON"), ('a\n{"id": 1}', ":2 names no question"), (None, "be read")],
)
def test_a_file_without_questions_is_refused_by_its_line(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "questions"
    if text is not None:
        file.write_text(text)
    with pytest.raises(CliError, match=words):
        read_questions(file)


def test_it_says_what_was_made_and_what_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    kept = {"cache": "exact"}
    whole, asked = _warm({"cache": "miss"}, kept, kept.copy(), {"cache": "miss"}, kept, questions=3, model="small")
    assert whole
    assert asked[0] == {"query": "Question 0?", "collection": "demo", "model": "small"}
    assert "2 answers were made, 1 were there, 0 could not be kept" in capsys.readouterr().out.replace("\n", " ")


def test_what_could_not_be_kept_is_named_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    reason = "no model answered"
    stale = {"cache": "exact", "degraded": True, "stale_s": 5, "degraded_reason": "no model answers now"}
    answers = [{"cache": "miss", "degraded": True, "degraded_reason": reason}, {"cache": "bypass"}, stale]
    whole, _ = _warm(*answers, {"cache": "miss"}, {"cache": "miss"}, questions=4)
    assert not whole
    told = capsys.readouterr().err.replace("\n", " ")
    assert "not kept: Question 0? (no model answered)" in told
    assert "not kept: Question 1? (the cache is away" in told
    assert "not kept: Question 2? (no model answers now)" in told
    assert "not kept: Question 3? (the cache is away or switched off, or the answer is none to keep)" in told


def test_a_refusal_says_which_question_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    refused = {"status": 404, "error": {"message": "no such collection", "code": "collection_not_found"}}
    with pytest.raises(CliError, match="no such collection"):
        _warm({"cache": "exact"}, refused)
    assert "question 2 of 2 was refused: Question 1?" in capsys.readouterr().err
