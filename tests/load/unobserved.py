"""The gateway with nothing counted: what `python -m api` costs without its metrics, for the bench to compare with."""

import sys
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from monitoring.tally import Tally


def _nothing(*_: Any, **__: Any) -> None:
    pass


for _kind, _methods in {
    Tally: ("add", "observe", "flush"),
    Counter: ("inc",),
    Gauge: ("inc", "dec", "set"),
    Histogram: ("observe",),
}.items():
    for _method in _methods:
        setattr(_kind, _method, _nothing)

if __name__ == "__main__":
    from api.__main__ import main

    sys.exit(main(sys.argv[1:]))
