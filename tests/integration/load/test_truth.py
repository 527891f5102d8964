"""What is measured, held against a server that plans when each token leaves and writes it down."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.load.generator.answer import Sample
from tests.load.generator.figures import Slo
from tests.load.generator.plan import Plan
from tests.load.generator.scenarios import Scenario
from tests.load.load import Run, run
from tests.load.paced import Planned
from tests.support.paced import PacedServer, paced_server

Figure = Callable[[str], None]

_PACE = ("--frame-tokens", "4", "--early-role", "--ttft-ms", "250")
_CHAT = Scenario("chat", seed=3, model="mock", output_tokens=48)


@dataclass
class Truth:
    """What the server's log comes to, by formulas that know nothing of the measured ones; seconds."""

    ttft: list[float]
    tpot: list[float]
    output_tokens_per_s: float

    def off(self, found: dict[str, Any]) -> dict[str, float]:
        """How far what was measured is from it, as shares."""
        shares = {
            f"{name} p{percent}": found[f"{name}_s"][f"p{percent}"] / float(np.percentile(values, percent)) - 1
            for name, values in (("ttft", self.ttft), ("tpot", self.tpot))
            for percent in (50, 90, 99)
        }
        return {"tokens/s": found["output_tokens_per_s"] / self.output_tokens_per_s - 1, **shares}


def truth_of(plan: Plan, done: Run, log: dict[str, Planned], *, left: bool = False) -> Truth:
    """The truth by the moments that the server planned, or by those at which the frames really left."""
    begin_s, end_s = plan.window

    def frames(one: Planned) -> list[tuple[float, int]]:
        moments = one.left_s if left else [at_s for at_s, _ in one.frames]
        return [(at_s - done.zero_s, tokens) for at_s, (_, tokens) in zip(moments, one.frames, strict=True)]

    arrivals = [(at_s, log[f"load-{number}"]) for number, at_s in enumerate(plan.arrivals()) if begin_s <= at_s < end_s]
    everything = [frame for one in log.values() for frame in frames(one)]
    inside = sum(tokens for at_s, tokens in everything if begin_s <= at_s < end_s)
    return Truth(
        ttft=[frames(one)[0][0] - at_s for at_s, one in arrivals],
        tpot=[(frames(one)[-1][0] - frames(one)[0][0]) / (one.tokens - 1) for _, one in arrivals if one.tokens > 1],
        output_tokens_per_s=inside / (end_s - begin_s),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "rate"), [(12, 30.0), pytest.param(90, 40.0, marks=pytest.mark.long, id="long")])
def test_tokens_and_first_tokens_are_those_that_the_server_planned(
    tmp_path: Path, seconds: int, rate: float, figure: Figure
) -> None:
    plan = Plan(seed=3, duration_s=seconds, rate=rate, warmup_s=1, cooldown_s=1)
    with paced_server(tmp_path, *_PACE) as server:
        done = run(plan, _CHAT, Slo(), server.url, "none", [f"{server.url}/metrics"])
        log = server.truth(done.found["whole"]["requests"])
    found, truth = done.found, truth_of(plan, done, log)
    planned, left = truth.off(found), truth_of(plan, done, log, left=True).off(found)
    late_s = max(one.late_s for one in log.values())
    figure(
        f"{found['requests']} requests, {truth.output_tokens_per_s:.0f} tokens/s, off the planned truth by "
        f"{_shares(planned)}; off what really left (up to {late_s * 1e3:.0f} ms late) by {_shares(left)}"
    )
    assert found["requests"] == found["ended_well"] == len(truth.ttft)
    assert found["whole"]["output_tokens"] == sum(one.tokens for one in log.values())
    assert found["engine"]["equal"] is True
    assert abs(planned["tokens/s"]) < 0.03
    # A machine that stands still for a moment makes the server late, and then it is not what it had planned.
    assert all(abs(share) < 0.1 for share in left.values()), left


@pytest.mark.slow
def test_waiting_for_the_clients_own_connections_counts(tmp_path: Path, figure: Figure) -> None:
    plan = Plan(seed=5, duration_s=6, rate=20, connections=10)  # twice as many would be open at once
    with paced_server(tmp_path, *_PACE) as server:
        done = run(plan, _CHAT, Slo(), server.url, "none")
        truth = truth_of(plan, done, server.truth(done.found["whole"]["requests"]))
    measured, planned, sent = done.found["ttft_s"]["p50"], float(np.percentile(truth.ttft, 50)), _sent(done, 50)
    figure(f"median of the first token {measured:.3f} s, planned {planned:.3f}, {sent:.3f} since it was sent")
    assert measured == pytest.approx(planned, rel=0.1)
    assert sent < 0.7 * planned, "nobody waited, so nothing was shown"
    assert any("--connections" in warning for warning in done.found["warnings"])


