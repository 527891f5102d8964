"""Many at once, from four worker processes: never one too many."""

import json
import subprocess
import sys
import time
from dataclasses import asdict

from redis import Redis

from core.limits import Limits
from tests.support.process import ROOT

WORKERS = 4


def crowd(url: str, limits: Limits, count: int) -> tuple[int, float]:
    """Ask `count` times at once. Returns: how many were admitted, and the seconds from the first word to the last."""
    command = [sys.executable, "-m", "tests.integration.admission.crowd", url, json.dumps(asdict(limits))]
    workers = [
        subprocess.Popen(
            [*command, str(count // WORKERS)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(WORKERS)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        start_s = time.monotonic()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        answers = [worker.communicate(timeout=60)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return sum(map(int, answers)), time.monotonic() - start_s


def test_a_thousand_at_once_against_a_budget_for_a_hundred(url: str, redis: "Redis") -> None:
    admitted, _ = crowd(url, Limits(nano_usd_per_day=100_000), 1_000)
    assert admitted == 100
    assert redis.hmget("stoker:{acme}:key:k", "ds", "dh") == ["100000", "0"]
    assert redis.zcard("stoker:{acme}:leases") == 0


def test_five_hundred_at_once_on_a_hundred_per_minute(url: str, redis: "Redis") -> None:
    admitted, _ = crowd(url, Limits(requests_per_minute=100, strict=True), 500)
    assert admitted == 100


def test_a_bucket_gives_what_it_holds_and_what_flows_in_meanwhile(url: str, redis: "Redis") -> None:
    admitted, seconds = crowd(url, Limits(requests_per_minute=100), 500)
    assert 100 <= admitted <= 100 + seconds * 100 / 60


def test_tokens_are_counted_as_exactly(url: str, redis: "Redis") -> None:
    admitted, _ = crowd(url, Limits(tokens_per_minute=1_000, strict=True), 500)
    assert admitted == 100
