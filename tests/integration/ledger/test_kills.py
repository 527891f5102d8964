"""Whoever is killed, whenever: each line is in SQL once, and nothing is left over."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from api.ledger import ship
from api.ledger.ledger import Ledger
from api.ledger.line import Line
from api.ledger.ship import Shipper
from core.clock import ManualClock
from core.dependency import DependencyUnavailable
from core.usage import Usage
from storage.schema import ledger as table
from storage.sql import Database
from tests.support.ledger import PRICE, a_line, finished
from tests.support.process import ROOT

pytestmark = pytest.mark.slow  # processes are started and killed

Process = subprocess.Popen[bytes]


def files_in(folder: Path, pattern: str = "*") -> list[Path]:
    return sorted(folder.glob(pattern))


async def rows(database: Database) -> list[Any]:
    return list(await database.read(lambda connection: connection.execute(select(table))))


async def outcomes(database: Database) -> dict[str, str]:
    found = await rows(database)
    assert len({row.request_id for row in found}) == len(found)
    return {row.request_id: row.outcome for row in found}


@contextmanager
def started(module: str, *arguments: str, url: str = "") -> Iterator[Process]:
    command = [sys.executable, "-m", f"tests.integration.ledger.{module}", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "STOKER_DATABASE_URL": url})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@dataclass
class Told:
    """What a worker's notes say of one request: its last act, the last counts before and after it was killed."""

    acts: str = ""
    counts: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    final: tuple[int, int] | None = None


def told(truth: Path) -> dict[str, Told]:
    notes: dict[str, Told] = {}
    for line in truth.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break  # the note itself was cut off
        act, name, *tokens = line.split()
        of = notes.setdefault(name, Told())
        of.acts += act
        if act == "c":
            of.counts.append((int(tokens[0]), int(tokens[1])))
        if act == "f":
            of.final = (int(tokens[0]), int(tokens[1]))
    return notes


def judge(name: str, of: Told, found: Sequence[Any]) -> None:
    """Whether the rows of a request are what its worker's notes allow."""
    last = of.acts[-1]
    assert len(found) <= 1, name
    if last == "D":
        assert not found, f"{name} was dropped"
        return
    if last in "bd" and not found:  # killed in the middle
        return
    assert found, f"{name} is missing; {of.acts}"
    row = found[0]
    tokens = (row.tokens_in, row.tokens_out)
    if row.outcome == "ok":
        assert last in "fF", name
        assert tokens == of.final, name
        return
    assert row.outcome == "lost"
    assert last != "F", f"{name} was finished"
    # A single act was under way: the counts are those before or after it, each of them by itself.
    allowed = of.counts[-2:] if last == "c" else of.counts[-1:]
    assert row.tokens_in in {tokens_in for tokens_in, _ in allowed}, (name, of, row)
    assert row.tokens_out in {tokens_out for _, tokens_out in allowed}, (name, of, row)
    assert row.nano_usd == PRICE.nano_usd(Usage(*tokens))


@pytest.mark.parametrize(
    "workers", [pytest.param(2, marks=pytest.mark.light, id="two"), pytest.param(6, marks=pytest.mark.heavy, id="six")]
)
async def test_killed_workers_and_killed_shippers_lose_nothing_and_repeat_nothing(
    database: Database, url: str, folder: Path, figure: Callable[[str], None], workers: int
) -> None:
    chance = random.Random(7)
    shippers_killed = 0
    with started("shipping", str(folder), url=url):  # two at once by mistake, and the other is killed again and again
        for number in range(0, workers, 2):
            with (
                started("worker", str(folder), f"{number}") as first,
                started("worker", str(folder), f"{number + 1}") as second,
                started("shipping", str(folder), url=url) as shipper,
            ):
                await until(lambda n=number: all((folder.parent / f"truth-{n + one}").exists() for one in (0, 1)))
                for process in chance.sample([first, second, shipper], 3):
                    await asyncio.sleep(chance.uniform(0.05, 0.4))
                    process.send_signal(signal.SIGKILL)
                shippers_killed += 1
        await until(lambda: not files_in(folder), 60)
    truths = {name: of for n in range(workers) for name, of in told(folder.parent / f"truth-{n}").items()}
    found: dict[str, list[Any]] = {}
    for row in await rows(database):
        found.setdefault(row.request_id, []).append(row)
    assert set(found) <= set(truths), "lines that nobody began"
    for name, of in truths.items():
        judge(name, of, found.get(name, []))
    ended = Counter(of.acts[-1] for of in truths.values())
    middle = sum(ended[act] for act in "bcfd")
    under_way = sum(ended[act] for act in "BC") + middle
    assert under_way > workers
    figure(
        f"{workers} workers and {shippers_killed} shippers killed; {len(truths)} requests, {under_way} of them "
        f"under way at a kill, {middle} in the middle of an act; {len(found)} lines, "
        f"{sum(row.outcome == 'lost' for lines in found.values() for row in lines)} lost"
    )


