"""`./stoker bench load`: what a server does under a load, measured from the moment at which each request should begin.

A rate of requests that begin by chance whatever the answers do (`--rate`), or users who wait and think (`--users`).
docs/load.md says what each figure means, and what makes a load test lie.
"""

import argparse
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from tests.load.generator.counters import compared, counted
from tests.load.generator.figures import Slo, figures
from tests.load.generator.fleet import carry_out
from tests.load.generator.plan import Plan, PlanInvalid
from tests.load.generator.report import table, write
from tests.load.generator.scenarios import WEIGHTS, Scenario
from tests.load.generator.wire import parts_of


def run(plan: Plan, scenario: Scenario, slo: Slo, url: str, key: str, engines: Sequence[str] = ()) -> "Run":
    """Carry a plan out against a server; blocks. Raises: PlanInvalid."""
    before = counted(list(engines))
    driven, zero_s = carry_out(plan, scenario, url, key)
    found = figures(plan, slo, driven)
    found["engine"] = compared(before, counted(list(engines)), found["whole"])
    found["asked"] = {"server": _shown(url), **{name: getattr(scenario, name) for name in Scenario.__slots__}}
    if engines and found["engine"] is None:
        found["warnings"].append("the engines' counters could not be read: the tokens are those that answers told of")
    elif found["engine"] is not None and found["engine"]["equal"] is False:
        found["warnings"].append("THE ENGINES COUNTED OTHER TOKENS than the answers told: did somebody else ask them?")
        found["believable"] = False
    return Run(found, driven, zero_s)


class Run:
    """A run that is over: its figures, its samples, and when it began on the clock of `time.monotonic`."""

    def __init__(self, found: dict[str, Any], driven: Any, zero_s: float) -> None:
        self.found = found
        self.driven = driven
        self.zero_s = zero_s


def main(words: Sequence[str] | None = None) -> int:
    """Read the command line, carry it out, and tell.

    Returns: the exit status; 2: the plan is refused; 3: the figures are not to be believed.
    """
    told = _parser().parse_args(words)
    try:
        with ExitStack() as stack:
            return _main(told, stack)
    except PlanInvalid as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _main(told: argparse.Namespace, stack: ExitStack) -> int:
    slo = Slo.parse(told.slo)
    plan = Plan(
        seed=told.seed,
        duration_s=told.duration,
        rate=told.rate,
        users=told.users,
        think_s=told.think,
        warmup_s=told.duration / 10 if told.warmup is None else told.warmup,
        cooldown_s=told.duration / 20 if told.cooldown is None else told.cooldown,
        timeout_s=told.timeout,
        connections=told.connections,
        processes=told.processes,
    )
    plan.check()
    _let_open(plan.connections + 200)
    url, key, engines = told.url, os.environ.get("LOAD_API_KEY", "none"), list(told.engine_metrics)
    if told.mock:
        url, key, engines = _mock(stack)
    if not url:
        raise PlanInvalid("no server is named: give --url, or --mock for one that only keeps time")
    parts_of(url)
    headers = {"authorization": f"Bearer {key}"}
    client = stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False))
    scenario = Scenario(
        name=told.scenario,
        seed=told.seed,
        model=told.model or _model(client, url),
        collection=told.collection,
        prompt_words=told.prompt_words,
        long_words=told.long_words,
        output_tokens=told.output_tokens,
        exact_tokens=told.exact_tokens,
        cache=told.cache,
    )
    scenario.check()
    if "ingest" in WEIGHTS[scenario.name] and not told.mock:
        _collection(client, scenario.ingest_into, stack)
    done = run(plan, scenario, slo, url, key, engines)
    print(table(done.found))
    if told.report is not None:
        for file in write(told.report, done.found, done.driven, rows=told.csv):
            print(file)
    return 0 if done.found["believable"] else 3


def _mock(stack: ExitStack) -> tuple[str, str, list[str]]:
    from tests.support.paced import paced_server

    folder = Path(stack.enter_context(TemporaryDirectory(prefix="stoker-load-")))
    server = stack.enter_context(paced_server(folder, "--frame-tokens", "3"))
    return server.url, "none", [f"{server.url}/metrics"]


