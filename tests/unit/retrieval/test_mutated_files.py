"""Mutated files of every format, through the parsing process: text, or a reason, and the next file as ever."""

import math
import os
import random
import resource
import time
from collections import Counter
from collections.abc import Callable

import pytest

from retrieval import media
from retrieval.errors import DocumentRejected
from retrieval.parsers.parsed import normalise
from retrieval.parsing import Parser
from tests.unit.retrieval import samples
from tests.unit.retrieval.mutations import mutated

DEADLINE_S = 60.0  # as in the settings; a busy machine may stand still for long
MEMORY_BYTES = 2**30
PARENT_GROWTH_BYTES = 200 * 2**20
FEW = 126  # files; the same ones in each run
LONG_S = float(os.environ.get("FUZZ_S", "1800"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))


def _outcome(reason: str) -> str:
    for word in ("The parser failed", "crashed", "took longer", "more memory", "nested too deeply: simplify"):
        if word in reason:
            return word
    return "refused"


async def _walk(
    seed: int, *, most: float = math.inf, seconds: float = math.inf
) -> tuple[Counter[tuple[str, str]], dict[str, str], int]:
    """Mutate and parse so many files, or for so many seconds.

    Returns: files by format and outcome, a file for each outcome that is a fault, bytes by which this process grew.
    """
    chance = random.Random(seed)
    files = samples.all_formats()
    names = sorted(files)
    counts: Counter[tuple[str, str]] = Counter()
    faults: dict[str, str] = {}
    parser = Parser(DEADLINE_S, MEMORY_BYTES, max_characters=1_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ends_s = time.monotonic() + seconds
    number = 0
    try:
        while number < most and time.monotonic() < ends_s:
            name = names[number % len(names)]
            own = f"{seed}:{number}"
            number += 1
            data = mutated(files[name], files[chance.choice(names)], random.Random(own))
            filename = name if number % 3 else chance.choice(names)
            try:
                digest = await parser.parse(data, media.detect(filename, None, data), filename)
            except DocumentRejected as rejection:
                outcome = _outcome(rejection.reason)
            else:
                outcome = "text"
                assert digest.text == normalise(digest.text)
                assert digest.text.strip()
                for piece in digest.chunks:
                    assert piece.text == digest.text[piece.start : piece.end] != ""
            counts[name.partition(".")[2], outcome] += 1
            if outcome not in ("text", "refused"):
                faults.setdefault(f"{name} as {filename}: {outcome}", own)
            if outcome in ("crashed", "took longer"):
                assert (await parser.parse(b"# Next", media.MARKDOWN)).text == "# Next"
        assert (await parser.parse(b"# Next", media.MARKDOWN)).text == "# Next"
    finally:
        await parser.close()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return counts, faults, grown


def _told(counts: Counter[tuple[str, str]], faults: dict[str, str], grown: int) -> str:
    outcomes: Counter[str] = Counter()
    for (_, outcome), count in counts.items():
        outcomes[outcome] += count
    by_format = {
        form: {outcome: count for (each, outcome), count in sorted(counts.items()) if each == form}
        for form in sorted({each for each, _ in counts})
    }
    return (
        f"{sum(outcomes.values())} mutated files: {dict(outcomes)}; by format {by_format}; unexpected: {faults}; "
        f"the parent grew by {grown / 2**20:.0f} MiB"
    )


async def test_mutated_files_end_in_text_or_a_reason(figure: Callable[[str], None]) -> None:
    counts, faults, grown = await _walk(SEED, most=FEW)
    figure(_told(counts, faults, grown))
    assert not faults
    assert grown < PARENT_GROWTH_BYTES
    assert len({form for form, _ in counts}) == len({name.partition(".")[2] for name in samples.all_formats()})


@pytest.mark.long
async def test_mutated_files_end_in_text_or_a_reason_for_long(figure: Callable[[str], None]) -> None:
    counts, faults, grown = await _walk(SEED, seconds=LONG_S)
    figure(_told(counts, faults, grown))
    assert not faults
    assert grown < PARENT_GROWTH_BYTES
