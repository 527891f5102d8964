"""Which deployment comes next."""

from core.breaker import BreakerPolicy
from core.clock import ManualClock
from core.reach import ANYWHERE, HOME, Reach
from router.choice import Group, RetryBudget
from router.deployment import Deployment, LaneName


def _group(clock: ManualClock, *hosted: bool) -> Group:
    policy = BreakerPolicy(failures_to_open=1, probe_after_s=5, successes_to_close=1)
    deployments = [
        Deployment(f"d{at}", "g", "m", LaneName.NATIVE, one, breaker=policy) for at, one in enumerate(hosted)
    ]
    return Group("g", deployments, clock)


def _names(group: Group, *, reach: Reach = ANYWHERE) -> list[str]:
    names = []
    for member, permit in group.in_turn(reach=reach):
        names.append(member.deployment.name)
        member.breaker.withdraw(permit)
    return names


def _fail(group: Group, at: int) -> None:
    permit = group.members[at].breaker.acquire()
    assert permit is not None
    group.members[at].breaker.report(permit, ok=False)


def test_healthy_ones_take_turns() -> None:
    group = _group(ManualClock(), False, False, False)
    assert [_names(group)[0] for _ in range(3)] == ["d1", "d2", "d0"]


def test_a_resting_one_is_left_out_and_comes_back_as_the_first_once_its_rest_is_over() -> None:
    clock = ManualClock()
    group = _group(clock, False, False)
    _fail(group, 0)
    assert _names(group) == ["d1"]
    assert group.retry_after_s(reach=ANYWHERE) == 0
    clock.advance(5)
    assert _names(group)[0] == "d0"


def test_a_hosted_one_is_never_offered_where_it_is_not_allowed() -> None:
    group = _group(ManualClock(), True, False)
    assert _names(group, reach=HOME) == ["d1"]
    assert _names(_group(ManualClock(), True), reach=HOME) == []


def test_when_all_rest_the_shortest_rest_is_the_wait() -> None:
    clock = ManualClock()
    group = _group(clock, False, False)
    _fail(group, 0)
    clock.advance(2)
    _fail(group, 1)
    assert _names(group) == []
    assert group.retry_after_s(reach=ANYWHERE) == 3


def test_an_ejected_one_comes_last_until_it_is_readmitted() -> None:
    group = _group(ManualClock(), False, False, False)
    group.members[1].health.eject("wedged")
    assert {_names(group)[-1] for _ in range(6)} == {"d1"}
    assert [_names(group)[0] for _ in range(4)].count("d0") == 2
    group.members[1].health.readmit()
    assert {_names(group)[0] for _ in range(6)} == {"d0", "d1", "d2"}


def test_one_that_comes_back_while_another_is_asked_is_asked_next() -> None:
    group = _group(ManualClock(), False, False)
    group.members[0].health.eject("away")
    turn = group.in_turn(reach=ANYWHERE)
    assert next(turn)[0].deployment.name == "d1"
    group.members[0].health.readmit()
    assert next(turn)[0].deployment.name == "d0"


def test_where_all_that_may_be_tried_are_ejected_they_are_tried_anyway() -> None:
    group = _group(ManualClock(), False, False, True)
    for member in group.members[:2]:
        member.health.eject("wedged")
    assert _names(group)[0] == "d2"
    assert sorted(_names(group, reach=HOME)) == ["d0", "d1"]


def test_an_ejected_one_is_tried_where_the_others_rest() -> None:
    clock = ManualClock()
    group = _group(clock, False, False)
    group.members[1].health.eject("wedged")
    _fail(group, 0)
    assert _names(group) == ["d1"]
    clock.advance(5)
    assert _names(group)[0] == "d0"


def test_a_member_that_fails_where_its_siblings_do_not_is_left_out_for_a_while() -> None:
    clock = ManualClock()
    group = _group(clock, False, False)
    for _ in range(20):
        group.members[0].health.begin().end(ok=False)
        group.members[1].health.begin().end(ok=True)
    clock.advance(1)
    assert [_names(group)[0] for _ in range(3)] == ["d1"] * 3
    clock.advance(30)
    assert sorted(_names(group)) == ["d0", "d1"]


def test_retries_stay_within_their_share() -> None:
    budget = RetryBudget(share=0.2, reserve=2)
    spent = 0
    for _ in range(100):
        budget.earn()
        spent += budget.spend()
    assert spent <= 2 + 100 * 0.2
    assert spent >= 19