async def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, "it did not come to pass"
        await asyncio.sleep(0.02)


def some_work(folder: Path, finishes: int = 50, open_ends: int = 3) -> tuple[Ledger, dict[str, str]]:
    """A worker with finished lines and some under way. Returns: it, and the outcome each line must have."""
    worker = Ledger(folder, ManualClock(), rotate_bytes=5_000)
    expected = {}
    for number in range(finishes):
        worker.begin(a_line(f"done-{number}"), PRICE).finish(finished(a_line(f"done-{number}")))
        expected[f"done-{number}"] = "ok"
    for number in range(open_ends):
        worker.begin(a_line(f"open-{number}"), PRICE).count(5, 5)
        expected[f"open-{number}"] = "lost"
    return worker, expected


async def test_a_shipper_killed_between_insert_and_offset_inserts_again_and_nothing_twice(
    database: Database, url: str, folder: Path
) -> None:
    worker, expected = some_work(folder)
    for _ in range(3):
        with started("shipping", str(folder), "insert", url=url) as process:
            await until(lambda process=process: process.poll() is not None)
        assert process.returncode == -signal.SIGKILL
    assert not files_in(folder, "*.offset")
    assert len(await rows(database)) > 0
    worker.close()
    again: list[Line] = []
    await Shipper(database, folder, shipped=again.extend).ship()
    assert len(again) == len(expected)
    assert await outcomes(database) == expected
    assert not files_in(folder)


async def test_the_offset_is_remembered_beyond_a_restart(database: Database, folder: Path) -> None:
    worker, expected = some_work(folder, open_ends=0)
    assert await Shipper(database, folder).ship() == len(expected)
    assert await Shipper(database, folder).ship() == 0
    assert len(files_in(folder, "*.journal")) == 1  # those that have ended are gone while the worker lives
    worker.begin(a_line("late")).finish(finished(a_line("late")))
    assert await Shipper(database, folder).ship() == 1
    worker.close()
    await Shipper(database, folder).ship()
    assert await outcomes(database) == expected | {"late": "ok"}
    assert not files_in(folder)


async def test_of_two_shippers_at_once_one_works(database: Database, url: str, folder: Path) -> None:
    worker, expected = some_work(folder)
    worker.close()
    other = Database(url, 10.0)
    shipped = await asyncio.gather(Shipper(database, folder).ship(), Shipper(other, folder).ship())
    await other.close()
    assert sorted(shipped) == [0, len(expected)]
    assert await outcomes(database) == expected
    assert not files_in(folder)


async def test_a_living_workers_slots_are_left_alone(database: Database, folder: Path) -> None:
    worker, expected = some_work(folder)
    await Shipper(database, folder).ship()
    assert set((await outcomes(database)).values()) == {"ok"}
    assert len(await rows(database)) == 50
    worker.close()
    await Shipper(database, folder).ship()
    assert await outcomes(database) == expected


