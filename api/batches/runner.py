"""The runner: a task in each worker of the gateway that sends lines of batches while there is room for them.

Room is what the router's gate leaves to calls of the class `batch`, and a few lines at a time. Whatever happens to this
worker, its leases run out, and another one goes on.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol

from api.batches.batchleases import BatchLeases, OpenBatch
from api.batches.errors import LeaseLost
from api.batches.forms import LineUsage, answered, request_id_of, worn_out
from api.batches.lineleases import Answered, LineLease, LineLeases
from api.batches.lines import Bounds
from api.batches.papers import KEY_GONE, Papers, Who
from api.batches.sending import Reply, Sender
from api.batches.states import ON_PAPER, Status
from api.batches.verdict import Again, Rests, judge
from api.identities import Identity
from api.lookup import Lookup
from api.state import AppState
from core.clock import Clock
from core.dependency import DependencyError
from core.ids import new_id
from monitoring.logs import logger

POLL_S = 1.0  # between two looks at what is to be done; so long a cancel takes, too
_SWEEP_S = 30.0
_TRIED = 20  # batches that one transaction looks through for a line
_log = logger(__name__)


class Sends(Protocol):
    """Sends one line."""

    async def send(self, identity: Identity, endpoint: str, body: str, request_id: str) -> Reply: ...


@asynccontextmanager
async def running(state: AppState) -> AsyncIterator[None]:
    """Run batches while the block runs, unless this gateway is to run none."""
    settings = state.settings
    if settings.batch_parallel == 0:
        yield
        return
    worker = f"{socket.gethostname()}-{os.getpid()}-{new_id('w')}"[:100]
    who = Lookup(state.database, state.clock)
    batches = BatchLeases(state.database, state.clock, worker, settings.batch_lease_s)
    bounds = Bounds(settings.batch_max_lines, settings.batch_max_line_bytes)
    runner = Runner(
        LineLeases(state.database, state.clock, worker, settings.batch_lease_s),
        batches,
        Papers(batches, state.files, who, bounds),
        Sender(state),
        who,
        state.clock,
        parallel=settings.batch_parallel,
        attempts=settings.batch_attempts,
        lease_s=settings.batch_lease_s,
    )
    task = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


class Runner:
    """Sends lines, reads files and ends batches until it is cancelled.

    Args:
        parallel: lines at once.
        attempts: of a line whose upstream fails.
        lease_s: for which SQL may be silent before what is being sent is given up.
    """

    def __init__(
        self,
        lines: LineLeases,
        batches: BatchLeases,
        papers: Papers,
        sender: Sends,
        who: Who,
        clock: Clock,
        *,
        parallel: int,
        attempts: int,
        lease_s: float,
        poll_s: float = POLL_S,
    ) -> None:
        self._lines = lines
        self._batches = batches
        self._papers = papers
        self._sender = sender
        self._who = who
        self._clock = clock
        self._parallel = parallel
        self._attempts = attempts
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._running: dict[LineLease, asyncio.Task[None]] = {}
        self._answered: set[LineLease] = set()  # of those running
        self._paper: asyncio.Task[None] | None = None
        self._open: list[OpenBatch] = []
        self._last_batch = ""  # that had a line taken: the next one's turn comes after it
        self._last_paper = ""
        self._next_look_s = clock.monotonic()
        self._next_sweep_s = clock.monotonic()
        self._held_until_s = clock.monotonic()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled; then hand back what is being sent."""
        try:
            while True:
                self._wake.clear()
                try:
                    await self._turn()
                except DependencyError as error:
                    _log.warning("batches wait for a part that is away", part=error.name, reason=str(error))
                    self._open = []
                except Exception as error:  # a defect must not end batches for good
                    _log.error("a look at batches failed", exc_info=error)
                    self._open = []
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self._next_look_s - self._clock.monotonic())):
                        await self._wake.wait()
        finally:
            tasks = [*self._running.values(), *([] if self._paper is None else [self._paper])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._leave(self._lines.release_all)  # of a task that had not begun, too
            await self._leave(self._batches.release_all)

    async def _turn(self) -> None:
        if self._clock.monotonic() >= self._next_look_s:
            self._next_look_s = self._clock.monotonic() + self._poll_s
            await self._hold()
            await self._look()
        while len(self._running) < self._parallel and (ids := self._in_turn()):
            lease = await self._lines.acquire(ids)
            if lease is None:
                self._last_batch = ids[-1]
                return
            self._last_batch = lease.batch_id
            task = self._running[lease] = asyncio.create_task(self._carry(lease))
            task.add_done_callback(partial(self._over, lease))

    async def _hold(self) -> None:
        """Renew what is being sent; what is wanted no more, or has been taken back, is cancelled.

        An answer that is there has been paid for: it is kept, if it can be.
        """
        asked_s = self._clock.monotonic()
        try:
            held = await self._lines.renew(list(self._running))
        except DependencyError:
            if asked_s <= self._held_until_s:
                raise
            held = set()
        self._held_until_s = asked_s + self._lease_s
        unwanted = {lease: task for lease, task in self._running.items() if lease not in held | self._answered}
        for task in unwanted.values():
            task.cancel()
        await asyncio.gather(*unwanted.values(), return_exceptions=True)
        for lease in unwanted:
            await self._leave(partial(self._lines.release, lease))

    async def _look(self) -> None:
        """Learn what is to be done, and do of it what concerns whole batches."""
        self._open = await self._batches.open_ones()
        if self._open:
            await self._lines.take_back()
        for batch in self._open:
            if batch.status is Status.IN_PROGRESS and batch.over:
                await self._batches.stop(batch.id, Status.EXPIRED)
        if self._clock.monotonic() >= self._next_sweep_s:
            self._next_sweep_s = self._clock.monotonic() + _SWEEP_S
            await self._batches.sweep()
        if self._paper is None or self._paper.done():
            waiting = [batch.id for batch in self._open if batch.status in ON_PAPER and batch.free]
            self._paper = None
            if waiting:
                self._last_paper = _behind(self._last_paper, waiting)[0]
                self._paper = asyncio.create_task(self._handle(self._last_paper))

    def _in_turn(self) -> list[str]:
        """Some batches of which lines may be sent, beginning behind the one that was served last."""
        ids = [batch.id for batch in self._open if batch.status is Status.IN_PROGRESS and not batch.resting]
        return _behind(self._last_batch, ids)[:_TRIED]

    def _over(self, lease: LineLease, _task: "asyncio.Task[None]") -> None:
        self._running.pop(lease, None)
        self._answered.discard(lease)
        self._wake.set()

    async def _handle(self, batch_id: str) -> None:
        try:
            if await self._papers.handle(batch_id):
                self._next_look_s = self._clock.monotonic()  # there may be lines to send now
                self._wake.set()
        except DependencyError as error:
            _log.warning("a batch waits for a part that is away", batch=batch_id, reason=str(error))
        except Exception as error:
            _log.error("work on a batch failed", batch=batch_id, exc_info=error)

    async def _carry(self, lease: LineLease) -> None:
        """Take one line to its end, or hand it back; whoever cancels this hands it back."""
        try:
            await self._send(lease)
        except DependencyError as error:  # before anything was sent
            _log.warning("a line waits for a part that is away", batch=lease.batch_id, reason=str(error))
            await self._leave(lambda: self._lines.release(lease))
        except Exception as error:
            _log.error("sending a line failed", batch=lease.batch_id, line=lease.number, exc_info=error)
            await self._leave(lambda: self._lines.retry(lease, self._poll_s))

    async def _send(self, lease: LineLease) -> None:
        if lease.attempt > self._attempts:  # its workers went silent, one after the other
            await self._insist(lambda: self._lines.finish(lease, self._given_up(lease)))
            return
        identity = await self._who.standing(lease.key_id, lease.user_id)
        if identity is None:
            await self._batches.stop(lease.batch_id, Status.FAILED, KEY_GONE)
            await self._insist(lambda: self._lines.release(lease))
            return
        request_id = request_id_of(lease.batch_id, lease.number, lease.fence)
        reply = await self._sender.send(identity, lease.endpoint, lease.body, request_id)
        self._answered.add(lease)
        verdict = judge(reply, lease.attempt, self._attempts)
        if isinstance(verdict, Rests):
            seconds = verdict.seconds
            self._open = [one for one in self._open if one.id != lease.batch_id]  # until the next look
            await self._insist(lambda: self._lines.rest(lease, seconds))
        elif isinstance(verdict, Again):
            seconds = verdict.seconds
            await self._insist(lambda: self._lines.retry(lease, seconds))
        else:
            text = answered(lease.batch_id, lease.number, lease.custom_id, reply.status, request_id, reply.body)
            came = Answered(text, reply.ok, LineUsage.of(reply.body) if reply.ok else LineUsage())
            await self._insist(lambda: self._lines.finish(lease, came))

    def _given_up(self, lease: LineLease) -> Answered:
        text = worn_out(lease.batch_id, lease.number, lease.custom_id, lease.attempt - 1)
        return Answered(text, ok=False, usage=LineUsage())

    async def _insist(self, last_word: Callable[[], Awaitable[None]]) -> None:
        """Say what came of a line, also after a moment without SQL, unless the lease has been lost by then."""
        while True:
            try:
                await last_word()
                return
            except LeaseLost as error:
                _log.warning("lease lost", reason=str(error))
                return
            except DependencyError:
                await asyncio.sleep(self._poll_s)

    async def _leave(self, last_word: Callable[[], Awaitable[None]]) -> None:
        """Say the last word about a line; one that isn't heard is made up for when the lease runs out."""
        with contextlib.suppress(LeaseLost, DependencyError):
            await last_word()


def _behind(last: str, ids: list[str]) -> list[str]:
    """In turn: those that come after the one whose turn it was last."""
    return sorted(ids, key=lambda one: (one <= last, one))
