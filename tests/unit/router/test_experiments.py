"""Who takes part in an experiment."""

import pytest

from router.config import load
from router.errors import ConfigInvalid
from router.experiments import Experiment

CALLERS = [f"user_{at}" for at in range(20_000)]


@pytest.mark.parametrize("percent", [0, 0.5, 10, 50, 100])
def test_as_many_as_asked_for_always_the_same(percent: float) -> None:
    one = Experiment("one", "g", "h", percent)
    taken = [who for who in CALLERS if one.takes(who)]
    assert len(taken) / len(CALLERS) * 100 == pytest.approx(percent, abs=1)
    assert all(Experiment("one", "g", "other", percent).takes(who) for who in taken)


def test_more_callers_are_added_to_those_who_take_part() -> None:
    few, many = Experiment("one", "g", "h", 10), Experiment("one", "g", "h", 30)
    assert all(many.takes(who) for who in CALLERS if few.takes(who))


def test_two_experiments_choose_independently() -> None:
    one, other = Experiment("one", "g", "h", 50), Experiment("other", "g", "h", 50)
    both = sum(one.takes(who) and other.takes(who) for who in CALLERS)
    assert both / len(CALLERS) == pytest.approx(0.25, abs=0.02)


MODELS = (
    "model_list:\n"
    "  - {model_name: g, litellm_params: {model: hosted_vllm/g, api_base: 'http://h/v1'}}\n"
    "  - {model_name: h, litellm_params: {model: hosted_vllm/h, api_base: 'http://h/v1'}}\n"
    "  - {model_name: e, litellm_params: {model: hosted_vllm/e, api_base: 'http://h'}, model_info: {mode: embedding}}\n"
    "stoker:\n  experiments:\n"
)


@pytest.mark.parametrize(
    ("lines", "line", "words"),
    [
        (["    a: {group: g, to: none, percent: 5}"], 7, "'none'"),
        (["    a: {group: g, to: g, percent: 5}"], 7, "itself"),
        (["    a: {group: g, to: e, percent: 5}"], 7, "vectors"),
        (["    a: {group: g, to: h, percent: 101}"], 7, "percent"),
        (["    a: {collection: c, percent: 5}"], 7, "`collection` and `answers`"),
        (["    a: {group: g, to: h, collection: c, answers: {}, percent: 5}"], 7, "`collection` and `answers`"),
        (["    a: {collection: c, answers: {}, percent: 5, shadow: true}"], 7, "`collection` and `answers`"),
        ([f"    {name}: {{collection: c, answers: {{mode: dense}}, percent: 5}}" for name in "ab"], 8, "'a' already"),
        (["    a: {group: g, to: h, tenant: t, percent: 5}"], 7, "`tenant`"),
        (["    a: {group: g, collection: c, answers: {mode: dense}, percent: 5}"], 7, "leave them out"),
        (["    a: {collection: c, answers: {}, percent: 5}"], 7, "names nothing"),
        (["    a: {group: g, to: h, percent: 5}", "    b: {group: g, to: h, percent: 5}"], 8, "'a' already"),
        (["    a: {group: g, to: h, percent: 5, shade: true}"], 7, "shade"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: object, lines: list[str], line: int, words: str) -> None:
    file = tmp_path / "stoker.yaml"  # type: ignore[operator]
    file.write_text(MODELS + "\n".join(lines) + "\n")
    with pytest.raises(ConfigInvalid, match=rf"stoker.yaml:{line}") as refused:
        load(file)
    assert words in str(refused.value)


def test_a_group_may_have_an_experiment_and_a_shadow(tmp_path: object) -> None:
    file = tmp_path / "stoker.yaml"  # type: ignore[operator]
    file.write_text(
        MODELS + "    a: {group: g, to: h, percent: 5}\n    b: {group: g, to: h, percent: 1, shadow: true}\n"
    )
    assert [(one.name, one.shadow) for one in load(file).experiments] == [("a", False), ("b", True)]
