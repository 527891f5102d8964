"""A recipe is read from settings, collection and question, one over the other."""

from dataclasses import replace
from typing import Any

import pytest

from api.answers.question import Grounding, Question, WantedWork
from api.answers.recipe import Recipe
from api.answers.recipes import Said
from api.errors import RequestInvalid
from api.settings import ApiSettings

USUAL = Recipe.of(ApiSettings())
EVERYTHING: dict[str, Any] = {
    "rewrite": True,
    "mode": "lexical",
    "rerank": True,
    "rerank_top_n": 3,
    "pack": "passages",
    "passages": 7,
    "quotes": 5,
    "max_context_tokens": 900,
    "generate": "quote",
    "verify": "mark",
    "prompt": "{sources} {question}",
    "deadlines_s": {"rewrite": 1, "retrieve": 2, "rerank": 3, "pack": 4, "generate": 5, "verify": 6.5},
}


def test_the_settings_come_first() -> None:
    settings = ApiSettings(
        answer_pack="passages",
        answer_passages=4,
        answer_max_context_tokens=700,
        answer_generate="quote",
        answer_verify="mark",
        query_work_deadline_s=1,
        answer_generate_deadline_s=9,
    )
    recipe = Recipe.of(settings)
    assert (recipe.pack, recipe.passages, recipe.max_context_tokens) == ("passages", 4, 700)
    assert (recipe.generate, recipe.verify) == ("quote", Grounding.MARK)
    assert (recipe.deadlines_s.rewrite, recipe.deadlines_s.generate) == (1, 9)


def test_json_says_all_of_it_and_is_read_as_it_is_written() -> None:
    recipe = USUAL.over(EVERYTHING)
    assert recipe.as_json() == EVERYTHING
    assert USUAL.over(recipe.as_json()) == recipe
    assert USUAL.over(USUAL.as_json()) == USUAL


@pytest.mark.parametrize("name", EVERYTHING)
def test_what_is_not_named_stays(name: str) -> None:
    changed = USUAL.over({name: EVERYTHING[name]})
    assert changed.as_json() == {**USUAL.as_json(), name: EVERYTHING[name]}
    assert USUAL.over({**EVERYTHING, name: None}).as_json()[name] == USUAL.as_json()[name]


def test_one_deadline_leaves_the_others() -> None:
    changed = USUAL.over({"deadlines_s": {"pack": 0.25}})
    assert changed.deadlines_s == replace(USUAL.deadlines_s, pack=0.25)


def test_a_question_comes_over_its_collection_and_that_over_the_settings() -> None:
    said = Said({"mode": "dense", "rewrite": True, "verify": "off", "passages": 3})
    recipe = said.over(USUAL)
    assert (recipe.mode, recipe.rewrite, recipe.verify, recipe.passages) == ("dense", True, Grounding.OFF, 3)
    assert recipe.asked(Question("q", "c", "r")) == recipe
    asked = recipe.asked(
        Question("q", "c", "r", mode="lexical", grounding=Grounding.MARK, work=WantedWork(rewrite=False))
    )
    assert (asked.mode, asked.rewrite, asked.verify, asked.passages) == ("lexical", False, Grounding.MARK, 3)


def test_a_template_names_its_version() -> None:
    assert USUAL.prompt_version == 0
    assert Said({}, "{sources}{question}", 3).over(USUAL).prompt_version == 3
    assert Said({}, None, 0).over(USUAL).prompt_version == 0
    assert USUAL.over({"prompt": "{sources}{question}"}).prompt_version is None
    assert Said({}, "{sources}{question}", 3).over(USUAL).over({"prompt": None}).prompt_version == 0


@pytest.mark.parametrize(
    ("changes", "param", "says"),
    [
        ({"wings": 2}, "answers", "not wings"),
        ([], "answers", "is an object"),
        ("x", "answers", "is an object"),
        ({"rewrite": 1}, "answers.rewrite", "true or false"),
        ({"mode": "psychic"}, "answers.mode", "hybrid, dense, lexical"),
        ({"rerank_top_n": 0}, "answers.rerank_top_n", "from 1 to 100"),
        ({"pack": ["sentences"]}, "answers.pack", "sentences, passages"),
        ({"passages": 21}, "answers.passages", "from 1 to 20"),
        ({"passages": True}, "answers.passages", "whole number"),
        ({"passages": 2.0}, "answers.passages", "whole number"),
        ({"max_context_tokens": 63}, "answers.max_context_tokens", "from 64 to 200,000"),
        ({"generate": "poem"}, "answers.generate", "model, quote"),
        ({"verify": "never"}, "answers.verify", "strict"),
        ({"prompt": "{sources}"}, "answers.prompt", "{question} once"),
        ({"deadlines_s": 3}, "answers.deadlines_s", "is an object"),
        ({"deadlines_s": {"wash": 3}}, "answers.deadlines_s", "not wash"),
        ({"deadlines_s": {"pack": 0}}, "answers.deadlines_s.pack", "above 0"),
        ({"deadlines_s": {"pack": 601}}, "answers.deadlines_s.pack", "at most 600"),
        ({"deadlines_s": {"pack": float("nan")}}, "answers.deadlines_s.pack", "above 0"),
    ],
)
def test_what_is_no_recipe_is_refused_by_name(changes: Any, param: str, says: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        USUAL.over(changes)
    assert refused.value.param == param
    assert says in str(refused.value)
