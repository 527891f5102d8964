"""A real Prometheus with the committed configuration: no panel of any dashboard is without data."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from monitoring.dashboards.book import DASHBOARDS
from monitoring.write import files
from tests.support.network import free_port
from tests.support.process import running
from tests.support.promtool import program

_PATIENCE_S = 60.0
_SCRAPE_S = 1
_QUERIES = [
    (f"{board.uid}: {panel.title}", query.text)
    for board in DASHBOARDS
    for panel in board.panels
    if not panel.sql
    for query in panel.queries
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that has read everything a few times."""
    binary = program("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    told, port = free_port(), free_port()
    for name, text in files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(_here(yaml.safe_load(files()["prometheus.yml"]), told)))
    command = [
        binary,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    address = f"http://127.0.0.1:{port}"
    teller = [sys.executable, "-m", "tests.integration.monitoring.telling", str(told)]
    with ExitStack() as stack:
        stack.enter_context(running(teller, folder / "telling.log", lambda: _answers(f"http://127.0.0.1:{told}/gpu")))
        stack.enter_context(running(command, folder / "log", lambda: _answers(f"{address}/-/ready")))
        yield address


def _here(config: dict[str, Any], port: int) -> dict[str, Any]:
    """The configuration with our exporter in every place, and no patience."""
    paths = dict.fromkeys(("stoker", "keeper", "worker", "embedding"), "/metrics") | {"vllm": "/engine", "gpu": "/gpu"}
    config["global"] = {"scrape_interval": f"{_SCRAPE_S}s", "evaluation_interval": f"{_SCRAPE_S}s"}
    config["alerting"] = {}
    for job in config["scrape_configs"]:
        job.pop("file_sd_configs", None)
        labels = {"deployment": "chat"} if job["job_name"] == "vllm" else {}
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"], "labels": labels}]
        job["metrics_path"] = paths.pop(job["job_name"])
    assert not paths
    return config


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _ask(prometheus: str, query: str) -> list[dict[str, Any]]:
    asked = urlencode({"query": query.replace("$__rate_interval", "1m")})
    with urlopen(f"{prometheus}/api/v1/query?{asked}", timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return [each for each in found if each["value"][1] != "NaN"]


def test_no_panel_is_without_data(prometheus: str) -> None:
    limit, empty = time.monotonic() + _PATIENCE_S, list(_QUERIES)
    while empty and time.monotonic() < limit:
        time.sleep(_SCRAPE_S)
        empty = [(panel, query) for panel, query in empty if not _ask(prometheus, query)]
    assert empty == []


def test_no_rule_fails(prometheus: str) -> None:
    with urlopen(f"{prometheus}/api/v1/rules", timeout=30) as answer:
        groups = json.load(answer)["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 40
    assert [rule["lastError"] for rule in rules if rule["health"] == "err"] == []


def test_the_join_tells_of_the_deployment_in_the_container_and_of_the_gpu_that_nobody_has(prometheus: str) -> None:
    limit = time.monotonic() + _PATIENCE_S
    while len(found := _ask(prometheus, "stoker:gpu_power_watts")) < 2 and time.monotonic() < limit:
        time.sleep(_SCRAPE_S)
    told = {(each["metric"].get("deployment"), each["metric"]["host"]): float(each["value"][1]) for each in found}
    assert told == {("chat", "gpu-1"): 400.0, (None, "gpu-2"): 300.0}
