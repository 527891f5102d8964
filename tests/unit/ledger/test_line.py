"""A line survives the way into a journal and into SQL."""

from dataclasses import fields

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from api.ledger.line import FIELDS, Line, as_json, decode, encode, from_json, row
from storage.schema import ledger
from tests.support.ledger import LINES, a_line


def test_a_line_has_exactly_the_columns_of_the_table() -> None:
    assert {field.name for field in fields(Line)} == set(ledger.columns.keys())


@given(LINES)
def test_a_record_is_read_as_the_line_that_was_written(line: Line) -> None:
    record = encode(line)
    assert record.endswith(b"\n")
    assert record.count(b"\n") == 1
    assert decode(record[:-1]) == line


@given(LINES, st.data())
def test_a_record_with_any_bit_turned_is_no_line(line: Line, data: st.DataObject) -> None:
    record = bytearray(encode(line)[:-1])
    bit = data.draw(st.integers(0, len(record) * 8 - 1))
    record[bit // 8] ^= 1 << bit % 8
    assert decode(bytes(record)) is None


@pytest.mark.parametrize("record", [b"", b"0", b"00000000", b"deadbeef[]"])
def test_what_was_never_a_record_is_no_line(record: bytes) -> None:
    assert decode(record) is None


def test_a_record_of_a_version_with_fewer_or_more_fields_is_read() -> None:
    values = orjson.loads(as_json(a_line()))
    assert from_json(orjson.dumps(values[:-1])) == a_line()
    assert from_json(orjson.dumps([*values, "a field of tomorrow"])) == a_line()


def test_a_lying_upstream_cannot_make_a_line_unwritable() -> None:
    line = decode(encode(a_line("req_\ud800", tokens_out=10**30, nano_usd=2**64))[:-1])
    assert line is not None
    assert (line.request_id, line.tokens_out, line.nano_usd) == ("req_?", 2**50, 2**50)


@given(LINES, st.text(st.characters(codec="utf-8"), min_size=150, max_size=300), st.integers(0, 2**64 - 1))
def test_a_row_fits_its_table(line: Line, text: str, count: int) -> None:
    values = dict(zip(FIELDS, orjson.loads(as_json(line)), strict=True))
    long = Line(**{**values, "model_group": text + "\0", "key_id": text, "tokens_in": count, "latency_ms": None})
    for name, value in row(long).items():
        column = ledger.columns[name]
        if isinstance(column.type, sa.String) and value is not None:
            assert len(value) <= (column.type.length or 0)
            assert "\0" not in value
        if isinstance(column.type, sa.BigInteger):
            assert 0 <= value <= 2**50
        assert value is not None or column.nullable
