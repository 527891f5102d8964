"""`./stoker bench savings`: what caching and `auto` save of a workload's price, and what it loses in right answers.

The same requests go through a gateway four times: to the large model; with the exact cache; to `auto`; with both. The
prices are read from the ledger. The two models are doubles with prices and known answers: the large one is always
right, the small one where the label of the request says that a small model is good enough. What is asked is the
held-out half of `tests/auto/support`, which nothing was tuned on.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import orjson

from tests.support.engines import start_embeddings
from tests.support.gateway import Gateway, entry, gateway, models
from tests.support.openai_server import openai_server_in_thread

_LABELLED = Path(__file__).parents[1] / "auto" / "support" / "heldout.jsonl"
_REPEATED, _REWORDED = 0.30, 0.10  # shares of the requests that ask again: in the same words, in others
_HARD = 0.30  # of the others, those that need the large model
_PRICES = {"small": (0.10, 0.40), "large": (1.00, 4.00)}  # US dollars a million tokens: prompt, completion
_TOKENS = {"small": 80, "large": 160}  # of an answer to a request that needs this model, whichever answers
_FRAMES = ("Quick one: {}", "{}\n\nThanks!", "Hi, {}", "{} Please be precise.")
_PARALLEL = 8
_FITS_S = 120.0


@dataclass(frozen=True)
class Asked:
    """One request: its text, the label of what it needs, and the answer that is right."""

    text: str
    needs: str
    right: str


def workload(count: int, seed: int) -> list[Asked]:
    """Requests in order, by the mix that this module's head states."""
    of = random.Random(seed)
    labelled: dict[str, list[str]] = {"small": [], "large": []}
    for line in _LABELLED.read_bytes().splitlines():
        row = orjson.loads(line)
        labelled[row["needs"]].append(row["text"])
    seen: dict[str, int] = {}
    asked: list[Asked] = []
    for number in range(count):
        chance = of.random()
        if asked and chance < _REPEATED:
            asked.append(asked[-1 - min(len(asked) - 1, int(of.expovariate(1 / 200)))])
            continue
        if asked and chance < _REPEATED + _REWORDED:
            before = of.choice(asked)
            asked.append(Asked(of.choice(_FRAMES).format(before.text), before.needs, before.right))
            continue
        needs = "large" if of.random() < _HARD else "small"
        text = of.choice(labelled[needs])
        seen[text] = seen.get(text, 0) + 1
        if seen[text] > 1:
            text = f"{text}\n\n(Case {number})"  # the same task about something else
        asked.append(Asked(text, needs, f"right-{number}"))
    return asked


@contextmanager
def opened(folder: Path, asked: Sequence[Asked], more: dict[str, str]) -> Iterator[Gateway]:
    """A gateway before the two doubles, with an embedding server."""
    answers = {one.text: one for one in asked}
    with ExitStack() as stack:
        entries = []
        for name, (prompt, completion) in _PRICES.items():
            server = stack.enter_context(openai_server_in_thread())

            def say(_: str, body: dict[str, Any], name: str = name) -> str:
                one = answers[body["messages"][-1]["content"]]
                known = name == "large" or one.needs == "small"
                return " ".join([one.right if known else "wrong", *["word"] * (_TOKENS[one.needs] - 1)])

            server.script = say
            server.window = 10**6
            entries.append(entry(name, server.base_url, f"{prompt / 10**6:.10f}", f"{completion / 10**6:.10f}"))
        embeddings = stack.enter_context(start_embeddings(folder))
        settings = {
            "STOKER_EMBEDDING_URL": embeddings.url,
            "STOKER_AUTO_MODELS": "small,large",
            **more,
        }
        yield stack.enter_context(gateway(folder / "gateway", 1, settings=settings, configuration=models(*entries)))


@dataclass
class Told:
    """What a run came to."""

    right: int = 0
    hits: int = 0
    by_model: dict[str, int] | None = None
    usd: float = 0.0


