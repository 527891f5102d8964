"""Finished lines of one worker, in files that only grow."""

import os
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from api.ledger.files import FILE_MODE, Files
from api.ledger.line import Line, decode
from monitoring.logs import logger

ROTATE_BYTES = 16 * 2**20
_SYNC_S = 1.0
_READ_BYTES = 256 * 2**10  # far above the longest record
_log = logger(__name__)


class Journal:
    """Appends records; a thread of its own syncs them to disk, at most once a second.

    What `append` has written survives the death of every process. All appends come from one thread.

    Args:
        rotate_bytes: a file that has grown beyond is followed by the next.
    """

    def __init__(self, files: Files, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._files = files
        self._rotate_bytes = rotate_bytes
        self._number = 0
        self._retired: deque[int] = deque()
        self._dirty = False
        self._torn = False
        self._open_next()
        self._closing = threading.Event()
        self._syncing = threading.Thread(target=self._sync_each_second, name="ledger-sync", daemon=True)
        self._syncing.start()

    def append(self, record: bytes) -> None:
        """Write one record in one call. Raises: OSError: the disk is full, or fails; nothing readable was written."""
        if self._size >= self._rotate_bytes:
            ended = self._file
            self._open_next()
            self._retired.append(ended)
        if self._torn:
            record = b"\n" + record
        written = os.write(self._file, record)
        self._size += written
        self._torn = written != len(record)
        if self._torn:
            raise OSError("the disk is full")
        self._dirty = True

    def close(self) -> None:
        """Sync and close; the files stay until they are shipped."""
        self._closing.set()
        self._syncing.join()
        self._sync()
        os.close(self._file)

    def _open_next(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file = os.open(self._files.journal(self._number + 1), flags, FILE_MODE)
        self._number += 1
        self._size = 0
        self._torn = False

    def _sync_each_second(self) -> None:
        while not self._closing.wait(_SYNC_S):
            self._sync()

    def _sync(self) -> None:
        """Only the thread that syncs closes retired files, so none is closed while it is synced."""
        if not self._dirty:
            return
        self._dirty = False
        try:
            while self._retired:
                os.fsync(self._retired[0])
                os.close(self._retired.popleft())
            os.fsync(self._file)
        except OSError as error:
            self._dirty = True
            _log.error("the ledger's journal cannot be synced to disk", reason=str(error))


def read(path: Path, offset: int, ended: bool) -> Iterator[tuple[list[Line], int]]:
    """Read a journal on from `offset`, in pieces of at most 256 KiB.

    What was torn or altered is logged and skipped. A last record without its line break is left alone while its
    worker may still be writing it.

    Args:
        ended: whether nobody writes to it any more.

    Yields: lines, and the offset behind them.
    """
    with path.open("rb") as file:
        file.seek(offset)
        while piece := file.read(_READ_BYTES):
            end = piece.rfind(b"\n") + 1
            if end == 0 and (ended or len(piece) == _READ_BYTES):
                end = len(piece)
            if end == 0:
                return
            yield _lines(piece[:end], path, offset), offset + end
            offset += end
            file.seek(offset)


def _lines(piece: bytes, path: Path, offset: int) -> list[Line]:
    records = [record for record in piece.split(b"\n") if record]
    read = [line for line in map(decode, records) if line is not None]
    if len(read) < len(records):
        damaged = len(records) - len(read)
        _log.error("records of a journal cannot be read", file=path.name, near_offset=offset, records=damaged)
    return read
