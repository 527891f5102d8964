"""A slot shows nothing or a whole line, at every moment."""

import mmap
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from api.ledger import slots
from api.ledger.errors import LedgerFull
from api.ledger.line import Line
from api.ledger.slots import SLOT_BYTES, Slot, Slots, recover
from core.money import Price
from core.usage import Usage
from tests.support.ledger import LINES, PRICE, LoggedErrors, a_line

BLOCK = mmap.ALLOCATIONGRANULARITY // SLOT_BYTES  # the smallest that can be mapped


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "BLOCK_SLOTS", BLOCK)
        patch.setattr(slots, "_BLOCK_BYTES", BLOCK * SLOT_BYTES)
        yield


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> LoggedErrors:
    logged = LoggedErrors()
    monkeypatch.setattr(slots, "_log", logged)
    return logged


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.slots"


def lost(line: Line, tokens_in: int, tokens_out: int, tokens_cached: int = 0, price: Price = PRICE) -> Line:
    return replace(
        line,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        tokens_cached=tokens_cached,
        nano_usd=price.nano_usd(Usage(tokens_in, tokens_out, tokens_cached)),
        outcome="lost",
    )


def test_a_claimed_slot_is_the_line_with_what_was_counted_at_the_price_kept(path: Path) -> None:
    opened = Slots(path)
    slot = opened.claim(a_line(), PRICE)
    assert recover(path) == [lost(a_line(), 0, 0)]
    slot.count(1000, 20, 400)
    (found,) = recover(path)
    assert found == lost(a_line(), 1000, 20, 400)
    assert found.nano_usd == 600 * 150 + 400 * 75 + 20 * 600
    slot.free()
    assert recover(path) == []
    opened.close()


def test_what_is_counted_after_the_end_reaches_nobody(path: Path) -> None:
    opened = Slots(path)
    first = opened.claim(a_line("req_1"), PRICE)
    first.free()
    opened.claim(a_line("req_2"), PRICE)  # the same slot
    first.count(9, 9)
    first.free()
    assert recover(path) == [lost(a_line("req_2"), 0, 0)]
    opened.claim(a_line("req_3"), PRICE)  # another one
    assert len(recover(path)) == 2
    opened.close()


@given(LINES, st.integers(0, 5000))
def test_a_line_of_any_length_finds_room(tmp_path_factory: pytest.TempPathFactory, line: Line, length: int) -> None:
    line = replace(line, deployment="ö" * length)
    path = tmp_path_factory.mktemp("slots") / "w.slots"
    opened = Slots(path)
    others = [opened.claim(a_line(f"req_{n}"), PRICE) for n in range(3)]
    others[1].free()  # so that its pieces don't lie side by side
    slot = opened.claim(line, PRICE)
    tokens = line.tokens_in, line.tokens_out, line.tokens_cached
    assert sorted(recover(path), key=str) == sorted(
        [lost(line, *tokens), *(lost(a_line(f"req_{n}"), 0, 0) for n in (0, 2))], key=str
    )
    slot.free()
    assert opened.claimed == 2
    opened.close()


def test_slots_grow_and_are_used_again(path: Path) -> None:
    opened = Slots(path)
    lines = [a_line(f"req_{n}") for n in range(3 * BLOCK)]
    taken = [opened.claim(line, PRICE) for line in lines]
    assert {line.request_id for line in recover(path)} == {line.request_id for line in lines}
    size = path.stat().st_size
    for slot in taken:
        slot.free()
    for line in lines:
        opened.claim(line, PRICE)
    assert path.stat().st_size == size
    assert opened.claimed == 3 * BLOCK
    opened.close()


def test_a_full_disk_refuses_the_request_and_spares_those_under_way(
    path: Path, monkeypatch: pytest.MonkeyPatch, errors: LoggedErrors
) -> None:
    opened = Slots(path)
    lines = [a_line(f"req_{n}") for n in range(BLOCK)]
    taken = [opened.claim(line, PRICE) for line in lines]

    def full(*_: object) -> int:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(LedgerFull):
        opened.claim(a_line("req_x"), PRICE)
    assert errors
    assert len(recover(path)) == BLOCK
    taken[0].free()
    opened.claim(a_line("req_y"), PRICE)
    opened.close()


