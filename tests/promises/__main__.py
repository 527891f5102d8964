"""`python -m tests.promises [N..] [WORDS]`: plant every defect of the promises that speak of all WORDS.

`120..` begins with the book's 120th promise, so that a run that was interrupted can go on; `120..149` ends with the
149th.
Exit code 1 if a defect leaves its tests green or breaks them otherwise than by an assertion.
"""

import os
import queue
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.markup import escape

from cli.console import err, short_time
from tests.promises.book import BOOK, Defect, Promise, read
from tests.promises.planting import Field, Outcome, Verdict, open_field
from tests.support.engines import SHARED_ENGINE, SHORT_QUEUE, start_embeddings

ROOT = Path(__file__).resolve().parents[2]
_MOST_LANES = 4
_WITH_EMBEDDINGS = ("tests/integration/retrieval/", "tests/integration/monitoring/test_load.py")


def main(words: Sequence[str]) -> int:
    """Plant and tell. Returns: the exit code."""
    started_s = time.monotonic()
    first, last = 1, None
    if words and (begun := re.fullmatch(r"(\d+)\.\.(\d+)?", words[0])):
        first, last, words = int(begun[1]), begun[2] and int(begun[2]), words[1:]
    promises = [promise for promise in read(ROOT)[first - 1 : last] if promise.concerns(words)]
    if not promises:
        err.print(f"no promise in {BOOK} speaks of {' '.join(words)}")
        return 1
    defects = [(promise, defect) for promise in promises for defect in promise.defects]
    with ExitStack() as stack:
        lanes: queue.SimpleQueue[Field] = queue.SimpleQueue()
        shared = _shared_servers(stack, promises)
        for _ in range(min(_MOST_LANES, os.cpu_count() or 1, len(defects))):
            lanes.put(stack.enter_context(open_field(ROOT, Path(sys.executable), shared)))
        if not _all_green(lanes, promises):
            return 1
        counts = _plant_all(lanes, defects)
    bad = counts.total() - counts[Verdict.RED]
    told = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    colour = "red" if bad else "green"
    spent = short_time(time.monotonic() - started_s)
    err.print(f"[{colour}]{len(promises)} promises, {len(defects)} defects: {told}[/{colour}] ({spent})")
    return 1 if bad else 0


def _shared_servers(stack: ExitStack, promises: Sequence[Promise]) -> dict[str, str]:
    """Start what takes long to start and holds no planted code. Returns: the variables that tell tests of it."""
    if not any(test.startswith(_WITH_EMBEDDINGS) for promise in promises for test in promise.tests):
        return {}
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="stoker-promises-")))
    return {SHARED_ENGINE: stack.enter_context(start_embeddings(folder, *SHORT_QUEUE)).as_json()}


def _all_green(lanes: "queue.SimpleQueue[Field]", promises: Sequence[Promise]) -> bool:
    """Whether every test that is named passes while nothing is planted."""
    named = {test: None for promise in promises for test in promise.tests}
    named |= {test: None for promise in promises for defect in promise.defects for test in defect.tests}
    started_s = time.monotonic()
    field = lanes.get()
    wrong = field.check(list(named))
    lanes.put(field)
    for one in wrong:
        err.print(f"[red]without a defect[/red] {escape(one)}")
    if not wrong:
        err.print(
            f"[dim]without a defect all {len(named)} tests pass: {short_time(time.monotonic() - started_s)}[/dim]"
        )
    return not wrong


def _plant_all(lanes: "queue.SimpleQueue[Field]", defects: Sequence[tuple[Promise, Defect]]) -> Counter[Verdict]:
    """Plant side by side, as many at once as there are copies."""

    def plant(defect: Defect) -> Outcome:
        field = lanes.get()
        try:
            return field.plant(defect)
        finally:
            lanes.put(field)

    counts: Counter[Verdict] = Counter()
    pool = ThreadPoolExecutor(lanes.qsize())
    try:
        planted = {pool.submit(plant, defect): (promise, defect) for promise, defect in defects}
        for done in as_completed(planted):
            outcome = done.result()
            counts[outcome.verdict] += 1
            _tell(counts.total(), len(defects), *planted[done], outcome)
    finally:
        pool.shutdown(cancel_futures=True)  # interrupted: those under way end, no other begins
    return counts


def _tell(number: int, count: int, promise: Promise, defect: Defect, outcome: Outcome) -> None:
    colour = "green" if outcome.verdict is Verdict.RED else "bold red"
    place = f"{number:>3} of {count}  [{colour}]{outcome.verdict}[/{colour}]"
    err.print(f"{place}  {escape(promise.says)} [dim]{outcome.seconds:.0f} s[/dim]")
    if outcome.verdict is not Verdict.RED:
        err.print(f"      {defect.edits[0].file}: {escape(repr(defect.edits[0].replaces))}")
    if outcome.verdict is not Verdict.RED or os.environ.get("PROMISES_TELL"):
        err.print(f"      [dim]{escape(outcome.reason)}[/dim]")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so its children
    sys.exit(main(sys.argv[1:]))
