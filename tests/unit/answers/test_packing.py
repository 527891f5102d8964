"""What a model is shown never takes more tokens than it may, whatever its tokenizer makes of a text."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.answers.context import Excerpt
from api.answers.packing import Message, Packed, Packer, Prompt
from api.answers.prompt import messages
from api.answers.recipe import Recipe
from api.settings import ApiSettings
from core.reach import Reach
from retrieval.search import Passage
from router.counting import Counted
from tests.simulation.loop import VirtualLoop

T = TypeVar("T")
HEAD_TOKENS = 30
QUESTION = "When does the harbour open?"
TEXTS = {
    "english": "The harbour opens at seven. Boats leave at nine, and the pilot wears a red coat. " * 60,
    "dense": "文字を数える港。" * 300,
    "code": "if(x[0]!=y){z+=1;}//?\n" * 200,
}
RECIPE = Recipe.of(ApiSettings())


class Engine:
    """Counts a token for so many bytes of a text, by its content: dense scripts take more than plain words.

    Attributes:
        asked: how often.
    """

    def __init__(self, ascii_bytes: float = 4.0, other_bytes: float = 1.5, window: int = 4096) -> None:
        self._ascii_bytes = ascii_bytes
        self._other_bytes = other_bytes
        self.window = window
        self.asked = 0
        self.silent = False
        self.away = False

    def tokens(self, text: str) -> int:
        plain = sum(char.isascii() for char in text)
        return int(plain / self._ascii_bytes + (len(text.encode()) - plain) / self._other_bytes + 0.999)

    def length(self, said: Sequence[Message]) -> int:
        return HEAD_TOKENS + sum(self.tokens(message["content"]) for message in said)

    async def count_tokens(self, group: str, messages: Sequence[Message], *, reach: Reach) -> Counted | None:
        self.asked += 1
        if self.silent:
            await asyncio.sleep(3600)
        return None if self.away else Counted(self.length(messages), self.window)


def virtually(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work())
    finally:
        loop.close()


def passages(kind: str, spans: Sequence[tuple[int, int]]) -> list[Passage]:
    text = TEXTS[kind]
    cut = [(start, text[start : start + length]) for start, length in spans if start < len(text)]
    return [Passage(kind, 1, "rev", "a.md", piece, start, start + len(piece), None, 1.0, {}) for start, piece in cut]


def words(excerpts: Sequence[Excerpt]) -> list[Message]:
    return messages(QUESTION, excerpts)


def pack(engine: Engine, found: Sequence[Passage], recipe: Recipe, max_tokens: int = 64, most: int = 2000) -> Packed:
    prompt = Prompt("m", words, max_tokens, True)
    return virtually(lambda: Packer(engine, most).pack(QUESTION, found, recipe, prompt))


SPANS = st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 1500)), min_size=1, max_size=12)


@given(
    kind=st.sampled_from(sorted(TEXTS)),
    spans=SPANS,
    how=st.sampled_from(["sentences", "passages"]),
    budget=st.integers(64, 3000),
    window=st.integers(300, 4096),
    ascii_bytes=st.floats(1.0, 6.0),
    other_bytes=st.floats(1.0, 4.0),
    max_tokens=st.integers(1, 300),
    away=st.booleans(),
)
def test_the_budget_and_the_window_hold_whatever_the_tokenizer(
    kind: str,
    spans: list[tuple[int, int]],
    how: str,
    budget: int,
    window: int,
    ascii_bytes: float,
    other_bytes: float,
    max_tokens: int,
    away: bool,
) -> None:
    engine = Engine(ascii_bytes, other_bytes, window)
    engine.away = away
    recipe = RECIPE.over({"pack": how, "passages": 8, "max_context_tokens": budget})
    found = passages(kind, spans)
    packed = pack(engine, found, recipe, max_tokens)
    shown = packed.shown
    if not shown:
        assert not any(passage.text.strip() for passage in found[:8])
        return
    assert engine.asked <= 4
    for excerpt in shown:
        assert TEXTS[kind][excerpt.start : excerpt.end] == excerpt.text
    assert len({excerpt.text for excerpt in shown}) == len(shown)
    assert all(first.end < second.start for first, second in pairwise(shown))
    if packed.unfit:
        assert engine.length(words([])) + max_tokens >= window - 40, "there was room"
        return
    tokens = engine.length(words(shown))
    assert tokens - engine.length(words([])) <= budget
    if not away:
        assert tokens + max_tokens <= window


def test_whole_passages_fill_the_budget_and_are_not_cut_without_need() -> None:
    found = passages("english", [(0, 800), (1600, 800), (3200, 800)])
    packed = pack(Engine(), found, RECIPE.over({"pack": "passages", "passages": 3}))
    assert [(excerpt.start, excerpt.end) for excerpt in packed.shown] == [(0, 800), (1600, 2400), (3200, 4000)]
    less = pack(Engine(), found, RECIPE.over({"pack": "passages", "passages": 3, "max_context_tokens": 450}))
    assert less.shown[:2] == packed.shown[:2]
    assert 0 < less.shown[2].end - less.shown[2].start < 800 if len(less.shown) == 3 else len(less.shown) == 2


def test_a_tokenizer_that_takes_more_is_asked_again_and_shown_less() -> None:
    found = passages("dense", [(0, 2000)])
    engine = Engine(other_bytes=1.5)
    packed = pack(engine, found, RECIPE.over({"pack": "passages", "max_context_tokens": 500}))
    assert engine.asked == 3, "with nothing, as it was estimated, and with less"
    assert 350 < engine.tokens(packed.shown[0].text) <= 500


class Stubborn(Engine):
    """Counts hardly less of a text that is hardly shorter, until a byte is a token."""

    def tokens(self, text: str) -> int:
        return min(len(text.encode()), len(words([])[0]["content"].encode()) + 501)


def test_a_tokenizer_that_always_takes_a_little_more_is_asked_no_more_than_three_times() -> None:
    engine = Stubborn()
    found = passages("english", [(0, 3000)])
    packed = pack(engine, found, RECIPE.over({"pack": "passages", "max_context_tokens": 500}))
    assert engine.asked == 4, "and once with nothing"
    assert engine.length(words(packed.shown)) - engine.length(words([])) <= 500


def test_where_nobody_counts_a_token_is_taken_for_a_byte() -> None:
    engine = Engine()
    engine.away = True
    packed = pack(
        engine, passages("english", [(0, 3000)]), RECIPE.over({"pack": "passages", "max_context_tokens": 500})
    )
    assert 300 < len(packed.shown[0].text.encode()) <= 500
    assert not packed.late


def test_a_tokenizer_that_is_late_is_not_waited_for() -> None:
    engine = Engine()
    engine.silent = True
    found = passages("english", [(0, 3000)])
    recipe = RECIPE.over({"pack": "passages", "max_context_tokens": 500, "deadlines_s": {"pack": 0.5}})

    async def work() -> Packed:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        packed = await Packer(engine, 300).pack(QUESTION, found, recipe, Prompt("m", words, 64, True))
        assert loop.time() - began_s == pytest.approx(0.5)
        return packed

    packed = virtually(work)
    assert packed.late
    assert len(packed.shown[0].text.encode()) <= 500


def test_nobody_is_asked_where_so_little_is_shown_that_it_surely_fits() -> None:
    engine = Engine()
    packer, found = Packer(engine, 300), passages("english", [(0, 800)])

    async def work() -> list[int]:
        asked = []
        for _ in range(3):
            await packer.pack(QUESTION, found, RECIPE, Prompt("m", words, 64, True))
            asked.append(engine.asked)
        await asyncio.sleep(100)
        await packer.pack(QUESTION, found, RECIPE, Prompt("m", words, 64, True))
        return [*asked, engine.asked]

    assert virtually(work) == [2, 2, 2, 4], "once to learn the window, and again when that was long ago"


def test_without_a_model_nobody_is_asked() -> None:
    engine = Engine()
    prompt = Prompt(None, words, 64, True)
    packed = virtually(lambda: Packer(engine, 300).pack(QUESTION, passages("english", [(0, 800)]), RECIPE, prompt))
    assert engine.asked == 0
    assert packed.shown
