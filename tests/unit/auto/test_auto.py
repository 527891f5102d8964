"""Which model is chosen: by difficulty, by what is there, by what may be asked; and what is refused at the start."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest

from api.auto.auto import Auto
from api.auto.reading import Read
from core.dependency import DependencyUnavailable
from core.principal import Principal, Role
from core.priority import Priority
from core.reach import HOME, Reach
from retrieval.embedder import Embedder, Space
from retrieval.errors import SpaceMismatch
from router.counting import Counted
from router.errors import ConfigInvalid
from router.router import ModelInfo, Router

_CALLER = Principal("ten_1", "key_1", Role.MEMBER)
_EASY, _HARD = "What is the capital of France?", "Prove that there is no largest prime, and bound the gaps."


@dataclass
class _Models:
    """A router that knows three groups; `away` are known to fail."""

    away: set[str] = field(default_factory=set)
    hosted: set[str] = field(default_factory=set)
    windows: dict[str, int] = field(default_factory=dict)

    def models(self) -> list[ModelInfo]:
        return [ModelInfo(name, "test", 1, "chat") for name in ("small", "middle", "large")] + [
            ModelInfo("vectors", "test", 1, "embedding")
        ]

    async def count_tokens(self, group: str, messages: Any, *, reach: Reach) -> Counted | None:
        window = self.windows.get(group)
        return None if window is None else Counted(len(messages[0]["content"].split()), window)

    def chat_outlook(self, group: str, operation: str, *, reach: Reach) -> str:
        closed = group in self.hosted and (reach.local_only or operation == "messages")
        return "none" if group in self.away or closed else "good"


@dataclass
class _Vectors:
    """An embedding server: a text is hard where it says `prove`; `fails` makes it be away."""

    fails: bool = False
    takes_s: float = 0.0
    name: str = "two"
    seen: list[str] = field(default_factory=list)

    async def spaces(self) -> list[Space]:
        return [Space(self.name, 2)]

    async def embed(self, texts: Sequence[str], space: Space, *_: Any, **__: Any) -> Any:
        if self.fails:
            raise DependencyUnavailable("embeddings", "away", 1.0)
        if space.name != self.name:
            raise SpaceMismatch(space.name, [self.name])
        await asyncio.sleep(self.takes_s)
        self.seen += texts
        return np.eye(2, dtype=np.float32)[[int("prove" in text.lower()) for text in texts]]


def _auto(models: _Models, vectors: _Vectors, *thresholds: float) -> Auto:
    names = ["small", "middle", "large"][: len(thresholds) + 1]
    return Auto(cast(Router, models), cast(Embedder, vectors), names, thresholds)


def _chosen(auto: Auto, *turns: str, acts: bool = False, principal: Principal = _CALLER) -> str:
    return asyncio.run(auto.choose(principal, Read(turns, acts))).group


def _learn(auto: Auto) -> None:
    """Let it learn until it has vectors."""

    async def learn() -> None:
        learning = asyncio.create_task(auto.learn())
        async with asyncio.timeout(20):
            while auto._by_vector is None:  # noqa: ASYNC110  # it has no event for this
                await asyncio.sleep(0.01)
        learning.cancel()
        await asyncio.gather(learning, return_exceptions=True)

    asyncio.run(learn())


def test_the_harder_a_request_the_larger_the_model() -> None:
    vectors = _Vectors()
    auto = _auto(_Models(), vectors, 0.2, 0.8)
    difficulties = [asyncio.run(auto.choose(_CALLER, Read((text,)))).difficulty or 0.0 for text in (_EASY, _HARD)]
    assert difficulties[0] < difficulties[1]
    for low, high, group in ((0.0, 0.0, "large"), (1.0, 1.0, "small"), (0.0, 1.0, "middle")):
        assert _chosen(_auto(_Models(), vectors, low, high), _EASY) == group


def test_vectors_count_as_soon_as_they_are_there_and_are_not_waited_for() -> None:
    vectors = _Vectors(fails=True)
    auto = _auto(_Models(), vectors, 0.5)
    by_words = asyncio.run(auto.choose(_CALLER, Read((_HARD,)))).difficulty
    assert not vectors.seen
    vectors.fails = False
    _learn(auto)
    vectors.seen.clear()
    by_vector = asyncio.run(auto.choose(_CALLER, Read((_HARD,)))).difficulty
    assert vectors.seen == [_HARD]
    assert by_vector != by_words
    vectors.fails = True
    assert asyncio.run(auto.choose(_CALLER, Read((_HARD,)))).difficulty == by_words


def test_a_late_vector_is_not_waited_for_and_only_a_few_are_asked_for_at_once() -> None:
    vectors = _Vectors()
    auto = _auto(_Models(), vectors, 0.5)
    by_words = asyncio.run(auto.choose(_CALLER, Read((_HARD,)))).difficulty
    _learn(auto)
    vectors.seen.clear()
    vectors.takes_s = 60

    async def many() -> list[float | None]:
        async with asyncio.timeout(20):
            found = await asyncio.gather(*(auto.choose(_CALLER, Read((_HARD,))) for _ in range(20)))
        return [one.difficulty for one in found]

    assert asyncio.run(many()) == [by_words] * 20
    assert len(vectors.seen) == 0
    vectors.takes_s = 0.1
    seen = [difficulty != by_words for difficulty in asyncio.run(many())]
    assert 1 <= sum(seen) <= 4
    batch = replace(_CALLER, priority=Priority.BATCH)
    assert asyncio.run(auto.choose(batch, Read((_HARD,)))).difficulty == by_words


def test_another_embedding_model_is_learnt_anew() -> None:
    vectors = _Vectors()
    auto = _auto(_Models(), vectors, 0.5)
    _learn(auto)
    vectors.name = "other"
    asyncio.run(auto.choose(_CALLER, Read((_HARD,))))
    assert auto._by_vector is None
    _learn(auto)
    assert auto._space == Space("other", 2)


def test_what_a_group_cannot_do_goes_to_another() -> None:
    auto = _auto(_Models(hosted={"large"}), _Vectors(), 0.0, 0.0)
    for operation, group in (("chat.completions", "large"), ("messages", "middle")):
        assert asyncio.run(auto.choose(_CALLER, Read((_HARD,)), cast(Any, operation))).group == group


def test_a_long_message_is_embedded_by_its_ends() -> None:
    vectors = _Vectors()
    auto = _auto(_Models(), vectors, 0.5)
    _learn(auto)
    vectors.seen.clear()
    _chosen(auto, f"Sum this up. {'word ' * 5000} In one line.")
    assert len(vectors.seen[0]) < 2100
    assert vectors.seen[0].startswith("Sum this up.")
    assert vectors.seen[0].endswith("In one line.")


def test_a_conversation_is_as_hard_as_what_was_asked_in_it() -> None:
    auto = _auto(_Models(), _Vectors(), 0.5)
    assert _chosen(auto, "and why?") == _chosen(auto, _EASY, "and why?") == "small"
    assert _chosen(auto, _HARD, "and why?") == "middle"


def test_what_may_act_is_for_the_most_able() -> None:
    assert _chosen(_auto(_Models(), _Vectors(), 0.9, 0.95), _EASY, acts=True) == "large"
    assert _chosen(_auto(_Models(), _Vectors(), 0.9, 0.95)) == "small"  # nothing is said


def test_a_model_that_is_away_is_passed_over() -> None:
    models = _Models()
    auto = _auto(models, _Vectors(), 1.0, 1.0)
    assert _chosen(auto, _EASY) == "small"
    models.away = {"small"}
    assert _chosen(auto, _EASY) == "middle"
    models.away = {"small", "middle"}
    assert _chosen(auto, _EASY) == "large"
    models.away = {"large"}
    assert _chosen(auto, _EASY, acts=True) == "middle"
    models.away = {"small", "middle", "large"}
    assert _chosen(auto, _EASY) == "small"  # who is asked says why nobody answers


def test_what_must_not_leave_the_house_goes_to_no_hosted_model() -> None:
    local_only = Principal("ten_1", "key_1", Role.MEMBER, reach=HOME)
    auto = _auto(_Models(hosted={"large"}), _Vectors(), 0.0, 0.0)
    assert _chosen(auto, _HARD) == "large"
    assert _chosen(auto, _HARD, principal=local_only) == "middle"


def test_the_larger_ones_come_in_their_order() -> None:
    found = asyncio.run(_auto(_Models(), _Vectors(), 1.0, 1.0).choose(_CALLER, Read((_EASY,))))
    assert (found.group, found.larger) == ("small", ("middle", "large"))


@pytest.mark.parametrize(
    ("names", "thresholds", "words"),
    [
        (["small", "huge"], [0.5], "names 'huge', which is no chat model"),
        (["small", "vectors"], [0.5], "there is: small, middle, large"),
        (["small", "middle", "large"], [0.5], "holds 1 numbers and STOKER_AUTO_MODELS 3 models"),
    ],
)
def test_what_cannot_be_chosen_among_is_refused(names: list[str], thresholds: list[float], words: str) -> None:
    with pytest.raises(ConfigInvalid, match=words):
        Auto(cast(Router, _Models()), cast(Embedder, _Vectors()), names, thresholds)


@pytest.mark.parametrize(
    ("words", "max_tokens", "windows", "group"),
    [
        (50, 40, {"small": 4096, "middle": 8192}, "small"),
        (3000, 2000, {"small": 4096, "middle": 8192}, "middle"),
        (3000, 2000, {"small": 4096, "middle": 4096}, "large"),  # of which nobody knows the window
        (3000, 2000, {"small": 4096, "middle": 4096, "large": 4096}, "small"),  # which says so itself
        (3000, 1000, {"small": 4096}, "small"),
        (3900, None, {"small": 4096, "middle": 8192}, "middle"),  # an answer needs room, too
        (3000, 2000, {}, "small"),
    ],
)
def test_what_does_not_fit_goes_to_a_larger_window(
    words: int, max_tokens: int | None, windows: dict[str, int], group: str
) -> None:
    auto = _auto(_Models(windows=windows), _Vectors(), 0.999, 1.0)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "short " * (words - 2)}]
    body = {"messages": messages, **({"max_tokens": max_tokens} if max_tokens else {})}
    chosen = asyncio.run(auto.choose(_CALLER, Read((_EASY,)), body=body))
    assert chosen.group == group
