"""How long each stage of one answer takes: told with the answer, and counted in a histogram."""

from collections.abc import Iterator
from contextlib import contextmanager

from core.clock import Clock
from monitoring import tracing
from monitoring.metrics import RETRIEVAL_SECONDS


class StageTimes:
    """Of one question, from when this is made. A stage may be entered several times."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_s = clock.monotonic()
        self._spent_s: dict[str, float] = {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Count the time within to a stage."""
        began_s = self._clock.monotonic()
        try:
            with tracing.stage(stage):
                yield
        finally:
            self.add(stage, self._clock.monotonic() - began_s)

    def add(self, stage: str, seconds: float) -> None:
        """Count time to a stage."""
        self._spent_s[stage] = self._spent_s.get(stage, 0.0) + seconds

    def since(self, stage: str, began_s: float) -> None:
        """Count the time since this reading of the clock to a stage."""
        self.add(stage, self._clock.monotonic() - began_s)

    def told(self) -> dict[str, float]:
        """Milliseconds of each stage so far, and of all."""
        whole = {**self._spent_s, "total": self._clock.monotonic() - self._began_s}
        return {stage: round(seconds * 1000, 2) for stage, seconds in whole.items()}

    def observe(self) -> None:
        """Count what the stages took; once, when the answer is over."""
        whole = {**self._spent_s, "total": self._clock.monotonic() - self._began_s}
        for stage, seconds in whole.items():
            RETRIEVAL_SECONDS.labels(f"answer_{stage}").observe(seconds)
