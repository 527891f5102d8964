"""Whatever happens to a journal, what is read from it was written to it, once."""

import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ledger import journal
from api.ledger.files import Files
from api.ledger.journal import Journal, read
from api.ledger.line import Line, encode
from tests.support.ledger import LINES, LoggedErrors, a_line


def all_lines(path: Path, ended: bool = True) -> list[Line]:
    return [line for lines, _ in read(path, 0, ended) for line in lines]


def in_a_file(content: bytes, ended: bool = True) -> list[Line]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return all_lines(Path(file.name), ended)


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> LoggedErrors:
    logged = LoggedErrors()
    monkeypatch.setattr(journal, "_log", logged)
    return logged


@given(st.lists(LINES, max_size=8), st.data())
def test_a_journal_cut_anywhere_gives_the_whole_records_before_the_cut(lines: list[Line], data: st.DataObject) -> None:
    records = [encode(line) for line in lines]
    content = b"".join(records)
    cut = data.draw(st.integers(0, len(content)))
    whole = sum(len(b"".join(records[: n + 1])) <= cut for n in range(len(records)))
    assert in_a_file(content[:cut], ended=False) == lines[:whole]
    # A record that lacks only its line break is whole too, once nobody writes any more.
    complete = whole + (content[:cut] + b"\n" == b"".join(records[: whole + 1]))
    assert in_a_file(content[:cut]) == lines[:complete]


@given(st.lists(LINES, min_size=1, max_size=8), st.data())
def test_a_journal_with_bits_turned_gives_every_record_that_was_spared_and_nothing_else(
    lines: list[Line], data: st.DataObject
) -> None:
    records = [encode(line) for line in lines]
    content = bytearray(b"".join(records))
    bits = data.draw(st.sets(st.integers(0, len(content) * 8 - 1), min_size=1, max_size=6))
    for bit in bits:
        content[bit // 8] ^= 1 << bit % 8
    hit = {bit // 8 for bit in bits}
    spared, start = [], 0
    for line, record in zip(lines, records, strict=True):
        # Its own bytes, and the line break before it.
        if not hit & set(range(max(0, start - 1), start + len(record))):
            spared.append(line)
        start += len(record)
    assert in_a_file(bytes(content)) == spared


@given(st.lists(LINES, max_size=6), st.lists(st.integers(1, 400), max_size=30))
def test_a_reader_beside_a_writer_gets_each_line_once(lines: list[Line], sizes: list[int]) -> None:
    content, got, offset = b"".join(encode(line) for line in lines), [], 0
    with tempfile.NamedTemporaryFile() as file:
        for size in [*sizes, len(content)]:
            file.write(content[:size])
            file.flush()
            content = content[size:]
            for new, reached in read(Path(file.name), offset, ended=False):
                got += new
                offset = reached
    assert got == lines


def test_a_long_journal_is_read_in_pieces(tmp_path: Path) -> None:
    lines = [a_line(f"req_{n}") for n in range(3000)]
    path = tmp_path / "a.journal"
    path.write_bytes(b"".join(encode(line) for line in lines))
    pieces = list(read(path, 0, ended=False))
    assert len(pieces) > 1
    assert [line for new, _ in pieces for line in new] == lines
    assert pieces[-1][1] == path.stat().st_size


def test_a_piece_without_a_single_line_break_does_not_stop_the_reader(tmp_path: Path, errors: LoggedErrors) -> None:
    path = tmp_path / "a.journal"
    path.write_bytes(b"x" * 600_000 + b"\n" + encode(a_line()))
    assert all_lines(path, ended=False) == [a_line()]
    assert errors


def test_a_record_that_lacks_only_its_line_break_is_read_once_nobody_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    path.write_bytes(encode(a_line())[:-1])
    assert all_lines(path, ended=False) == []
    assert all_lines(path) == [a_line()]


def test_a_torn_tail_is_logged(tmp_path: Path, errors: LoggedErrors) -> None:
    path = tmp_path / "a.journal"
    path.write_bytes(encode(a_line("req_1")) + encode(a_line("req_2"))[:-20])
    assert all_lines(path) == [a_line("req_1")]
    assert errors == ["records of a journal cannot be read"]


def test_a_record_is_one_write_and_no_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Journal(Files(tmp_path, "w"))
    calls: list[str] = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda *args: (calls.append("write"), real(*args))[1])
    monkeypatch.setattr(os, "fsync", lambda _: calls.append("fsync"))
    for _ in range(3):
        opened.append(encode(a_line()))
    assert calls == ["write"] * 3
    opened.close()
    assert calls == ["write"] * 3 + ["fsync"]


def test_a_journal_is_synced_in_the_background(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_SYNC_S", 0.01)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    opened = Journal(Files(tmp_path, "w"), rotate_bytes=1)
    opened.append(encode(a_line("req_1")))
    opened.append(encode(a_line("req_2")))  # in the second file
    limit = time.monotonic() + 10
    while len(set(synced)) < 2:
        assert time.monotonic() < limit, "nobody syncs"
        time.sleep(0.01)
    time.sleep(0.1)
    seen = len(synced)
    time.sleep(0.1)
    assert len(synced) == seen  # nothing new, nothing to sync
    opened.close()


def test_a_grown_journal_is_followed_by_the_next(tmp_path: Path) -> None:
    files = Files(tmp_path, "w")
    opened = Journal(files, rotate_bytes=1000)
    lines = [a_line(f"req_{n}") for n in range(20)]
    for line in lines:
        opened.append(encode(line))
    opened.close()
    assert len(files.journals()) == 3
    assert [line for path in files.journals() for line in all_lines(path)] == lines
    assert max(path.stat().st_size for path in files.journals()) < 1000 + len(encode(lines[-1]))


def test_a_journal_that_could_not_be_followed_goes_on_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path, "w")
    opened = Journal(files, rotate_bytes=1)
    opened.append(encode(a_line("req_1")))

    def full(*_: object) -> int:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        with pytest.raises(OSError, match="No space"):
            opened.append(encode(a_line("req_2")))
    opened._sync()  # closes what is retired
    opened._rotate_bytes = 10_000
    opened.append(encode(a_line("req_3")))
    opened.close()
    (path,) = files.journals()
    assert all_lines(path) == [a_line("req_1"), a_line("req_3")]
