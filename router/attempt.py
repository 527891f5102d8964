"""One try at one deployment: opened under its deadlines, with the outcome told to its breaker and counted once."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import orjson
from prometheus_client import Counter

from core.breaker import Permit
from core.clock import Clock
from core.usage import Usage
from monitoring import tracing
from monitoring.logs import logger
from monitoring.metrics import UPSTREAM_CALLS
from monitoring.series import found_once
from monitoring.tally import tally
from monitoring.tracing import genai
from router.answer import Answer, FrameStream, read_whole
from router.call import Call
from router.choice import Member
from router.deployment import Deployment
from router.errors import (
    AnswerDiverged,
    RouterError,
    UpstreamEjected,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from router.lane import Lane, Whole
from router.sse import MessagesScanner, SseScanner

_log = logger(__name__)

T = TypeVar("T")

_MOST_REST_S = 60.0
_MAX_CAUSE = 300  # characters; LiteLLM puts whole traces into its texts


class Attempt:
    """Made for one call and one deployment, used once.

    Args:
        asked: names of the deployments that this search has asked so far, this one among them.
        elsewhere: whether nothing is known against some deployment besides those named: only then is one left whose
            engine is seen to stand still, since it may go on any moment.
    """

    def __init__(
        self,
        lane: Lane,
        member: Member,
        permit: Permit,
        call: Call,
        clock: Clock,
        asked: Collection[str],
        elsewhere: Callable[[Collection[str]], bool],
    ) -> None:
        self._lane = lane
        self._deployment = member.deployment
        self._breaker = member.breaker
        self._health = member.health
        self._flight = member.health.begin()
        self._deaf: Callable[[], None] = _nothing  # stops hearing of its ejection
        self._permit = permit
        self._call = call
        self._clock = clock
        self._asked = asked
        self._elsewhere = elsewhere
        self._span = tracing.start(f"{genai.operation_of(call.kind)} {self._deployment.model}", "client")
        self._told: Callable[[], Mapping[str, tracing.Value]] = dict  # of the answer, for the span

    async def open(self) -> Answer:
        """Get the answer, or its stream with the first token at hand.

        Raises:
            UpstreamError: this deployment failed; another may do better.
            UpstreamRefused: the request is at fault, or (429) this deployment is busy.
        """
        deployment, call = self._deployment, self._call
        if call.stream:
            return Answer(call.group, await self.stream(scanner_for(call, deployment)), deployment)
        whole, said = await self._reported(self._whole)
        return Answer(call.group, whole, deployment, said)

    async def stream(self, scanner: SseScanner, left_s: float | None = None) -> FrameStream:
        """Get a stream, which the scanner reads, with its first token at hand.

        Args:
            left_s: seconds until the whole answer must be there; None: as long as such a call may take.

        Raises: as `open`.
        """
        limit_s = self._call.limit_s(self._deployment.deadlines)
        return await self._reported(lambda: self._stream(scanner, limit_s if left_s is None else min(left_s, limit_s)))

    async def _reported(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it, and tell breaker, health and metrics if it fails."""
        try:
            with tracing.below(self._span):
                return await work()
        except UpstreamRefused as error:
            self._flight.end(ok=True)
            # It is healthy either way; one that is busy says nothing that would close a breaker.
            self._count("busy" if error.status == 429 else "refused")
            if self._call.shadow:
                self._breaker.withdraw(self._permit)
            elif error.status == 429:
                self._breaker.withdraw(self._permit)
                self._rest(error.rest_s)
            else:
                self._breaker.report(self._permit, ok=True)
            raise
        except AnswerDiverged:
            self._flight.end(ok=True)
            self._breaker.report(self._permit, ok=True)
            self._count("diverged")
            raise
        except UpstreamError as error:
            self._count(_outcome(error))
            if self._call.shadow:
                self._flight.end()
                self._breaker.withdraw(self._permit)
                raise
            self._flight.end(ok=False)
            self._breaker.report(self._permit, ok=False)
            if isinstance(error, UpstreamUnavailable):
                self._health.gone()
            self._rest(error.retry_after_s)
            self._warn("deployment failed", error)
            raise
        except BaseException:  # cancelled, or a bug: nothing was learnt, and the permit must not be lost
            self._flight.end()
            self._breaker.withdraw(self._permit)
            self._count("cancelled")
            raise

    async def _whole(self) -> tuple[Whole, tuple[Usage | None, str | None]]:
        limit_s = self._call.limit_s(self._deployment.deadlines)
        due_s = self._clock.monotonic() + limit_s
        whole = await self._within(lambda: due_s, lambda: self._lane.whole(self._deployment, self._call))
        try:
            said = read_whole(whole.body, self._call.kind)
        except ValueError as error:
            what = "something that is no JSON" if isinstance(error, orjson.JSONDecodeError) else error
            raise UpstreamFailed(self._deployment.name, f"answered with {what}") from error
        self._told = partial(genai.answered, *said, None)
        self._count("ok")
        if self._call.shadow:
            self._flight.end()
            self._breaker.withdraw(self._permit)
            return whole, said
        self._flight.end(ok=True)
        self._breaker.report(self._permit, ok=True)
        return whole, said

    async def _stream(self, scanner: SseScanner, limit_s: float) -> FrameStream:
        deployment, call = self._deployment, self._call
        started_s = self._clock.monotonic()

        def due_s() -> float:
            """The first token's clock stands still while the engine moves, as in a long prompt or a queue."""
            moved_s = self._health.moved_s
            since_s = started_s if moved_s is None else max(started_s, moved_s)
            return min(since_s + deployment.deadlines.first_token_s, started_s + limit_s)

        source = await self._within(due_s, lambda: self._lane.stream(deployment, call), "sent no token")
        stream = FrameStream(deployment, source, scanner, self._clock, started_s + limit_s, self._ended)
        self._told = partial(_streamed, stream, started_s)

        def stop(reason: str) -> None:
            asked = {deployment.name} if scanner.started else self._asked
            rescuable = call.rescue and deployment.rescue
            if (rescuable or not scanner.started) and self._elsewhere(asked):
                stream.abandon(reason)

        self._deaf = self._health.on_eject(stop)
        try:
            await stream.start(due_s)
        except BaseException:
            self._deaf()
            stream.forget()  # the failure is reported by `_reported`, not as the end of a stream
            await stream.aclose()
            raise
        self._flight.answered()
        if self._permit.probe:
            # A probe is over with the first token: the whole stream may take minutes, in which nobody else may call.
            self._breaker.report(self._permit, ok=True)
        return stream

    async def _within(
        self, due_s: Callable[[], float], work: Callable[[], Awaitable[T]], what: str = "did not answer"
    ) -> T:
        """Do it in time, and only while nobody sees its engine stand still.

        Args:
            due_s: reading of the monotonic clock at which it is overdue; may grow meanwhile.
        """
        reasons: list[str] = []
        loop, began_s, by_s = asyncio.get_running_loop(), self._clock.monotonic(), due_s()
        try:
            async with asyncio.timeout(None) as timer:
                alarm: asyncio.TimerHandle

                def overdue() -> None:
                    nonlocal alarm, by_s
                    before_s, by_s = by_s, due_s()
                    if by_s > before_s:
                        alarm = loop.call_later(by_s - self._clock.monotonic(), overdue)
                    else:
                        timer.reschedule(0)

                alarm = loop.call_later(by_s - began_s, overdue)

                def stop(reason: str) -> None:
                    if self._elsewhere(self._asked):
                        reasons.append(reason)
                        timer.reschedule(0)

                self._deaf = self._health.on_eject(stop)
                try:
                    return await work()
                finally:
                    self._deaf()
                    alarm.cancel()
        except TimeoutError as error:
            if reasons:
                raise UpstreamEjected(self._deployment.name, f"was ejected: {reasons[0]}") from error
            waited_s = round(by_s - began_s, 3)
            raise UpstreamTimeout(self._deployment.name, f"{what} within {waited_s:g} s") from error

    def _rest(self, seconds: float | None) -> None:
        """Leave it alone for as long as it asked."""
        if seconds is not None:
            self._health.leave_alone(min(seconds, _MOST_REST_S))

    def _ended(self, outcome: str, error: RouterError | None) -> None:
        """A stream is over; one that its client left is no fault of the deployment's."""
        self._deaf()
        self._count(outcome)
        failed = outcome in ("broken", "timeout")
        self._flight.end(None if outcome == "cancelled" else not failed)
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
        if self._span is not None and not self._span.trace.over:
            self._span.details = partial(_details, self._call, self._deployment, self._told)
            self._span.end("" if outcome in ("ok", "cancelled") else outcome)


