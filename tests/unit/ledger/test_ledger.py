"""From begin to finish: at no moment is a request in neither slot nor journal."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from api.ledger.files import Files, hold, taken, workers
from api.ledger.journal import read
from api.ledger.ledger import Ledger
from api.ledger.line import Line
from api.ledger.slots import recover
from core.clock import ManualClock
from tests.support.ledger import PRICE, a_line, finished
from tests.support.process import ROOT


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path, ManualClock())


def in_journal(folder: Path) -> list[Line]:
    (files,) = workers(folder)
    return [line for path in files.journals() for lines, _ in read(path, 0, ended=True) for line in lines]


def in_slots(folder: Path) -> list[Line]:
    (files,) = workers(folder)
    return recover(files.slots)


def test_a_finished_line_is_in_the_journal_and_its_slot_is_free(ledger: Ledger, tmp_path: Path) -> None:
    entry = ledger.begin(a_line(), PRICE)
    entry.count(7, 2)
    assert [line.tokens_out for line in in_slots(tmp_path)] == [2]
    assert in_journal(tmp_path) == []
    entry.finish(finished(a_line()))
    assert in_journal(tmp_path) == [finished(a_line())]
    assert in_slots(tmp_path) == []
    assert ledger.slots_in_use == 0
    ledger.close()


def test_the_line_is_in_the_journal_before_its_slot_is_free(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = ledger.begin(a_line(), PRICE)
    real, slots_at_write = os.write, []

    def write(file: int, record: bytes) -> int:
        slots_at_write.append(len(in_slots(tmp_path)))
        return real(file, record)

    monkeypatch.setattr(os, "write", write)
    entry.finish(finished(a_line()))
    assert slots_at_write == [1]
    ledger.close()


def test_only_the_first_end_counts(ledger: Ledger, tmp_path: Path) -> None:
    entry = ledger.begin(a_line("req_1"))
    entry.finish(finished(a_line("req_1")))
    entry.finish(finished(a_line("req_1"), tokens_in=99))
    entry.drop()
    dropped = ledger.begin(a_line("req_2"))
    dropped.drop()
    dropped.finish(finished(a_line("req_2")))
    assert in_journal(tmp_path) == [finished(a_line("req_1"))]
    assert ledger.slots_in_use == 0
    ledger.close()


def test_the_lock_is_held_until_the_ledger_is_closed(ledger: Ledger, tmp_path: Path) -> None:
    (files,) = workers(tmp_path)
    with taken(files.lock) as free:
        assert not free
    ledger.close()
    with taken(files.lock) as free:
        assert free


def test_a_lock_file_that_a_shipper_removed_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker has made the file and not locked it yet; a shipper takes it for a dead worker's."""
    import fcntl

    files, real, removed = Files(tmp_path, "w"), fcntl.flock, []

    def flock(descriptor: int, how: int) -> None:
        if not removed:
            removed.append(files.remove())
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    descriptor = hold(files.lock)
    monkeypatch.undo()
    with taken(files.lock) as free:
        assert not free
    os.close(descriptor)


def test_two_ledgers_share_a_folder(tmp_path: Path) -> None:
    first, second = Ledger(tmp_path, ManualClock()), Ledger(tmp_path, ManualClock())
    assert len(workers(tmp_path)) == 2
    first.close()
    second.close()


FULL_DISK = """
import resource, sys
from pathlib import Path
from api.ledger.journal import read
from api.ledger.ledger import Ledger
from api.ledger.files import workers
from api.ledger.slots import recover
from core.clock import ManualClock
from tests.support.ledger import PRICE, a_line, finished

folder, clock = Path(sys.argv[1]), ManualClock()
ledger = Ledger(folder, clock)
(files,) = workers(folder)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # no file may grow beyond: the fourth record is torn
entries = [ledger.begin(a_line(f"req_{n}"), PRICE) for n in range(10)]
for n, entry in enumerate(entries):
    entry.finish(finished(a_line(f"req_{n}")))
def lines():
    return [line for path in files.journals() for lines, _ in read(path, 0, True) for line in lines]
before = len(lines())
assert 0 < before < 10, before
waiting = recover(files.slots)
assert len(waiting) == 10 - before == ledger.slots_in_use
assert all((line.outcome, line.tokens_in, line.tokens_out) == ("lost", 7, 3) for line in waiting), waiting
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
entry = ledger.begin(a_line("req_10"), PRICE)
if sys.argv[2] == "later":
    clock.advance(1.1)
entry.finish(finished(a_line("req_10")))
if sys.argv[2] == "close":
    assert ledger.slots_in_use == 11 - before  # not tried again within a second
    ledger.close()
else:
    assert ledger.slots_in_use == 0
assert sorted(line.request_id for line in lines()) == sorted(f"req_{n}" for n in range(11))
assert all(line.outcome == "ok" for line in lines())
"""


@pytest.mark.parametrize("when", ["later", "close"])
def test_on_a_full_disk_lines_wait_in_their_slots_and_are_written_when_there_is_room(tmp_path: Path, when: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), when], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert 1 <= done.stdout.count("lines of the ledger wait for room") <= 2, done.stdout


def test_speed(tmp_path: Path, figure: Callable[[str], None]) -> None:
    ledger, line, rounds = Ledger(tmp_path, ManualClock()), a_line(), 20_000
    entry = ledger.begin(line, PRICE)
    started = time.perf_counter()
    for n in range(rounds):
        entry.count(n, n)
    counted = time.perf_counter() - started
    final = finished(line)
    started = time.perf_counter()
    for _ in range(rounds):
        ledger.begin(line, PRICE).finish(final)
    written = time.perf_counter() - started
    entry.drop()
    ledger.close()
    assert len(in_journal(tmp_path)) == rounds
    figure(f"count {counted / rounds * 1e6:.2f} µs, begin and finish {written / rounds * 1e6:.1f} µs")
