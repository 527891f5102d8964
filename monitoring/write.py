"""`python -m monitoring.write`: makes deploy/monitoring: Prometheus, Alertmanager and Grafana are configured by it."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from monitoring import kubernetes, scraping
from monitoring.alerting import RECEIVERS, Receiver, alertmanager
from monitoring.dashboards import book as dashboards
from monitoring.gpus.figures import Prices
from monitoring.gpus.placement import places
from monitoring.rules import book as rules
from monitoring.rules.form import dump

FOLDER = Path("deploy") / "monitoring"
_PLACEMENT, _PRICES = "rules/stoker-placement.yml", "rules/stoker-prices.yml"


def files(
    model_list: Sequence[Mapping[str, Any]] = (),
    *,
    prices: Prices = rules.DEFAULT_PRICES,
    gpus: Sequence[str] = (),
    keepers: Sequence[str] = (),
    workers: Sequence[str] = (),
    receivers: Sequence[Receiver] = RECEIVERS,
) -> Mapping[str, str]:
    """Path below the folder to its text.

    Args:
        model_list: of the configuration, `stoker.yaml`.
        gpus: addresses, `HOST:PORT`, of dcgm-exporters and of our own readers.
        keepers, workers: addresses of those that run by themselves, with a port for their metrics.
        receivers: who is told of alerts.
    """
    placed = places(model_list)
    boards = dashboards.files()
    return {
        "prometheus.yml": scraping.prometheus(),
        "prometheus.kubernetes.yml": scraping.kubernetes(),
        **{f"rules/{name}": text for name, text in rules.files(prices, placed).items()},
        **of_installation(model_list, prices=prices, gpus=gpus, keepers=keepers, workers=workers, receivers=receivers),
        **{f"grafana/dashboards/{name}": text for name, text in boards.items()},
        **kubernetes.files(rules.groups(prices, placed), boards),
        "grafana/provisioning/dashboards/stoker.yml": _provided(),
        "grafana/provisioning/datasources/stoker.yml": _sources(),
    }


def of_installation(
    model_list: Sequence[Mapping[str, Any]],
    *,
    prices: Prices,
    gpus: Sequence[str],
    keepers: Sequence[str],
    workers: Sequence[str],
    receivers: Sequence[Receiver],
) -> Mapping[str, str]:
    """Those of the files that say what is where and who is told: one installation's own, over what all have."""
    made = {f"rules/{name}": text for name, text in rules.files(prices, places(model_list)).items()}
    return {
        "engines.yml": scraping.engines(model_list),
        "gpus.yml": scraping.targets(gpus),
        "keepers.yml": scraping.targets(keepers),
        "workers.yml": scraping.targets(workers),
        "alertmanager.yml": alertmanager(receivers),
        **{name: made[name] for name in (_PLACEMENT, _PRICES)},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files. Returns: 0."""
    given = _parser().parse_args(arguments)
    config = yaml.safe_load(given.config.read_text()) if given.config else {}
    prices = Prices(given.gpu_usd_per_hour, given.hosted_prompt_usd, given.hosted_completion_usd)
    made = (of_installation if given.only_installation else files)(
        config.get("model_list") or [],
        prices=prices,
        gpus=given.gpu,
        keepers=given.keeper,
        workers=given.worker,
        receivers=given.receiver or RECEIVERS,
    )
    for name, text in made.items():
        path: Path = given.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    print(f"{len(made)} files in {given.folder}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m monitoring.write", description=__doc__)
    usual = rules.DEFAULT_PRICES
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files go")
    parser.add_argument("--config", type=Path, help="stoker.yaml, whose engines are scraped and placed on GPUs")
    about = "write only what says where things are and who is told; the rest is taken from deploy/monitoring"
    parser.add_argument("--only-installation", action="store_true", help=about)
    parser.add_argument("--gpu", action="append", default=[], metavar="HOST:PORT", help="a dcgm-exporter or GPU reader")
    for part in ("keeper", "worker"):
        about = f"a {part} that runs by itself, with STOKER_METRICS_PORT"
        parser.add_argument(f"--{part}", action="append", default=[], metavar="HOST:PORT", help=about)
    parser.add_argument("--receiver", action="append", choices=RECEIVERS, help="who is told of alerts; unset: all")
    parser.add_argument("--gpu-usd-per-hour", type=float, default=usual.gpu_usd_per_hour)
    parser.add_argument("--hosted-prompt-usd", type=float, default=usual.hosted_prompt_usd, help="a million tokens")
    parser.add_argument("--hosted-completion-usd", type=float, default=usual.hosted_completion_usd)
    return parser


def _provided() -> str:
    provider = {
        "name": "stoker",
        "type": "file",
        "allowUiUpdates": False,
        "options": {"path": "/var/lib/grafana/dashboards"},
    }
    return scraping.HEAD.replace("scraping", "write") + dump({"apiVersion": 1, "providers": [provider]})


def _sources() -> str:
    ledger = {
        "name": "Ledger",
        "type": "grafana-postgresql-datasource",
        "url": "$STOKER_GRAFANA_SQL_HOST",
        "user": "$STOKER_GRAFANA_SQL_USER",
        "secureJsonData": {"password": "$STOKER_GRAFANA_SQL_PASSWORD"},
        "jsonData": {"database": "$STOKER_GRAFANA_SQL_DATABASE", "sslmode": "prefer"},
    }
    metrics = {"name": "Metrics", "type": "prometheus", "url": "http://prometheus:9090", "isDefault": True}
    return scraping.HEAD.replace("scraping", "write") + dump({"apiVersion": 1, "datasources": [metrics, ledger]})


if __name__ == "__main__":
    sys.exit(main())
