"""The legs of one search: each looks on its own, further where what it found may not be seen, or is left out."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

from core.dependency import DependencyError
from monitoring import tracing
from monitoring.logs import logger
from retrieval.errors import DocumentRejected, IndexRefused, SpaceMismatch
from retrieval.index import Hit

S = TypeVar("S")

_log = logger(__name__)

_MOST_CANDIDATES = 1600  # where doubling ends

Away = DependencyError | SpaceMismatch | IndexRefused | DocumentRejected
"""What makes a leg be left out; the last: an embedder that does not take the question."""


@dataclass(slots=True)
class Leg:
    """One way of searching, for one wording of a question or several.

    Attributes:
        kind: dense or lexical.
        find: given a limit, the best hits for each wording; what it raises leaves the leg out.
        limit: how many hits are asked for next.
        rankings: hits that may be seen, for each wording, best first.
        error: why it was left out.
    """

    kind: str
    find: Callable[[int], Awaitable[list[list[Hit]]]]
    limit: int
    rankings: list[list[Hit]] = field(default_factory=list)
    exhausted: bool = False
    error: Away | None = None


async def run(
    legs: Sequence[Leg],
    accept: Callable[[set[str]], Awaitable[Mapping[str, S]]],
    per_document: int | None = None,
) -> dict[str, S]:
    """Fill the legs with hits that may be seen, as many as each is asked for at first.

    Args:
        accept: of these revisions, what is known of those that may be seen; asked once for each.
        per_document: most hits of one document that count; where others are in their way, a leg looks further.

    Returns: what is known of each revision that may be seen.
    """
    seen: dict[str, S] = {}
    asked: set[str] = set()
    wanted = {id(leg): leg.limit for leg in legs}
    short = list(legs)
    while short:
        await asyncio.gather(*(_find(leg) for leg in short))
        unknown = {hit.revision_id for leg in short for hits in leg.rankings for hit in hits} - asked
        seen |= await accept(unknown)
        asked |= unknown
        for leg in short:
            leg.rankings = [[hit for hit in hits if hit.revision_id in seen] for hits in leg.rankings]
        short = [
            leg
            for leg in short
            if not leg.exhausted
            and min(len(list(thinned(hits, per_document))) for hits in leg.rankings) < wanted[id(leg)]
        ]
        for leg in short:
            leg.limit *= 2
    return seen


def degraded(legs: Sequence[Leg]) -> str | None:
    """Why the answer is not all it could be; None: it is. Raises: the error, when no leg is left."""
    away = {leg.kind: leg.error for leg in legs if leg.error is not None}
    if not away:
        return None
    left = sorted({leg.kind for leg in legs if leg.error is None})
    kind, error = next(iter(away.items()))
    if not left:
        raise error
    return f"{kind} search is away ({error}); {' and '.join(left)} search answered alone"


@contextmanager
def timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    """Add the seconds of a `with` block to a stage, whether it ends well or not."""
    began = perf_counter()
    try:
        with tracing.stage(stage):
            yield
    finally:
        timings[stage] = timings.get(stage, 0.0) + perf_counter() - began


def thinned(hits: Iterable[Hit], per_document: int | None) -> Iterator[Hit]:
    """The first `per_document` hits of each document; None: all."""
    found: dict[str, int] = {}
    for hit in hits:
        found[hit.document_id] = found.get(hit.document_id, 0) + 1
        if per_document is None or found[hit.document_id] <= per_document:
            yield hit


async def _find(leg: Leg) -> None:
    try:
        leg.rankings = await leg.find(leg.limit)
    except (DependencyError, SpaceMismatch, IndexRefused, DocumentRejected) as error:
        _log.warning("a leg of the search is away", leg=leg.kind, reason=str(error))
        leg.error = error
        leg.rankings = []
        leg.exhausted = True
        return
    leg.exhausted = max(map(len, leg.rankings)) < leg.limit or leg.limit * 2 > _MOST_CANDIDATES
