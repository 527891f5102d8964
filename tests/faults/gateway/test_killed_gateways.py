"""Gateway workers killed under load: nothing is held for ever, and the ledger never bills what was not delivered."""

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.load.client import Connection, chat
from tests.load.mock import MODEL, Spent
from tests.support.gateway import Gateway, gateway, mock_upstream, workers

_AT_ONCE = 48
_LEASE_S = 4.0


@dataclass
class Tally:
    """How operations ended, as their client saw it."""

    whole: set[str]
    left: set[str]
    cut: set[str]
    refused: set[str]

    @property
    def ended(self) -> int:
        return len(self.whole) + len(self.left) + len(self.cut) + len(self.refused)


@pytest.mark.parametrize(
    ("operations", "kills"),
    [
        pytest.param(700, 3, marks=pytest.mark.heavy, id="some"),
        pytest.param(10_000, 10, marks=pytest.mark.long, id="many"),
    ],
)
def test_killed_workers_leak_no_place_and_bill_no_more_than_was_made(
    tmp_path: Path, figure: Callable[[str], None], operations: int, kills: int
) -> None:
    settings = {"STOKER_WORKERS": "4", "STOKER_ADMISSION_LEASE_S": str(_LEASE_S)}
    with mock_upstream() as upstream, gateway(tmp_path / "g", upstream.port, settings=settings) as gate:
        headers = {"authorization": f"Bearer {gate.key}"}
        limits = {"rpm": 10_000_000, "tpm": 1_000_000_000, "parallel": _AT_ONCE, "usd_per_day": "1000"}
        made = httpx.post(f"{gate.url}/v1/admin/keys", json={"name": "load", "limits": limits}, headers=headers).json()
        tally = asyncio.run(_storm(gate, made["key"], operations, kills))
        _await_quiet(gate)
        lines = _lines(gate)
        spent = {one.name: one for one in upstream.log}
        _check_lines(tally, lines, spent)
        figure(
            f"{operations} operations, {kills} kills: {len(tally.whole)} ended whole, {len(tally.left)} were left by "
            f"their client, {len(tally.cut)} were cut by a kill, {len(tally.refused)} were refused; "
            f"{sum(one[0] == 'lost' for one in lines.values())} lines were recovered from slots"
        )
        assert len(tally.cut) >= kills, "too few operations met a kill to show anything"
        # A worker to which Valkey was slow once admits its share alone for a moment: that passes, a leak does not.
        rounds = [asyncio.run(_all_at_once(gate, made["key"]))]
        while rounds[-1] != Counter({200: _AT_ONCE}) and len(rounds) < 5:
            time.sleep(2)
            rounds.append(asyncio.run(_all_at_once(gate, made["key"])))
        assert rounds[-1] == Counter({200: _AT_ONCE}), f"places of dead requests are still held: {rounds}"


async def _storm(gate: Gateway, key: str, operations: int, kills: int) -> Tally:
    tally = Tally(set(), set(), set(), set())
    names = iter([f"op-{at}" for at in range(operations)])
    started = asyncio.Event()

    async def work() -> None:
        for name in names:
            started.set()
            await _operate(gate, key, name, tally)

    async def kill() -> None:
        done = 0
        while done < kills:
            goal = operations * (done + 1) // (kills + 1)
            while tally.ended < goal:  # noqa: ASYNC110  # a count sets no event
                await asyncio.sleep(0.01)
            there = workers(gate.pid)
            if there:
                os.kill(random.choice(there), signal.SIGKILL)
                done += 1
                await asyncio.sleep(0.5)

    killer = asyncio.create_task(kill())
    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
    killer.cancel()
    await asyncio.gather(killer, return_exceptions=True)
    return tally


async def _operate(gate: Gateway, key: str, name: str, tally: Tally) -> None:
    """One request on a connection of its own: a third runs to its end, a third is left, a third has little time."""
    tokens = random.randint(1, 30)
    stream = random.random() < 0.8
    request = chat(gate.port, key, MODEL, tokens=tokens, stream=stream, pause_ms=10 if stream else 0, name=name)
    patience_s = random.choice([30.0, random.uniform(0.0, 0.3), random.uniform(0.0, 0.1)])
    try:
        connection = await Connection.open(gate.port)
    except OSError:
        await asyncio.sleep(0.05)
        tally.refused.add(name)
        return
    try:
        reply = await asyncio.wait_for(connection.ask(request), patience_s)
    except TimeoutError:
        tally.left.add(name)
    except ConnectionError:
        tally.cut.add(name)
    else:
        (tally.whole if reply.status == 200 else tally.refused).add(name)
    finally:
        connection.close()


def _check_lines(tally: Tally, lines: dict[str, tuple[str, int, int]], spent: dict[str, Spent]) -> None:
    """The ledger equals the upstream's own log where an answer ended whole, and is never above it."""
    for name in tally.whole:
        outcome, tokens_in, tokens_out = lines[name]
        assert (outcome, tokens_in, tokens_out) == ("ok", spent[name].tokens_in, spent[name].tokens_out), name
    for name, (_, tokens_in, tokens_out) in lines.items():
        assert tokens_out <= spent[name].tokens_out, name
        assert tokens_in <= spent[name].tokens_in, name


def _await_quiet(gate: Gateway) -> None:
    """Until no request runs, leases of the dead are over, and the keeper has shipped everything."""
    time.sleep(_LEASE_S + 2)
    limit = time.monotonic() + 30
    live = len(workers(gate.pid))
    while time.monotonic() < limit and len(list((gate.folder / "ledger").glob("*.lock"))) > live:
        time.sleep(0.2)
    time.sleep(1.5)


def _lines(gate: Gateway) -> dict[str, tuple[str, int, int]]:
    with contextlib.closing(sqlite3.connect(f"file:{gate.folder / 'stoker.db'}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT request_id, outcome, tokens_in, tokens_out FROM ledger").fetchall()
    names = [row[0].partition(".")[2] for row in rows]
    assert len(set(names)) == len(names), "an operation has two lines"
    return {name: (row[1], row[2], row[3]) for name, row in zip(names, rows, strict=True)}


async def _all_at_once(gate: Gateway, key: str) -> Counter[int]:
    async def one() -> int:
        connection = await Connection.open(gate.port)
        try:
            request = chat(gate.port, key, MODEL, tokens=50, stream=True, pause_ms=20)
            return (await connection.ask(request)).status
        finally:
            connection.close()

    return Counter(await asyncio.gather(*(one() for _ in range(_AT_ONCE))))
