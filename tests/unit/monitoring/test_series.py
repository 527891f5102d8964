"""Series of what is gone go, out of every process and every file, and no counter seems to begin anew meanwhile."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monitoring.counting import Scrape
from monitoring.names import GRACE_S, HIDDEN_S, UNKNOWN_S
from tests.support.process import ROOT

FRESH = [f"passing-{number}" for number in range(300)]
GONE_S = 2000.0
COUNTERS = (
    *(f"stoker_time_to_first_token_seconds_{part}" for part in ("bucket", "sum", "count")),
    *(f"stoker_{what}_total" for what in ("tokens", "upstream_calls", "ejections", "fallbacks", "experiment_calls")),
    "stoker_spent_usd_total",
)


class Process:
    """One worker; see `counting_worker`."""

    def __init__(self, folder: Path | None) -> None:
        env = {"PATH": ""} if folder is None else {"PATH": "", "PROMETHEUS_MULTIPROC_DIR": str(folder)}
        command = [sys.executable, "-m", "tests.unit.monitoring.counting_worker"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*args: Any) -> Any:
            assert self.process.stdin is not None
            self.process.stdin.write(f"worker.{name}(*{list(args)!r})\n")
            self.process.stdin.flush()
            return json.loads(self._answer())

        return ask

    def scrape(self, at_s: float) -> Scrape:
        return Scrape.read(self.told(at_s), at_s)

    def end(self) -> None:
        """As a kill does."""
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, "the worker has ended"
        return line


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def one(folder: Path | None = tmp_path) -> Process:
        started.append(Process(folder))
        return started[-1]

    yield one
    for each in started:
        each.end()


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def count(scrape: Scrape) -> int:
    return sum(len(series) for series in scrape.values.values())


def calls(process: Process, at_s: float, name: str) -> float | None:
    return process.scrape(at_s).total("stoker_upstream_calls_total", deployment=name)


def test_series_and_bytes_of_hundreds_of_names_come_back_over_two_workers_and_a_dead_one(
    tmp_path: Path, start: Callable[[], Process]
) -> None:
    one, two, dies = (start() for _ in range(3))
    for each in (one, two, dies):
        each.have("kept")
        each.use("kept")
        each.spend("kept")
        each.look(1000.0)
    bare, bytes_before, held_before = one.scrape(1000.0), size(tmp_path), one.held()
    for each in (one, two, dies):
        each.have("kept", *FRESH)
        each.use(*FRESH)
        each.spend(*FRESH)
        each.look(1100.0)
    dies.end()
    full = one.scrape(1100.0)
    assert count(full) > count(bare) + 300 * 30
    assert full.total("stoker_upstream_calls_total", deployment="passing-7") == 3
    assert size(tmp_path) > 2 * bytes_before
    for each in (one, two):
        each.have("kept")
        each.look(GONE_S)
    assert one.scrape(GONE_S).total("stoker_upstream_running", deployment="passing-7") == 1, "of the dead one alone"
    for at_s in (GONE_S, GONE_S + GRACE_S - 1):
        assert one.scrape(at_s).total("stoker_tokens_total", model_group="passing-7", direction="out") == 12
    hidden_s = GONE_S + GRACE_S
    for worker, reader in ((one, two), (two, one)):
        found = reader.scrape(hidden_s)
        assert {name: found.values[name] for name in COUNTERS} == {name: bare.values[name] for name in COUNTERS}
        worker.look(hidden_s)
    one.look(hidden_s + 10)
    assert "passing" not in "".join(
        file.read_bytes().decode("latin-1") for file in tmp_path.glob("*.db") if "live" not in file.name
    )
    for file in tmp_path.glob("gauge_live*"):  # which `forget_dead` removes as the next worker begins
        if not Path("/proc", file.stem.rpartition("_")[2]).exists():
            file.unlink()
    (tmp_path / "names.json").unlink()
    assert size(tmp_path) <= bytes_before
    assert one.held() == two.held() == held_before
    assert count(one.scrape(hidden_s + 10)) == count(bare)


def test_a_gauge_of_what_is_gone_goes_at_once(start: Callable[[], Process]) -> None:
    one = start()
    one.have("kept", "gone")
    one.use("kept", "gone")
    one.look(1000.0)
    one.have("kept")
    one.look(1001.0)
    found = one.scrape(1001.0)
    for gauge in ("stoker_upstream_running", "stoker_deployment_breaker_open"):
        assert found.named(gauge, "deployment") == {"kept"}
    assert found.named("stoker_engine_wanted_timestamp_seconds", "model_group") == {"kept"}
    assert found.total("stoker_ejections_total", deployment="gone") == 1


def test_no_counter_falls_while_one_worker_has_taken_it_away_and_another_has_not(start: Callable[[], Process]) -> None:
    one, two = start(), start()
    for each in (one, two):
        each.use("gone")
        each.look(1000.0)
    assert calls(two, 999.0 + GRACE_S, "gone") == 2
    one.look(1000.0 + GRACE_S)
    assert calls(two, 1000.0 + GRACE_S, "gone") is None
    two.look(999.0 + GRACE_S + HIDDEN_S)
    assert calls(two, 1000.0 + GRACE_S + HIDDEN_S, "gone") is None


def test_a_name_that_comes_back_in_its_grace_counts_on_and_later_from_0(start: Callable[[], Process]) -> None:
    one, two = start(), start()
    for each in (one, two):
        each.use("back")
        each.look(1000.0)
    for each in (one, two):
        each.have("back")
        each.look(1500.0)
    one.use("back")
    assert calls(one, 5000.0, "back") == 3
    for each in (one, two):
        each.have()
        each.look(6000.0)
    for each in (one, two):
        each.look(6000.0 + GRACE_S)
    for each in (one, two):
        each.have("back")
    one.use("back")
    back_s = 6000.0 + GRACE_S + HIDDEN_S
    one.look(back_s)
    two.look(back_s)
    one.use("back")
    assert calls(two, back_s, "back") == 2


def test_a_name_that_was_used_between_two_looks_by_a_worker_that_died_goes_too(
    tmp_path: Path, start: Callable[[], Process]
) -> None:
    one, dies = start(), start()
    dies.use("short")
    dies.end()
    one.look(1000.0)
    assert calls(one, 1000.0, "short") == 1
    one.look(1000.0 + GRACE_S)
    one.look(1000.0 + GRACE_S + HIDDEN_S)
    assert calls(one, 1000.0 + GRACE_S + HIDDEN_S, "short") is None
    assert b"short" not in b"".join(file.read_bytes() for file in tmp_path.glob("counter_*.db"))


def test_on_a_full_disk_what_was_to_go_stays_and_what_counts_counts(start: Callable[[], Process]) -> None:
    one = start()
    one.have("kept")
    one.use("kept", "gone")
    one.look(1000.0)
    one.fill_the_disk()
    one.look(1000.0 + GRACE_S)
    one.use("kept")
    assert calls(one, 0.0, "kept") == 2
    assert calls(one, 0.0, "gone") == 1


def test_a_process_that_shares_no_folder_lets_series_go_too(start: Callable[..., Process]) -> None:
    alone = start(None)
    alone.have("kept", "gone")
    alone.use("kept", "gone")
    alone.look(1000.0)
    alone.have("kept")
    for at_s in (2000.0, 1999.0 + GRACE_S):
        alone.look(at_s)
        assert calls(alone, at_s, "gone") == 1
    alone.look(2000.0 + GRACE_S)
    assert calls(alone, 2000.0 + GRACE_S, "gone") is None
    assert calls(alone, 2000.0 + GRACE_S, "kept") == 1


def test_a_name_that_another_worker_has_is_not_gone(start: Callable[[], Process]) -> None:
    one, late = start(), start()
    one.have("new")
    one.use("new")
    for at_s in range(1000, 3000, 100):
        one.look(float(at_s))
        late.look(float(at_s) + 1)
    assert calls(late, 3000.0, "new") == 1


def test_where_nobody_knows_the_names_series_of_money_go_a_day_after_their_last_line(
    start: Callable[..., Process],
) -> None:
    keeper = start(None)
    spent = "stoker_spent_usd_total"
    keeper.spend("busy", "idle")
    keeper.look_at_ledger(1000.0)
    keeper.spend("busy")
    keeper.look_at_ledger(1000.0 + UNKNOWN_S / 2)
    keeper.look_at_ledger(999.0 + UNKNOWN_S)
    assert keeper.scrape(0.0).named(spent, "deployment") == {"busy", "idle"}
    keeper.look_at_ledger(1000.0 + UNKNOWN_S)
    assert keeper.scrape(0.0).named(spent, "deployment") == {"busy"}


def test_a_keeper_beside_workers_lets_series_go_with_theirs(start: Callable[[], Process]) -> None:
    worker, keeper = start(), start()
    worker.have("kept", "gone")
    worker.use("kept", "gone")
    worker.look(1000.0)
    keeper.spend("kept", "gone", "short")  # the last one came and went between two looks
    keeper.look_at_ledger(1001.0)
    worker.have("kept")
    worker.look(1002.0)
    for at_s in (1002.0 + GRACE_S, 1012.0 + GRACE_S):
        worker.look(at_s)
        keeper.look_at_ledger(at_s)
    assert keeper.scrape(1012.0 + GRACE_S).named("stoker_spent_usd_total", "deployment") == {"kept"}
    keeper.spend("gone")  # a line that was late
    keeper.look_at_ledger(1100.0 + GRACE_S)
    worker.look(1100.0 + GRACE_S)
    assert keeper.scrape(1100.0 + 2 * GRACE_S).named("stoker_spent_usd_total", "deployment") == {"kept"}
