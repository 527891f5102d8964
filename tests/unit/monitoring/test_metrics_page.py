"""docs/metrics.md lists what there is, and nothing else."""

import re

from prometheus_client import Counter, Gauge, Histogram

from monitoring import metrics
from monitoring.gpus.exposition import FIGURES, SHARES, UP
from monitoring.replaced import ReplacedGauge
from monitoring.rules import book
from monitoring.rules.form import Recording
from tests.support.process import ROOT

_PAGE = (ROOT / "docs" / "metrics.md").read_text()


def _rows(title: str) -> list[list[str]]:
    """The cells of the table whose first column has this title."""
    (table,) = re.findall(rf"^\| {title} \|\n\| --- .*\n((?:\|.*\n)*)", _PAGE, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def test_every_metric_is_listed_with_its_kind_labels_unit_and_meaning_and_no_other() -> None:
    there = {}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram | ReplacedGauge):
            (family,) = metric.describe()
            name = f"`{family.name}{'_total' * (family.type == 'counter')}`"
            names = metric.labels if isinstance(metric, ReplacedGauge) else metric._labelnames
            labels = ", ".join(f"`{label}`" for label in names)
            there[name] = [family.type, labels, family.documentation]
    rows = _rows(r"metric \| kind \| labels \| unit \| what it is")
    assert {name: [kind, labels, about] for name, kind, labels, _, about in rows} == there
    assert len(rows) == len(there) > 30
    assert [name for name, *_, unit, _ in rows if not unit] == []


def test_every_recorded_series_is_listed_in_its_order_and_no_other() -> None:
    recorded = [rule for group in book.groups() for rule in group.rules if isinstance(rule, Recording)]
    assert _rows(r"series \| what it is") == [[f"`{rule.record}`", rule.about] for rule in recorded]


def test_every_gpu_figure_is_listed_and_no_other() -> None:
    listed = [[name, about] for name, _, about in _rows(r"metric \| labels \| what it is")]
    assert listed == [
        *([f"`{name}`", about] for name, (_, about) in (SHARES | FIGURES).items()),
        [f"`{UP[0]}`", UP[1]],
    ]


def test_of_each_label_of_each_metric_it_is_said_what_bounds_its_values() -> None:
    carried: dict[str, list[str]] = {}
    for name, _, labels, *_ in _rows(r"metric \| kind \| labels \| unit \| what it is"):
        for label in filter(None, labels.split(", ")):
            carried.setdefault(label, []).append(name)
    said = {label: (names.split(", "), bound) for label, names, bound in _rows(r"label \| metrics \| .*")}
    assert {label: names for label, (names, _) in said.items()} == carried
    assert all(bound for _, bound in said.values())
