"""Gateway workers killed in the middle of batches: every line comes out once, and the ledger has what was answered."""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.batches import Batcher, chat, check_whole, jsonl
from tests.support.exact.server import ExactServer, exact_server_in_thread
from tests.support.gateway import Gateway, gateway

_LEASE_S = 3.0
_SETTINGS = {
    "STOKER_WORKERS": "2",
    "STOKER_BATCH_PARALLEL": "4",
    "STOKER_BATCH_LEASE_S": str(_LEASE_S),
    "STOKER_ADMISSION_LEASE_S": "4",
}


@pytest.fixture
def server() -> Iterator[ExactServer]:
    with exact_server_in_thread() as one:
        one.pause_s = 0.004
        yield one


@pytest.fixture
def gate(server: ExactServer, tmp_path: Path) -> Iterator[Gateway]:
    configuration = (
        "model_list:\n  - model_name: exact\n    litellm_params: {model: hosted_vllm/exact, "
        f"api_base: '{server.base_url}', input_cost_per_token: 0.000001, output_cost_per_token: 0.000002}}\n"
    )
    with gateway(tmp_path / "gate", 0, settings=_SETTINGS, configuration=configuration) as one:
        yield one


@pytest.mark.parametrize(
    ("lines", "kills"),
    [
        pytest.param(150, 4, id="few"),
        pytest.param(250, 8, marks=pytest.mark.long, id="some"),
    ],
)
def test_killed_workers_lose_and_double_no_line(
    gate: Gateway, server: ExactServer, figure: Callable[[str], None], lines: int, kills: int
) -> None:
    batcher = Batcher(gate, gate.key)
    bodies = [chat(f"Question {at}.") for at in range(lines)]
    met: Counter[str] = Counter()
    made = batcher.create(jsonl(bodies))
    for kill in range(kills):
        goal = lines * kill // kills  # the first while its file is read, if that can be met
        _await(batcher, made["id"], goal)
        met[_kill(gate, batcher, made["id"])] += 1
    _kill_while_finalizing(gate, batcher, made["id"], met)
    ended = batcher.until(made["id"], limit_s=240)
    assert (ended["status"], ended["error_file_id"]) == ("completed", None)
    assert ended["request_counts"] == {"total": lines, "completed": lines, "failed": 0}
    output = batcher.lines(ended["output_file_id"])
    check_whole(output, bodies)
    assert batcher.sql("SELECT count(*) FROM files WHERE purpose = 'batch_output'") == [(1,)]
    ledger = _whole_ledger(gate, batcher, made["id"])
    served = {one.name: one for one in server.log}
    sent = {one for one in served if one.startswith(made["id"])}
    names = [line[0] for line in ledger]
    assert len(set(names)) == len(names)
    assert set(names) <= sent
    kept = {line["response"]["request_id"] for line in output}
    assert kept <= set(names)
    for name, _, _, tokens_in, tokens_out, nano_usd, _ in ledger:
        if name in kept:
            assert (tokens_in, tokens_out) == (served[name].prompt_tokens, len(served[name].made))
        assert (tokens_in, tokens_out) in ((0, 0), (served[name].prompt_tokens, len(served[name].made)))
        assert nano_usd == tokens_in * 1000 + tokens_out * 2000
    figure(
        f"{lines} lines, {sum(met.values())} kills of workers, the batch being then: {dict(met)}; "
        f"{len(sent)} sendings, {len(names)} of them in the ledger, {lines} kept"
    )


def _await(batcher: Batcher, batch_id: str, goal: int) -> None:
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        [(status, done)] = batcher.sql("SELECT status, completed FROM batches WHERE id = ?", batch_id)
        if done >= goal or status not in ("validating", "in_progress"):
            return
        time.sleep(0.005)


def _kill(gate: Gateway, batcher: Batcher, batch_id: str) -> str:
    """Kill a worker that has something of the batch. Returns: the batch's state at that moment."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        workers = set(_workers(gate.pid))
        busy = _busy(batcher, batch_id) & workers
        [(status,)] = batcher.sql("SELECT status FROM batches WHERE id = ?", batch_id)
        if busy or (workers and status not in ("validating", "in_progress")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(sorted(busy or workers)), signal.SIGKILL)
                return str(status)
        time.sleep(0.002)
    raise AssertionError("no worker took the batch up")


def _kill_while_finalizing(gate: Gateway, batcher: Batcher, batch_id: str, met: Counter[str]) -> None:
    """Kill whoever writes down what came out, where that can be met: it takes some milliseconds."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit and met["finalizing"] < 2:
        [(status,)] = batcher.sql("SELECT status FROM batches WHERE id = ?", batch_id)
        if status == "completed":
            return
        if status == "finalizing":
            busy = _busy(batcher, batch_id) & set(_workers(gate.pid))
            if busy:
                met[_kill(gate, batcher, batch_id)] += 1


def _busy(batcher: Batcher, batch_id: str) -> set[int]:
    """The processes that hold a lease on the batch or on one of its lines; a worker's name has its process in it."""
    held = "SELECT worker FROM {} WHERE {} = ? AND worker IS NOT NULL"
    rows = batcher.sql(held.format("batch_lines", "batch_id"), batch_id)
    rows += batcher.sql(held.format("batches", "id"), batch_id)
    return {int(name.rsplit("-", 2)[1]) for (name,) in rows}


def _whole_ledger(gate: Gateway, batcher: Batcher, batch_id: str) -> list[Any]:
    """The ledger's lines once the keeper has shipped those of the dead, too."""
    limit = time.monotonic() + 60
    live = len(_workers(gate.pid))
    while time.monotonic() < limit and len(list((gate.folder / "ledger").glob("*.lock"))) > live:
        time.sleep(0.2)
    time.sleep(1.5)
    return batcher.ledger(batch_id)


def _workers(pid: int) -> list[int]:
    """The gateway's worker processes."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                with contextlib.suppress(OSError):
                    if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                        found.append(int(child))
    return found
