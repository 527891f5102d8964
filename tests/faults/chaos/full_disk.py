"""`python -m tests.faults.chaos.full_disk FOLDER`: the folder's file system is filled to its last byte under load.

`test_full_disk.py` runs it where FOLDER is a small file system of its own. Prints figures, and exits with a verdict.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.chaos.load import load, recovered
from tests.faults.chaos.plain import Plain, plain
from tests.faults.chaos.trial import examine

_FULL_S = 8.0
_RECOVERY_S = 150.0  # workers may have to start anew
_STEP_BYTES = 2**16


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leave no byte of the file system free while the block runs."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as filler:
        step = _STEP_BYTES
        while step:
            try:
                while filler.write(bytes(step)) == step:
                    pass
            except OSError:
                pass
            step //= 2
        os.fsync(filler.fileno())
        free = os.statvfs(folder)
        assert free.f_bavail * free.f_frsize < 2**14, "the disk is not full"
    try:
        yield
    finally:
        file.unlink()


async def trial(house: Plain, folder: Path) -> None:
    async with load(lambda: house.gate.url, house.tenants) as seen:
        await recovered(seen, time.monotonic())
        since_s = time.monotonic()
        with filled(folder):
            await asyncio.sleep(_FULL_S)
            free_s = time.monotonic()
        took_s = await recovered(seen, free_s, _RECOVERY_S)
        met = Counter(one.outcome for one in seen.operations if one.ended_s >= since_s and one.began_s <= free_s)
    print(f"full for {_FULL_S:g} s: {met.total()} operations {dict(met)}, right again after {took_s:.1f} s")
    # Files of metrics are mapped: a worker that needs another page of one ends by SIGBUS, and another one comes.
    await examine(house.books(), seen, house.gate.port, "a full disk", print, ("broken",))
    assert all(house.processes().values()), house.processes()


if __name__ == "__main__":
    with plain(Path(sys.argv[1]) / "house") as opened:
        try:
            asyncio.run(trial(opened, Path(sys.argv[1])))
        except BaseException:  # what the processes said goes with the file system
            print(opened.processes(), file=sys.stderr)
            for log in sorted(Path(sys.argv[1]).rglob("*.log")):
                print(f"--- {log.name}: {log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
            raise
