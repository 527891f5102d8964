"""`./stoker bench faults`: every fault of an upstream, beside a healthy twin: whole right answers, and how soon.

Both speak the same model, whose answers are known in advance, so "right" means equal to the last character. The router
is asked in this process, with deadlines of 0.4 s; neither breaker opens, so that half of the calls meet the fault.
"""

import argparse
import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
import uvloop

from router.config import RouterConfig
from router.errors import RouterError
from router.router import Router, open_router
from tests.faults.router.calls import PATIENT, chat, deployment
from tests.support.exact.check import take
from tests.support.exact.faults import STREAMS_ONLY, Failure, Fault
from tests.support.exact.server import ExactServer, exact_server

_FLAP_S = 1.8
_PAUSE_S = 0.002  # between tokens


@dataclass
class Score:
    """How the calls under one fault ended; `took_s` of the right ones."""

    asked: int = 0
    rescued: int = 0
    took_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def right(self) -> int:
        return len(self.took_s)

    @property
    def median(self) -> str:
        return f"{statistics.median(self.took_s) * 1000:.0f} ms" if self.took_s else "-"


async def measure(fault: Fault, *, stream: bool, count: int) -> Score:
    """Put `count` calls, one after the other, to a faulty server and its healthy twin."""
    score = Score()
    async with exact_server() as faulty, exact_server() as healthy:
        faulty.pause_s = healthy.pause_s = _PAUSE_S * (10 if fault is Fault.FLAP else 1)
        if fault is Fault.NO_PREFILL:  # which only shows when one is asked to go on
            faulty.takes_ids = False
            healthy.failure = Failure(Fault.CUT)
        deployments = (
            deployment(faulty, "faulty", stream=stream, fault=fault, breaker=PATIENT),
            deployment(healthy, "healthy", stream=stream, breaker=PATIENT),
        )
        async with faulty.failing(Failure(fault)), open_router(RouterConfig(deployments)) as router:
            ends_s = time.monotonic() + (_FLAP_S if fault is Fault.FLAP else 0)
            while score.asked < count or time.monotonic() < ends_s:
                await _ask(router, faulty, score, fault, stream=stream)
    return score


async def _ask(router: Router, server: ExactServer, score: Score, fault: Fault, *, stream: bool) -> None:
    call = chat(stream=stream)
    score.asked += 1
    began_s = time.perf_counter()
    try:
        answer = await router.open(call)
        got = await take(server.model, call, answer, usage_told=fault not in (Fault.LYING_USAGE, Fault.NO_USAGE))
    except (RouterError, ValueError) as error:
        score.wrong.append(f"{type(error).__name__}: {error}")
        return
    if got.wrong:
        score.wrong.append(got.wrong[0])
    else:
        score.took_s.append(time.perf_counter() - began_s)
    score.rescued += bool(got.rescued)


async def run(count: int) -> list[tuple[Fault, bool, Score]]:
    """Every fault, streaming and not where it has a place."""
    return [
        (fault, stream, await measure(fault, stream=stream, count=count))
        for fault in Fault
        for stream in (True, False)
        if stream or fault not in (*STREAMS_ONLY, Fault.NO_PREFILL)
    ]


def show(rows: Sequence[tuple[Fault, bool, Score]]) -> None:
    print("| fault | asked for | whole and right | rescued in the middle | median to a whole answer |")
    print("| --- | --- | --- | --- | --- |")
    for fault, stream, score in rows:
        kind = "a stream" if stream else "one piece"
        print(f"| {fault.value} | {kind} | {score.right} of {score.asked} | {score.rescued} | {score.median} |")
    right, asked = sum(score.right for _, _, score in rows), sum(score.asked for _, _, score in rows)
    print(f"| all | | {right} of {asked} | {sum(score.rescued for _, _, score in rows)} | |")
    print(f"score: {right / asked * 100:.1f} % of {asked} answers were whole and right")
    for fault, stream, score in rows:
        if score.wrong:
            print(f"  {fault.name}, {'stream' if stream else 'one piece'}: {score.wrong[0][:200]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=8, help="of each kind under each fault")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    show(uvloop.run(run(arguments.calls)))


if __name__ == "__main__":
    main()
