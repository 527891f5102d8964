"""Locust's users on the same plan, scenarios and measuring core as `./stoker bench load`.

    LOAD_API_KEY=KEY LOAD_SCENARIO=mixed LOAD_USERS=50 LOAD_DURATION=60 \
        .stoker/envs/test/bin/locust -f tests/load/locustfile.py --headless --host http://127.0.0.1:8080

With LOAD_RATE instead of LOAD_USERS requests begin at planned moments whatever the answers do, each in a greenlet of
its own. LOAD_MODEL, LOAD_SEED, LOAD_THINK, LOAD_WARMUP, LOAD_OUTPUT_TOKENS, LOAD_COLLECTION and LOAD_REPORT (a folder
for report.json and report.html) mean what the flags do. Run it from the repository's root with PYTHONPATH=. set.
"""

import os
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import orjson
from locust import FastHttpUser, LoadTestShape, constant, events, task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS

from tests.load.generator.answer import Answer, Failure, Sample
from tests.load.generator.driver import Driven
from tests.load.generator.figures import Slo, figures
from tests.load.generator.plan import Plan
from tests.load.generator.report import table, write
from tests.load.generator.scenarios import Asked, Scenario


def _number(name: str, default: float) -> float:
    return float(os.environ.get(name) or default)


PLAN = Plan(
    seed=int(_number("LOAD_SEED", 1)),
    duration_s=_number("LOAD_DURATION", 60),
    rate=_number("LOAD_RATE", 0) or None,
    users=0 if os.environ.get("LOAD_RATE") else int(_number("LOAD_USERS", 10)),
    think_s=_number("LOAD_THINK", 0),
    warmup_s=_number("LOAD_WARMUP", 0),
)
SCENARIO = Scenario(
    name=os.environ.get("LOAD_SCENARIO", "chat"),
    seed=PLAN.seed,
    model=os.environ.get("LOAD_MODEL", "smollm2-135m"),
    collection=os.environ.get("LOAD_COLLECTION", "demo"),
    output_tokens=int(_number("LOAD_OUTPUT_TOKENS", 64)),
)
SAMPLES: list[Sample] = []
BEGUN: list[float] = []  # the reading of the clock at which the first user began
PLAN.check()
SCENARIO.check()


class Shape(LoadTestShape):
    """As many users as are planned, or one who begins everything, until the time is over."""

    def tick(self) -> tuple[int, float] | None:
        users = PLAN.users or 1
        return (users, users) if self.get_run_time() < PLAN.duration_s else None


class LoadUser(FastHttpUser):
    """Asks what the scenario says, and measures from the scheduled moment."""

    wait_time = constant(0)
    network_timeout = PLAN.timeout_s
    connection_timeout = PLAN.timeout_s
    concurrency = PLAN.connections
    numbers: Iterator[int] = iter(range(10**9))

    def on_start(self) -> None:
        if not BEGUN:
            BEGUN.append(time.monotonic())
        self.chance = random.Random(f"{PLAN.seed}-{next(self.numbers)}")

    @task
    def ask(self) -> None:
        if PLAN.rate is None:
            self.session(next(self.numbers), _now())
            gevent.sleep(PLAN.think(self.chance))
            return
        running = []
        for number, at_s in PLAN.part(0):
            gevent.sleep(max(0.0, at_s - _now()))
            running.append(gevent.spawn(self.session, number, at_s))
        gevent.joinall(running)

    def session(self, number: int, at_s: float) -> None:
        """A request, or the turns of a conversation."""
        asked: Asked | None = SCENARIO.begin(number)
        while asked is not None:
            answer = self.measured(asked, Sample(number, asked.kind, at_s))
            SAMPLES.append(answer.sample)
            self.tell(answer.sample, asked.path)
            if answer.sample.failure is not None or asked.then is None:
                return
            asked, at_s = asked.then(answer.text), answer.sample.ended_s

    def measured(self, asked: Asked, sample: Sample) -> Answer:
        answer = Answer(asked.form, sample, keep_text=asked.then is not None)
        sample.sent_s = _now()
        sample.ready_s = sample.sent_s - sample.scheduled_s
        headers = {"authorization": f"Bearer {os.environ.get('LOAD_API_KEY', 'none')}"}
        headers |= {"content-type": "application/json"}
        with self.client.request(
            "POST", asked.path, data=orjson.dumps(asked.body), headers=headers, stream=True, catch_response=True
        ) as response:
            response.success()  # what is told of it is told by `tell`
            if not response.status_code:
                answer.fail(Failure.CONNECT, _now())
                return answer
            answer.head(response.status_code, {name.lower(): value for name, value in (response.headers or {}).items()})
            _read(response, answer)
        return answer

    def tell(self, sample: Sample, path: str) -> None:
        """Locust's own tables hold the same latencies under names of their own."""
        error = None if sample.failure is None else RuntimeError(sample.what)
        told: dict[str, float | None] = {f"{sample.kind} e2e": sample.e2e_s}
        if error is None:
            told |= {f"{sample.kind} TTFT": sample.ttft_s, f"{sample.kind} TPOT": sample.tpot_s}
        for name, seconds in told.items():
            if seconds is not None:
                events.request.fire(
                    request_type="LOAD",
                    name=name,
                    response_time=seconds * 1e3,
                    response_length=sample.output_tokens or 0,
                    exception=error,
                    context={},
                )


def _read(response: Any, answer: Answer) -> None:
    """Read it line by line as it comes: who waits for a full buffer makes the first token late."""
    stream = response.stream
    try:
        while line := stream.readline(sep=b"\n"):
            answer.body(bytes(line), _now())
        answer.body(bytes(stream.read()), _now())  # an error's body ends without a new line
    except (TimeoutError, gevent.Timeout):
        answer.fail(Failure.TIMEOUT, _now())
    except FAILURE_EXCEPTIONS:
        answer.fail(Failure.TRUNCATED, _now())
    answer.end(_now())


def _now() -> float:
    return time.monotonic() - BEGUN[0]


@events.quitting.add_listener
def report(**_: object) -> None:
    """Print the figures, and write the report where one is wanted."""
    if not SAMPLES:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    driven = [Driven(SAMPLES, (used.ru_utime + used.ru_stime) / max(_now(), 1e-9))]
    found = figures(PLAN, Slo(), driven)
    print(table(found))
    if folder := os.environ.get("LOAD_REPORT"):
        write(Path(folder), found, driven)
