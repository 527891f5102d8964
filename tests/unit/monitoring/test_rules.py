"""Prometheus's rules: every name is one that some part gives, the join says what was computed by hand, alerts fire."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.roles import ROUTES
from monitoring.gpus.placement import Place
from monitoring.gpus.readings import ENERGY
from monitoring.rules import book, names
from monitoring.rules.form import RUNBOOK, Alert, Recording
from monitoring.rules.gateway import LONG
from tests.support.process import ROOT
from tests.support.promtool import promtool
from tests.unit.gpus.shapes import PRICES, SECONDS, SHAPES, U0, U1, U2, Shape
from tests.unit.monitoring.alerting import CASES

_RULES = [rule for group in book.groups() for rule in group.rules]
_ALERTS = [rule for rule in _RULES if isinstance(rule, Alert)]
_LINE = re.compile(r"^(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)$", re.MULTILINE)


def test_every_series_that_a_rule_names_is_one_that_there_is() -> None:
    known = names.known()
    for rule in _RULES:
        assert names.named(rule.expr) - known == set(), rule.expr


def test_a_rule_names_only_what_was_recorded_before_it() -> None:
    seen = {"stoker:gpu_configured"}
    for rule in _RULES:
        wanted = {name for name in names.named(rule.expr) if name.startswith("stoker:")}
        assert wanted <= seen, rule.expr
        if isinstance(rule, Recording):
            seen.add(rule.record)


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        ('sum by (stoker_x) (rate(stoker_a_total{b="stoker_c"}[5m]))', {"stoker_a_total"}),
        ('up{job="vllm:x"} == 0 or absent(up)', {"up"}),
        ('{__name__=~"DCGM_A|DCGM_B"} / stoker:a:rate5m', {"DCGM_A", "DCGM_B", "stoker:a:rate5m"}),
        ("stoker:a * on (stoker_b) group_left (stoker_c) stoker:d", {"stoker:a", "stoker:d"}),
        ("histogram_quantile(0.9, vllm:a_bucket)", {"vllm:a_bucket"}),
    ],
)
def test_names_are_found_in_expressions(expr: str, found: set[str]) -> None:
    assert names.named(expr) == found


def test_a_name_that_no_part_gives_is_not_known() -> None:
    assert not {"stoker_requests", "vllm:gpu_cache_usage_perc", "DCGM_FI_DEV_NONE"} & names.known()
    assert {"stoker_requests_total", "stoker_request_seconds_bucket", "stoker_gpu_up"} <= names.known()


def test_every_alert_has_a_section_in_the_runbook_and_the_runbook_no_other() -> None:
    page = (ROOT / RUNBOOK).read_text()
    sections = re.findall(r"^## (Stoker\w+)$", page, re.MULTILINE)
    assert sections == [alert.name for alert in _ALERTS]
    for section in page.split("\n## ")[1:]:
        if section.startswith("Stoker"):
            assert {"Means:", "Look:", "Do:"} <= {word for word in section.split() if word.endswith(":")}, section[:40]


def test_every_route_that_takes_long_is_a_route() -> None:
    for pattern in LONG.split("|"):
        assert any(re.fullmatch(pattern, route) for _, route in ROUTES), pattern


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    _write(tmp_path, book.files())
    done = promtool("check", "rules", *book.files(), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", _ALERTS, ids=lambda alert: alert.name)
def test_an_alert_fires_and_stays_quiet(alert: Alert, tmp_path: Path) -> None:
    case = CASES[alert.name]
    fired = {
        "exp_labels": {**case.labels, "severity": alert.severity},
        "exp_annotations": {"summary": case.summary, "runbook_url": f"{RUNBOOK}#{alert.anchor}"},
    }
    looks = [(case.fires, [fired]), (case.quiet, [])]
    if alert.name == "StokerPartDown":
        absent = {
            "exp_labels": {"job": "stoker", "severity": alert.severity},
            "exp_annotations": {"summary": "stoker  does not answer", "runbook_url": f"{RUNBOOK}#{alert.anchor}"},
        }
        looks.append(({"nothing": "1x30"}, [absent]))
    tests = [
        {
            "interval": "1m",
            "input_series": _input(series),
            "alert_rule_test": [{"eval_time": case.at, "alertname": alert.name, "exp_alerts": expected}],
        }
        for series, expected in looks
    ]
    _write(tmp_path, book.files())
    _look(tmp_path, tests)


# What Prometheus's rules say, and the field of `Figures` that says it.
_SERIES = {
    "stoker:deployment_gpus": "gpus",
    "stoker:deployment_power_watts": "power_watts",
    "sum by (deployment, model) (stoker:gpu_memory_used_bytes)": "memory_used_bytes",
    "sum by (deployment, model) (stoker:gpu_memory_free_bytes)": "memory_free_bytes",
    "sum by (deployment, model) (stoker:gpu_energy_watts:rate5m) * 120": "energy_joules",
    "stoker:deployment_tokens_per_gpu:rate5m": "tokens_per_gpu_s",
    "stoker:deployment_tokens_per_joule:rate5m": "tokens_per_joule",
    "stoker:deployment_gpu_usd_per_hour / 30": "usd",
    "stoker:deployment_usd_per_million_tokens:rate5m": "usd_per_million_tokens",
    "stoker:deployment_idle_usd_per_hour / 30": "idle_usd",
}


@pytest.mark.parametrize("name", SHAPES)
def test_prometheus_joins_to_the_figures_computed_by_hand(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    _write(tmp_path, book.files(PRICES, shape.places))
    for expr, field in _SERIES.items():
        expected = {
            (figure.deployment, figure.model): getattr(figure, field)
            for figure in shape.expected
            # A part that nobody has beside others on the same GPU has memory and idle time there, and nothing else.
            if getattr(figure, field) is not None
            and (figure.gpus or figure.deployment or "memory" in field or "idle" in field)
        }
        _hold(tmp_path, _series_of(shape), expr, expected)
    hosted = {
        (figure.deployment, ""): figure.hosted_usd_per_million_tokens
        for figure in shape.expected
        if figure.hosted_usd_per_million_tokens is not None
    }
    _hold(tmp_path, _series_of(shape), "stoker:deployment_hosted_usd_per_million_tokens:rate5m", hosted)


def test_in_prometheus_too_a_deployment_of_which_no_tokens_are_known_pays_its_equal_part(tmp_path: Path) -> None:
    shape = SHAPES["several models of one GPU"]
    _write(tmp_path, book.files(PRICES, shape.places))
    silent = replace(shape, tokens={"chat": shape.tokens["chat"]})
    _hold(tmp_path, _series_of(silent), "stoker:deployment_gpus", {("chat", "qwen"): 0.5, ("small", "tiny"): 0.5})


def test_in_prometheus_too_what_is_not_known_of_one_gpu_is_not_known_of_the_deployment(tmp_path: Path) -> None:
    shape = SHAPES["several GPUs of one model"]
    _write(tmp_path, book.files(PRICES, shape.places))
    silent = ("POWER_USAGE", "ENERGY_CONSUMPTION", "GPU_UTIL", "ENGINE_ACTIVE")
    series = {
        name: values
        for name, values in _series_of(shape).items()
        if 'gpu="1"' not in name or not any(word in name for word in silent)
    }
    _hold(tmp_path, series, "stoker:deployment_power_watts", {("", ""): 60})
    _hold(tmp_path, series, "stoker:deployment_tokens_per_joule:rate5m", {})
    _hold(tmp_path, series, "stoker:deployment_idle_usd_per_hour", {("", ""): PRICES.gpu_usd_per_hour})
    _hold(tmp_path, series, "stoker:deployment_gpus", {("qwen-1", "qwen"): 2, ("", ""): 1})


def test_a_gpu_whose_exporter_is_called_otherwise_since_two_minutes_keeps_its_figures_and_so_do_others(
    tmp_path: Path,
) -> None:
    shape = SHAPES["several GPUs of one model"]
    _write(tmp_path, book.files(PRICES, (replace(shape.places[0], gpus=(U0, U1)),)))
    series: dict[str, str] = {}
    for name, values in _series_of(shape).items():
        if 'gpu="0"' not in name:
            series[name] = values
            continue
        start, step = (float(word) for word in re.split(r"(?<!e)\+", values.removesuffix("x30")))
        series[name] = f"{start:g}+{step:g}x17 stale"
        series[name.replace("gpu-1", "a1b2c3")] = f"_x18 {start + 18 * step:g}+{step:g}x12"
    for expr, field in _SERIES.items():
        expected = {
            (figure.deployment, figure.model): getattr(figure, field)
            for figure in shape.expected
            if getattr(figure, field) is not None
        }
        _hold(tmp_path, series, expr, expected)


def test_hosts_that_no_exporter_names_and_engines_that_change_their_model_break_no_rule(tmp_path: Path) -> None:
    shape = SHAPES["several models of one GPU"]
    _write(tmp_path, book.files(PRICES, (*shape.places, Place("more", "more", gpus=("gpu-9:0",)))))
    series = dict(_series_of(shape))
    for uuid in (U1, U2):
        series[f'DCGM_FI_DEV_POWER_USAGE{{gpu="0",UUID="{uuid}"}}'] = "60x30"
        series[f'DCGM_FI_DEV_FB_USED{{gpu="0",UUID="{uuid}"}}'] = "920x30"
    series['vllm:num_requests_running{deployment="chat",model_name="newer",engine="0"}'] = "1x30"
    expected = {("chat", ""): 0.75, ("small", ""): 0.25, ("", ""): 2}
    _hold(tmp_path, series, "sum by (deployment) (stoker:gpu_share)", expected)


def test_an_engine_that_stands_still_on_its_own_instance_is_told_of_though_its_neighbour_is_busy(
    tmp_path: Path,
) -> None:
    shape = SHAPES["MIG, one stands still"]
    _write(tmp_path, book.files(PRICES, shape.places))
    waits = {
        f'vllm:num_requests_waiting{{deployment="{name}",model_name="m",engine="0"}}': f"{waiting}x30"
        for name, waiting in (("qwen-1", 5), ("tiny-1", 5))
    }
    told = {
        "exp_labels": {"deployment": "qwen-1", "severity": "warning"},
        "exp_annotations": {
            "summary": "requests wait for qwen-1 while its GPUs do next to nothing",
            "runbook_url": f"{RUNBOOK}#stokergpuidlewhilequeueing",
        },
    }
    test = {
        "interval": "1m",
        "input_series": _input({**_series_of(shape), **waits}),
        "alert_rule_test": [{"eval_time": "20m", "alertname": "StokerGpuIdleWhileQueueing", "exp_alerts": [told]}],
    }
    _look(tmp_path, [test])


_LOST = "1x10 stale"
_STAYS = "1x90"


@pytest.mark.parametrize(
    ("lost", "rest", "instances", "at", "fires"),
    [
        pytest.param(_LOST, "", {"a:9400": _STAYS}, "15m", True, id="its exporter answers and tells of it no more"),
        pytest.param(_LOST, "a:9400", {"a:9400": _STAYS}, "60m", True, id="still, within the hour"),
        pytest.param(_LOST, "a:9400", {"a:9400": _STAYS}, "75m", False, id="no longer, after it"),
        pytest.param(_LOST, "b:9400", {"a:9400": _LOST, "b:9400": _STAYS}, "15m", True, id="its exporter began anew"),
        pytest.param(_LOST, "", {"a:9400": _LOST}, "15m", False, id="the host is gone as a whole"),
        pytest.param(_STAYS, "a:9400", {"a:9400": _STAYS}, "15m", False, id="all are there"),
    ],
)
def test_a_gpu_that_dcgm_exporter_tells_of_no_more_is_down(
    tmp_path: Path, lost: str, rest: str, instances: Mapping[str, str], at: str, fires: bool
) -> None:
    _write(tmp_path, book.files())
    series = {f'up{{job="gpu",instance="{instance}"}}': values for instance, values in instances.items()}
    series['DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-0",Hostname="h",instance="a:9400",pod="p"}'] = lost
    if rest:
        series[f'DCGM_FI_DEV_FB_USED{{gpu="1",UUID="GPU-1",Hostname="h",instance="{rest}"}}'] = _STAYS
    told = {
        "exp_labels": {"gpu": "0", "UUID": "GPU-0", "host": "h", "instance": "a:9400", "severity": "critical"},
        "exp_annotations": {
            "summary": "GPU 0 GPU-0 of a:9400 does not answer",
            "runbook_url": f"{RUNBOOK}#stokergpudown",
        },
    }
    looks = [{"eval_time": at, "alertname": "StokerGpuDown", "exp_alerts": [told] if fires else []}]
    _look(tmp_path, [{"interval": "1m", "input_series": _input(series), "alert_rule_test": looks}])


def test_a_gpu_of_our_own_reader_is_told_of_once(tmp_path: Path) -> None:
    _write(tmp_path, book.files())
    series = {
        'up{job="gpu",instance="a:9400"}': _STAYS,
        'DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-0",Hostname="h",instance="a:9400"}': _LOST,
        'stoker_gpu_up{gpu="0",UUID="GPU-0",instance="a:9400"}': "1x10 0x50",
    }
    _hold(tmp_path, series, 'count(ALERTS{alertname="StokerGpuDown"})', {("", ""): 1})


def _hold(folder: Path, series: Mapping[str, str], expr: str, expected: Mapping[tuple[str, str], float]) -> None:
    """Equal to six places; promtool itself compares every bit."""
    samples = []
    for (deployment, model), value in expected.items():
        at = ", ".join(f'{key}="{word}"' for key, word in (("deployment", deployment), ("model", model)) if word)
        samples.append({"labels": f"{{{at}}}", "value": round(value * 1_000_000)})
    test = {
        "interval": "1m",
        "input_series": _input(series),
        "promql_expr_test": [{"expr": f"round(({expr}) * 1000000)", "eval_time": "20m", "exp_samples": samples}],
    }
    _look(folder, [test])


def _series_of(shape: Shape) -> Mapping[str, str]:
    """The scrape as series of 30 minutes: gauges that stand, and counters that grow as they did in the interval."""
    minutes = SECONDS / 60
    found = {}
    for line in _LINE.finditer(shape.text):
        uuid = re.search(r'UUID="([^"]+)"', line["labels"])
        assert uuid is not None
        step = shape.joules[uuid[1]] * 1000 / minutes if line["name"] == ENERGY else 0
        found[f"{line['name']}{{{line['labels']}}}"] = f"{float(line['value']):g}+{step:g}x30"
    for place in shape.places:
        labels = f'deployment="{place.deployment}",model_name="{place.model}",engine="0"'
        if place.deployment in shape.pods:
            namespace, pod = shape.pods[place.deployment].split("/")
            labels += f',namespace="{namespace}",pod="{pod}"'
        found[f"vllm:num_requests_running{{{labels}}}"] = "1x30"
        if place.deployment in shape.tokens:
            its = shape.tokens[place.deployment]
            found[f"vllm:generation_tokens_total{{{labels}}}"] = f"0+{its.generated / minutes:g}x30"
            found[f"vllm:prompt_tokens_total{{{labels}}}"] = f"0+{its.prompt / minutes:g}x30"
    return found


def _input(series: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in series.items()]


def _look(folder: Path, tests: list[dict[str, Any]]) -> None:
    """Over the rules that stand in the folder."""
    order = [group.name for group in book.groups()]
    body = {
        "rule_files": list(book.files()),
        "evaluation_interval": "1m",
        "group_eval_order": order,
        "tests": tests,
    }
    (folder / "tests.yml").write_text(yaml.safe_dump(body, sort_keys=False, width=10_000))
    done = promtool("test", "rules", "tests.yml", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)
