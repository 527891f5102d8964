"""What the command says on standard output: one JSON object a line.

Progress: `{"step", "message", "done"}`, and for bytes also `{"bytes", "total"}`, both of the whole model.
"""

import json
import time
from collections.abc import Callable

_EVERY_S = 0.5


def say(step: str, message: str, *, done: bool) -> None:
    emit({"step": step, "message": message, "done": done})


def emit(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


class Progress:
    """Bytes done of all, at most two lines a second, and one at the end.

    Args:
        total: bytes.
    """

    def __init__(self, step: str, message: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.done_bytes = 0
        self._step, self._message, self._total = step, message, total
        self._clock = clock
        self._said_s = float("-inf")

    def add(self, count: int) -> None:
        """Count bytes; fewer than none where some must come again."""
        self.done_bytes += count
        now_s = self._clock()
        if now_s - self._said_s >= _EVERY_S:
            self._said_s = now_s
            self._say(done=False)

    def end(self) -> None:
        self._say(done=True)

    def _say(self, *, done: bool) -> None:
        message, count = self._message, self.done_bytes
        emit({"step": self._step, "message": message, "bytes": count, "total": self._total, "done": done})
