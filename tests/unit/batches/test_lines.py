"""A batch's file is read whole or refused with the line and the remedy."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.batches.lines import Bounds, Line, one_model, read_lines

CHAT = "/v1/chat/completions"
BOUNDS = Bounds(lines=50, line_bytes=2000)


def request(custom_id: object = "a", **fields: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": "m"}, **fields}


def file_of(*lines: Any) -> bytes:
    return b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines)


def problems_of(*lines: Any) -> list[tuple[str, int | None, str | None]]:
    found, problems = read_lines(file_of(*lines), CHAT, BOUNDS)
    assert not found or not problems
    return [(one.code, one.line, one.param) for one in problems]


def test_lines_keep_their_numbers_whatever_stands_between_them() -> None:
    data = b"\xef\xbb\xbf" + orjson.dumps(request("a")) + b"\r\n\n  \n" + orjson.dumps(request("b")) + b"\n"
    lines, problems = read_lines(data, CHAT, BOUNDS)
    assert not problems
    assert lines == [Line(1, "a", '{"model":"m"}', "m"), Line(4, "b", '{"model":"m"}', "m")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", ("invalid_json_line", 2, None)),
        (b"[]", ("invalid_json_line", 2, None)),
        (b'{"custom_id": "\\ud800"}', ("invalid_json_line", 2, None)),
        (request(None), ("missing_required_parameter", 2, "custom_id")),
        (request(""), ("missing_required_parameter", 2, "custom_id")),
        (request(7), ("missing_required_parameter", 2, "custom_id")),
        (request("x" * 513), ("invalid_custom_id", 2, "custom_id")),
        (request("a\0b"), ("invalid_custom_id", 2, "custom_id")),
        (request("first"), ("duplicate_custom_id", 2, "custom_id")),
        (request(method="GET"), ("invalid_method", 2, "method")),
        (request(url="/v1/embeddings"), ("invalid_url", 2, "url")),
        (request(url=CHAT + "/"), ("invalid_url", 2, "url")),
        (orjson.dumps(request()).replace(b'"m"', b"[" * 300 + b"]" * 300), ("invalid_json_line", 2, "body")),
        (request(body=[]), ("missing_required_parameter", 2, "body")),
        (request(body={"text": "x" * 2000}), ("line_too_large", 2, None)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_a_line_that_is_no_request_names_itself(line: Any, problem: tuple[str, int, str | None]) -> None:
    assert problems_of(request("first"), line) == [problem]


def test_a_file_with_nothing_in_it_and_one_with_too_much_are_refused() -> None:
    assert problems_of(b"") == problems_of(b"\n \n") == [("empty_file", None, None)]
    assert problems_of(*(request(str(at)) for at in range(51))) == [("too_many_requests", 51, None)]


def test_not_every_problem_of_a_hopeless_file_is_told() -> None:
    assert len(problems_of(*[b"nonsense"] * 40)) == 20


def test_the_model_is_told_where_all_lines_name_one() -> None:
    def model(*bodies: dict[str, Any]) -> str | None:
        lines = [request(str(at), body=body) for at, body in enumerate(bodies)]
        return one_model(read_lines(file_of(*lines), CHAT, BOUNDS)[0])

    assert model({"model": "m"}, {"model": "m"}) == "m"
    assert model({"model": "m"}, {"model": "n"}) is None
    assert model({"model": "m"}, {}) is None
    assert model({"model": 3}) is None


PIECES = st.sampled_from([b"{}", b"[1]", b'{"custom_id":"a"}', b"\x00"])
IDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@given(st.binary(max_size=300) | st.lists(PIECES).map(b"\n".join))
def test_no_bytes_break_it(data: bytes) -> None:
    lines, problems = read_lines(data, CHAT, BOUNDS)
    assert bool(lines) != bool(problems)


@given(st.lists(IDS, unique=True, min_size=1, max_size=50))
def test_what_is_read_is_what_was_written(ids: list[str]) -> None:
    lines, problems = read_lines(file_of(*(request(one, body={"user": one}) for one in ids)), CHAT, BOUNDS)
    assert not problems
    assert [line.custom_id for line in lines] == ids
    assert [orjson.loads(line.body)["user"] for line in lines] == ids
