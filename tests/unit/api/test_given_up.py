"""An answer that is given up while it is being told: what its model made is billed, before its reservation ends."""

from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

from api.answers.events import Token
from api.answers.pipeline import Answerer
from api.answers.question import Grounding, Question
from api.settings import ApiSettings
from core.clock import ManualClock
from core.principal import Principal, Role
from core.usage import Usage
from retrieval.search import Passage, SearchResult
from tests.unit.api.test_grounding import QUESTION, TEXT, TRUE, Model


class Meter:
    """Hears how a reservation ends."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Usage]] = []

    async def admit(self, *_: Any) -> Any:
        def nothing(*_: Any) -> None:
            return None

        def finish(usage: Usage, *_: Any) -> None:
            self.heard.append(("finish", usage))

        def close(usage: Usage, **_: Any) -> None:
            self.heard.append(("close", usage))

        return SimpleNamespace(
            opened=nothing, count=nothing, switched=nothing, finish=finish, close=close, rate_headers=dict
        )


async def test_what_was_made_is_billed_before_the_reservation_ends() -> None:
    async def search(*_: Any) -> SearchResult:
        return SearchResult([Passage("doc", 1, "rev", "port.md", TEXT, 0, len(TEXT), None, 1.0, {})], 1)

    meter = Meter()
    retrieval: Any = SimpleNamespace(searcher=SimpleNamespace(search=search), documents=None)
    model: Any = Model(f"{TRUE} {TRUE} {TRUE}")
    metering: Any = meter
    answerer = Answerer(retrieval, model, metering, ApiSettings(), ManualClock())
    identity: Any = SimpleNamespace(principal=Principal("t", "key", Role.READER))
    question = Question(QUESTION, "port", "req", grounding=Grounding.OFF)
    async with aclosing(answerer.answer(identity, question)) as events:
        async for event in events:
            if isinstance(event, Token):
                break
    assert meter.heard == [("finish", Usage(0, 1)), ("close", Usage())]