def _model(client: httpx.Client, url: str) -> str:
    """The first model that is no embedder. Raises: PlanInvalid: the server does not answer, or has none."""
    try:
        rows = client.get("/v1/models").raise_for_status().json()["data"]
    except httpx.HTTPStatusError as error:
        remedy = "set STOKER_API_KEY to a live key" if error.response.status_code == 401 else "look at its log"
        raise PlanInvalid(f"{_shown(url)} answers /v1/models with {error.response.status_code}: {remedy}") from error
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise PlanInvalid(
            f"nothing that speaks OpenAI's API is at {_shown(url)}: start the stack with ./stoker up, or mend --url"
        ) from error
    names = [row["id"] for row in rows if not any(word in row["id"].lower() for word in ("embed", "minilm", "rerank"))]
    if not names:
        raise PlanInvalid(f"{_shown(url)} has no chat model: name one by --model")
    return names[0]


def _collection(client: httpx.Client, name: str, stack: ExitStack) -> None:
    """Make the collection that documents go into, and remove it at the end. Raises: PlanInvalid: it cannot be made."""
    made = client.post("/v1/collections", json={"name": name})
    if made.status_code == 409:
        raise PlanInvalid(
            f"the collection {name} is there already: remove it, so that nothing of yours is mixed with it"
        )
    if made.is_error:
        raise PlanInvalid(f"the collection {name} cannot be made ({made.status_code}): use a key that may ingest")
    stack.callback(lambda: client.delete(f"/v1/collections/{name}"))


def _shown(url: str) -> str:
    """An address without what may be secret in it."""
    host, port, tls, _ = parts_of(url)
    return f"{'https' if tls else 'http'}://{host}:{port}"


def _let_open(files: int) -> None:
    """Let this process have so many connections, as far as the system allows. Raises: PlanInvalid: it does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and files > hard:
        raise PlanInvalid(f"--connections needs {files} open files, and the system allows {hard}: raise `ulimit -Hn`")
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stoker bench load", description=__doc__)
    add = parser.add_argument
    add("--url", default=os.environ.get("LOAD_URL", ""), help="the server; default: STOKER_URL")
    add("--mock", action="store_true", help="start a paced mock and ask that: what the client itself can do")
    add("--scenario", choices=WEIGHTS, default="chat")
    add("--rate", type=float, help="requests a second, whatever the answers do")
    add("--users", type=int, default=0, help="who ask, wait and think")
    add("--think", type=float, default=0.0, help="seconds, mean, also between turns")
    add("--duration", type=float, default=60.0, help="seconds in which requests begin")
    add("--warmup", type=float, help="seconds at the beginning that are not measured; default: a tenth")
    add("--cooldown", type=float, help="seconds at the end that are not measured; default: a twentieth")
    add("--seed", type=int, default=1)
    add("--slo", action="append", default=[], metavar="NAME=SECONDS", help="ttft=, tpot= or e2e=; several may be given")
    add("--report", type=Path, help="folder for report.json and report.html")
    add("--csv", action="store_true", help="requests.csv, too, with a row for each")
    add("--model", default="", help="default: the server's first chat model")
    add("--collection", default="demo", help="that questions are asked of")
    add("--prompt-words", type=int, default=40, help="of a chat, at the median")
    add("--long-words", type=int, default=1500, help="of a long context")
    add("--output-tokens", type=int, default=64, help="allowed to an answer, at the median")
    add("--exact-tokens", action="store_true", help="vLLM writes exactly as many as are allowed")
    add("--cache", action="store_true", help="answers may come out of Stoker's caches")
    add("--timeout", type=float, default=120.0, help="seconds from the scheduled moment")
    add("--connections", type=int, default=1000, help="open at once in one process; who gets none waits, and it counts")
    add("--processes", type=int, default=1, help="of the client")
    add("--engine-metrics", action="append", default=[], metavar="URL", help="/metrics of an engine behind the server")
    return parser


if __name__ == "__main__":
    sys.exit(main())
