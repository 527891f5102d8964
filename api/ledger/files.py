"""The files of one worker in the ledger's folder, and the locks that say who works there.

WORKER.lock             held by flock while the worker lives; made first and removed last
WORKER.slots            requests under way
WORKER.NUMBER.journal   finished lines; a higher number means that the lower ones have ended
WORKER.NUMBER.offset    how many bytes of that journal are in SQL
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FILE_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Files:
    """Where one worker's files are."""

    folder: Path
    worker: str

    @property
    def lock(self) -> Path:
        return self.folder / f"{self.worker}.lock"

    @property
    def slots(self) -> Path:
        return self.folder / f"{self.worker}.slots"

    def journal(self, number: int) -> Path:
        return self.folder / f"{self.worker}.{number:06}.journal"

    def journals(self) -> list[Path]:
        """Those that are there, the oldest first."""
        return sorted(self.folder.glob(f"{self.worker}.*.journal"))

    def remove(self) -> None:
        """Take everything away, the lock last; may be repeated."""
        for path in self.folder.glob(f"{self.worker}.*"):
            if path != self.lock:
                path.unlink(missing_ok=True)
        self.lock.unlink(missing_ok=True)


def workers(folder: Path) -> list[Files]:
    """The workers that have files in the folder."""
    return [Files(folder, path.stem) for path in sorted(folder.glob("*.lock"))]


def hold(path: Path) -> int:
    """Make a lock file and hold it. Returns: its descriptor; closing it, or dying, gives the lock back."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is(descriptor, path):
            return descriptor
        os.close(descriptor)  # a shipper took the new file for a dead worker's, and has removed it


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Try to take the lock of a file or folder, without waiting. Yields: whether nobody else holds it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
