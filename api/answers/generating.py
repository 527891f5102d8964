"""The stage that has a model write: once, and once more with half of what it was shown where nothing came.

Both calls stand in one reservation and one request of the ledger, each as a segment of its own: what a model made is
billed, whether it was told or not.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

from api.answers.bill import Account
from api.answers.context import Excerpt
from api.answers.deltas import StreamBroken, texts
from api.answers.sentences import SentenceBuffer
from api.ledger.line import Outcome
from core.dependency import DependencyError
from core.usage import Usage
from monitoring.logs import logger
from router.deployment import Deployment
from router.errors import GuardFailed, GuardRefused, NoDeployment, RouterError, UpstreamRefused
from router.router import Answer, Call, Router

_log = logger(__name__)

T = TypeVar("T")


class Late(Exception):
    """The model took longer than the stage may."""


class Generator:
    """Has one answer written.

    Args:
        deadline_s: for which the model is waited for, over both calls.
        first_token_s: the same for the first token of each.
        told: whether the client was told anything: then nobody is asked again.

    Attributes:
        answer: the last one that was opened.
        failure: why what came is less than an answer; None: nothing is wrong with it.
        fewer: it was written from fewer excerpts.
    """

    def __init__(
        self, router: Router, metered: Account, deadline_s: float, first_token_s: float, told: Callable[[], bool]
    ) -> None:
        self._router = router
        self._metered = metered
        self._deadline_s = deadline_s
        self._first_token_s = first_token_s
        self._told = told
        self._waited_s = 0.0
        self._before: Usage | None = None  # of the call before; None: none was opened
        self.answer: Answer | None = None
        self.failure: str | None = None
        self.fewer = False

    @property
    def usage(self) -> Usage:
        """Of both calls."""
        return (self._before or Usage()) + (Usage() if self.answer is None else self.answer.usage or Usage())

    async def write(
        self, excerpts: Sequence[Excerpt], call: Callable[[Sequence[Excerpt], bool], Call], *, whole: bool
    ) -> AsyncGenerator[str, None]:
        """What the model says, as it says it.

        Args:
            excerpts: the best first.
            call: what is asked with these of them, for the second time or not.
            whole: a sentence at a time, and none that was cut off; else piece by piece.

        Raises: GuardRefused, GuardFailed.
        """
        outcome: Outcome = "client_left"
        passed_on = False
        try:
            for again, shown in ((False, excerpts), (True, excerpts[: max(1, len(excerpts) // 2)])):
                self.fewer = len(shown) < len(excerpts)
                asked = call(shown, again)
                try:
                    async with aclosing(self._said(asked, whole=whole)) as said:
                        async for piece in said:
                            passed_on = passed_on or not whole  # what may be a link waits, but is as good as told
                            yield piece
                except (GuardRefused, GuardFailed):
                    outcome = "failed"  # what may not be said is not quoted either, and nobody is asked again
                    raise
                except (RouterError, DependencyError, StreamBroken, Late) as error:
                    _log.warning("no answer was generated", request_id=asked.request_id, reason=str(error))
                    outcome, self.failure = "failed", f"no model answered: {error}"
                    if again or passed_on or self._told() or self.left_s <= 0 or not _may_go_better(error):
                        return
                    self._leave_behind()
                else:
                    outcome, self.failure = "ok", None
                    return
        finally:
            self._finish(outcome)

    async def _said(self, call: Call, *, whole: bool) -> AsyncGenerator[str, None]:
        """Raises: RouterError, DependencyError, StreamBroken, Late."""
        limit_s = min(self._first_token_s, self.left_s)
        answer = self.answer = await self._within(limit_s, self._router.open(call), "sent no token")
        buffer = SentenceBuffer()
        try:
            self._open(answer)
            assert answer.frames is not None
            pieces = texts(answer.frames)
            while (text := await self._within(self.left_s, _next(pieces), "did not finish")) is not None:
                self._metered.count((self._before or Usage()).completion_tokens + answer.tokens)
                for piece in buffer.add(text) if whole else [text]:
                    yield piece
        except StreamBroken as error:
            raise answer.refused or error from error
        finally:
            await answer.aclose()
        for sentence in [] if answer.finish_reason == "length" else buffer.rest():
            yield sentence

    def _open(self, answer: Answer) -> None:
        """Bill what comes: beside what the call before has used, where there was one."""
        before, metered = self._before, self._metered
        if before is None:
            metered.opened(answer.deployment)
            answer.on_switch = metered.switched
            return

        def switched(usage: Usage, deployment: Deployment) -> None:
            metered.switched(before + usage, deployment)

        metered.switched(before, answer.deployment, "failed")
        answer.on_switch = switched

    def _leave_behind(self) -> None:
        """Keep what the call that failed has used."""
        if self.answer is not None:
            self._before, self.answer = _used(self.answer), None

    def _finish(self, outcome: Outcome) -> None:
        answer = self.answer
        if answer is not None and answer.over and not answer.broken:
            outcome = "ok"
        used = (self._before or Usage()) + (Usage() if answer is None else _used(answer))
        self._metered.finish(used, outcome, 499 if outcome == "client_left" else 200)

    @property
    def left_s(self) -> float:
        """Of the deadline: what waiting for the model has left of it."""
        return self._deadline_s - self._waited_s

    async def _within(self, limit_s: float, work: Awaitable[T], what: str) -> T:
        """Wait for the model; what the client takes its time for does not count. Raises: Late."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async with asyncio.timeout(limit_s) as scope:
                return await work
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise Late(f"it {what} within {limit_s:g} s") from error
        finally:
            self._waited_s += loop.time() - began_s


def _used(answer: Answer) -> Usage:
    return answer.usage or Usage(0, answer.tokens)


async def _next(pieces: AsyncIterator[str]) -> str | None:
    return await anext(pieces, None)


def _may_go_better(error: Exception) -> bool:
    """Whether fewer passages may help: not where nobody is there, a limit refuses, or the request is at fault."""
    if isinstance(error, UpstreamRefused):
        return error.too_long
    return not isinstance(error, NoDeployment | DependencyError)
