"""Looking at exporters and engines again and again: figures of the interval, also where some don't answer."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import urlopen

import pytest

from cli.plan import deployment
from core.clock import ManualClock
from monitoring.gpus.__main__ import configured, handler, sources_of
from monitoring.gpus.figures import Figures
from monitoring.gpus.placement import Place, places
from monitoring.gpus.sources import Look, Sources
from tests.unit.gpus.shapes import PRICES, scrape

_EXPORTER, _CHAT, _SMALL = "http://gpu/metrics", "http://chat/metrics", "http://small/metrics"
_PLACES = (Place("chat", "qwen"), Place("small", "tiny"))


def _engine(generated: int, prompt: int) -> str:
    return f"vllm:generation_tokens_total {generated}\nvllm:prompt_tokens_total {prompt}\n"


class House:
    """One GPU with two models, at a virtual clock; what is None does not answer."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.texts: dict[str, str | None] = {_CHAT: _engine(100, 500), _SMALL: _engine(10, 50)}
        self.joules(0)
        engines = {"chat": _CHAT, "small": _SMALL}
        self.sources = Sources(self._fetch, [_EXPORTER], engines, _PLACES, clock=self.clock, prices=PRICES)

    def joules(self, since_start: int) -> None:
        old, new = "ENERGY_CONSUMPTION{", f" {48_000_000_000 + 1000 * since_start}"
        lines = scrape("several_models").splitlines()
        self.texts[_EXPORTER] = (
            "\n".join(line.rpartition(" ")[0] + new if old in line else line for line in lines) + "\n"
        )

    def look(self, after_s: float = 0.0) -> Look:
        self.clock.advance(after_s)
        return self.sources.look()

    def _fetch(self, address: str) -> str:
        text = self.texts[address]
        if text is None:
            raise ConnectionRefusedError
        return text


def _of(look: Look, deployment: str) -> Figures:
    (found,) = (figure for figure in look.figures if figure.deployment == deployment)
    return found


def test_the_second_look_tells_of_the_interval_since_the_first() -> None:
    house = House()
    first = house.look()
    assert first.figures == ()
    assert [share.power_watts for share in first.shares] == [200.0, 200.0]
    house.joules(48_000)
    house.texts |= {_CHAT: _engine(100 + 9_000, 500 + 51_000), _SMALL: _engine(10 + 3_000, 50 + 17_000)}
    chat = _of(house.look(120), "chat")
    assert (chat.gpus, chat.tokens_per_gpu_s, chat.tokens_per_joule) == (0.75, 100.0, 0.25)
    assert (chat.usd, chat.usd_per_million_tokens) == pytest.approx((0.06, 1.0))


def test_who_asks_often_does_not_shorten_the_interval() -> None:
    house = House()
    for second in range(200):
        house.joules(400 * second)
        house.texts |= {_CHAT: _engine(75 * second, 0), _SMALL: _engine(25 * second, 0)}
        found = house.look()
        house.clock.advance(1)
        if second:
            assert _of(found, "chat").tokens_per_gpu_s == pytest.approx(100.0)
        if second >= 60:
            assert sum(share.energy_joules or 0 for share in found.shares) == pytest.approx(400 * 60)


def test_an_engine_that_does_not_answer_takes_an_equal_part_and_has_no_figures_of_tokens() -> None:
    house = House()
    house.look()
    house.texts |= {_CHAT: _engine(9_100, 500), _SMALL: None}
    found = house.look(60)
    assert found.up == {_EXPORTER: True, _CHAT: True, _SMALL: False}
    assert [figure.gpus for figure in found.figures] == [0.5, 0.5]
    assert _of(found, "small").tokens_per_gpu_s is None


def test_an_answer_that_is_no_text_of_metrics_is_none() -> None:
    house = House()
    house.texts[_SMALL] = "<html>{</html>\n"
    assert house.look().up == {_EXPORTER: True, _CHAT: True, _SMALL: False}


def test_an_address_that_speaks_no_http_is_not_up_and_the_others_are_read() -> None:
    with _speaking(b"hello there\n") as odd, _serving(_texts(scrape("several_models"))) as exporter:
        addresses = [f"{odd}/metrics", f"{exporter}/metrics"]
        found = sources_of([], addresses, None, 60.0).look()
    assert found.up == {addresses[0]: False, addresses[1]: True}
    assert len(found.shares) == 1


def test_an_engine_that_was_started_anew_has_no_tokens_of_the_interval() -> None:
    house = House()
    house.look()
    house.texts[_CHAT] = _engine(5, 5)
    assert _of(house.look(60), "chat").tokens_per_gpu_s is None


def test_without_its_exporter_there_are_no_gpus_and_with_it_again_there_are() -> None:
    house = House()
    house.look()
    text, house.texts[_EXPORTER] = house.texts[_EXPORTER], None
    assert house.look(60).shares == ()
    house.texts[_EXPORTER] = text
    assert {share.place.deployment for share in house.look(60).shares} == {"chat", "small"}


def test_deployments_are_those_of_the_file_and_those_of_the_stack(tmp_path: Path) -> None:
    file = tmp_path / "stoker.yaml"
    file.write_text(
        "model_list:\n- {model_name: m, litellm_params: {model: hosted_vllm/m, api_base: 'http://h:1/v1'}}\n"
    )
    local = json.dumps([deployment("m", 2, "chat", gpus=["GPU-a"])])
    found = configured(file, local)
    assert [(place.deployment, place.gpus) for place in found] == [("m-1", ()), ("m-local", ("GPU-a",))]
    assert configured(None, local) == found[1:]
    file.write_text("model_list:\n")
    assert configured(file, "") == ()


def test_the_server_looks_at_real_addresses() -> None:
    with _serving(_texts(_engine(9, 9))) as engine, _serving(_texts(scrape("several_models"))) as exporter:
        entry = {"model_name": "chat", "litellm_params": {"model": "hosted_vllm/qwen", "api_base": f"{engine}/v1"}}
        its = places([{**entry, "model_info": {"id": "chat"}}])
        sources = sources_of(its, [f"{exporter}/metrics"], None, 60.0)
        with _serving(lambda: handler(sources)) as own:
            with urlopen(f"{own}/metrics", timeout=10) as answer:
                text = answer.read().decode()
            with pytest.raises(OSError, match="404"):
                urlopen(f"{own}/other", timeout=10)
    assert f'stoker_gpu_source_up{{source="{engine}/metrics"}} 1.0' in text
    assert 'deployment="chat",gpu="0",host="gpu-1",model="qwen"} 400.0' in text


@contextmanager
def _serving(make: Callable[[], type[BaseHTTPRequestHandler]]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), make())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _speaking(answer: bytes) -> Iterator[str]:
    """A server that gives one answer, whatever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            asked, _ = listening.accept()
            with asked:
                asked.recv(65_536)
                asked.sendall(answer)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def _texts(text: str) -> Callable[[], type[BaseHTTPRequestHandler]]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    return lambda: Handler
