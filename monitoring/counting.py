"""What two scrapes of one source say of the time between them."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Where = Callable[[Mapping[str, str]], bool]


_PARTS = ("_bucket", "_count", "_sum")  # of a histogram
_COUNTS = ("_total", "_bucket", "_count")
_STARTED = "process_start_time_seconds"
_NOISE = 1e-9  # sums of fractions over processes differ by the order in which these are added up


def _everywhere(_: Mapping[str, str]) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Scrape:
    """A source's text, read.

    Attributes:
        at_s: when it was given, by a clock that only goes on.
        values: by the series' name and labels.
    """

    at_s: float
    values: Mapping[str, Mapping[Labels, float]]

    @classmethod
    def read(cls, text: str, at_s: float) -> "Scrape":
        """Raises: ValueError: that is no text of Prometheus's form."""
        found: dict[str, dict[Labels, float]] = defaultdict(dict)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name][frozenset(sample.labels.items())] = sample.value
        return cls(at_s, found)

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of all series of a name that have these labels; None: there is none."""
        some = [value for at, value in self.values.get(name, {}).items() if at >= frozenset(labels.items())]
        return sum(some) if some else None

    def most(self, name: str, **labels: str) -> float | None:
        """The largest of them."""
        some = (value for at, value in self.values.get(name, {}).items() if at >= frozenset(labels.items()))
        return max(some, default=None)

    def named(self, name: str, label: str) -> set[str]:
        """The values of a label in all series of a name."""
        return {dict(at)[label] for at in self.values.get(name, {}) if label in dict(at)}


@dataclass(frozen=True, slots=True)
class Growth:
    """How far counters have grown. What was started again in between has grown from nothing."""

    before: Scrape
    now: Scrape
    _from: Mapping[str, Mapping[Labels, float]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_from", _begun_from(self.before, self.now))

    @property
    def seconds(self) -> float:
        """Between the two."""
        return self.now.at_s - self.before.at_s

    def of(self, name: str, where: Where = _everywhere, **labels: str) -> float:
        """Over all series of a name that have these labels; never below 0."""
        wanted = frozenset(labels.items())
        return sum(more for at, more in self._each(name) if at >= wanted and where(dict(at)))

    def rate(self, name: str, where: Where = _everywhere, **labels: str) -> float:
        """The same, a second; 0 where no time has passed."""
        return self.of(name, where, **labels) / self.seconds if self.seconds > 0 else 0.0

    def quantile(self, share: float, histogram: str, **labels: str) -> float | None:
        """Below which so large a share of the new observations lies, as Prometheus reckons it; None: there is none.

        Args:
            share: 0 to 1.

        Source: Prometheus, histogram_quantile: linear within a bucket, the last finite bound beyond it.
        """
        counts: dict[float, float] = defaultdict(float)
        wanted = frozenset(labels.items())
        for at, more in self._each(f"{histogram}_bucket"):
            if at >= wanted:
                counts[float(dict(at)["le"])] += more
        return _quantile(share, sorted(counts.items()))

    def _each(self, name: str) -> Iterable[tuple[Labels, float]]:
        past = self._from.get(name, {})
        return ((at, max(0.0, value - past.get(at, 0.0))) for at, value in self.now.values.get(name, {}).items())


def _begun_from(before: Scrape, now: Scrape) -> Mapping[str, Mapping[Labels, float]]:
    """What counters have grown from: less those that began anew.

    A process that says when it started has begun anew where it says another time, and with it all of its counters. Of
    others, fallen counters tell: if those are half of all that moved, or more, the whole source was started again;
    fewer are single ones that did, each with all that belongs to it: a bucket may have passed its old count meanwhile.
    """
    starts = [scrape.values.get(_STARTED) for scrape in (before, now)]
    if all(starts):
        return before.values if starts[0] == starts[1] else {}
    moved: dict[tuple[str, Labels], bool] = {}
    for name, past in before.values.items():
        series = now.values.get(name, {}) if name.endswith(_COUNTS) else {}
        for at, value in past.items():
            if at in series and series[at] != value:
                unit = _unit(name, at)
                moved[unit] = moved.get(unit, False) or series[at] < value * (1 - _NOISE)
    fallen = {unit for unit, fell in moved.items() if fell}
    if 2 * len(fallen) >= len(moved):
        return {} if fallen else before.values
    return {
        name: {at: value for at, value in past.items() if _unit(name, at) not in fallen}
        for name, past in before.values.items()
    }


def _unit(name: str, at: Labels) -> tuple[str, Labels]:
    """What begins anew together: a counter, or all that one histogram says."""
    for suffix in _PARTS:
        if name.endswith(suffix):
            return name.removesuffix(suffix), frozenset(label for label in at if label[0] != "le")
    return name, at


def _quantile(share: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """Args: buckets: upper bound and how many lie at or below it, by bounds."""
    if not buckets or buckets[-1][1] <= 0:
        return None
    rank = share * buckets[-1][1]
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (rank - below) / (count - below) if count > below else bound
        low, below = bound, count
    return low
