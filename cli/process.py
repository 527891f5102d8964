"""Processes as /proc shows them, and how they are ended.

A pid alone may have been given to another process since, so whatever is kept on disk names a process by
pid and start time. What belongs to one run also carries a marker in its environment, which its own children
inherit: nothing that a run started can hide from it.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

RUN_MARKER = "STOKER_RUN_ID"

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process, for good: `started` is its start in clock ticks after boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """The process that has this pid now; None when there is none, or only a zombie."""
        fields = _stat(pid)
        if fields is None or fields[0] in "ZX":
            return None
        return cls(pid, int(fields[19]))

    def is_alive(self) -> bool:
        return ProcessId.of(self.pid) == self

    def uptime_s(self) -> float:
        since_boot_s = float(Path("/proc/uptime").read_text().split()[0])
        return max(0.0, since_boot_s - self.started / _TICKS_PER_S)


def memory_bytes(pid: int) -> int:
    """Resident bytes of the process and its descendants; shared pages are counted in each."""
    total = 0
    for each in (pid, *(process.pid for process in descendants(pid))):
        fields = _stat(each)
        total += 0 if fields is None else int(fields[21]) * _PAGE_BYTES
    return total


def command_of(pid: int) -> str:
    """The command line, shortened to 120 characters; empty when it may not be read."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    text = " ".join(word.decode(errors="replace") for word in words).strip()
    return text if len(text) <= 120 else text[:119] + "…"


def marked(name: str, value: str) -> list[ProcessId]:
    """Every living process, except this one, whose environment at its start held `name=value`."""
    wanted = f"{name}={value}".encode()
    found = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue  # gone, or another user's
        if wanted in environment.split(b"\0") and (process := ProcessId.of(pid)) is not None:
            found.append(process)
    return found


def session_of(leader: ProcessId) -> list[ProcessId]:
    """The living processes of the session that `leader` began, whether it still lives or not.

    A title that a program gives itself (vLLM's engine core does) may overwrite its environment, and with it the
    marker; its session stays. While a session has members, the kernel gives its number to nobody else.
    """
    now = ProcessId.of(leader.pid)
    if now is not None and now != leader:
        return []
    members = []
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None and int(fields[3]) == leader.pid and fields[0] not in "ZX":
            members.append(ProcessId(pid, int(fields[19])))
    return members


def descendants(pid: int) -> list[ProcessId]:
    """The living children of a process, their children, and so on."""
    children: dict[int, list[int]] = {}
    for other in _pids():
        if (fields := _stat(other)) is not None:
            children.setdefault(int(fields[1]), []).append(other)
    found, queue = [], list(children.get(pid, ()))
    while queue:
        current = queue.pop()
        queue.extend(children.get(current, ()))
        if (process := ProcessId.of(current)) is not None:
            found.append(process)
    return found


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that `descendants` misses none."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def reap(but: Collection[int]) -> None:
    """Take notice of adopted processes that have ended: until somebody does, they look alive to those who ask for them.

    Args:
        but: pids of our own children, for which somebody waits.
    """
    with suppress(ChildProcessError):  # there is none at all
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in but:
            os.waitpid(ended.si_pid, 0)


def boot_id() -> str:
    """Names the time since the machine was started: pids of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def kill_all(find: Callable[[], Iterable[ProcessId]], deadline_s: float = 10.0) -> int:
    """SIGKILL what `find` finds until it finds nothing. Returns: how many processes were killed.

    A process may start another between the look and the kill, hence the repetition.
    """
    killed: set[ProcessId] = set()
    end_s = time.monotonic() + deadline_s
    while (alive := list(find())) and time.monotonic() < end_s:
        for process in alive:
            if process.is_alive():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGKILL)
                    killed.add(process)
        time.sleep(0.02)
    return len(killed)


def die_with_parent(signal_number: int) -> Callable[[], None]:
    """For `preexec_fn`: the kernel sends the signal when the thread that started the process ends, kill -9 included.

    Signals that are ignored here (SIGINT in a shell's background job) work again in the child: it is ended by them.
    """
    parent = os.getpid()

    def prepare() -> None:
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, signal.SIG_DFL)
        _libc.prctl(_PR_SET_PDEATHSIG, signal_number)
        if os.getppid() != parent:  # it ended before the line above
            os.kill(os.getpid(), signal_number)

    return prepare


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on; the second, a name, may hold anything."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
