"""Plans of arrivals, and the requests that they begin."""

import numpy as np
import pytest

from tests.load.generator.plan import Plan, PlanInvalid
from tests.load.generator.scenarios import WEIGHTS, Scenario
from tests.load.generator.wire import parts_of

_OPEN = Plan(seed=1, duration_s=1000, rate=10)


def test_arrivals_are_a_poisson_process_and_the_same_for_a_seed() -> None:
    gaps = np.diff(_OPEN.arrivals())
    assert np.mean(gaps) == pytest.approx(0.1, rel=0.05)
    assert np.std(gaps) == pytest.approx(0.1, rel=0.05), "as wide as it is long, or it is not exponential"
    assert np.corrcoef(gaps[:-1], gaps[1:])[0, 1] == pytest.approx(0.0, abs=0.05)
    assert _OPEN.arrivals() == Plan(seed=1, duration_s=1000, rate=10).arrivals()
    assert _OPEN.arrivals() != Plan(seed=2, duration_s=1000, rate=10).arrivals()


def test_processes_share_the_arrivals_and_the_users() -> None:
    for plan in (
        Plan(seed=1, duration_s=50, rate=10, processes=3),
        Plan(seed=1, duration_s=50, users=10, processes=3),
    ):
        parts = [plan.part(process) for process in range(3)]
        alone = Plan(plan.seed, plan.duration_s, plan.rate, plan.users).part(0)
        assert sorted(each for part in parts for each in part) == list(alone)


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_request_is_known_by_seed_and_number(name: str) -> None:
    one, other = Scenario(name, 1, "m"), Scenario(name, 2, "m")
    bodies = [one.begin(number).body for number in range(50)]
    assert bodies == [one.begin(number).body for number in range(50)]
    assert bodies != [other.begin(number).body for number in range(50)]
    assert {one.begin(number).kind for number in range(200)} == set(WEIGHTS[name])


def test_no_chat_has_a_prompt_that_another_had() -> None:
    prompts = [str(Scenario("chat", 1, "m").begin(number).body["messages"]) for number in range(200)]
    assert len(set(prompts)) == 200, "what an engine has in its cache flatters it"


@pytest.mark.parametrize(
    ("plan", "names"),
    [
        (Plan(1, 10), "--rate"),
        (Plan(1, 10, rate=1, users=1), "--rate"),
        (Plan(1, 10, rate=0), "--rate"),
        (Plan(1, 10, rate=float("nan")), "--rate"),
        (Plan(1, 10, users=-1), "--users"),
        (Plan(1, 0, rate=1), "--duration"),
        (Plan(1, float("inf"), rate=1), "--duration"),
        (Plan(1, 10, rate=1, warmup_s=6, cooldown_s=4), "--warmup"),
        (Plan(1, 10, rate=1, warmup_s=float("nan")), "--warmup"),
        (Plan(1, 10, rate=1, timeout_s=0), "--timeout"),
        (Plan(1, 86_400, rate=100), "--duration"),
        (Plan(1, 10, rate=1, processes=0), "--processes"),
        (Plan(1, 10, rate=1, connections=0), "--connections"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_the_flag_to_mend(plan: Plan, names: str) -> None:
    with pytest.raises(PlanInvalid, match=names):
        plan.check()


@pytest.mark.parametrize("field", ["prompt_words", "long_words", "output_tokens"])
def test_a_request_that_cannot_be_is_refused_with_the_flag_to_mend(field: str) -> None:
    with pytest.raises(PlanInvalid, match=f"--{field.replace('_', '-')}"):
        Scenario("chat", 1, "m", **{field: 0}).check()


@pytest.mark.parametrize("url", ["", "x", "ftp://a", "http://", "http://a:x", "http://a\r\nb", "http://[", "//a"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(PlanInvalid, match="--url"):
        parts_of(url)


def test_an_address_may_end_with_v1() -> None:
    assert parts_of("http://a:1/v1/")[:2] == ("a", 1)
    assert parts_of("http://a:1/v1/")[3] == ""
    assert parts_of("https://a")[1] == 443
