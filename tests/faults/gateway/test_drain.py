"""A gateway that is told to end lets the streams that it has come to theirs, as long as it was told to."""

import http.client
import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.load.mock import MODEL
from tests.support.gateway import Gateway, answers, gateway, mock_upstream
from tests.support.waiting import until

_FRAMES, _PAUSE_MS = 24, 200  # 4.8 s


@contextmanager
def stream(gate: Gateway) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=60)
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "max_tokens": _FRAMES,
        "seed": _PAUSE_MS,
    }
    headers = {"authorization": f"Bearer {gate.key}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    with closing(connection), closing(connection.getresponse()) as answer:
        yield answer


@pytest.mark.parametrize(("drain_s", "whole"), [("60", True), ("1", False)])
def test_a_stream_ends_whole_within_the_time_that_it_gets(tmp_path: Path, drain_s: str, whole: bool) -> None:
    settings = {"STOKER_DRAIN_S": drain_s}
    with (
        mock_upstream() as upstream,
        gateway(tmp_path / "g", upstream.port, settings=settings, keeper=False) as gate,
        stream(gate) as answer,
    ):
        assert answer.status == 200
        answer.readline()  # it has begun
        os.kill(gate.pid, signal.SIGTERM)
        until(lambda: not answers(gate.port, "/health/live"), "new connections are refused")
        try:
            rest = answer.read()
        except (http.client.IncompleteRead, ConnectionError):
            rest = b""
        assert (b"data: [DONE]" in rest) == whole
