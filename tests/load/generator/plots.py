"""Plots as inline SVG: lines, points and bars, without a library and without another host."""

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 560, 220, 56, 26, 12, 34
_COLOURS = ("#1f6feb", "#d1570b", "#2da44e", "#8250df")
_MOST = 2000  # points of a line

Points = Sequence[tuple[float, float]]


def plot(title: str, x: str, y: str, lines: dict[str, Points], *, points: bool = False) -> str:
    """One plot of several lines, or of several sets of points; axes begin at 0."""
    thin = {name: values[:: max(1, len(values) // _MOST)] for name, values in lines.items()}
    right = max((at for values in thin.values() for at, _ in values), default=0.0) or 1.0
    top = max((value for values in thin.values() for _, value in values), default=0.0) or 1.0

    def place(at: float, value: float) -> tuple[float, float]:
        wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + wide * at / right, _TOP + high * (1 - value / top)

    parts = [_axes(title, x, y, right, top)]
    for number, (name, values) in enumerate(thin.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        spots = [place(at, value) for at, value in values]
        if points:
            parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="1.6" fill="{colour}" />' for a, b in spots]
        else:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in spots)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5" />')
        at = _LEFT + 8 + 130 * number
        parts.append(f'<text x="{at}" y="{_TOP - 2}" fill="{colour}">{escape(name)}</text>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'


def distribution(values: Sequence[float]) -> Points:
    """Of sorted values the percent that lie below each."""
    ordered = sorted(values)
    return [(value, 100 * (number + 1) / len(ordered)) for number, value in enumerate(ordered)]


def by_second(moments: Sequence[tuple[float, float]], until_s: float) -> Points:
    """Sums of weights for each second."""
    sums = [0.0] * (max(1, int(until_s) + 1))
    for at_s, weight in moments:
        if 0 <= at_s <= until_s:
            sums[int(at_s)] += weight
    return [(float(second), value) for second, value in enumerate(sums)]


def _axes(title: str, x: str, y: str, right: float, top: float) -> str:
    low, end = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    marks = "".join(
        f'<text x="{_LEFT + (end - _LEFT) * part:.0f}" y="{low + 14}" text-anchor="middle">{right * part:.3g}</text>'
        f'<text x="{_LEFT - 5}" y="{low - (low - _TOP) * part + 4:.0f}" text-anchor="end">{top * part:.3g}</text>'
        for part in (0.0, 0.5, 1.0)
    )
    return (
        f'<text x="{_LEFT}" y="11" font-weight="bold">{escape(title)}, {escape(y)}</text>'
        f'<path d="M{_LEFT} {_TOP}V{low}H{end}" fill="none" stroke="#888" />{marks}'
        f'<text x="{end}" y="{_HEIGHT - 4}" text-anchor="end">{escape(x)}</text>'
    )
