"""What of an experiment over ways of answering is refused when the configuration is read."""

import pytest

from api.answers.trying import check
from router.config import RouterConfig
from router.errors import ConfigInvalid
from router.experiments import Experiment


def test_what_is_no_recipe_is_refused_with_its_place() -> None:
    def config(**answers: object) -> RouterConfig:
        return RouterConfig(experiments=[Experiment("other", "", "", 5, collection="c", answers=answers)])

    check(config(mode="lexical", passages=3))
    for answers, says in (
        ({"mode": "sideways"}, r"stoker\.experiments\.other\.answers\.mode is one of"),
        ({"speed": 3}, "not speed"),
        ({"passages": 0}, "whole number from 1 to 20"),
    ):
        with pytest.raises(ConfigInvalid, match=says):
            check(config(**answers))
