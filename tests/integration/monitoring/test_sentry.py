"""What is reported of an unexpected error, by Sentry's own SDK, to a server that keeps what comes."""

import gzip
import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.process import ROOT

SECRET = "sk-stoker-0123456789abcdefghij"
FAILING = f"""
import logging, sys
from monitoring.logs import configure_logs, logger
from monitoring.sentry import report_errors
configure_logs("gateway")
report_errors("gateway", sys.argv[1])
from core.dependency import DependencyUnavailable
def fail(prompt):
    raise DependencyUnavailable("room", "no room for {SECRET} of ann@example.com")
try:
    fail("a prompt that stays here")
except DependencyUnavailable:
    logger("x").exception("unexpected", request_id="req_1", body="a prompt that stays here")
    logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
try:
    int("a prompt that stays here")
except ValueError as error:
    logging.getLogger("asyncio").error("Task exception was never retrieved\\nfuture: %r", error, exc_info=error)
logger("x").error("an error without a stack", body="a prompt that stays here")
import sentry_sdk
sentry_sdk.flush(5)
fail("a prompt that stays here")
"""


def _unpacked(body: bytes, encoding: str | None) -> bytes:
    if encoding == "br":  # Sentry's client packs so where this is installed
        return bytes(importlib.import_module("brotli").decompress(body))
    return gzip.decompress(body) if encoding == "gzip" else body


@pytest.fixture
def sentry() -> Iterator[tuple[str, list[bytes]]]:
    """A DSN, and the envelopes that came."""
    came: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            came.append(_unpacked(body, self.headers.get("content-encoding")))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://public@127.0.0.1:{server.server_port}/1", came
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_unexpected_error_is_reported_without_what_callers_sent(sentry: tuple[str, list[bytes]]) -> None:
    dsn, came = sentry
    run = subprocess.run(
        [sys.executable, "-c", FAILING, dsn], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 1, run.stderr
    reports = [_event(envelope) for envelope in came]
    assert [report["tags"]["said"] for report in reports] == [
        "unexpected",
        "Exception in ASGI application",
        "Task exception was never retrieved",
        "the process ends",
    ]
    foreign = reports.pop(2)["exception"]["values"][0]
    assert (foreign["type"], "the log has them" in foreign["value"]) == ("ValueError", True)
    assert reports[0]["tags"]["request_id"] == "req_1"
    assert {report["tags"]["process"] for report in reports} == {"gateway"}
    for report in reports:
        (error,) = report["exception"]["values"]
        assert error["type"] == "DependencyUnavailable"
        assert error["value"].endswith("no room for [key] of [address]")
        assert error["stacktrace"]["frames"][-1]["function"] == "fail"
    for envelope in came:
        assert SECRET.encode() not in envelope
        assert b"a prompt that stays" not in envelope


def _event(envelope: bytes) -> dict[str, Any]:
    lines = envelope.split(b"\n")
    at = next(number for number, line in enumerate(lines) if b'"type":"event"' in line.replace(b" ", b""))
    event: dict[str, Any] = json.loads(lines[at + 1])
    return event