def _details(
    call: Call, deployment: Deployment, told: Callable[[], Mapping[str, tracing.Value]]
) -> dict[str, tracing.Value]:
    own: dict[str, tracing.Value] = {"stoker.model_group": call.group, "stoker.deployment": deployment.name}
    if deployment.api_base is not None and (host := urlsplit(deployment.api_base).hostname):
        own["server.address"] = host
    return {**genai.asked(call.kind, deployment.provider, deployment.model, call.body), **own, **told()}


def _streamed(stream: FrameStream, started_s: float) -> dict[str, tracing.Value]:
    first_s = stream.first_token_s
    return genai.answered(stream.usage, stream.finish_reason, None if first_s is None else first_s - started_s)


def _nothing() -> None:
    pass


@found_once
def _calls(group: str, deployment: str, outcome: str) -> Counter:
    return UPSTREAM_CALLS.labels(group, deployment, outcome)  # finding a series costs more than counting in it


def _outcome(error: UpstreamError) -> str:
    if isinstance(error, UpstreamTimeout):
        return "timeout"
    return "unavailable" if isinstance(error, UpstreamUnavailable) else "failed"


def scanner_for(call: Call, deployment: Deployment) -> SseScanner:
    """What reads the call's stream."""
    if call.kind == "messages":
        return MessagesScanner()
    return SseScanner(
        keep_usage_chunk=call.wants_usage_chunk,
        keep=call.rescue and deployment.rescue,
        hide_ids=deployment.names_tokens and call.wants_ids and not call.shows_ids,
    )
