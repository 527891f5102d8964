"""Brings a host's ledger to SQL; runs in the keeper, and nothing else writes the table `ledger`.

Killed anywhere, it goes on where it was: a line that is in SQL already is ignored by its name, and files go only when
all that they held is there.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from api.ledger import journal, slots
from api.ledger.files import Files, taken, workers
from api.ledger.line import Line, row
from core.dependency import DependencyError
from monitoring.logs import logger
from storage.schema import ledger
from storage.sql import Database

_BATCH_LINES = 1000
_log = logger(__name__)


class Shipper:
    """Ships all workers' lines of one host.

    Args:
        folder: the workers' own.
        shipped: told of lines that are in SQL now; of some twice, after a kill or an outage.
        dropped: told of a dead worker's last lines, once they are in SQL: the slots it left, and its last journals,
            of which some may not have been settled. Subjects of these need their counters of spent money loaded anew.
            Asked again with the same lines when it raises.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        shipped: Callable[[Sequence[Line]], None] | None = None,
        dropped: Callable[[Sequence[Line]], Awaitable[None]] | None = None,
    ) -> None:
        self._database = database
        self._folder = folder
        self._shipped = shipped
        self._dropped = dropped

    async def ship(self) -> int:
        """Bring over what is there; does nothing while another shipper works on this folder.

        Returns: lines shipped, those of dead workers' slots included.

        Raises: DependencyError: SQL is away, or what `dropped` needs; every worker was tried, nothing is lost, and the
            next call goes on.
        """
        if not self._folder.is_dir():
            return 0
        shipped, away = 0, None
        with taken(self._folder) as alone:
            for files in workers(self._folder) if alone else ():
                try:
                    shipped += await self._ship_worker(files)
                except OSError as error:  # its files cannot be read or written: the others' can
                    _log.error("the ledger of a worker cannot be shipped", worker=files.worker, reason=str(error))
                except DependencyError as error:  # `dropped` needs a part that is away: the others' lines do not
                    away = error
        if away is not None:
            raise away
        return shipped

    async def _ship_worker(self, files: Files) -> int:
        with taken(files.lock) as gone:  # asked first: what a dead worker wrote is complete
            journals = files.journals()
            shipped = 0
            for path in journals:
                ended = gone or path != journals[-1]
                shipped += await self._ship_journal(path, ended)
                if ended and not gone:
                    path.unlink()
                    path.with_suffix(".offset").unlink(missing_ok=True)
            if gone:
                shipped += await self._bury(files, journals)
        return shipped

    async def _ship_journal(self, path: Path, ended: bool) -> int:
        shipped = 0
        for lines, offset in journal.read(path, offset_of(path), ended):
            await self._insert(lines)
            _remember(path, offset)
            shipped += len(lines)
        return shipped

    async def _bury(self, files: Files, journals: Sequence[Path]) -> int:
        """Ship a dead worker's slots, its journals being in SQL; then remove its files."""
        finished = [line for path in journals for lines, _ in journal.read(path, 0, ended=True) for line in lines]
        names = {line.name for line in finished}
        # A worker killed between append and free left both; a slot that was claimed anew left one name twice.
        lost = {line.name: line for line in _left_in_slots(files.slots) if line.name not in names}
        await self._insert(list(lost.values()))
        if self._dropped is not None:
            await self._dropped([*finished, *lost.values()])
        if lost:
            _log.warning("requests of a dead worker are in the ledger as lost", worker=files.worker, lines=len(lost))
        files.remove()
        return len(lost)

    async def _insert(self, lines: Sequence[Line]) -> None:
        insert = self._database.insert_or_ignore(ledger)
        for start in range(0, len(lines), _BATCH_LINES):
            batch = lines[start : start + _BATCH_LINES]
            rows = [row(line) for line in batch]
            await self._database.write(partial(_execute, insert, rows))
            if self._shipped is not None:
                self._shipped(batch)


async def _execute(insert: Any, rows: list[dict[str, Any]], connection: AsyncConnection) -> None:
    await connection.execute(insert, rows)


def _left_in_slots(path: Path) -> list[Line]:
    return slots.recover(path) if path.exists() else []


def offset_of(path: Path) -> int:
    """Bytes of a journal that are in SQL. One that cannot be read costs only that lines are offered again."""
    try:
        return int(path.with_suffix(".offset").read_bytes())
    except (FileNotFoundError, ValueError):
        return 0


def _remember(path: Path, offset: int) -> None:
    file = path.with_suffix(".offset")
    written = file.with_suffix(".written")
    written.write_text(str(offset))
    os.replace(written, file)
