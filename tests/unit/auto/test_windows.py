"""Windows of models: what is counted, and what need not be."""

from collections.abc import Sequence
from typing import Any

import pytest

from api.auto.windows import Windows
from core.reach import HOME, Reach
from router.counting import Counted

_WINDOW = 1000


class _Engine:
    """Has a token for each word, and notes what it was asked to count."""

    def __init__(self) -> None:
        self.counted: list[str] = []

    async def count_tokens(self, group: str, messages: Sequence[Any], *, reach: Reach) -> Counted | None:
        assert reach is HOME
        text = messages[0]["content"]
        self.counted.append(text)
        return Counted(len(text.split()), _WINDOW)


async def test_only_what_may_not_fit_is_counted() -> None:
    engine = _Engine()
    windows = Windows(engine)
    assert await windows.fit("m", {"prompt": "a " * 100}, HOME)
    assert engine.counted == [""]  # for the window alone
    assert await windows.fit("m", {"prompt": "word " * 700}, HOME)
    assert not await windows.fit("m", {"prompt": "word " * 800}, HOME)
    assert [len(text.split()) for text in engine.counted] == [0, 700, 800]
    assert not await windows.fit("m", {"prompt": "x" * (16 * _WINDOW + 1)}, HOME)
    assert len(engine.counted) == 3


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "word " * 800}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "word " * 800}]}]},
        {"system": "word " * 400, "messages": [{"role": "user", "content": "word " * 400}]},
        {"input": "word " * 800},
        {"prompt": ["word " * 400, "word " * 400]},
        {"prompt": "word", "max_tokens": 1000},
        {"prompt": "word " * 300, "max_tokens": 300, "n": 3},
    ],
)
async def test_all_that_a_model_reads_and_writes_counts(body: dict[str, Any]) -> None:
    assert not await Windows(_Engine()).fit("m", body, HOME)
    fewer = {name: value for name, value in body.items() if name not in ("max_tokens", "n")}
    if len(str(fewer)) < _WINDOW:
        assert await Windows(_Engine()).fit("m", fewer, HOME)
