"""Who goes on with a stream that broke: the same search as for a first answer, with what was said so far in hand."""

from collections.abc import Awaitable, Callable, Iterator
from copy import deepcopy

import orjson

from core.breaker import Permit
from core.usage import Usage
from monitoring.logs import logger
from monitoring.metrics import RESCUES
from router.answer import FrameStream
from router.attempt import Attempt
from router.call import Call
from router.choice import Member
from router.continuation import ContinuedScanner, How, Rescued, continued, exhausted, ways
from router.errors import RouterError, UpstreamError, UpstreamRefused
from router.events import DONE, frame
from router.transcript import Said

_MOST = 3  # changes of deployments in one stream: an answer that breaks everywhere is perhaps what breaks them
_log = logger(__name__)


class Rescuer:
    """Made for one stream.

    Args:
        candidates: deployments to try, each with a permit of its breaker.
        clear: asks whether to make the probe that a permit is for; as `Probes.clear`.
        attempt: makes one try, and adds its deployment to the names of those that were asked.
        patience: made for each rescue; waits a moment where that is worth it, and says whether to try again.
    """

    def __init__(
        self,
        call: Call,
        candidates: Callable[[], Iterator[tuple[Member, Permit]]],
        clear: Callable[[Member, Permit], Awaitable[Permit | None]],
        attempt: Callable[[Member, Permit, Call, set[str]], Attempt],
        patience: Callable[[], Callable[[], Awaitable[bool]]],
    ) -> None:
        self._call = call
        self._candidates = candidates
        self._clear = clear
        self._attempt = attempt
        self._patience = patience
        self._rescued: list[Rescued] = []
        self._broken: set[str] = set()

    async def __call__(self, broken: FrameStream, error: RouterError) -> FrameStream | bytes | None:
        """As `router.answer.Rescue` says."""
        call, name = self._call, broken.deployment.name
        if isinstance(error, UpstreamRefused) and error.status != 429:
            return None
        said = broken.said()
        if said is None or not broken.deployment.rescue:
            return None
        if said.finish_reason is not None or exhausted(call, said):
            return _ending(call, said, broken.usage)
        self._broken.add(name)
        found, patience = None, self._patience()
        while len(self._rescued) < _MOST and broken.left_s > 0:
            found = await self._search(broken, said)
            if found is not None or not await patience():
                break
        outcome = "none" if found is None else self._rescued[-1].how.value
        RESCUES.labels(call.group, name, outcome).inc()
        _log.warning(
            "stream rescued" if found else "stream lost", request_id=call.request_id, deployment=name, by=outcome
        )
        return found

    async def _search(self, broken: FrameStream, said: Said) -> FrameStream | None:
        """Ask those that have not broken yet, then those that have, but not the one that just did."""
        again = []
        asked = {broken.deployment.name}
        for member, permit in self._candidates():
            if member.deployment.name in self._broken:
                member.breaker.withdraw(permit)
                again.append(member)
            elif (found := await self._go_on(broken, said, member, permit, asked)) is not None:
                return found
        for member in again:
            if member.deployment.name != broken.deployment.name:
                found = await self._go_on(broken, said, member, None, asked)
                if found is not None:
                    return found
        return None

    async def _go_on(
        self, broken: FrameStream, said: Said, member: Member, permit: Permit | None, asked: set[str]
    ) -> FrameStream | None:
        """Have one deployment go on, in the best way that it takes."""
        for how in ways(self._call, said, broken.deployment, member.deployment):
            permit = permit or member.breaker.acquire()
            if permit is not None and permit.probe:
                permit = await self._clear(member, permit)
            if permit is None:
                return None
            rescued = [
                *self._rescued,
                Rescued(broken.deployment.name, member.deployment.name, said.tokens, how),
            ]
            attempt = self._attempt(member, permit, continued(self._call, said, how), asked)
            permit = None
            try:
                stream = await attempt.stream(self._scanner(said, how, rescued), broken.left_s)
            except UpstreamRefused as error:
                if error.status == 429:
                    return None
                continue  # it does not take this way
            except UpstreamError:
                return None
            self._rescued = rescued
            return stream
        if permit is not None:
            member.breaker.withdraw(permit)
        return None

    def _scanner(self, said: Said, how: How, rescued: list[Rescued]) -> ContinuedScanner:
        call = self._call
        return ContinuedScanner(
            call.kind,
            deepcopy(said),  # it grows with the stream, which may fail before anybody has seen it
            how,
            rescued,
            keep_usage_chunk=call.wants_usage_chunk,
            show_ids=call.shows_ids,
        )


def _ending(call: Call, said: Said, usage: Usage | None) -> bytes:
    """The end of an answer that lacks nothing else."""
    frames: list[dict[str, object]] = []
    if said.finish_reason is None:
        said_nothing: dict[str, object] = {"delta": {}} if call.kind == "chat.completions" else {"text": ""}
        frames.append({**said.head, "choices": [{"index": 0, **said_nothing, "finish_reason": "length"}]})
    if call.wants_usage_chunk and usage is None and said.prompt_ids:
        total = Usage(len(said.prompt_ids), said.tokens)
        frames.append({**said.head, "choices": [], "usage": total.as_openai()})
    return b"".join(frame(orjson.dumps(one)) for one in frames) + frame(DONE)
