"""One try at one deployment: opened under its deadlines, with the outcome told to its breaker and counted once."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TypeVar

from prometheus_client import Counter

from core.breaker import Permit
from core.clock import Clock
from monitoring.logs import logger
from monitoring.metrics import UPSTREAM_CALLS
from monitoring.tally import tally
from router.answer import Answer, FrameStream, read_whole
from router.call import Call
from router.choice import Member
from router.errors import (
    RouterError,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from router.lane import Lane
from router.sse import MessagesScanner, SseScanner

_log = logger(__name__)

T = TypeVar("T")

_MAX_CAUSE = 300  # characters; LiteLLM puts whole traces into its texts


class Attempt:
    """Made for one call and one deployment, used once."""

    def __init__(self, lane: Lane, member: Member, permit: Permit, call: Call, clock: Clock) -> None:
        self._lane = lane
        self._deployment = member.deployment
        self._breaker = member.breaker
        self._permit = permit
        self._call = call
        self._clock = clock

    async def open(self) -> Answer:
        """Get the answer, or its stream with the first token at hand.

        Raises:
            UpstreamError: this deployment failed; another may do better.
            UpstreamRefused: the request is at fault, or (429) this deployment is busy.
        """
        try:
            answer = await (self._stream() if self._call.stream else self._whole())
        except UpstreamRefused as error:
            # It is healthy either way; one that is busy says nothing that would close a breaker.
            self._count("busy" if error.status == 429 else "refused")
            if error.status == 429:
                self._breaker.withdraw(self._permit)
            else:
                self._breaker.report(self._permit, ok=True)
            raise
        except UpstreamError as error:
            self._breaker.report(self._permit, ok=False)
            self._count(_outcome(error))
            self._warn("deployment failed", error)
            raise
        except BaseException:  # cancelled, or a bug: nothing was learnt, and the permit must not be lost
            self._breaker.withdraw(self._permit)
            self._count("cancelled")
            raise
        return answer

    async def _whole(self) -> Answer:
        limit_s = self._call.limit_s(self._deployment.deadlines)
        whole = await self._within(limit_s, lambda: self._lane.whole(self._deployment, self._call))
        try:
            said = read_whole(whole.body, self._call.kind)
        except ValueError as error:
            raise UpstreamFailed(self._deployment.name, "answered with something that is no JSON object") from error
        self._breaker.report(self._permit, ok=True)
        self._count("ok")
        return Answer(self._deployment, self._call.group, whole, said)

    async def _stream(self) -> Answer:
        deployment, deadlines = self._deployment, self._deployment.deadlines
        started_s = self._clock.monotonic()
        source = await self._within(
            deadlines.first_token_s, lambda: self._lane.stream(deployment, self._call), "sent no token"
        )
        scanner = scanner_for(self._call)
        ends_s = started_s + self._call.limit_s(deadlines)
        stream = FrameStream(deployment, source, scanner, self._clock, ends_s, self._ended)
        try:
            await stream.start(started_s + deadlines.first_token_s)
        except BaseException:
            stream.forget()  # the failure is reported by `open`, not as the end of a stream
            await stream.aclose()
            raise
        if self._permit.probe:
            # A probe is over with the first token: the whole stream may take minutes, in which nobody else may call.
            self._breaker.report(self._permit, ok=True)
        return Answer(deployment, self._call.group, stream)

    async def _within(self, limit_s: float, work: Callable[[], Awaitable[T]], what: str = "did not answer") -> T:
        try:
            async with asyncio.timeout(limit_s):
                return await work()
        except TimeoutError as error:
            raise UpstreamTimeout(self._deployment.name, f"{what} within {limit_s:g} s") from error

    def _ended(self, outcome: str, error: RouterError | None) -> None:
        """A stream is over; one that its client left is no fault of the deployment's."""
        self._count(outcome)
        failed = outcome in ("broken", "timeout")
        if failed or not self._permit.probe:
            self._breaker.report(self._permit, ok=not failed)
        if failed:
            self._warn("stream broken", error)

    def _warn(self, event: str, error: RouterError | None) -> None:
        cause = error.__cause__ if error is not None else None
        _log.warning(
            event,
            deployment=self._deployment.name,
            request_id=self._call.request_id,
            reason=str(error),
            cause=repr(cause)[:_MAX_CAUSE] if cause is not None else None,
        )

    def _count(self, outcome: str) -> None:
        tally.add(_calls(self._call.group, self._deployment.name, outcome))


@lru_cache(maxsize=1000)
def _calls(group: str, deployment: str, outcome: str) -> Counter:
    return UPSTREAM_CALLS.labels(group, deployment, outcome)  # finding a series costs more than counting in it


def _outcome(error: UpstreamError) -> str:
    if isinstance(error, UpstreamTimeout):
        return "timeout"
    return "unavailable" if isinstance(error, UpstreamUnavailable) else "failed"


def scanner_for(call: Call) -> SseScanner:
    """What reads the call's stream."""
    return MessagesScanner() if call.kind == "messages" else SseScanner(keep_usage_chunk=call.wants_usage_chunk)