async def test_a_line_both_in_journal_and_slot_counts_as_finished(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between append and free."""
    worker = Ledger(folder, ManualClock())
    entry = worker.begin(a_line("both"), PRICE)
    entry.count(1, 1)
    monkeypatch.setattr("api.ledger.slots.Slot.free", lambda _: None)
    entry.finish(finished(a_line("both"), 70, 30))
    worker.close()
    dropped: list[Line] = []

    async def drop(lines: Sequence[Line]) -> None:
        dropped.extend(lines)

    assert await Shipper(database, folder, dropped=drop).ship() == 1
    assert dropped == [finished(a_line("both"), 70, 30)]
    (row,) = await rows(database)
    assert (row.outcome, row.tokens_in) == ("ok", 70)


async def test_who_drops_counters_hears_of_a_dead_workers_last_lines_until_it_could(
    database: Database, folder: Path
) -> None:
    worker = Ledger(folder, ManualClock())
    worker.begin(a_line("done")).finish(finished(a_line("done")))
    await Shipper(database, folder).ship()  # shipped while the worker lived, and perhaps never settled
    worker.begin(a_line("open"), PRICE)
    worker.close()
    heard: list[list[str]] = []

    async def drop(lines: Sequence[Line]) -> None:
        assert {line.request_id for line in lines} <= set(await outcomes(database)), "the sum would miss them"
        heard.append([line.request_id for line in lines])
        if len(heard) == 1:
            raise ConnectionError("Redis is away")

    shipper = Shipper(database, folder, dropped=drop)
    await shipper.ship()
    assert files_in(folder)
    await shipper.ship()
    assert heard == [["done", "open"]] * 2
    assert not files_in(folder)


async def test_a_dead_worker_whose_counters_cannot_be_dropped_holds_up_nobody(database: Database, folder: Path) -> None:
    for number in range(3):
        worker = Ledger(folder, ManualClock())
        worker.begin(a_line(f"done-{number}")).finish(finished(a_line(f"done-{number}")))
        worker.close()

    async def drop(lines: Sequence[Line]) -> None:
        raise DependencyUnavailable("redis", "redis is away")

    with pytest.raises(DependencyUnavailable):
        await Shipper(database, folder, dropped=drop).ship()
    assert len(await rows(database)) == 3
    assert len(files_in(folder, "*.lock")) == 3


async def test_what_a_worker_wrote_just_before_it_died_is_found(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fills two more journals and dies while the shipper is about to ask whether it lives."""
    worker, expected = some_work(folder, finishes=3, open_ends=1)
    real, journals = ship.taken, len(files_in(folder, "*.journal"))

    def taken(path: Path) -> AbstractContextManager[bool]:
        if path.suffix == ".lock" and len(expected) == 4:
            for number in range(100):
                worker.begin(a_line(f"late-{number}"), PRICE).finish(finished(a_line(f"late-{number}")))
                expected[f"late-{number}"] = "ok"
            worker.close()
            assert len(files_in(folder, "*.journal")) == 3 * journals
        return real(path)

    monkeypatch.setattr(ship, "taken", taken)
    await Shipper(database, folder).ship()
    assert len(expected) == 104
    assert await outcomes(database) == expected
    assert not files_in(folder)


async def test_a_worker_whose_files_cannot_be_read_holds_up_nobody(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = folder / "0-broken.lock"
    broken.touch()
    (folder / "0-broken.slots").mkdir()  # reading it is an error
    worker, expected = some_work(folder)
    worker.close()
    await Shipper(database, folder).ship()
    assert await outcomes(database) == expected


async def test_damaged_files_give_what_is_left_of_them(database: Database, folder: Path) -> None:
    worker, expected = some_work(folder, finishes=10)
    worker.close()
    journals = files_in(folder, "*.journal")
    journals[-1].write_bytes(journals[-1].read_bytes() + b'deadbeef["torn"')
    (slots,) = files_in(folder, "*.slots")
    slots.write_bytes(b"\1\0\0\0garbage" + slots.read_bytes()[11:])  # the first slot, of open-0
    await Shipper(database, folder).ship()
    assert await outcomes(database) == {name: outcome for name, outcome in expected.items() if name != "open-0"}
    assert not files_in(folder)
