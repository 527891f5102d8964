"""Models whose answers are told in advance, and a ledger that keeps its lines, for stages on a virtual clock."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

import orjson

from api.ledger.line import Line
from core.clock import Clock
from core.money import Price
from core.reach import Reach
from core.usage import Usage
from router.call import Call
from router.counting import Counted
from router.deployment import Deployment, LaneName
from router.errors import GuardFailed, GuardRefused
from tests.simulation.loop import LoopClock, VirtualLoop

T = TypeVar("T")


def virtually(work: Callable[[Clock], Coroutine[Any, Any, T]]) -> T:
    """Run on a virtual clock."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(work(LoopClock(loop)))
    finally:
        loop.close()


@dataclass
class Play:
    """What comes of one call.

    Attributes:
        opens_s: seconds to its first token.
        refused: raised instead of opening.
        pieces: what it says, with pauses in seconds between.
        breaks: after its last piece the stream ends without its end.
        guarded: what a guard says of what it told, which is where it ends then.
    """

    pieces: Sequence[str | float] = ()
    opens_s: float = 0.1
    refused: Exception | None = None
    breaks: bool = False
    guarded: GuardRefused | GuardFailed | None = None


class Told:
    """An answer of the router's that plays."""

    def __init__(self, play: Play, deployment: Deployment) -> None:
        self._play = play
        self.deployment = deployment
        self.tokens = 0
        self.over = self.broken = self.closed = False
        self.refused: Exception | None = None
        self.usage: Usage | None = None
        self.on_switch: Any = None
        self.finish_reason: str | None = None
        self.fallback = None
        self.by_others = False
        self.first_token_s = 1.0
        self.frames = self._frames()

    async def _frames(self) -> AsyncIterator[bytes]:
        for piece in self._play.pieces:
            if isinstance(piece, float):
                await asyncio.sleep(piece)
                continue
            self.tokens += 1
            yield b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": {"content": piece}}]}) + b"\n\n"
        if self._play.breaks or self._play.guarded:
            self.broken, self.over, self.refused = True, True, self._play.guarded
            yield b'data: {"error": {"message": "the engine died"}}\n\n'
            return
        self.over, self.finish_reason, self.usage = True, "stop", Usage(10, self.tokens)
        yield b"data: [DONE]\n\n"

    async def aclose(self) -> None:
        self.closed = True


class Plays:
    """A router whose calls come out as these, one after the other."""

    def __init__(self, *plays: Play) -> None:
        self._plays = list(plays)
        self.calls: list[Call] = []
        self.answers: list[Told] = []

    def models(self) -> Any:
        return [SimpleNamespace(id="m", kind="chat")]

    def bound(self, _group: str) -> Any:
        return None

    def require(self, _group: str) -> None:
        """There is every group."""

    async def count_tokens(self, _group: str, messages: Sequence[Mapping[str, str]], *, reach: Reach) -> Counted:
        return Counted(sum(len(message["content"]) for message in messages) // 4, 4096)

    async def open(self, call: Call) -> Any:
        self.calls.append(call)
        play = self._plays[len(self.calls) - 1]
        await asyncio.sleep(play.opens_s)
        if play.refused is not None:
            raise play.refused
        name = f"d{len(self.calls)}"
        self.answers.append(Told(play, Deployment(name, "m", "m", LaneName.NATIVE, False, price=Price(1, 1, 1))))
        return self.answers[-1]


@dataclass
class Book:
    """Stands for admission and ledger: what was begun, what was written, what was settled and given back."""

    lines: list[Line] = field(default_factory=list)
    settled: list[int] = field(default_factory=list)
    released: int = 0

    def begin(self, _line: Line, _price: Price) -> Any:
        return SimpleNamespace(finish=self.lines.append, count=lambda *_: None)

    def settle(self, _reservation: object, tokens: int, _nano_usd: int) -> None:
        self.settled.append(tokens)

    def release(self, _reservation: object) -> None:
        self.released += 1
