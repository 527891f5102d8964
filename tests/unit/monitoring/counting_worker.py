"""A process that counts as a gateway's worker does, with a clock that a test sets; run as a script, one line a command.

Each line is an expression with `worker` in it; what it gives is printed as JSON.
"""

import asyncio
import json
import os
import sys
from contextlib import suppress
from inspect import getclosurevars
from types import SimpleNamespace
from typing import Any

from prometheus_client import values

from core.usage import Usage
from monitoring import metrics
from monitoring.names import NamePage
from monitoring.record import RequestRecord, finish
from monitoring.series import Series
from router.attempt import _calls


class Worker:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.there: set[str] = set()
        page = NamePage(clock=lambda: self.now_s)
        self._series = Series(page, lambda: dict.fromkeys(("deployment", "model_group", "experiment"), self.there))
        self._ledger = Series(page)
        metrics.time = SimpleNamespace(monotonic=lambda: self.now_s)  # type: ignore[attr-defined]

    def have(self, *names: str) -> None:
        self.there = set(names)

    def use(self, *names: str) -> None:
        """What a request of each counts."""
        for name in names:
            usage = Usage(prompt_tokens=3, completion_tokens=4)
            record = RequestRecord("r", "POST", 0.0, "/v1/x", 200, model_group=name, fallback="kept", usage=usage)
            record.first_token_s = 0.1
            finish(record, 1.0)
            _calls(name, name, "ok").inc()
            metrics.EJECTIONS.labels(name, "away").inc()
            metrics.EXPERIMENT_CALLS.labels(name, "control", "ok").inc()
            metrics.UPSTREAM_RUNNING.labels(name).set(1)
            metrics.DEPLOYMENT_OPEN.labels(name).set(0)
            metrics.ENGINE_WANTED.labels(name).set(1.0)

    def spend(self, *names: str) -> None:
        for name in names:
            metrics.SPENT_USD.labels("/v1/x", name, name).inc()

    def fill_the_disk(self) -> None:
        def refuse(*_: object) -> None:
            raise OSError("no space left on device")

        os.posix_fallocate = refuse

    def look(self, at_s: float) -> None:
        self.now_s = at_s
        with suppress(OSError):
            asyncio.run(self._series.look())

    def look_at_ledger(self, at_s: float) -> None:
        self.now_s = at_s
        asyncio.run(self._ledger.look())

    def told(self, at_s: float) -> str:
        self.now_s = at_s
        return metrics.exposition()[0].decode()

    def held(self) -> int:
        """Values that this process holds for its series."""
        if "MmapedValue" not in values.ValueClass.__qualname__:
            return 0
        return len(getclosurevars(values.ValueClass.close_all_files).nonlocals["values"])


def main() -> None:
    worker: Any = Worker()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(eval(line, {"worker": worker})), flush=True)


if __name__ == "__main__":
    main()
