"""Columns on a page: finds two or more that the file's own order runs through line by line, and orders them."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

_LEAST_LINES = 4  # in a column
_FILLED = 0.55  # of a column's width by its usual line: cells of a table are shorter
_ALTERNATING = 0.5  # of the lines on the side with fewer: as often the file's order must change sides
_LEAST_GUTTER = 6.0  # points
_MOST_GUTTER = 0.5  # of the narrower column's width; short cells of a table stand further apart
_LEAST_WIDTH = 80.0  # points of a column: about three words
_MOST_CROSSING = 0.3  # of the lines; headings and figures run across
_DEEPEST = 3


class Box(NamedTuple):
    """A line of text, or a region of them, in points; y grows upwards."""

    left: float
    bottom: float
    right: float
    top: float


def regions(boxes: Sequence[Box]) -> list[Box]:
    """The regions of a page in reading order; none where the file's own order is as good.

    Args:
        boxes: runs of text in the file's order.
    """
    found = _cut(boxes, _DEEPEST) if boxes else []
    return found if len(found) > 1 else []


def _cut(boxes: Sequence[Box], depth: int) -> list[Box]:
    gutter = _gutter(boxes) if depth else None
    if gutter is None:
        return [_around(boxes)]
    across = sorted((box for box in boxes if box.left < gutter < box.right), key=lambda box: -box.top)
    rest = [box for box in boxes if not box.left < gutter < box.right]
    found: list[Box] = []
    for separator in [*across, None]:
        above = [box for box in rest if separator is None or _middle(box) > separator.top]
        rest = [box for box in rest if separator is not None and _middle(box) <= separator.top]
        for side in ([box for box in above if box.right <= gutter], [box for box in above if box.left >= gutter]):
            if side:
                found += _cut(side, depth - 1)
        if separator is not None:
            found.append(separator)
    return found


def _gutter(boxes: Sequence[Box]) -> float | None:
    """Where a column ends and the next begins, if the file's order runs across; None if it does not."""
    if len(boxes) < 2 * _LEAST_LINES:
        return None
    best: tuple[int, float, float] | None = None  # lines that cross, the gutter's middle and width
    for x in sorted({box.right for box in boxes}):
        following = min((box.left for box in boxes if box.left > x), default=None)
        if following is None:
            break
        middle = (x + following) / 2
        crossing = sum(box.left < middle < box.right for box in boxes)
        if following - x < _LEAST_GUTTER or crossing > _MOST_CROSSING * len(boxes):
            continue
        if best is None or (crossing, following - x) < (best[0], best[2]):
            best = (crossing, middle, following - x)
    if best is None:
        return None
    _, gutter, width = best
    sides = [box.left >= gutter for box in boxes if box.right <= gutter or box.left >= gutter]
    fewer = min(sides.count(False), sides.count(True))
    changes = sum(one != other for one, other in pairwise(sides))
    if fewer < _LEAST_LINES or changes < _ALTERNATING * 2 * fewer:
        return None
    for side in ([box for box in boxes if box.right <= gutter], [box for box in boxes if box.left >= gutter]):
        around = _around(side)
        column = around.right - around.left
        if column < max(_LEAST_WIDTH, width / _MOST_GUTTER):
            return None
        if median(box.right - box.left for box in side) < _FILLED * column:
            return None
    return gutter


def _around(boxes: Sequence[Box]) -> Box:
    return Box(
        min(box.left for box in boxes),
        min(box.bottom for box in boxes),
        max(box.right for box in boxes),
        max(box.top for box in boxes),
    )


def _middle(box: Box) -> float:
    return (box.bottom + box.top) / 2
