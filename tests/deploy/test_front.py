"""The front, a real Caddy with the Caddyfile that is deployed, before a real gateway."""

import json
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import websockets.sync.client
from websockets.exceptions import ConnectionClosed

from tests.deploy.deployment import Deployment
from tests.deploy.programs import caddy
from tests.support.gateway import Gateway, answers, entry, gateway, models
from tests.support.network import free_port
from tests.support.openai_server import Fault, OpenAiServer, openai_server_in_thread
from tests.support.process import ROOT, running
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # a gateway and a front are started

CHAT = {"model": "words", "messages": [{"role": "user", "content": "one two three four"}]}


@dataclass(frozen=True)
class Front:
    """A running front; `client` trusts its authority and has the gateway's key."""

    url: str
    authority: Path
    client: httpx.Client
    gate: Gateway
    upstream: OpenAiServer


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    program, folder = caddy(), tmp_path_factory.mktemp("front")
    https, health = free_port(), free_port()
    with (
        openai_server_in_thread() as upstream,
        gateway(folder / "gateway", 0, configuration=models(entry("words", upstream.base_url)), keeper=False) as gate,
    ):
        env = {
            "STOKER_SITE": "localhost",
            "STOKER_TLS": "internal",
            "STOKER_UPSTREAM": f"127.0.0.1:{gate.port}",
            "STOKER_FRONT_BIND": "127.0.0.1",
            "STOKER_FRONT_HTTPS_PORT": str(https),
            "STOKER_FRONT_HTTP_PORT": str(free_port()),
            "STOKER_FRONT_HEALTH_PORT": str(health),
            "XDG_DATA_HOME": str(folder / "data"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "HOME": str(folder),
        }
        command = [program, "run", "--adapter", "caddyfile", "--config", str(ROOT / "deploy/compose/Caddyfile")]
        authority = folder / "data/caddy/pki/authorities/local/root.crt"
        with running(command, folder / "caddy.log", lambda: answers(health, "/health") and authority.exists(), env):
            url = f"https://localhost:{https}"
            trust = ssl.create_default_context(cafile=str(authority))
            headers = {"Authorization": f"Bearer {gate.key}"}
            with httpx.Client(base_url=url, verify=trust, headers=headers, timeout=30) as client:
                yield Front(url, authority, client, gate, upstream)


def test_an_answer_comes_through_with_the_headers_of_both(front: Front) -> None:
    answer = front.client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "one two three four"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    assert answer.headers.get("x-content-type-options") == "nosniff"
    assert "server" not in answer.headers


def test_the_words_of_a_stream_are_there_before_its_end(front: Front) -> None:
    """The upstream says two words and falls silent: a front that buffered would show nothing."""
    front.upstream.fault = Fault.HANG_MID_STREAM
    try:
        with front.client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            said = ""
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    delta = json.loads(line.removeprefix("data: "))["choices"]
                    said += "".join(choice["delta"].get("content") or "" for choice in delta)
                if said.split() == ["one", "two"]:
                    break
        assert said.split() == ["one", "two"]
    finally:
        front.upstream.fault = None


def test_a_client_that_leaves_is_noticed_behind_the_front(front: Front) -> None:
    cancelled, front.upstream.pause_s = front.upstream.cancelled, 0.05
    body = {**CHAT, "stream": True, "messages": [{"role": "user", "content": "word " * 400}]}
    try:
        with front.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            next(line for line in answer.iter_lines() if "word" in line)
        until(lambda: front.upstream.cancelled > cancelled, "the upstream's end", 15)
    finally:
        front.upstream.pause_s = 0.0


def test_a_websocket_passes(front: Front) -> None:
    trust = ssl.create_default_context(cafile=str(front.authority))
    address = front.url.replace("https://", "wss://") + "/v1/query/ws"
    with websockets.sync.client.connect(address, ssl=trust, open_timeout=10) as socket:
        socket.send(json.dumps({"type": "auth", "key": "sk-stoker-nobody"}))
        closed = _closed(socket)
        assert closed.rcvd is not None, "the gateway closed it, by its own word"


def _closed(socket: websockets.sync.client.ClientConnection) -> ConnectionClosed:
    try:
        while True:
            socket.recv(timeout=10)
    except ConnectionClosed as closed:
        return closed


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/metrics/x"])
def test_figures_are_for_those_inside(front: Front, path: str) -> None:
    assert front.client.get(path).status_code == 404
    assert httpx.get(f"{front.gate.url}/metrics").status_code == 200


def test_a_body_that_is_too_large_gets_the_gateways_error(front: Front) -> None:
    answer = front.client.post("/v1/collections", content=b"x" * (2 * 1024 * 1024))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"]


def test_plain_http_leads_to_https_and_a_strange_name_to_nobody(front: Front) -> None:
    with pytest.raises(httpx.ConnectError):
        httpx.get(front.url.replace("localhost", "127.0.0.1"), verify=True)
    text = Deployment(ROOT).text("deploy/compose/Caddyfile")
    assert "auto_https off" not in text
    assert "tls_insecure" not in text
    assert os.stat(front.authority.parent / "root.key").st_mode & 0o077 == 0
