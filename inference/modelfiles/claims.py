"""One process at a time works on a model, on a volume that many hosts may share.

What is under way lies in `.work/KEY.OWNER`. A claim is taken by renaming such a folder to one's own name, which is
atomic on network volumes too, where file locks may do nothing. A process that ends in order leaves `KEY.free`. That of
a dead one is taken over with all that it had: at once where it ran on this machine; elsewhere when it gave no sign for
`STALE_S`, by the volume's own clock. Should two hosts ever work on the same model, both publish the same folder.
"""

import contextlib
import hashlib
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inference.modelfiles.says import say

WORK = ".work"
STALE_S = 300.0
_BEAT_S = 20.0
_LOOK_S = 1.0
_ALIVE, _FREE, _PART, _TRASH = "alive", "free", ".part", "~trash~"


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, told from every other on every host.

    Attributes:
        machine: where process numbers mean the same.
        started: when it started, in the kernel's ticks.
    """

    machine: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> "Owner":
        boot = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
        return cls(hashlib.sha256(boot.encode()).hexdigest()[:12], os.getpid(), _started(os.getpid()))

    def __str__(self) -> str:
        return f"{self.machine}-{self.pid}-{self.started}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A folder to work in, which nobody else uses.

    Attributes:
        tree: what will be published.
        raw: what is needed only to make it.
    """

    folder: Path

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def raw(self) -> Path:
        return self.folder / "raw"


class Claims:
    """The claims on a folder of models.

    Args:
        owner: whose they will be.
        pause: waits for so many seconds.
    """

    def __init__(
        self, models_dir: Path, owner: Owner | None = None, pause: Callable[[float], object] = time.sleep
    ) -> None:
        self._work = models_dir / WORK
        self._owner = owner or Owner.this_process()
        self._pause = pause

    @contextmanager
    def held(self, key: str, is_done: Callable[[], bool]) -> Iterator[Claim | None]:
        """Wait for a model's claim and hold it; what is left in it stays for the next.

        Args:
            key: of one content: the same key, the same bytes.
            is_done: whether somebody else has published it.

        Yields: None when somebody has.
        """
        claim = self._await(key, is_done)
        if claim is None:
            yield None
            return
        stop = threading.Event()
        beat = threading.Thread(target=self._beat, args=(claim, stop), daemon=True)
        beat.start()
        try:
            yield claim
        finally:
            stop.set()
            beat.join()
            if is_done():
                shutil.rmtree(claim.folder, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):  # a dead process's claim is taken just as well
                    claim.folder.rename(self._work / f"{key}.{_FREE}")

    def others(self, prefix: str) -> list[tuple[Path, bool]]:
        """Folders of keys that begin so, and whether somebody works in them."""
        return [(path, not self._is_dead(path)) for path in self._work.glob("[!.]*") if path.name.startswith(prefix)]

    def sweep(self) -> None:
        """Remove what a process that was to remove it has left."""
        self.discard(_TRASH)

    def discard(self, prefix: str, keep: str | None = None) -> None:
        """Remove what dead processes left of keys that begin so, but of the one to keep."""
        for path, lives in self.others(prefix):
            if not lives and (keep is None or path.name.rpartition(".")[0] != keep):
                trash = self.trash(path.name.rpartition(".")[0])
                with contextlib.suppress(OSError):
                    path.rename(trash)  # so that nobody claims it half removed
                    shutil.rmtree(trash, ignore_errors=True)

    def trash(self, key: str) -> Path:
        """Where something can be moved to before it is removed."""
        self._work.mkdir(parents=True, exist_ok=True)
        return self._work / f"{_TRASH}{key}.{self._owner}"

    def _await(self, key: str, is_done: Callable[[], bool]) -> Claim | None:
        self._work.mkdir(parents=True, exist_ok=True)
        waits = False
        while True:
            if is_done():
                return None
            claim = self._try(key)
            if claim is not None:
                return claim
            if not waits:
                waits = True
                say("wait", "another process is making the same model; waiting for it", done=False)
            self._pause(_LOOK_S * (1 + random.random()))  # noqa: S311  # so that two don't meet again and again

    def _try(self, key: str) -> Claim | None:
        """Returns: None while somebody else has it."""
        mine = self._work / f"{key}.{self._owner}"
        there = self._of(key)
        for path in there:
            if self._is_dead(path):
                with contextlib.suppress(OSError):  # another was faster
                    self._take(path, mine)
                    return Claim(mine)
        if there:
            return None
        mine.mkdir()
        (mine / _ALIVE).touch()
        if len(self._of(key)) > 1:  # both have begun: both step back
            shutil.rmtree(mine)
            return None
        return Claim(mine)

    def _take(self, path: Path, mine: Path) -> None:
        (path / _ALIVE).touch()  # or it would look abandoned in the new hands, too
        path.rename(mine)
        owner = path.name.rpartition(".")[2]
        if owner == _FREE or owner.startswith(f"{self._owner.machine}-"):
            return
        # Its process may only have been frozen, and would write on into a file that it has open.
        for part in mine.rglob(f"*{_PART}"):
            fresh = part.with_name(f"{part.name}.fresh")
            try:
                shutil.copyfile(part, fresh)
                fresh.replace(part)
            except OSError:  # such as no room for both: it comes again
                fresh.unlink(missing_ok=True)
                part.unlink()

    def _of(self, key: str) -> list[Path]:
        return [path for path in self._work.glob("[!.]*") if path.name.rpartition(".")[0] == key]

    def _is_dead(self, path: Path) -> bool:
        owner = path.name.rpartition(".")[2]
        if owner == _FREE:
            return True
        machine, _, process = owner.partition("-")
        pid, _, started = process.partition("-")
        if machine == self._owner.machine and pid.isdigit():
            return _started(int(pid)) != started
        try:
            seen_s = max(place.stat().st_mtime for place in (path, path / _ALIVE) if place.exists())
        except (OSError, ValueError):
            return False  # it is gone: look again
        return self._volume_time_s() - seen_s > STALE_S

    def _volume_time_s(self) -> float:
        """The time as the volume has it: clocks of hosts differ."""
        clock = self._work / ".clock"
        clock.touch()
        return clock.stat().st_mtime

    def _beat(self, claim: Claim, stop: threading.Event) -> None:
        while not stop.wait(_BEAT_S):
            with contextlib.suppress(OSError):  # it was taken away: the work itself will find nothing
                os.utime(claim.folder / _ALIVE)


def part_of(path: Path) -> Path:
    """Where a file's bytes gather until it is whole."""
    return path.with_name(path.name + _PART)


def _started(pid: int) -> str:
    """When a process started; empty for one that is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
