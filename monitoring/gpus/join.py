"""Each GPU's power, energy and memory as the shares of the deployments that run on it.

The rule, where several deployments have one GPU: power, energy and the GPU's time are split by the tokens that they
generated in the interval; in equal parts where none generated any, or where it is not known of one of them. Memory of a
part (a MIG instance, or the whole GPU) is split in equal parts among those who run there, since weights and cache are
held whether or not there is work. A part that nobody has is a share of `NOBODY`, who pays for the GPU's power and time
only where nobody else is on it. So the shares of a GPU always add up to the GPU's own.

Idle time is that of a part, and parts weigh by their slices: who has an instance to itself leaves it idle or doesn't,
whatever its neighbours do. Within a part it is split by tokens, as the GPU's time is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from monitoring.gpus.placement import Place
from monitoring.gpus.readings import Gpu, active

NOBODY = Place("", "")


@dataclass(frozen=True, slots=True)
class Share:
    """What one deployment has of one GPU.

    Attributes:
        place: of the deployment, or `NOBODY`.
        ratio: 0 to 1: of the GPU's power, energy and time.
        energy_joules: of the interval.
        active_ratio: 0 to 1, of the parts on which the deployment runs: a share of time is not split.
        idle_ratio: 0 to 1, what of the GPU stands idle on the deployment's account; in all 1 - the GPU's active ratio.
    """

    gpu: Gpu
    place: Place
    ratio: float
    power_watts: float | None
    energy_joules: float | None
    memory_used_bytes: float | None
    memory_free_bytes: float | None
    active_ratio: float | None
    idle_ratio: float | None


def join(
    before: Iterable[Gpu], after: Iterable[Gpu], places: Sequence[Place], generated: Mapping[str, float]
) -> tuple[Share, ...]:
    """The shares of an interval.

    Args:
        before: the readings at its beginning; only their energy counts.
        after: those at its end.
        generated: deployment to the tokens that it generated in between; one that is not there is not known.
    """
    began = {gpu.uuid: gpu.energy_joules for gpu in before}
    return tuple(share for gpu in after for share in _shares(gpu, _grown(began.get(gpu.uuid), gpu), places, generated))


def _shares(
    gpu: Gpu, energy_joules: float | None, places: Sequence[Place], generated: Mapping[str, float]
) -> Iterable[Share]:
    runs = {part: [place for place in places if place.has(gpu, part)] or [NOBODY] for part in gpu.parts}
    here = list(dict.fromkeys(place for those in runs.values() for place in those))
    ratios = _ratios(here, generated)
    slices = sum(part.slices for part in gpu.parts)
    idle = {
        (part, place): None if part.active_ratio is None else part.slices / slices * ratio * (1 - part.active_ratio)
        for part, those in runs.items()
        for place, ratio in _ratios(those, generated).items()
    }
    of_parts = any(part.memory_used_bytes is not None for part in gpu.parts)
    for place in here:
        held = [(part, len(those)) for part, those in runs.items() if place in those]
        yield Share(
            gpu=gpu,
            place=place,
            ratio=ratios[place],
            power_watts=_times(gpu.power_watts, ratios[place]),
            energy_joules=_times(energy_joules, ratios[place]),
            memory_used_bytes=_sum([_times(part.memory_used_bytes, 1 / sharing) for part, sharing in held])
            if of_parts
            else _times(gpu.memory_used_bytes, 1 / len(here)),
            memory_free_bytes=_sum([_times(part.memory_free_bytes, 1 / sharing) for part, sharing in held])
            if of_parts
            else _times(gpu.memory_free_bytes, 1 / len(here)),
            active_ratio=active(part for part, _ in held),
            idle_ratio=total(idle[part, place] for part, _ in held),
        )


def _ratios(here: Sequence[Place], generated: Mapping[str, float]) -> dict[Place, float]:
    working = [place for place in here if place != NOBODY] or [NOBODY]
    known = [generated.get(place.deployment) for place in working]
    tokens = [0.0 if count is None else count for count in known]
    if None in known or sum(tokens) <= 0:
        ratios = dict.fromkeys(working, 1 / len(working))
    else:
        ratios = {place: count / sum(tokens) for place, count in zip(working, tokens, strict=True)}
    return {place: ratios.get(place, 0.0) for place in here}


def _grown(before_joules: float | None, gpu: Gpu) -> float | None:
    """Energy of the interval; None where the counter began anew in it, as when the driver is loaded."""
    if before_joules is None or gpu.energy_joules is None or gpu.energy_joules < before_joules:
        return None
    return gpu.energy_joules - before_joules


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def total(values: Iterable[float | None]) -> float | None:
    """The sum; None where one is not known, since a sum of the others would be a lie."""
    known = list(values)
    return None if None in known else sum(value or 0.0 for value in known)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
