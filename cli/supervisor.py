"""Starts the parts in order, restarts what dies, and ends everything in order: `python -m cli.supervisor`.

It reads its plan from standard input, and inherits the stack's lock as an open descriptor. What it knows stands in
`state.json`, which the commands read. SIGTERM and SIGINT end the stack; should it be killed outright, the kernel
ends the parts (`PR_SET_PDEATHSIG`) and the watchman ends what they had started themselves.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from cli import ports, watchman
from cli.logfiles import LogFiles
from cli.parts import Part, Plan
from cli.probes import answers
from cli.process import RUN_MARKER, ProcessId, die_with_parent, kill_all, marked, session_of
from cli.state import PartState, PartStatus, StackState
from monitoring.logs import configure_logs, logger

_PROBE_EVERY_S = 0.2
_SETTLED_S = 60.0  # a part that was ready this long starts again without delay
_log = logger(__name__)


class BackOff:
    """How long to wait before the next start: 0.5 s, doubling up to 30 s."""

    def __init__(self, first_s: float = 0.5, longest_s: float = 30.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def after(self, ready_for_s: float) -> float:
        """Seconds to wait after a process that was ready for `ready_for_s` seconds."""
        if ready_for_s >= _SETTLED_S:
            self._next_s = self._first_s
        delay_s = self._next_s
        self._next_s = min(self._longest_s, self._next_s * 2)
        return delay_s


class Supervisor:
    """Runs one plan until it is told to stop."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._run_dir = Path(plan.data_dir) / "run"
        self._logs = LogFiles(Path(plan.data_dir) / "logs")
        own = ProcessId.of(os.getpid())
        assert own is not None  # this process lives
        self._state = StackState(plan.run_id, plan.url, own.pid, own.started, time.time(), plan.engine)
        self._state.parts = [PartStatus(part.name, port=part.port, optional=part.optional) for part in plan.parts]
        self._status = {status.name: status for status in self._state.parts}
        self._ready = {part.name: asyncio.Event() for part in plan.parts}
        self._ended = {part.name: asyncio.Event() for part in plan.parts}
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask for the orderly end; `run` returns when it has come."""
        self._stopping.set()

    async def run(self) -> None:
        self._state.save(self._run_dir)  # whoever has started this waits for it: without it nothing starts
        upkeep = asyncio.create_task(self._logs.keep_small())
        try:
            async with asyncio.TaskGroup() as group:
                for part in self._plan.parts:
                    group.create_task(self._keep(part))
        finally:
            upkeep.cancel()
            left = kill_all(lambda: marked(RUN_MARKER, self._plan.run_id))
            if left:
                _log.warning("processes were left over and killed", count=left)
            StackState.forget(self._run_dir)
            _log.info("stopped")

    async def _keep(self, part: Part) -> None:
        """One part's life, from waiting for what it needs to its end."""
        status, back_off = self._status[part.name], BackOff()
        try:
            for need in part.needs:
                await self._unless_stopping(self._ready[need].wait())
            while not self._stopping.is_set():
                ready_for_s, finished = await self._run_once(part, status)
                if finished or self._stopping.is_set():
                    break
                delay_s = back_off.after(ready_for_s)
                status.restarts += 1
                self._move(status, PartState.RESTARTING)
                _log.warning("restarting", part=part.name, after_s=delay_s, why=status.note, restarts=status.restarts)
                await self._unless_stopping(asyncio.sleep(delay_s))
            if part.is_task:
                await self._stopping.wait()
        finally:
            self._ended[part.name].set()

    async def _run_once(self, part: Part, status: PartStatus) -> tuple[float, bool]:
        """Start the process and stay with it to its end.

        Returns: seconds that it was ready; whether it was a task that did its work.
        """
        log = self._logs.path(part.name)
        log_start = log.stat().st_size if log.exists() else 0
        self._move(status, PartState.STARTING)
        started_s = time.monotonic()
        process = await self._start(part, log)
        leader = ProcessId.of(process.pid) or ProcessId(process.pid, 0)  # 0: it has ended already
        status.pid, status.started = leader.pid, leader.started
        self._save()
        ready_s: float | None = None
        exited = asyncio.create_task(process.wait())
        try:
            if not part.is_task and await self._becomes_ready(part, leader, exited, log, log_start):
                ready_s = time.monotonic()
                self._announce(status, ready_s - started_s)
            stop = asyncio.create_task(self._stopping.wait())
            if part.is_task or ready_s is not None:
                limit_s = part.ready_s if part.is_task else None
                await asyncio.wait({exited, stop}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if not exited.done():
                await self._end(part, status, process, leader, exited)
            code = await exited
        finally:
            kill_all(lambda: session_of(leader))  # what it started and left behind, such as vLLM's engine core
            self._ready[part.name].clear()
        status.pid = status.started = None
        if part.is_task and code == 0:
            self._announce(status, time.monotonic() - started_s, PartState.DONE)
            return 0.0, True
        status.note = _how_it_ended(code)
        if ready_s is None and not self._stopping.is_set():
            status.failures += 1
        self._move(status, PartState.STOPPED)
        return (0.0 if ready_s is None else time.monotonic() - ready_s), False

    async def _start(self, part: Part, log: Path) -> asyncio.subprocess.Process:
        with self._logs.open(part.name) as output:
            process = await asyncio.create_subprocess_exec(
                *part.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._plan.folder,
                env={**self._plan.environment, **part.environment, RUN_MARKER: self._plan.run_id},
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        _log.info("started", part=part.name, pid=process.pid, log=str(log))
        return process

    def _is_its_own(self, part: Part, leader: ProcessId) -> bool:
        """Whether what answered on the part's port is the part, and no stranger who was faster."""
        found = None if part.port is None else ports.holder(part.port)
        return found is None or found.pid in {process.pid for process in session_of(leader)}

    async def _becomes_ready(
        self, part: Part, leader: ProcessId, exited: asyncio.Task[int], log: Path, log_start: int
    ) -> bool:
        end_s = time.monotonic() + part.ready_s
        while not exited.done() and not self._stopping.is_set():
            if await answers(part.probe, log, log_start) and not exited.done() and self._is_its_own(part, leader):
                return True
            if time.monotonic() > end_s:
                _log.warning("not ready in time", part=part.name, seconds=part.ready_s)
                return False
            await asyncio.wait({exited}, timeout=_PROBE_EVERY_S)
        return False

    async def _end(
        self,
        part: Part,
        status: PartStatus,
        process: asyncio.subprocess.Process,
        leader: ProcessId,
        exited: asyncio.Task[int],
    ) -> None:
        """End a process: in order, after those that stand on it; then by force."""
        if self._stopping.is_set():
            for other in self._plan.parts:
                if part.name in other.needs:
                    await self._ended[other.name].wait()
        self._move(status, PartState.STOPPING)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(part.stop_signal)
        done, _ = await asyncio.wait({exited}, timeout=part.stop_s)
        if not done:
            _log.warning("did not end in time, so it is killed", part=part.name, seconds=part.stop_s)
            kill_all(lambda: session_of(leader))

    def _announce(self, status: PartStatus, seconds: float, state: PartState = PartState.READY) -> None:
        status.ready_after_s = round(seconds, 2)
        status.failures = 0
        self._ready[status.name].set()
        self._move(status, state)
        _log.info(state.value, part=status.name, seconds=round(seconds, 2))

    def _move(self, status: PartStatus, state: PartState) -> None:
        status.state = state
        self._save()

    def _save(self) -> None:
        """What can't be written now, as on a full disk, is with the next change; no part may end for that."""
        try:
            self._state.save(self._run_dir)
        except OSError as error:
            _log.warning("the state can't be written", reason=str(error))

    async def _unless_stopping(self, work: object) -> None:
        """Wait for `work`, or for the stop if that comes first."""
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]  # any awaitable
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        stop.cancel()


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    with contextlib.suppress(ValueError):
        return f"ended by {signal.Signals(-code).name}"
    return f"ended by signal {-code}"


async def _main(plan: Plan) -> None:
    supervisor = Supervisor(plan)
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, supervisor.stop)
    await supervisor.run()


if __name__ == "__main__":
    configure_logs("supervisor")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal may close
    told = Plan.from_json(sys.stdin.read())
    with watchman.posted(Path(told.data_dir) / "run"):
        asyncio.run(_main(told))
