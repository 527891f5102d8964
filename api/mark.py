"""A mark that all workers of one host share: it moves whenever an identity has changed.

So a change made by one worker holds in the others with their next request, without a question to SQL or Redis.
Workers on other hosts learn of it by their poll.
"""

import mmap
import os
import secrets
from pathlib import Path


class HostMark:
    """Eight bytes in a file that every worker has mapped into its memory.

    Raises: OSError: the file cannot be made.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, 8)
            self._map = mmap.mmap(handle, 8)
        finally:
            os.close(handle)
        self._cell = memoryview(self._map).cast("Q")

    def read(self) -> int:
        """Where the mark stands; some 50 ns."""
        return self._cell[0]

    def move(self) -> None:
        """Put it where it never stood. Two workers may move it at once: either way it is elsewhere."""
        self._cell[0] = secrets.randbits(64)

    def close(self) -> None:
        self._cell.release()
        self._map.close()