@pytest.mark.slow
def test_a_server_that_stands_still_for_five_seconds_cannot_hide_it(tmp_path: Path, figure: Figure) -> None:
    plan = Plan(seed=7, duration_s=12, rate=10, connections=8)
    quick = replace(_CHAT, output_tokens=8)
    with paced_server(tmp_path, "--ttft-ms", "30", "--gap-ms", "2") as server, _frozen(server, after_s=3, seconds=5):
        done = run(plan, quick, Slo(ttft_s=1), server.url, "none")
    ttft = done.found["ttft_s"]
    figure(
        f"first token p50 {ttft['p50']:.3f} s, p90 {ttft['p90']:.2f} s, p99 {ttft['p99']:.2f} s; since they were sent "
        f"p90 {_sent(done, 90):.2f} s; {done.found['good_share']:.0%} within 1 s"
    )
    assert done.found["ended_well"] == done.found["requests"]
    assert ttft["p99"] >= 4
    assert ttft["p90"] >= 2.5, "requests that should have begun meanwhile began their clocks late"
    assert done.found["good_share"] < 0.8


@pytest.mark.slow
def test_two_processes_of_the_client_ask_what_one_would(tmp_path: Path) -> None:
    plan = Plan(seed=3, duration_s=3, rate=20)
    with paced_server(tmp_path, *_PACE) as server:
        one = run(plan, _CHAT, Slo(), server.url, "none")
        two = run(replace(plan, processes=2), _CHAT, Slo(), server.url, "none")
    assert len(two.driven) == 2
    assert min(len(each.samples) for each in two.driven) > 0
    assert _asked(one) == _asked(two)


def test_users_wait_for_their_answers_and_think(tmp_path: Path) -> None:
    plan = Plan(seed=3, duration_s=3, users=6, think_s=0.1, warmup_s=0.3)
    with paced_server(tmp_path, "--ttft-ms", "50", "--gap-ms", "1") as server:
        done = run(plan, replace(_CHAT, output_tokens=4), Slo(), server.url, "none")
    samples = sorted(_samples(done), key=lambda one: one.scheduled_s)
    running = max(sum(one.scheduled_s <= each.scheduled_s < one.ended_s for one in samples) for each in samples)
    assert done.found["whole"]["failed"] == 0
    assert len(samples) > 30
    assert 2 <= running <= 6


def test_turns_of_a_conversation_carry_what_was_answered(tmp_path: Path) -> None:
    plan = Plan(seed=3, duration_s=4, rate=3)
    turns = Scenario("turns", seed=3, model="mock", output_tokens=5, turns=3, prompt_words=10)
    with paced_server(tmp_path, "--ttft-ms", "20", "--gap-ms", "1") as server:
        done = run(plan, turns, Slo(), server.url, "none")
    by_number: dict[int, list[Sample]] = {}
    for sample in _samples(done):
        by_number.setdefault(sample.number, []).append(sample)
    whole = [samples for samples in by_number.values() if len(samples) == 3]
    assert len(whole) > 5
    for samples in whole:
        prompts = [sample.prompt_tokens or 0 for sample in samples]
        assert prompts[0] < prompts[1] < prompts[2], "the mock counts the words of all messages"


@pytest.mark.parametrize("scenario", ["rag", "mixed", "long", "ingest"])
def test_every_scenario_ends_well_on_a_server_that_does(tmp_path: Path, scenario: str) -> None:
    plan = Plan(seed=3, duration_s=2, rate=20)
    asked = Scenario(scenario, seed=3, model="mock", output_tokens=4)
    with paced_server(tmp_path, "--ttft-ms", "20", "--gap-ms", "1") as server:
        done = run(plan, asked, Slo(), server.url, "none")
    assert done.found["failures"] == {}
    assert done.found["requests"] > 20
    if scenario == "rag":
        assert done.found["cited_share"] == 1.0


@contextlib.contextmanager
def _frozen(server: PacedServer, after_s: float, seconds: float) -> Any:
    def freeze() -> None:
        time.sleep(after_s)
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(server.pid, signal.SIGCONT)

    thread = threading.Thread(target=freeze)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _shares(off: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:+.2%}" for name, share in off.items())


def _samples(done: Run) -> list[Sample]:
    return [sample for each in done.driven for sample in each.samples]


def _sent(done: Run, percent: int) -> float:
    """The percentile that a client would see which begins to count when it sends."""
    values = [one.tokens_s[0] - one.sent_s for one in _samples(done) if one.tokens_s and one.sent_s is not None]
    return float(np.percentile(values, percent))


def _asked(done: Run) -> list[tuple[int, float, int | None]]:
    return sorted((one.number, one.scheduled_s, one.output_tokens) for one in _samples(done))
