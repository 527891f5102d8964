"""Several processes of the client, where one core of it is not enough; they begin in the same moment."""

import gc
import multiprocessing
import time
from multiprocessing.connection import Connection

import uvloop

from tests.load.generator.driver import Driven, drive
from tests.load.generator.plan import Plan
from tests.load.generator.scenarios import Scenario

_LEAD_S = 0.2


def carry_out(plan: Plan, scenario: Scenario, url: str, key: str) -> tuple[list[Driven], float]:
    """Carry a plan out; blocks.

    Returns: what each process saw, and the reading of `time.monotonic` at which they began.
    Raises: PlanInvalid; RuntimeError: a process of the client ended before its work.
    """
    plan.check()
    if plan.processes == 1:
        zero_s = time.monotonic() + _LEAD_S
        return [_drive(plan, scenario, url, key, zero_s, 0)], zero_s
    of = multiprocessing.get_context("spawn")
    ends: list[Connection] = []
    processes = []
    try:
        for number in range(plan.processes):
            ours, theirs = of.Pipe()
            process = of.Process(target=_work, args=(theirs, plan, scenario, url, key, number), daemon=True)
            process.start()
            theirs.close()
            ends.append(ours)
            processes.append(process)
        for end in ends:
            _received(end)  # it is ready
        zero_s = time.monotonic() + _LEAD_S
        for end in ends:
            end.send(zero_s)
        return [_received(end) for end in ends], zero_s
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _received(end: Connection) -> Driven:
    try:
        return end.recv()
    except EOFError:
        raise RuntimeError("a process of the client ended before its work: read the lines above") from None


def _work(end: Connection, plan: Plan, scenario: Scenario, url: str, key: str, number: int) -> None:
    end.send(Driven())
    end.send(_drive(plan, scenario, url, key, end.recv(), number))


def _drive(plan: Plan, scenario: Scenario, url: str, key: str, zero_s: float, number: int) -> Driven:
    gc.collect()
    gc.freeze()  # a walk over all that was imported would be a pause of the client's own
    try:
        return uvloop.run(drive(plan, scenario, url, key, zero_s, number))
    finally:
        gc.unfreeze()
