"""A real Prometheus with the committed configuration: no panel of any dashboard is without data."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.request import urlopen

import pytest

from tests.integration.monitoring.prometheus import PANELS, SCRAPE_S, answers, ask, prometheus
from tests.support.network import free_port
from tests.support.process import running

_PATIENCE_S = 60.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that has read everything a few times."""
    folder, told = tmp_path_factory.mktemp("prometheus"), free_port()
    teller = [sys.executable, "-m", "tests.integration.monitoring.telling", str(told)]
    targets = dict.fromkeys(("stoker", "keeper", "worker", "embedding"), (told, "/metrics"))
    with ExitStack() as stack:
        stack.enter_context(running(teller, folder / "telling.log", lambda: answers(f"http://127.0.0.1:{told}/gpu")))
        yield stack.enter_context(prometheus(folder, {**targets, "vllm": (told, "/engine"), "gpu": (told, "/gpu")}))


def test_no_panel_is_without_data(address: str, figure: Callable[[str], None]) -> None:
    limit, empty = time.monotonic() + _PATIENCE_S, list(PANELS)
    while empty and time.monotonic() < limit:
        time.sleep(SCRAPE_S)
        empty = [(panel, query) for panel, query in empty if not ask(address, query)]
    figure(f"{len(PANELS) - len(empty)} of {len(PANELS)} expressions of panels have data")
    assert empty == []


def test_no_rule_fails(address: str) -> None:
    with urlopen(f"{address}/api/v1/rules", timeout=30) as answer:
        groups = json.load(answer)["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 40
    assert [rule["lastError"] for rule in rules if rule["health"] == "err"] == []


def test_the_join_tells_of_the_deployment_in_the_container_and_of_the_gpu_that_nobody_has(address: str) -> None:
    limit = time.monotonic() + _PATIENCE_S
    while len(found := ask(address, "stoker:gpu_power_watts")) < 2 and time.monotonic() < limit:
        time.sleep(SCRAPE_S)
    told = {(each["metric"].get("deployment"), each["metric"]["host"]): float(each["value"][1]) for each in found}
    assert told == {("chat", "gpu-1"): 400.0, (None, "gpu-2"): 300.0}
