"""What is counted of a deployment's calls, who is told of its ejection, and who is an outlier."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clock import ManualClock
from monitoring.metrics import EJECTIONS
from router.health import Health, is_outlier, rest_outliers


def _ejections(name: str, reason: str) -> float:
    return float(EJECTIONS.labels(name, reason)._value.get())


def _serve(health: Health, ok: int, failed: int) -> None:
    for at in range(ok + failed):
        health.begin().end(ok=at < ok)


def test_calls_are_counted_until_they_end_however_often_they_say_so() -> None:
    health = Health("a", ManualClock())
    first, second = health.begin(), health.begin()
    assert (health.in_flight, health.begun) == (2, 2)
    first.end(ok=True)
    first.end(ok=False)
    first.answered()
    assert health.in_flight == 1
    second.end()
    assert (health.in_flight, health.begun) == (0, 2)
    assert health.outcomes.count() == (1, 0)


def test_the_oldest_call_without_an_answer_counts() -> None:
    clock = ManualClock()
    health = Health("a", clock)
    began_s = clock.monotonic()
    first = health.begin()
    clock.advance(1)
    second = health.begin()
    assert health.waiting_since_s == began_s
    first.answered()
    assert health.waiting_since_s == began_s + 1
    second.end()
    assert health.waiting_since_s is None
    assert health.in_flight == 1


def test_the_first_of_waiting_calls_wakes_the_watch() -> None:
    health, woken = Health("a", ManualClock()), []
    health.on_work = lambda: woken.append(1)
    flights = [health.begin() for _ in range(3)]
    assert len(woken) == 1
    for flight in flights:
        flight.end()
    health.begin()
    assert len(woken) == 2


def test_who_runs_there_is_told_once_and_one_mishap_keeps_nobody_from_hearing() -> None:
    health, heard = Health("told", ManualClock()), []

    def fail(reason: str) -> None:
        raise RuntimeError(reason)

    health.on_eject(fail)
    remove = health.on_eject(heard.append)
    health.on_eject(heard.append)
    before = _ejections("told", "wedged")
    health.eject("wedged")
    health.eject("away")
    assert heard == ["wedged", "wedged"]
    assert health.ejected == "away"
    assert _ejections("told", "wedged") == before + 1
    health.readmit()
    assert health.ejected is None
    remove()
    remove()
    health.eject("asleep")
    assert heard == ["wedged", "wedged", "asleep"]


calls = st.integers(0, 200)


@given(calls, calls, calls, calls)
def test_an_outlier_fails_often_where_its_siblings_do_not(ok: int, failed: int, sib_ok: int, sib_failed: int) -> None:
    outlier = is_outlier((ok + failed, failed), (sib_ok + sib_failed, sib_failed))
    enough = ok + failed >= 20 and sib_ok + sib_failed >= 20
    assert outlier == (enough and failed > ok and 9 * sib_failed < sib_ok)


def test_the_outlier_rests_and_longer_each_time_that_it_comes_back_no_better() -> None:
    clock = ManualClock()
    bad, good = Health("bad", clock), Health("good", clock)
    waits = []
    for _ in range(12):
        _serve(bad, 9, 11)
        _serve(good, 20, 1)
        rest_outliers([bad, good])
        assert (bad.ejected, good.ejected) == ("outlier", None)
        waited = 0
        while bad.ejected:
            clock.advance(1)
            waited += 1
        waits.append(waited)
        rest_outliers([bad, good])
        assert bad.ejected is None, "it comes back with a clean slate"
    assert waits == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]
    clock.advance(301)
    _serve(bad, 0, 20)
    _serve(good, 20, 0)
    rest_outliers([bad, good])
    clock.advance(30)
    assert bad.ejected is None, "it was good for long, so it begins anew"


def test_failures_of_more_than_a_minute_ago_do_not_count() -> None:
    clock = ManualClock()
    bad, good = Health("bad", clock), Health("good", clock)
    _serve(bad, 0, 40)
    clock.advance(65)
    _serve(good, 40, 0)
    rest_outliers([bad, good])
    assert bad.ejected is None
    assert bad.outcomes.count() == (0, 0)


@pytest.mark.parametrize("reason", ["wedged", None])
def test_the_last_one_is_never_ejected_as_an_outlier(reason: str | None) -> None:
    clock = ManualClock()
    bad, good = Health("bad", clock), Health("good", clock)
    _serve(bad, 0, 40)
    _serve(good, 40, 0)
    if reason is None:
        rest_outliers([bad])
    else:
        good.eject("wedged")
        rest_outliers([bad, good])
    assert bad.ejected is None


def test_where_all_fail_nobody_is_an_outlier() -> None:
    members = [Health(name, ManualClock()) for name in "abc"]
    for health in members:
        _serve(health, 0, 40)
    rest_outliers(members)
    assert [health.ejected for health in members] == [None] * 3


def test_an_outlier_is_not_told_to_those_who_run_there() -> None:
    health, heard = Health("a", ManualClock()), []
    health.on_eject(heard.append)
    health.rest()
    assert (health.ejected, health.stopped, heard) == ("outlier", None, [])
