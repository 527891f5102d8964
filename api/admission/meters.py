"""What the limits of a request's subjects come to: the same for each of its requests, so reckoned once."""

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from api.admission.errors import Dimension
from core.limits import Limits, Subject
from storage.scripts import Packed

MAX_PER_MINUTE = 150_000_000_000
MAX_NANO_USD = 9_000_000_000_000_000
"""Largest limits that scripts reckon exactly: their numbers are whole up to 2^53, and a bucket counts in 1/60000."""

LETTERS = dict(zip(Dimension, "rtpdm", strict=True))
"""How scripts name dimensions."""


@dataclass(frozen=True, slots=True)
class Meter:
    """One limit of one subject.

    Attributes:
        key: the subject's key in Redis.
        limit: what may be used at once: the bucket's size, requests of a minute, parallel requests, nano-USD.
        per_minute: how fast a bucket fills; 0 for other meters.
        window: whether it is a sliding minute.
    """

    subject: Subject
    key: str
    dimension: Dimension
    limit: int
    per_minute: int = 0
    window: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Metered:
    """The limited subjects of a request.

    Attributes:
        prefix: of every key that a script may touch for it.
        meters: in the order of scripts and of what they return.
        args: the subjects as the admitting script takes them.
        ending: what the script takes after a request's own arguments when there is nothing to load, packed.
        requests, tokens: places of the meters of that dimension.
        record: what is written into a reservation: names of subjects, and what was taken of each.
        money: whether any of the meters is of money.
    """

    prefix: str
    subjects: tuple[Subject, ...]
    meters: tuple[Meter, ...]
    args: tuple[str | int, ...]
    ending: Packed
    record: str
    money: bool
    requests: tuple[int, ...]
    tokens: tuple[int, ...]


def prefix_of(tenant_id: str) -> str:
    """Where all of a tenant's keys lie; the braces keep them in one hash slot of a cluster."""
    return f"stoker:{{{quote(tenant_id, safe='')}}}:"


def common_prefix(subject: Subject) -> str:
    """Where the keys of a subject that all tenants share lie: a hash slot of its own, and no tenant's."""
    return f"stoker:{{*{name_of(subject)}}}:"


def name_of(subject: Subject) -> str:
    """A subject's name below its tenant's prefix; holds neither blanks nor braces."""
    return f"{subject.kind}:{quote(subject.id, safe='')}"


def check(limits: Limits) -> None:
    """Raises: ValueError: a limit is negative or too large to be counted exactly."""
    for name, most in (
        ("requests_per_minute", MAX_PER_MINUTE),
        ("burst", MAX_PER_MINUTE),
        ("tokens_per_minute", MAX_PER_MINUTE),
        ("parallel", MAX_PER_MINUTE),
        ("nano_usd_per_day", MAX_NANO_USD),
        ("nano_usd_per_month", MAX_NANO_USD),
    ):
        bound = getattr(limits, name)
        if bound is not None and not 0 <= bound <= most:
            raise ValueError(f"{name} is {bound}; it must lie between 0 and {most}")


@lru_cache(maxsize=4_000)  # 2 KB each
def metered(tenant_id: str, subjects: tuple[Subject, ...]) -> Metered:
    """Prepare the subjects of a tenant; those without limits fall away, and so does a subject's second mention.

    Raises: ValueError: a limit is out of range.
    """
    prefix = prefix_of(tenant_id)
    limited = {name_of(subject): subject for subject in reversed(subjects) if subject.limits.any}
    meters: list[Meter] = []
    args: list[str | int] = []
    record: list[str] = []
    for name, subject in reversed(limited.items()):
        check(subject.limits)
        own = _meters(subject, prefix + name)
        meters += own
        args += [name, *_bounds(subject.limits)]
        record += [name, "".join(_flag(meter) for meter in own)]
    kept = tuple(reversed(limited.values()))
    text = " ".join(record)
    places = {
        dimension: tuple(at for at, meter in enumerate(meters) if meter.dimension is dimension)
        for dimension in Dimension
    }
    return Metered(
        prefix,
        kept,
        tuple(meters),
        tuple(args),
        Packed.of(text, 0, *args),
        text,
        any(meter.dimension.money for meter in meters),
        places[Dimension.REQUESTS],
        places[Dimension.TOKENS],
    )


def _meters(subject: Subject, key: str) -> list[Meter]:
    limits, found = subject.limits, []
    if (rate := limits.requests_per_minute) is not None:
        found.append(Meter(subject, key, Dimension.REQUESTS, _capacity(limits), rate, limits.strict))
    if (rate := limits.tokens_per_minute) is not None:
        found.append(Meter(subject, key, Dimension.TOKENS, rate, rate, limits.strict))
    for dimension, bound in (
        (Dimension.PARALLEL, limits.parallel),
        (Dimension.USD_DAY, limits.nano_usd_per_day),
        (Dimension.USD_MONTH, limits.nano_usd_per_month),
    ):
        if bound is not None:
            found.append(Meter(subject, key, dimension, bound))
    return found


def _capacity(limits: Limits) -> int:
    """Requests that may come at once."""
    rate = limits.requests_per_minute or 0
    return rate if limits.burst is None or limits.strict else limits.burst


def _bounds(limits: Limits) -> list[str | int]:
    requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
    return [
        int(limits.strict),
        "" if requests is None else _capacity(limits),
        "" if requests is None else requests,
        "" if tokens is None else tokens,
        "" if tokens is None else tokens,
        *("" if bound is None else bound for bound in (limits.parallel, limits.nano_usd_per_day)),
        "" if limits.nano_usd_per_month is None else limits.nano_usd_per_month,
    ]


def _flag(meter: Meter) -> str:
    letter = LETTERS[meter.dimension]
    return letter.upper() if meter.window else letter
