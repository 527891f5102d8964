"""Text recognition for scans and pictures, in a process and an environment of their own (`retrieval.ocr_child`)."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retrieval.errors import DocumentRejected
from retrieval.parsers.columns import Box, regions

NOT_INSTALLED = (
    "Text recognition (OCR) is not installed: send a file with text, or have the operator run `./stoker ocr` and start "
    "Stoker anew, then send it again."
)
_ROOT = Path(__file__).parent.parent.parent
_SHARE = 0.85  # of a file's time that recognition may take
_SURE = 0.5  # a line below is noise more often than text
_SAME_LINE = 0.5  # share of its height by which a box lies beside another
_NEW_PARAGRAPH = 0.9  # of a line's height, between two lines


class Recogniser:
    """Finds text in pictures; starts its process with the first one, and keeps it.

    Args:
        python: of the environment that has the packages.
    """

    def __init__(self, python: str) -> None:
        self._python = python
        self._process: subprocess.Popen[bytes] | None = None
        self._ends_s = float("inf")
        self._pages = 0
        self._seconds = 0.0

    def begin(self, seconds: float) -> None:
        """Another file begins, which may take so long."""
        self._ends_s = time.monotonic() + _SHARE * seconds
        self._pages, self._seconds = 0, seconds

    def page(self, pixels: bytes, width: int, height: int, stride: int, channels: int) -> str:
        """The lines of a page; an empty line between paragraphs.

        Args:
            pixels: rows of RGB, RGBA or grey, one byte each, every row `stride` bytes long.

        Raises: DocumentRejected: the file's time is over, or recognition failed.
        """
        about = {"width": width, "height": height, "stride": stride, "channels": channels}
        return _text(self._ask(about, pixels)["lines"])

    def picture(self, data: bytes, most: int) -> Iterator[str]:
        """The lines of each picture in a file.

        Args:
            most: pictures of one file.

        Raises: DocumentRejected: it can't be read, the file's time is over, or recognition failed.
        """
        number, count = 0, 1
        while number < count:
            answer = self._ask({"number": number}, data)
            count = answer["count"]
            if count > most:
                raise DocumentRejected(f"The file holds {count:,} pictures; the limit is {most:,}. Split it.")
            yield _text(answer["lines"])
            number += 1

    def _ask(self, about: dict[str, int], data: bytes) -> dict[str, Any]:
        if time.monotonic() > self._ends_s:
            raise DocumentRejected(
                f"Text recognition read {self._pages} page(s) in the {self._seconds:g} s that one file may take, and "
                "there are more: split the file, or have the operator raise STOKER_PARSE_DEADLINE_S."
            )
        process = self._process or self._start()
        self._process = process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("text recognition was started without pipes")
        try:
            process.stdin.write(json.dumps({**about, "bytes": len(data)}).encode() + b"\n")
            process.stdin.write(data)
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            self._process = None
            process.kill()
            process.communicate()
            raise DocumentRejected(
                "Text recognition failed on this file, perhaps for want of memory: send smaller pictures, or the text."
            )
        answer: dict[str, Any] = json.loads(line)
        if "rejected" in answer:
            raise DocumentRejected(answer["rejected"])
        self._pages += 1
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  # the operator's own Python
            [self._python, "-m", "retrieval.ocr_child"],
            cwd=_ROOT,
            env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "2"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )


def _text(lines: list[tuple[float, float, float, float, str, float]]) -> str:
    """Lines in reading order: columns one after the other, what stands side by side in one line.

    Args:
        lines: left, top, right, bottom, text, certainty from 0 to 1; y grows downwards.
    """
    boxes = [(Box(left, -bottom, right, -top), text) for left, top, right, bottom, text, sure in lines if sure >= _SURE]
    columns = regions([box for box, _ in boxes]) or [Box(float("-inf"), float("-inf"), float("inf"), float("inf"))]
    parts: list[str] = []
    for column in columns:
        inside = [each for each in boxes if _is_within(each[0], column)]
        boxes = [each for each in boxes if not _is_within(each[0], column)]
        parts.append(_column(inside))
    parts.append(_column(boxes))
    return "\n\n".join(part for part in parts if part)


def _is_within(box: Box, column: Box) -> bool:
    x, y = (box.left + box.right) / 2, (box.bottom + box.top) / 2
    return column.left <= x <= column.right and column.bottom <= y <= column.top


def _column(boxes: list[tuple[Box, str]]) -> str:
    rows: list[list[tuple[Box, str]]] = []
    for box, text in sorted(boxes, key=lambda each: -each[0].top):
        beside = rows[-1][0][0] if rows else None
        if beside is not None and min(box.top, beside.top) - max(box.bottom, beside.bottom) > _SAME_LINE * (
            box.top - box.bottom
        ):
            rows[-1].append((box, text))
        else:
            rows.append([(box, text)])
    lines: list[str] = []
    above: Box | None = None
    for row in rows:
        row.sort(key=lambda each: each[0].left)
        first = row[0][0]
        if above is not None and above.bottom - first.top > _NEW_PARAGRAPH * (first.top - first.bottom):
            lines.append("")
        lines.append(" ".join(" ".join(text for _, text in row).split()))
        above = first
    return "\n".join(lines)
