"""Waiting until SQL holds what this host has written: money that was spent a moment ago must count."""

import asyncio
from contextlib import suppress
from pathlib import Path

from api.ledger.files import workers
from api.ledger.ship import offset_of
from core.clock import Clock
from core.dependency import DependencyUnavailable

_LOOK_EVERY_S = 0.05


async def until_shipped(folder: Path, clock: Clock, deadline_s: float = 3.0) -> None:
    """Return once the keeper has shipped all lines that this host's workers had finished at the call.

    Raises: DependencyUnavailable: it has not within `deadline_s`; it is away, or SQL is.
    """
    written: dict[Path, int] = {}
    for files in workers(folder):
        for path in files.journals():
            with suppress(FileNotFoundError):  # shipped and removed meanwhile
                written[path] = path.stat().st_size
    end_s = clock.monotonic() + deadline_s
    while any(path.exists() and offset_of(path) < size for path, size in written.items()):
        if clock.monotonic() >= end_s:
            raise DependencyUnavailable("keeper", "the ledger's last lines are not in SQL yet")
        await asyncio.sleep(_LOOK_EVERY_S)
