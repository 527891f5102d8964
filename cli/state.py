"""What is known about the running stack, kept in one file that is always whole, and the lock that says it runs."""

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from cli.process import RUN_MARKER, ProcessId, boot_id, marked, session_of


class PartState(StrEnum):
    """Where a part is in its life."""

    WAITING = "waiting"  # for the parts it stands on
    STARTING = "starting"  # runs, does not answer yet
    READY = "ready"
    DONE = "done"  # a task that ended well
    RESTARTING = "restarting"  # died; a new one starts after the back-off
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(slots=True)
class PartStatus:
    """One part, as `status` shows it.

    Attributes:
        restarts: how often it died and was started again.
        failures: how often in a row it ended before it was ready.
        ready_after_s: seconds from its last start to its readiness; None: it was never ready.
        note: how it last ended, for a person.
        optional: the stack counts as ready without it.
    """

    name: str
    state: PartState = PartState.WAITING
    pid: int | None = None
    started: int | None = None
    port: int | None = None
    restarts: int = 0
    failures: int = 0
    ready_after_s: float | None = None
    note: str = ""
    optional: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether nobody need wait for it."""
        return self.optional or self.state in (PartState.READY, PartState.DONE)

    @property
    def process(self) -> ProcessId | None:
        """The process, if it lives."""
        if self.pid is None or self.started is None:
            return None
        process = ProcessId(self.pid, self.started)
        return process if process.is_alive() else None


@dataclass(slots=True)
class StackState:
    """The stack of one data folder. Holds no secret."""

    run_id: str
    url: str
    supervisor_pid: int
    supervisor_started: int
    started_at: float
    engine: str
    parts: list[PartStatus] = field(default_factory=list)
    boot: str = field(default_factory=boot_id)

    @property
    def supervisor(self) -> ProcessId:
        return ProcessId(self.supervisor_pid, self.supervisor_started)

    def is_ready(self) -> bool:
        return bool(self.parts) and all(part.is_settled for part in self.parts)

    def processes(self) -> list[ProcessId]:
        """Every living process of this run, the supervisor first."""
        if self.boot != boot_id():
            return []
        found = [self.supervisor] if self.supervisor.is_alive() else []
        found += marked(RUN_MARKER, self.run_id)
        for part in self.parts:
            if part.pid is not None and part.started is not None:
                found += session_of(ProcessId(part.pid, part.started))
        return list(dict.fromkeys(found))

    def save(self, run_dir: Path) -> None:
        write_whole(_file(run_dir), json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, run_dir: Path) -> "StackState | None":
        """The last state written; None when there is none. A supervisor that was killed leaves its last one behind."""
        try:
            raw: dict[str, Any] = json.loads(_file(run_dir).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        parts = [PartStatus(**{**part, "state": PartState(part["state"])}) for part in raw.pop("parts")]
        return cls(**raw, parts=parts)

    @staticmethod
    def forget(run_dir: Path) -> None:
        _file(run_dir).unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write with mode 0600 beside the target and rename: a reader never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    os.replace(temporary, path)


def take_lock(run_dir: Path) -> int | None:
    """Take the lock of this data folder. Returns: a descriptor; None when another process holds it.

    The lock lasts until the last copy of the descriptor is closed: `up` hands one to the supervisor, and the kernel
    closes that one however the supervisor ends.
    """
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(run_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    own = ProcessId.of(os.getpid())
    assert own is not None  # this process lives
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{own.pid} {own.started}".encode())
    return descriptor


def holder(run_dir: Path) -> ProcessId | None:
    """Whoever took the lock, while it is held; the supervisor goes on holding what an `up` that has ended took."""
    try:
        descriptor = os.open(run_dir / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        words = os.pread(descriptor, 100, 0).split()
        return ProcessId(int(words[0]), int(words[1])) if len(words) == 2 else None
    else:
        return None
    finally:
        os.close(descriptor)


def _file(run_dir: Path) -> Path:
    return run_dir / "state.json"
