"""Names in labels that come and go, deployments, model groups and experiments, so that their series go with them.

All processes that count into one folder keep one page of them. A name that nobody has any more is told of for a grace,
in which Prometheus reads the last values of its counters. Then these are hidden, in one moment, whichever worker is
asked: while some have taken theirs away and others have not, a sum would look like a counter that began anew. What is
hidden each process takes out of what it holds (`monitoring/series.py`). A name that comes back later begins at 0.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from monitoring.replaced import write_whole

GRACE_S = 600.0
"""Of counters: 40 scrapes at the interval of the configuration that comes along; a Prometheus starts again in less."""

HIDDEN_S = 60.0  # within which every process takes away what is hidden
UNKNOWN_S = 86_400.0  # of a name that only the ledger knows, after its last line

PAGE, _LOCK = "names.json", "names.lock"

Kind = Literal["deployment", "model_group", "experiment"]

KINDS: Mapping[str, Kind] = {
    "deployment": "deployment",
    "model_group": "model_group",
    "fallback": "model_group",
    "experiment": "experiment",
}
"""Of the labels whose values these are."""

Names = Mapping[Kind, Set[str]]
_Page = dict[str, dict[str, float | None]]  # kind and name to when it is hidden, by the host's monotonic clock


@dataclass(frozen=True, slots=True)
class Hidden:
    """Names of which no counter is told."""

    names: Mapping[str, Set[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.names.values())

    def has(self, labels: Mapping[str, str]) -> bool:
        """Whether a counter with these labels is hidden."""
        return any(labels.get(label) in self.names[kind] for label, kind in KINDS.items() if kind in self.names)


NOTHING = Hidden()


def named(labels: Mapping[str, str]) -> Iterator[tuple[Kind, str]]:
    """The names that stand in labels."""
    return ((kind, value) for label, kind in KINDS.items() if (value := labels.get(label)))


def hidden(folder: Path, now_s: float) -> Hidden:
    """What is hidden in a shared folder now."""
    return _hidden(_read(folder), now_s)


class NamePage:
    """The page, for one process: that of the shared folder, or its own where none is shared.

    Args:
        grace_s: for so long counters of a name that is gone are told.
        clock: monotonic, the same for all processes of the host; seconds.
    """

    def __init__(self, grace_s: float = GRACE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace_s = grace_s
        self._clock = clock
        self._own: _Page = {}
        self._unknown: set[tuple[str, str]] = set()

    def tell(self, there: Names, seen: Iterable[tuple[Kind, str]]) -> Hidden:
        """Say which names there are; of others that were seen in labels, the grace begins.

        Returns: what is hidden now. Raises: OSError: the folder can't be written.
        """
        with self._page() as page:
            now_s = self._clock()
            _end(page, now_s)
            for kind, name in seen:
                page.setdefault(kind, {}).setdefault(name, None)
            for kind, names in there.items():
                known = page.setdefault(kind, {})
                for name in known.keys() | names:
                    at_s = known.get(name)
                    if name in names and (at_s is None or at_s > now_s):
                        known[name] = None
                    elif name not in names and (at_s is None or at_s > now_s + self._grace_s):  # as `note` has it
                        known[name] = now_s + self._grace_s
            return _hidden(page, now_s)

    def note(self, seen: Iterable[tuple[Kind, str]]) -> Hidden:
        """Where one does not know which names there are: have counters of those of which nobody knows go in a day.

        Returns, raises: as `tell`.
        """
        with self._page() as page:
            now_s = self._clock()
            _end(page, now_s)
            for kind, name in seen:
                known = page.setdefault(kind, {})
                if name not in known or (known[name] is not None and (kind, name) in self._unknown):
                    known[name] = now_s + UNKNOWN_S
                    self._unknown.add((kind, name))
            self._unknown = {(kind, name) for kind, name in self._unknown if page.get(kind, {}).get(name) is not None}
            return _hidden(page, now_s)

    @contextmanager
    def _page(self) -> Iterator[_Page]:
        """What is written there, alone; what is changed is written back."""
        shared = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if shared is None:
            yield self._own
            return
        folder = Path(shared)
        with (folder / _LOCK).open("w") as lock:
            _hold(lock.fileno())
            page = _read(folder)
            before = json.dumps(page)
            yield page
            if (text := json.dumps(page)) != before:
                write_whole(folder / PAGE, text)


def _hold(lock: int) -> None:
    """Take the lock. Raises: OSError: another process has it for long, as one that was stopped may; ask again later."""
    for pause_s in (0.01, 0.05, 0.2, 0.5):
        with suppress(BlockingIOError):
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(pause_s)
    return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _end(page: _Page, now_s: float) -> None:
    """Forget the names whose series have been taken away."""
    for known in page.values():
        for name, at_s in list(known.items()):
            if at_s is not None and at_s + HIDDEN_S <= now_s:
                del known[name]


def _hidden(page: _Page, now_s: float) -> Hidden:
    return Hidden(
        {
            kind: names
            for kind, known in page.items()
            if (names := {name for name, at_s in known.items() if at_s is not None and at_s <= now_s})
        }
    )


def _read(folder: Path) -> _Page:
    with suppress(FileNotFoundError, ValueError):
        page: _Page = json.loads((folder / PAGE).read_text())
        return page
    return {}
