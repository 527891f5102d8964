"""What two scrapes of one source say of the time between them."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Where = Callable[[Mapping[str, str]], bool]


_COUNTS = ("_total", "_bucket", "_count")
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
    """How far counters have grown. A source that was started again in between has grown from nothing."""

    before: Scrape
    now: Scrape
    _from: Mapping[str, Mapping[Labels, float]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_from", {} if _started_again(self.before, self.now) else self.before.values)

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


def _started_again(before: Scrape, now: Scrape) -> bool:
    """Whether any counter has fallen: then all of them began anew."""
    return any(
        series[at] < value * (1 - _NOISE)
        for name, past in before.values.items()
        if name.endswith(_COUNTS)
        for series in (now.values.get(name, {}),)
        for at, value in past.items()
        if at in series
    )


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