async def run(gate: Gateway, asked: Sequence[Asked], model: str, *, cache: bool) -> Told:
    """Ask everything in the name of a new tenant, for whom nothing is cached, and read what it cost."""
    told = Told(by_model={})
    limits = {"rpm": None, "tpm": None, "parallel": None}
    async with httpx.AsyncClient(base_url=gate.url, headers={"x-api-key": gate.key}, timeout=60) as admin:
        tenant = await admin.post("/v1/admin/tenants", json={"name": f"{model}, {cache}"})
        of = {"tenant": tenant.raise_for_status().json()["id"], "limits": limits}
        made = await admin.post("/v1/admin/keys", json={"name": model, **of})
        key = made.raise_for_status().json()["key"]
        left = iter(asked)

        async def ask(client: httpx.AsyncClient) -> None:
            for one in left:
                body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": one.text}]}
                if cache:
                    body["cache"] = "exact"
                answer = (await client.post("/v1/chat/completions", json=body)).raise_for_status()
                said = answer.json()["choices"][0]["message"]["content"]
                told.right += said.split(" ", 1)[0] == one.right
                told.hits += answer.headers.get("x-cache") == "exact"

        async with httpx.AsyncClient(base_url=gate.url, headers={"x-api-key": key}, timeout=60) as client:
            await asyncio.gather(*(ask(client) for _ in range(_PARALLEL)))
            until_s = time.monotonic() + 60
            rows: list[dict[str, Any]] = []
            while sum(row["requests"] for row in rows) < len(asked):
                if time.monotonic() > until_s:
                    raise RuntimeError(f"the ledger tells of {rows} after {len(asked)} requests")
                await asyncio.sleep(0.5)
                found = await client.get("/v1/usage", params={"group_by": "model"})
                rows = found.raise_for_status().json()["data"]
        assert told.by_model is not None
        for row in rows:
            told.by_model[row["model"]] = row["requests"]
            told.usd += row["nano_usd"] / 10**9
    return told


async def fitted(gate: Gateway) -> None:
    """Wait until `auto` has learnt the vectors of its examples. Raises: RuntimeError: it has not."""
    until_s = time.monotonic() + _FITS_S
    async with httpx.AsyncClient(base_url=gate.url, headers={"x-api-key": gate.key}, timeout=60) as client:
        while 'by="vector"' not in (await client.get("/metrics")).text:
            if time.monotonic() > until_s:
                raise RuntimeError("auto still looks at words alone")
            body = {"model": "auto", "messages": [{"role": "user", "content": _WARM.text}]}
            (await client.post("/v1/chat/completions", json=body)).raise_for_status()
            await asyncio.sleep(0.5)


_WARM = Asked("What is the capital of France?", "small", "Paris")


async def measure(gate: Gateway, asked: Sequence[Asked]) -> None:
    """Print a line for each part."""
    await fitted(gate)
    print("| | USD | saved | right answers | lost, points | by small | by large | out of the cache |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    first: Told | None = None
    parts = (
        ("large, no cache", "large", False),
        ("exact cache", "large", True),
        ("`auto`", "auto", False),
        ("exact cache and `auto`", "auto", True),
    )
    for name, model, cache in parts:
        told = await run(gate, asked, model, cache=cache)
        first = first or told
        saved, lost = 1 - told.usd / first.usd, 100 * (first.right - told.right) / len(asked)
        by = told.by_model or {}
        print(
            f"| {name} | {told.usd:.4f} | {saved:.1%} | {told.right / len(asked):.1%} | {lost:.1f} | "
            f"{by.get('small', 0)} | {by.get('large', 0)} | {told.hits} |",
            flush=True,
        )


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="stoker bench savings", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="of the workload")
    parser.add_argument("--seed", type=int, default=1, help="of what is asked, and in which order")
    parser.add_argument("--threshold", default=None, help="STOKER_AUTO_THRESHOLDS, in place of the usual one")
    asked = parser.parse_args()
    requests = workload(asked.requests, asked.seed)
    again = len(requests) - len({one.text for one in requests})
    hard = sum(one.needs == "large" for one in requests)
    print(
        f"{len(requests)} requests, seed {asked.seed}: {again / len(requests):.0%} were asked before in the same "
        f"words, {_REWORDED:.0%} in others; {hard / len(requests):.0%} need the large model"
    )
    more = {} if asked.threshold is None else {"STOKER_AUTO_THRESHOLDS": asked.threshold}
    with (
        TemporaryDirectory(prefix="stoker-savings-") as folder,
        opened(Path(folder), [*requests, _WARM], more) as gate,
    ):
        asyncio.run(measure(gate, requests))


if __name__ == "__main__":
    sys.exit(main())
