"""The scripts of admission, and what they answer in the words of the model."""

from collections.abc import Sequence
from dataclasses import dataclass

from api.admission.common import Lease, Leased, Old, Reply, Want
from api.admission.errors import Dimension
from api.admission.meters import LETTERS, Meter, Metered
from api.admission.model import Counter, Granted, Late, Load, Missing, Outcome, Refused, Stale
from storage.scripts import Argument, Script

_OK, _REFUSED, LATE, _STALE, _MISSING, _OLD = range(6)
_DIMENSIONS = list(Dimension)
_ADOPT = -1
WHOLE = "whole"
"""The key below a common subject's prefix that counts what it has spent."""


@dataclass(frozen=True, slots=True)
class Scripts:
    """One text for each thing that is done. They share a clock, which tests replace."""

    admit: Script
    settle: Script
    renew: Script
    sweep: Script
    forget: Script
    generation: Script
    lease: Script

    @classmethod
    def load(cls, clock: str = "clock") -> "Scripts":
        """Read the files. `clock`: the one that says what `clock_ms()` is."""
        words = (clock, "admission/words")
        shared = (*words, "admission/reservations")
        return cls(
            admit=Script(*shared, "admission/admit"),
            settle=Script(*shared, "admission/settle"),
            renew=Script(*shared, "admission/renew"),
            sweep=Script(*shared, "admission/sweep"),
            forget=Script(*shared, "admission/forget"),
            generation=Script(*shared, "admission/generation"),
            lease=Script(*words, "admission/lease"),
        )


def admit_args(
    reservation_id: str,
    metered: Metered,
    tokens: int,
    nano_usd: int,
    *,
    lease_ms: int,
    not_after_ms: int,
    key: tuple[str, int] | None = None,
    loads: Sequence[Load] = (),
) -> list[Argument]:
    """What `admit.lua` takes."""
    key_id, generation = key or ("", 0)
    args: list[Argument] = [reservation_id, tokens, nano_usd, not_after_ms, lease_ms, key_id, generation]
    if not loads:
        args.append(metered.ending)
        return args
    args += [metered.record, len(loads)]
    for load in loads:
        name = load.meter.key.removeprefix(metered.prefix)
        args += [name, LETTERS[load.meter.dimension], load.period, load.late, load.nano_usd]
    args += metered.args
    return args


def adopt_args(
    reservation_id: str,
    metered: Metered,
    tokens: int,
    nano_usd: int,
    *,
    admitted_ms: int,
    lease_ms: int,
    not_after_ms: int,
) -> list[Argument]:
    """What `admit.lua` takes to take without asking."""
    args: list[Argument] = [reservation_id, tokens, nano_usd, not_after_ms, lease_ms, "", admitted_ms]
    return [*args, metered.record, _ADOPT, *metered.args]


def outcome_of(reply: list[int], metered: Metered) -> Outcome:
    """What `admit.lua` says."""
    kind, values = reply[0], reply[2:]
    if kind == _OK:
        return Granted(tuple(values))
    if kind == LATE:
        return Late()
    if kind == _STALE:
        return Stale()
    if kind == _REFUSED:
        subject, dimension, wait_ms = values
        return Refused(_meter(metered, subject, dimension), None if wait_ms < 0 else wait_ms)
    if kind == _MISSING:
        triples = zip(values[::3], values[1::3], values[2::3], strict=True)
        return Missing(tuple(Counter(_meter(metered, subject, what), late) for subject, what, late in triples))
    raise ValueError(f"admit.lua answered {reply!r}")


def lease_args(
    account: str,
    call: int,
    meters: Sequence[Meter],
    wants: Sequence[Want],
    *,
    known: bool,
    lease_ms: int,
    not_after_ms: int,
    loads: Sequence[Load] = (),
) -> list[Argument]:
    """What `lease.lua` takes."""
    args: list[Argument] = [account, call, not_after_ms, lease_ms, int(known), len(loads)]
    for load in loads:
        args += [LETTERS[load.meter.dimension], load.period, load.late, load.nano_usd]
    for meter, want in zip(meters, wants, strict=True):
        args += [LETTERS[meter.dimension], meter.limit, meter.per_minute]
        args += [want.period, want.used, want.floor, want.need, want.spare]
    return args


def reply_of(reply: list[int | str], meters: Sequence[Meter]) -> Reply:
    """What `lease.lua` says."""
    kind, values = reply[0], reply[2:]
    if kind == _OK:
        triples = zip(values[::3], values[1::3], values[2::3], strict=True)
        return Leased(
            tuple(Lease(int(held), None if left == "" else int(left), int(period)) for held, left, period in triples)
        )
    if kind == LATE:
        return Late()
    if kind == _OLD:
        return Old()
    if kind == _MISSING:
        pairs = zip(values[::2], values[1::2], strict=True)
        return Missing(tuple(Counter(meters[int(at)], int(late)) for at, late in pairs))
    raise ValueError(f"lease.lua answered {reply!r}")


def _meter(metered: Metered, subject: int, dimension: int) -> Meter:
    wanted = (metered.subjects[subject], _DIMENSIONS[dimension])
    return next(meter for meter in metered.meters if (meter.subject, meter.dimension) == wanted)
