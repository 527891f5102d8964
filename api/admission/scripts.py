"""The scripts of admission, and what they answer in the words of the model."""

from collections.abc import Sequence
from dataclasses import dataclass

from api.admission.errors import Dimension
from api.admission.meters import Meter, Metered
from api.admission.model import Counter, Granted, Late, Load, Missing, Outcome, Refused, Stale
from storage.scripts import Argument, Script

_GRANTED, _REFUSED, LATE, _STALE, _MISSING = range(5)
_DIMENSIONS = list(Dimension)
_ADOPT = -1


@dataclass(frozen=True, slots=True)
class Scripts:
    """One text for each thing that is done. They share a clock, which tests replace."""

    admit: Script
    settle: Script
    renew: Script
    sweep: Script
    forget: Script
    generation: Script

    @classmethod
    def load(cls, clock: str = "clock") -> "Scripts":
        """Read the files. `clock`: the one that says what `clock_ms()` is."""
        shared = (clock, "admission/reservations")
        return cls(
            admit=Script(*shared, "admission/admit"),
            settle=Script(*shared, "admission/settle"),
            renew=Script(*shared, "admission/renew"),
            sweep=Script(*shared, "admission/sweep"),
            forget=Script(*shared, "admission/forget"),
            generation=Script(*shared, "admission/generation"),
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
        letter = "d" if load.meter.dimension is Dimension.USD_DAY else "m"
        args += [name, letter, load.period, load.late, load.nano_usd]
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
    if kind == _GRANTED:
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


def _meter(metered: Metered, subject: int, dimension: int) -> Meter:
    wanted = (metered.subjects[subject], _DIMENSIONS[dimension])
    return next(meter for meter in metered.meters if (meter.subject, meter.dimension) == wanted)
