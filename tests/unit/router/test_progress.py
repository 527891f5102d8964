"""Whether an engine is wedged: only one that has work and whose figures all stand still for too long."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.health import HealthPolicy
from router.progress import Progress, Sample

POLICY = HealthPolicy()
WATCHED = ("running", "waiting", "kv_usage", "generated_tokens", "prompt_tokens")

steps_s = st.floats(0.05, 20.0)
polls_s = st.floats(0.05, 0.5)


class Looker:
    """Takes samples of an engine at a virtual clock."""

    def __init__(self, **figures: float) -> None:
        self.progress = Progress(POLICY)
        self.now_s = 1000.0
        self.sample = Sample(**{"generated_tokens": 9.0, **figures})
        self.call_s: float | None = None
        self.look()

    def look(self, after_s: float = 0.0) -> str | None:
        self.now_s += after_s
        self.progress.saw(self.sample, self.now_s, self.call_s)
        return self.progress.verdict

    def move(self, name: str = "generated_tokens", by: float = 1.0) -> None:
        self.sample = replace(self.sample, **{name: getattr(self.sample, name) + by})

    def stand(self, seconds: float, poll_s: float = 0.25) -> float | None:
        """Look for so long while nothing moves. Returns: seconds until it was found wedged."""
        began_s = self.now_s
        while self.now_s < began_s + seconds:
            if self.look(min(poll_s, began_s + seconds - self.now_s)) == "wedged":
                return self.now_s - began_s
        return None


def test_an_engine_that_stands_still_with_work_is_wedged_after_three_seconds() -> None:
    engine = Looker(running=1)
    assert engine.stand(10) == 3.0


def test_the_first_step_of_an_engine_that_has_finished_none_may_take_a_minute() -> None:
    engine = Looker(running=1, generated_tokens=0)
    assert engine.stand(59) is None
    engine.move()
    engine.look(0.25)
    assert engine.stand(200) == 3.0, "a step of a minute is none that teaches patience"


@given(st.lists(st.tuples(polls_s, st.sampled_from(("", *WATCHED[2:]))), max_size=80))
def test_an_idle_engine_is_never_wedged(looks: list[tuple[float, str]]) -> None:
    engine = Looker()
    for after_s, moved in looks:
        if moved:
            engine.move(moved)
        assert engine.look(after_s) is None
    assert engine.stand(100) is None


@given(st.sampled_from(WATCHED), st.lists(st.floats(0.1, 2.99), min_size=1, max_size=20), polls_s)
def test_any_figure_that_moves_is_progress(name: str, pauses_s: list[float], poll_s: float) -> None:
    engine = Looker(running=1)
    for pause_s in pauses_s:
        assert engine.stand(pause_s, poll_s) is None
        engine.move(name)
        assert engine.look() is None


@given(st.integers(2, 12), polls_s)
def test_a_long_prefill_in_which_only_kv_usage_moves_is_no_standstill(chunks: int, poll_s: float) -> None:
    engine = Looker(running=1)
    for _ in range(chunks):
        assert engine.stand(2.5, poll_s) is None
        engine.move("kv_usage", 0.04)
        assert engine.look() is None


@given(st.lists(st.floats(0.05, 2.9), max_size=10), polls_s)
def test_a_standstill_is_found_within_twice_the_slowest_step(steps: list[float], poll_s: float) -> None:
    engine = Looker(running=1)
    for step_s in steps:
        engine.stand(step_s, poll_s)
        engine.move()
        engine.look()
    found_s = engine.stand(60, poll_s)
    patience_s = max(3.0, 2 * max(steps, default=0.0))
    assert found_s is not None
    assert patience_s - 0.001 <= found_s <= patience_s + 2 * poll_s


def test_a_slow_step_is_forgotten_after_a_minute() -> None:
    engine = Looker(running=1)
    engine.stand(2.9)
    engine.move()
    engine.look()
    assert engine.progress.patience_s() == pytest.approx(5.8)
    for _ in range(70):
        engine.move()
        engine.look(1.0)
    assert engine.stand(60) == 3.0


def test_a_standstill_that_is_over_is_no_step_that_would_hide_the_next_one() -> None:
    engine = Looker(running=1)
    for _ in range(80):
        verdict = engine.look(0.25)
    assert verdict == "wedged"
    engine.move()
    assert engine.look() is None
    assert engine.stand(10) == 3.0


def test_a_false_alarm_teaches_patience() -> None:
    engine = Looker(running=1)
    verdicts = [engine.look(0.25) for _ in range(16)]
    assert verdicts == [None] * 11 + ["wedged"] * 5
    for _ in range(5):
        engine.move("kv_usage", 0.1)
        assert engine.look() is None
        assert engine.stand(4) is None


@given(st.lists(st.floats(1.0, 1000.0), min_size=1, max_size=2))
def test_gaps_of_our_own_are_not_the_engines_standing_still(gaps_s: list[float]) -> None:
    engine = Looker(running=1)
    engine.stand(0.9)
    for gap_s in gaps_s:
        assert engine.look(gap_s) is None
    engine.move()
    engine.look()
    assert engine.progress.patience_s() <= 6.0


def test_the_time_counts_from_when_work_began() -> None:
    engine = Looker()
    engine.stand(100)
    engine.move("running")
    engine.look(0.5)
    assert engine.stand(10) == 3.0


def test_an_engine_that_stopped_while_it_was_idle_is_found_by_our_own_call() -> None:
    engine = Looker()
    engine.stand(20)
    engine.call_s = engine.now_s + 0.2
    found_s = engine.stand(10)
    assert found_s is not None
    assert 3.2 <= found_s <= 3.5


def test_calls_that_come_and_go_at_an_idle_engine_are_none_that_it_leaves_unanswered() -> None:
    engine = Looker()
    for _ in range(100):
        engine.call_s = engine.now_s + 0.15
        assert engine.look(0.25) is None


@given(st.lists(st.tuples(polls_s, st.sampled_from(WATCHED)), min_size=1, max_size=40))
def test_it_is_doubtful_before_it_is_wedged_and_is_looked_at_in_time(looks: list[tuple[float, str]]) -> None:
    engine = Looker(running=1)
    for after_s, name in looks:
        engine.move(name)
        engine.look(after_s)
    waited_s = 0.0
    assert not engine.progress.doubtful
    while engine.progress.verdict is None:
        due_s = engine.progress.due_s()
        engine.look(min(0.5, max(0.02, due_s)))
        waited_s += min(0.5, max(0.02, due_s))
    assert engine.progress.doubtful
    assert waited_s <= engine.progress.patience_s() + 0.05


def test_a_server_that_does_not_answer_is_away_and_back_with_its_next_answer() -> None:
    engine = Looker()
    now_s = engine.now_s
    engine.progress.missed(now_s, now_s + 2)
    assert engine.progress.verdict is None
    engine.progress.missed(now_s + 2, now_s + 3)
    assert engine.progress.verdict == "away"
    assert engine.look(3.5) is None


def test_a_server_that_refuses_is_away_after_some_refusals() -> None:
    engine = Looker()
    at = [engine.now_s + 0.5 * look for look in range(20)]
    for look, now_s in enumerate(at):
        engine.progress.missed(now_s, now_s)
        assert (engine.progress.verdict == "away") == (look >= 5)


def test_two_refusals_with_a_gap_of_ours_between_them_are_not_enough() -> None:
    engine = Looker()
    engine.progress.missed(engine.now_s, engine.now_s)
    engine.progress.missed(engine.now_s + 60, engine.now_s + 60)
    assert engine.progress.verdict is None


def test_a_server_whose_metrics_were_never_seen_is_not_judged() -> None:
    progress = Progress(POLICY)
    for now_s in range(100):
        progress.missed(now_s, now_s + 1)
    assert progress.verdict is None
    engine = Looker(running=1)
    engine.stand(10)
    engine.progress.forget()
    assert (engine.progress.verdict, engine.progress.judged) == (None, False)


def test_a_sleeping_engine_is_asleep_not_wedged() -> None:
    engine = Looker(running=1)
    engine.sample = replace(engine.sample, awake=False)
    assert engine.stand(10) is None
    assert engine.progress.verdict == "asleep"


TEXT = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a} b"} 2.0
vllm:num_requests_running{engine="1",model_name="a} b"} 1.0
# HELP vllm:num_requests_waiting vllm:num_requests_waiting 7 is here too
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 400.0
vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="awake"} 1.0
vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="discard_all"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} NaN
vllm:prompt_tokens_total{engine="0",model_name="m"} 1.5e+03 1700000000
vllm:prompt_tokens_created{engine="0",model_name="m"} 7.0
vllm:generation_tokens_total 12"""


def test_the_figures_are_read_and_summed_over_engines() -> None:
    assert Sample.of(TEXT) == Sample(3, 4, 0.25, 12, 1500)


def test_a_sleeping_engine_says_so() -> None:
    sample = Sample.of(TEXT.replace(b'"awake"} 1.0', b'"awake"} 0.0'))
    assert sample is not None
    assert not sample.awake


@pytest.mark.parametrize("name", [b"running", b"waiting{", b"kv_cache", b"prompt_tokens_total", b"generation"])
def test_a_text_that_lacks_a_figure_gives_no_sample(name: bytes) -> None:
    assert Sample.of(TEXT.replace(name, b"other" + name)) is None


@given(st.binary(max_size=200), st.integers(0, len(TEXT)))
def test_whatever_a_server_answers_is_no_mishap(noise: bytes, at: int) -> None:
    Sample.of(TEXT[:at] + noise + TEXT[at:])
