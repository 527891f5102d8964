"""A batch's input: JSON lines, each of which is a request."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import orjson

_BOM = b"\xef\xbb\xbf"
_MOST_PROBLEMS = 20  # told of one file
_MOST_ID_CHARACTERS = 512


@dataclass(frozen=True, slots=True)
class Line:
    """One request.

    Attributes:
        number: in the file, from 1.
        body: JSON.
        model: that the body names, if at all.
    """

    number: int
    custom_id: str
    body: str
    model: str | None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a batch failed, as OpenAI tells it; the text is meant for the client."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one batch may hold."""

    lines: int
    line_bytes: int


class LineInvalid(ValueError):
    """A line is no request; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def read_lines(data: bytes, endpoint: str, bounds: Bounds) -> tuple[list[Line], list[Problem]]:
    """Read a file; empty lines are passed over.

    Returns: all its requests, or, where there is any, the first problems.
    """
    found: list[Line] = []
    problems: list[Problem] = []
    first_with: dict[str, int] = {}
    for number, raw in _numbered(data):
        if len(found) + len(problems) >= bounds.lines:
            message = f"The file has more than {bounds.lines:,} requests; divide it into several batches."
            return [], [*problems, Problem("too_many_requests", message, number)]
        try:
            line = _read(number, raw, endpoint, bounds.line_bytes)
            earlier = first_with.setdefault(line.custom_id, number)
            if earlier != number:
                raise _invalid(
                    "duplicate_custom_id",
                    f"The custom_id {line.custom_id[:60]!r} stands in line {earlier} too; give each line its own.",
                    number,
                    "custom_id",
                )
            found.append(line)
        except LineInvalid as error:
            problems.append(error.problem)
            if len(problems) >= _MOST_PROBLEMS:
                break
    if not found and not problems:
        problems = [Problem("empty_file", "The file has no request; write one JSON object into each line.")]
    return ([], problems) if problems else (found, [])


def one_model(lines: list[Line]) -> str | None:
    """The model that all lines name; None: they name several, or some name none."""
    models = {line.model for line in lines}
    return models.pop() if len(models) == 1 else None


def _numbered(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The lines with something in them, by their number; without a copy of the whole."""
    start, number = len(_BOM) if data.startswith(_BOM) else 0, 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        number += 1
        raw = data[start:end].strip()
        if raw:
            yield number, raw
        start = end + 1


def _read(number: int, raw: bytes, endpoint: str, most_bytes: int) -> Line:
    if len(raw) > most_bytes:
        raise _invalid("line_too_large", f"The line is larger than {most_bytes:,} bytes; make it smaller.", number)
    try:
        request = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _invalid("invalid_json_line", f"The line is no JSON: {error}.", number) from None
    if not isinstance(request, dict):
        raise _invalid("invalid_json_line", "The line is no JSON object.", number)
    custom_id, body = request.get("custom_id"), request.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        message = "custom_id must be a text that no other line has."
        raise _invalid("missing_required_parameter", message, number, "custom_id")
    if len(custom_id) > _MOST_ID_CHARACTERS or "\0" in custom_id:
        message = f"custom_id must have at most {_MOST_ID_CHARACTERS} characters, none of them NUL."
        raise _invalid("invalid_custom_id", message, number, "custom_id")
    if request.get("method") != "POST":
        raise _invalid("invalid_method", "method must be POST.", number, "method")
    if request.get("url") != endpoint:
        raise _invalid("invalid_url", f"url must be the batch's endpoint, {endpoint}.", number, "url")
    if not isinstance(body, dict):
        raise _invalid("missing_required_parameter", "body must be a JSON object: the request.", number, "body")
    model = body.get("model")
    try:
        text = orjson.dumps(body).decode()
    except TypeError:  # more can be read than written
        raise _invalid("invalid_json_line", "body is nested too deeply.", number, "body") from None
    return Line(number, custom_id, text, model if isinstance(model, str) else None)


def _invalid(code: str, message: str, line: int, param: str | None = None) -> LineInvalid:
    return LineInvalid(Problem(code, message, line, param))
