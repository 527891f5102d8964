"""A real Prometheus with the committed rules and jobs, which reads where a test says, every second."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from monitoring.dashboards.book import DASHBOARDS
from monitoring.write import files
from tests.support.network import free_port
from tests.support.process import running
from tests.support.promtool import program

SCRAPE_S = 1
PANELS = [
    (f"{board.uid}: {panel.title}", query.text)
    for board in DASHBOARDS
    for panel in board.panels
    if not panel.sql
    for query in panel.queries
]

Target = tuple[int, str]
"""A port of this machine, and a path."""


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, Target]) -> Iterator[str]:
    """Run one until the block ends; skips the test where there is none.

    Args:
        targets: of jobs; those that are not named scrape nothing.

    Yields: its address.
    """
    binary, port = program("prometheus"), free_port()
    for name, text in files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(_here(yaml.safe_load(files()["prometheus.yml"]), targets)))
    command = [
        binary,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    address = f"http://127.0.0.1:{port}"
    with running(command, folder / "log", lambda: answers(f"{address}/-/ready")):
        yield address


def _here(config: dict[str, Any], targets: Mapping[str, Target]) -> dict[str, Any]:
    """The configuration with our targets in the place of its own, and no patience."""
    config["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    config["alerting"] = {}
    left = dict(targets)
    for job in config["scrape_configs"]:
        job.pop("file_sd_configs", None)
        job["static_configs"] = []
        if (target := left.pop(job["job_name"], None)) is not None:
            labels = {"deployment": "chat"} if job["job_name"] == "vllm" else {}
            job["static_configs"] = [{"targets": [f"127.0.0.1:{target[0]}"], "labels": labels}]
            job["metrics_path"] = target[1]
    assert not left
    return config


def answers(address: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(address: str, query: str) -> list[dict[str, Any]]:
    """What the Prometheus at this address finds now, without what is no number."""
    asked = urlencode({"query": query.replace("$__rate_interval", "1m")})
    with urlopen(f"{address}/api/v1/query?{asked}", timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return [each for each in found if each["value"][1] != "NaN"]
