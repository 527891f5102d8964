"""One log file per process. The processes hold their files open, so a file is cut short in place, not renamed."""

import asyncio
import shutil
from contextlib import suppress
from io import FileIO
from pathlib import Path

_LIMIT_BYTES = 50_000_000
_CHECK_EVERY_S = 30.0


class LogFiles:
    """The folder of logs: NAME.log is being written, NAME.log.1 is what came before."""

    def __init__(self, folder: Path, limit_bytes: int = _LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes

    def path(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def open(self, name: str) -> FileIO:
        """Open for appending, so that a file cut short goes on at its new end."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self.path(name).open("ab", buffering=0)

    async def keep_small(self) -> None:
        """Shorten what has grown beyond the limit, until cancelled."""
        while True:
            await asyncio.to_thread(self.shorten)
            await asyncio.sleep(_CHECK_EVERY_S)

    def shorten(self) -> None:
        """Move the contents of each file above the limit to NAME.log.1; lines written meanwhile may be lost."""
        for file in self._folder.glob("*.log"):
            with suppress(OSError):  # it is gone, or the disk is full: the next look tries again
                if file.stat().st_size > self._limit_bytes:
                    shutil.copyfile(file, file.with_suffix(".log.1"))
                    with file.open("r+b") as cut:
                        cut.truncate(0)


def last_lines(file: Path, count: int) -> list[str]:
    """The last lines of a file, which may not exist yet; reads at most its last 256 KiB."""
    try:
        with file.open("rb") as handle:
            size = handle.seek(0, 2)
            handle.seek(max(0, size - 262_144))
            text = handle.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-count:] if count > 0 else []