def at_each_line(work: Callable[[], object], look: Callable[[], None]) -> None:
    """Run `work`, and `look` before every line of api/ledger/slots.py that it reaches."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != slots.__file__:
            return None
        if event in ("line", "return"):
            sys.settrace(None)
            look()
            sys.settrace(trace)
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)


@pytest.mark.parametrize("length", [1, 2500], ids=["in one slot", "over three slots"])
def test_a_kill_at_any_line_leaves_nothing_or_a_whole_line(path: Path, length: int, errors: LoggedErrors) -> None:
    opened = Slots(path)
    old = [opened.claim(a_line(f"req_{n}", deployment="x" * 500), Price()) for n in range(BLOCK)]
    assert opened.claimed == BLOCK  # each has one slot, so that none is left that was never counted in
    for slot in old:
        slot.count(10**9, 10**9)  # what a later request must not inherit
        slot.free()
    line = a_line("req_new", deployment="y" * length)
    states: list[list[Line]] = []
    made: list[Slot] = []

    def look() -> None:
        states.append(recover(path))

    at_each_line(lambda: made.append(opened.claim(line, PRICE)), look)
    assert len(states) > 10
    begun = [[], [lost(line, 0, 0)]]
    assert all(state in begun for state in states)
    assert states[-1] == begun[1]
    states.clear()
    at_each_line(lambda: made[0].count(5, 6, 2), look)
    assert all(state in ([lost(line, 0, 0)], [lost(line, 5, 6, 2)]) for state in states)
    states.clear()
    at_each_line(made[0].free, look)
    assert all(state in ([], [lost(line, 5, 6, 2)]) for state in states)
    assert recover(path) == []
    assert errors == []
    opened.close()


@given(st.integers(0, 2**64 - 1), st.data())
def test_altered_slots_are_skipped_and_logged(
    tmp_path_factory: pytest.TempPathFactory, count: int, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("slots") / "w.slots"
    opened = Slots(path)
    opened.claim(a_line("req_1"), PRICE).count(count, 0)
    long = a_line("req_2", deployment="z" * 3000)
    opened.claim(long, PRICE)
    opened.close()
    content = bytearray(path.read_bytes())
    used = [n for n, byte in enumerate(content) if byte and n % SLOT_BYTES not in range(16, 40)]
    content[data.draw(st.sampled_from(used))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert all(found in (lost(a_line("req_1"), count, 0), lost(long, 0, 0)) for found in recover(path))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    assert all(found in (lost(a_line("req_1"), count, 0), lost(long, 0, 0)) for found in recover(path))


class SlotsMachine(RuleBasedStateMachine):
    """Any mix of claims, counts and ends: what is recovered is what is open."""

    entries = Bundle("entries")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp())
        self.slots = Slots(self.folder / "w.slots")
        self.open: dict[str, Line] = {}
        self.number = 0

    @rule(target=entries, length=st.integers(1, 2500))
    def claim(self, length: int) -> tuple[str, Slot]:
        self.number += 1
        line = a_line(f"req_{self.number}", deployment="d" * length)
        self.open[line.request_id] = lost(line, 0, 0)
        return line.request_id, self.slots.claim(line, PRICE)

    @rule(entry=entries, tokens_in=st.integers(0, 10**6), tokens_out=st.integers(0, 10**6))
    def count(self, entry: tuple[str, Slot], tokens_in: int, tokens_out: int) -> None:
        entry[1].count(tokens_in, tokens_out)
        self.open[entry[0]] = lost(self.open[entry[0]], tokens_in, tokens_out)

    @rule(entry=consumes(entries))
    def free(self, entry: tuple[str, Slot]) -> None:
        entry[1].free()
        del self.open[entry[0]]

    @invariant()
    def what_is_open_can_be_recovered(self) -> None:
        assert {line.request_id: line for line in recover(self.folder / "w.slots")} == self.open

    def teardown(self) -> None:
        self.slots.close()
        (self.folder / "w.slots").unlink()
        self.folder.rmdir()


TestSlots = SlotsMachine.TestCase
