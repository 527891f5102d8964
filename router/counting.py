"""How many tokens a chat has, as the engine counts them that would read it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

from core.breaker import BreakerState
from core.clock import Clock
from router.choice import Member
from router.deployment import Deployment
from router.errors import RouterError

_DEADLINE_S = 1.0
_REST_S = 5.0  # for which a deployment that could not say is not asked again; each time twice as long
_MOST_REST_S = 300.0

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Counted:
    """A chat's size.

    Attributes:
        tokens: with all that the chat template puts around the messages.
        window: that prompt and answer share.
    """

    tokens: int
    window: int


class Tokenizes(Protocol):
    """A way to engines that count tokens."""

    async def tokenize(self, deployment: Deployment, messages: Messages) -> bytes:
        """vLLM's answer. Raises: RouterError."""
        ...


class TokenCounter:
    """Asks engines, and remembers for a while which of them can't say. It never counts for or against their health."""

    def __init__(self, lane: Tokenizes, clock: Clock) -> None:
        self._lane = lane
        self._clock = clock
        self._rests: dict[str, tuple[float, float]] = {}  # by deployment: until when it is not asked, and how long

    async def count(self, members: Sequence[Member], messages: Messages) -> Counted | None:
        """Ask the first of these that is well. Returns: None: nobody can say."""
        for member in members:
            well = member.breaker.state is BreakerState.CLOSED and not member.health.ejected
            rests_until_s, _ = self._rests.get(member.deployment.name, (float("-inf"), 0.0))
            if well and self._clock.monotonic() >= rests_until_s:
                return await self._ask(member.deployment, messages)
        return None

    async def _ask(self, deployment: Deployment, messages: Messages) -> Counted | None:
        name = deployment.name
        try:
            async with asyncio.timeout(_DEADLINE_S):
                counted = _read(await self._lane.tokenize(deployment, messages))
        except (TimeoutError, RouterError, ValueError, KeyError, TypeError):  # away, or it has no such route
            now_s = self._clock.monotonic()
            until_s, rested_s = self._rests.get(name, (now_s, _REST_S / 2))
            if now_s >= until_s:  # else another question has found it out meanwhile
                rest_s = min(2 * rested_s, _MOST_REST_S)
                self._rests[name] = now_s + rest_s, rest_s
            return None
        self._rests.pop(name, None)
        return counted


def _read(body: bytes) -> Counted:
    """Raises: ValueError, KeyError, TypeError: it is no count."""
    said = orjson.loads(body)
    tokens, window = said["count"], said["max_model_len"]
    if type(tokens) is not int or type(window) is not int or tokens < 0 or window < 1:
        raise ValueError("no count")
    return Counted(tokens, window)
