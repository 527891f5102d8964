"""The formulas give what textbooks' tables say; the table of sizes is what they make of what was measured."""

import math
import random
from heapq import heappop, heappush

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.load.capacity import Assumed, plan, table
from tests.load.queueing import erlang_b, erlang_c, servers_for, share_waiting, wait_s
from tests.support.process import ROOT


@pytest.mark.parametrize(
    ("servers", "load", "blocked"),
    [(1, 1, 0.5), (2, 1, 0.2), (5, 2, 0.0367), (10, 5, 0.0184), (10, 10, 0.2146), (20, 12, 0.0098), (100, 84.06, 0.01)],
)
def test_erlangs_table_of_lost_calls(servers: int, load: float, blocked: float) -> None:
    assert erlang_b(servers, load) == pytest.approx(blocked, abs=0.0001)


@pytest.mark.parametrize(("servers", "load", "waits"), [(1, 0.7, 0.7), (2, 1, 1 / 3), (2, 1.5, 9 / 14), (3, 2, 4 / 9)])
def test_the_share_that_waits_in_closed_form(servers: int, load: float, waits: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(waits)


def test_one_server_waits_as_pollaczek_and_khinchine_say() -> None:
    """M/M/1: rho / (mu - lambda); M/D/1: half of it; M/G/1: (1 + spread) / 2 of it."""
    assert wait_s(1, 0.8, 1.0) == pytest.approx(4.0)
    assert wait_s(1, 0.8, 1.0, spread=0) == pytest.approx(2.0)
    assert wait_s(1, 0.8, 1.0, spread=3) == pytest.approx(8.0)
    assert wait_s(2, 1.0, 1.0) == pytest.approx(1 / 3)


def test_too_few_servers_keep_everybody_waiting() -> None:
    assert erlang_c(2, 2.0) == 1
    assert math.isinf(wait_s(2, 2.0, 1.0))
    assert share_waiting(2, 3.0, 1.0, 60.0) == 1


@given(st.floats(0.01, 500), st.floats(0.01, 20), st.floats(0, 10), st.floats(0.001, 0.5))
def test_the_fewest_servers_are_enough_and_one_less_is_not(
    per_s: float, service_s: float, longer_than_s: float, share: float
) -> None:
    servers = servers_for(per_s, service_s, longer_than_s, share)
    assert share_waiting(servers, per_s, service_s, longer_than_s) <= share
    assert servers == 1 or share_waiting(servers - 1, per_s, service_s, longer_than_s) > share


def test_a_simulated_queue_waits_as_long() -> None:
    """20 callers a second, a second each, 24 servers: half a million callers, by chance of a fixed seed."""
    chance, free, at_s, waited_s, late = random.Random(7), [0.0] * 24, 0.0, 0.0, 0
    callers = 500_000
    for _ in range(callers):
        at_s += chance.expovariate(20)
        begins_s = max(at_s, heappop(free))
        heappush(free, begins_s + chance.expovariate(1))
        waited_s += begins_s - at_s
        late += begins_s - at_s > 0.2
    assert waited_s / callers == pytest.approx(wait_s(24, 20, 1.0), rel=0.1)
    assert late / callers == pytest.approx(share_waiting(24, 20, 1.0, 0.2), rel=0.1)


def test_the_plan_follows_from_what_is_assumed() -> None:
    """By hand: 3,600 people who ask once an hour are one a second; 100 tokens at 50 a second are two seconds."""
    assumed = Assumed(
        asked_per_hour=1, rush=1, answer_tokens=100, tokens_per_s=50, request_cpu_s=0.01, frame_cpu_s=0.01
    )
    made = plan(3600, assumed)
    assert (made.per_s, made.streams) == (1, 2)
    assert made.cores == pytest.approx(1.01)
    assert made.pods == 2, "1.01 cores at 70 % of two, and one to spare"
    assert (made.scripts_per_s, made.redis, made.cells) == (2, 1, 1)
    assert made.engines == 2


def test_costs_of_the_gateway_are_those_that_were_measured() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| Stoker | 0.260 |"))
    cells = [cell.strip() for cell in row.split("|")]
    assert Assumed().request_cpu_s == pytest.approx(float(cells[2]) / 1000)
    assert Assumed().frame_cpu_s == pytest.approx(float(cells[5]) / 1_000_000)


def test_the_page_shows_the_table_that_the_code_makes() -> None:
    assert table() in (ROOT / "docs" / "deploy" / "sizing.md").read_text(), "run `python -m tests.load.capacity`"
