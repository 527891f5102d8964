"""Two real engines, killed again and again while they answer: every stream ends as if nothing had happened."""

import asyncio
import contextlib
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import pytest

from tests.faults.router.real_twins import Twins, gateway_before, real_twins
from tests.support.engines import kill_engine
from tests.support.gateway import Gateway

pytestmark = [pytest.mark.vllm, pytest.mark.long]

TOKENS = 64
PROMPTS = [
    f"{verb} {what}."
    for verb in ("Tell a story about", "Explain", "Write a letter about", "Describe")
    for what in ("the sea", "a lighthouse", "winter", "bread", "the moon", "a train", "old maps")
]
KILLS = 10


@pytest.fixture
def twins(tmp_path: Path) -> Iterator[Twins]:
    with real_twins(tmp_path) as found:
        yield found


@pytest.fixture
def house(twins: Twins, tmp_path: Path) -> Iterator[Gateway]:
    with gateway_before(twins, tmp_path / "gateway") as one:
        yield one


@dataclass
class Told:
    """A stream as its client read it."""

    name: str
    number: int
    done: bool
    text: str
    usage: dict[str, int]
    rescued: list[dict[str, object]]
    error: object


async def tell(client: httpx.AsyncClient, number: int, name: str) -> Told:
    body = {
        "model": "g",
        "messages": [{"role": "user", "content": PROMPTS[number % len(PROMPTS)]}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    response = await client.post("/v1/chat/completions", json=body, headers={"x-request-id": name})
    assert response.status_code == 200, response.text
    frames = [frame.removeprefix("data: ") for frame in response.text.split("\n\n") if frame]
    chunks = [orjson.loads(frame) for frame in frames if frame != "[DONE]"]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))
    last = chunks[-1]
    rescued = last.get("stoker", {}).get("rescued", [])
    return Told(name, number, frames[-1] == "[DONE]", text, last.get("usage") or {}, rescued, last.get("error"))


async def test_streams_of_killed_engines_end_as_if_nothing_had_happened(
    twins: Twins, house: Gateway, figure: Callable[[str], None]
) -> None:
    chance = random.Random(20261121)
    rescued: list[Told] = []
    hows: Counter[object] = Counter()
    wrong = kills = streams = 0
    headers = {"authorization": f"Bearer {house.key}"}
    async with httpx.AsyncClient(base_url=house.url, headers=headers, timeout=300) as client:
        right = await asyncio.gather(*(tell(client, number, f"right-{number}") for number in range(len(PROMPTS))))
        assert all(told.done and not told.rescued for told in right)
        for turn in range(KILLS):
            tasks = [
                asyncio.create_task(tell(client, number, f"cut-{turn}-{number}")) for number in range(len(PROMPTS))
            ]
            await asyncio.sleep(chance.uniform(2.0, 8.0))
            kill_engine(twins.engines[turn % 2])
            kills += 1
            for told in await asyncio.gather(*tasks):
                streams += 1
                assert told.error is None, told
                assert told.done, told
                reference = right[told.number]
                if told.rescued:
                    rescued.append(told)
                    hows.update(one["how"] for one in told.rescued)
                    assert told.usage == reference.usage or told.text != reference.text
                wrong += told.text != reference.text
            await asyncio.to_thread(twins.start_again, turn % 2)
    figure(
        f"{kills} kills of real engines: {len(rescued)} of {streams} streams were cut and rescued ({dict(hows)}), "
        f"all of them ended in [DONE]; {streams - wrong} are identical to the uninterrupted ones"
    )
    assert len(rescued) >= 100
    assert wrong <= 0.01 * streams
    bills = _bills(house, streams + len(right) + sum(len(told.rescued) for told in rescued))
    for told in [*right, *rescued]:
        segments = bills[told.name]
        assert [segment.outcome for segment in segments] == ["rescued"] * len(told.rescued) + ["ok"]
        assert sum(segment.tokens_in for segment in segments) == told.usage["prompt_tokens"]
        assert sum(segment.tokens_out for segment in segments) == told.usage["completion_tokens"]


@dataclass(frozen=True)
class Segment:
    """A line of the ledger."""

    number: int
    outcome: str
    tokens_in: int
    tokens_out: int


def _bills(house: Gateway, least: int) -> dict[str, list[Segment]]:
    """The ledger's lines by request, once there are as many as there must be."""
    deadline_s = time.monotonic() + 20
    while True:
        with contextlib.closing(sqlite3.connect(f"file:{house.folder / 'stoker.db'}?mode=ro", uri=True)) as database:
            rows = database.execute(
                "SELECT request_id, segment, outcome, tokens_in, tokens_out FROM ledger ORDER BY segment"
            ).fetchall()
        if len(rows) >= least:
            break
        assert time.monotonic() < deadline_s, f"{len(rows)} lines of {least}"
        time.sleep(0.5)
    found: dict[str, list[Segment]] = {}
    for request_id, *rest in rows:
        found.setdefault(request_id.partition(".")[2], []).append(Segment(*rest))
    return found
