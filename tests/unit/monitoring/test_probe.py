"""A health check tells a server that is well from one that is not."""

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.probe import answers
from tests.support.network import free_port

ROOT = Path(__file__).parents[3]


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path.removeprefix("/")))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}"
    found.shutdown()
    found.server_close()


def test_a_server_that_answers_is_well(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert answers(f"{server}/200") is None


@pytest.mark.parametrize("status", [204, 404, 500, 503])
def test_any_other_answer_is_not(server: str, status: int) -> None:
    assert str(status) in (answers(f"{server}/{status}") or "")


def test_where_nobody_listens_nobody_is_well() -> None:
    assert answers(f"http://127.0.0.1:{free_port()}/") is not None


@pytest.mark.parametrize(("path", "status"), [("200", 0), ("503", 1)])
def test_the_command_ends_with_what_docker_reads(server: str, path: str, status: int) -> None:
    done = subprocess.run([sys.executable, "-m", "monitoring.probe", f"{server}/{path}"], cwd=ROOT, capture_output=True)
    assert done.returncode == status


def test_a_command_without_an_address_says_how_it_is_called() -> None:
    done = subprocess.run([sys.executable, "-m", "monitoring.probe"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage" in done.stderr
