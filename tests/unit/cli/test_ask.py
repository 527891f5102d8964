"""What `ask` prints for what the server streams."""

import json
from typing import Any

import httpx
import pytest

from cli.ask import ask
from cli.client import Client
from cli.errors import CliError

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


def test_a_degraded_answer_says_so_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    _ask(("done", {**_ANSWER, "degraded": True, "degraded_reason": "no model is available"}))
    captured = capsys.readouterr()
    assert "It is 8080." in captured.out
    assert "degraded: no model is available" in captured.err


def test_an_error_event_is_a_failure() -> None:
    with pytest.raises(CliError, match="the index is away"):
        _ask(("token", {"text": "It"}), ("error", {"error": {"message": "the index is away"}}))


def test_a_stream_that_breaks_off_is_a_failure() -> None:
    with pytest.raises(CliError, match="broke off"):
        _ask(("token", {"text": "It"}))
