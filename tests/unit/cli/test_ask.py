"""What `ask` prints for what the server streams."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.answers import ending
from cli.ask import PLAIN, ask
from cli.client import Client
from cli.demo import FIRST_QUESTION
from cli.errors import CliError
from cli.settings import ROOT

_ANSWER: dict[str, Any] = {
    "answer": "It is 8080.",
    "citations": [
        {"document_id": "d", "filename": "README.md", "page": 3, "start": 10, "end": 20, "quote": "port\n  8080"}
    ],
    "degraded": False,
}


def _ask(*events: tuple[str, Any]) -> None:
    text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)

    def handle(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content) == {"query": "Which port?", "collection": "demo", "stream": True}
        return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})

    ask(Client("http://stoker.test", "k", httpx.MockTransport(handle)), "Which port?", "demo", None)


def test_the_answer_is_printed_once_and_its_sources_are_numbered(capsys: pytest.CaptureFixture[str]) -> None:
    _ask(("retrieval", {}), ("token", {"text": "It is "}), ("token", {"text": "8080."}), ("done", _ANSWER))
    out = capsys.readouterr().out
    assert out.count("It is 8080.") == 1
    assert "1. README.md, page 3 (characters 10 to 20)" in out
    assert "“port 8080”" in out


def test_brackets_in_an_answer_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    _ask(("token", {"text": "use [bold] here"}), ("done", {**_ANSWER, "answer": "use [bold] here", "citations": []}))
    assert "use [bold] here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("no model is available", "no model is available"),
        (
            f"{ending._UNSUPPORTED}; facets could not be counted",
            "the model's own words were not backed by your documents, so the documents are quoted instead; "
            "facets could not be counted",
        ),
    ],
)
def test_an_answer_that_is_less_than_it_could_be_says_so_in_plain_words(
    capsys: pytest.CaptureFixture[str], reason: str, told: str
) -> None:
    """ "degraded: the model's answer was not supported by its sources" told a newcomer nothing."""
    _ask(("done", {**_ANSWER, "degraded": True, "degraded_reason": reason}))
    captured = capsys.readouterr()
    assert "It is 8080." in captured.out
    assert captured.err == f"note: {told}\n"


def test_plain_words_are_for_what_the_gateway_says() -> None:
    said = Path(ending.__file__).read_text()
    assert [reason for reason in PLAIN if f'"{reason}"' not in said] == []


def test_the_first_question_is_the_same_wherever_it_is_shown() -> None:
    assert f'./stoker ask "{FIRST_QUESTION}"' in (ROOT / "README.md").read_text().partition("```\n")[0]


def test_an_error_event_is_a_failure() -> None:
    with pytest.raises(CliError, match="the index is away"):
        _ask(("token", {"text": "It"}), ("error", {"error": {"message": "the index is away"}}))


def test_an_unknown_collection_and_an_empty_question_have_remedies_of_their_own() -> None:
    with pytest.raises(CliError) as unknown:
        _ask(("error", {"error": {"message": "There is no collection 'x'.", "code": "collection_not_found"}}))
    assert unknown.value.remedy == "`./stoker collections list` shows them"
    with pytest.raises(CliError, match="the question is empty") as empty:
        ask(Client("http://stoker.test", "k"), " ", "demo", None)
    assert empty.value.remedy


def test_a_stream_that_breaks_off_is_a_failure() -> None:
    with pytest.raises(CliError, match="broke off"):
        _ask(("token", {"text": "It"}))
