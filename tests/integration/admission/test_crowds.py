"""Many at once, from four worker processes: never one too many."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import pytest
from redis import Redis

from core.limits import Limits
from tests.support.process import ROOT

WORKERS = 4


@dataclass(frozen=True)
class Crowd:
    """Worker processes that ask at once; they stay for the next test."""

    workers: Sequence["subprocess.Popen[str]"]

    def ask(self, limits: Limits, count: int, *, common: bool = False) -> tuple[int, float]:
        """Ask `count` times at once. Returns: how many were admitted, and the seconds that it took."""
        self._say(json.dumps({"limits": asdict(limits), "common": common, "count": count // len(self.workers)}))
        assert self._hear() == ["ready"] * len(self.workers)
        start_s = time.monotonic()
        self._say("go")
        return sum(map(int, self._hear())), time.monotonic() - start_s

    def _say(self, line: str) -> None:
        for worker in self.workers:
            assert worker.stdin is not None
            worker.stdin.write(f"{line}\n")
            worker.stdin.flush()

    def _hear(self) -> list[str]:
        return [worker.stdout.readline().strip() for worker in self.workers if worker.stdout is not None]


@pytest.fixture(scope="module")
def crowd(url: str) -> Iterator[Crowd]:
    command = [sys.executable, "-m", "tests.integration.admission.crowd", url]
    workers = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(WORKERS)
    ]
    try:
        yield Crowd(workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_a_thousand_at_once_against_a_budget_for_a_hundred(
    crowd: Crowd, redis: "Redis", figure: Callable[[str], None]
) -> None:
    admitted, took_s = crowd.ask(Limits(nano_usd_per_day=100_000), 1_000)
    figure(f"1,000 at once in {WORKERS} workers, a budget for 100: {admitted} admitted in {took_s:.2f} s")
    assert admitted == 100
    assert redis.hmget("stoker:{acme}:model:m", "ds", "dh") == ["100000", "0"]
    assert redis.zcard("stoker:{acme}:leases") == 0


def test_five_hundred_at_once_on_a_hundred_per_minute(crowd: Crowd, redis: "Redis") -> None:
    admitted, _ = crowd.ask(Limits(requests_per_minute=100, strict=True), 500)
    assert admitted == 100


def test_a_bucket_gives_what_it_holds_and_what_flows_in_meanwhile(crowd: Crowd, redis: "Redis") -> None:
    admitted, seconds = crowd.ask(Limits(requests_per_minute=100), 500)
    assert 100 <= admitted <= 100 + seconds * 100 / 60


def test_tokens_are_counted_as_exactly(crowd: Crowd, redis: "Redis") -> None:
    admitted, _ = crowd.ask(Limits(tokens_per_minute=1_000, strict=True), 500)
    assert admitted == 100


def test_a_thousand_at_once_of_five_tenants_against_a_budget_for_a_hundred_that_they_share(
    crowd: Crowd, redis: "Redis"
) -> None:
    admitted, _ = crowd.ask(Limits(nano_usd_per_day=100_000), 1_000, common=True)
    assert admitted == 100
    end_s = time.monotonic() + 20
    while (told := redis.hmget("stoker:{*model:m}:whole", "ds", "dh")) != ["100000", "0"]:  # workers tell when they end
        assert time.monotonic() < end_s, told
        time.sleep(0.05)


def test_five_hundred_at_once_of_five_tenants_on_a_bucket_that_they_share(crowd: Crowd, redis: "Redis") -> None:
    admitted, seconds = crowd.ask(Limits(requests_per_minute=100), 500, common=True)
    assert 100 <= admitted <= 100 + seconds * 100 / 60
