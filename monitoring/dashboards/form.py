"""Dashboards as Grafana has them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["timeseries", "stat", "table"]

_WIDTH = 24  # columns of Grafana's grid
_HEIGHT = 8


@dataclass(frozen=True, slots=True)
class Query:
    """What a panel shows.

    Attributes:
        text: in PromQL, or in PostgreSQL's SQL.
        legend: such as `{{route}}`; of SQL the column `metric` says it.
    """

    text: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        unit: in Grafana's words, such as `s`, `percentunit`, `currencyUSD`.
        about: what it shows, and what to do when it looks wrong.
        width: columns of 24.
        sql: the queries ask SQL.
    """

    title: str
    unit: str
    queries: Sequence[Query]
    kind: Kind = "timeseries"
    about: str = ""
    width: int = 8
    sql: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard; `uid` is that of its address and file."""

    uid: str
    title: str
    panels: Sequence[Panel] = field(default_factory=tuple)


def prometheus(title: str, unit: str, *queries: tuple[str, str], kind: Kind = "timeseries", width: int = 8) -> Panel:
    """A panel upon Prometheus; each query with its legend."""
    return Panel(title, unit, [Query(*query) for query in queries], kind, width=width)


def as_json(dashboard: Dashboard) -> str:
    """The file, always in the same form."""
    body: dict[str, Any] = {
        "uid": dashboard.uid,
        "title": f"Stoker: {dashboard.title}",
        "tags": ["stoker"],
        "editable": False,
        "schemaVersion": 39,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": _sources(dashboard)},
        "panels": _laid_out(dashboard.panels),
    }
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _sources(dashboard: Dashboard) -> list[dict[str, str]]:
    """Which data source is asked is chosen at the dashboard's head, where there are several."""
    wanted = {"sql" if panel.sql else "metrics" for panel in dashboard.panels}
    kinds = {"metrics": ("Metrics", "prometheus"), "sql": ("Ledger", "grafana-postgresql-datasource")}
    return [
        {"name": name, "label": label, "type": "datasource", "query": query}
        for name, (label, query) in kinds.items()
        if name in wanted
    ]


def _laid_out(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """From left to right, row by row."""
    found, x, y = [], 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > _WIDTH:
            x, y = 0, y + _HEIGHT
        found.append(_panel(panel, number, x, y))
        x += panel.width
    return found


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    source = (
        {"type": "grafana-postgresql-datasource", "uid": "${sql}"}
        if panel.sql
        else {"type": "prometheus", "uid": "${metrics}"}
    )
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": source,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "targets": [_target(panel, query, chr(ord("A") + at), source) for at, query in enumerate(panel.queries)],
    }


def _target(panel: Panel, query: Query, letter: str, source: dict[str, str]) -> dict[str, Any]:
    if panel.sql:
        shape = "time_series" if panel.kind == "timeseries" else "table"
        return {"refId": letter, "datasource": source, "rawQuery": True, "rawSql": query.text, "format": shape}
    once = panel.kind != "timeseries"
    return {
        "refId": letter,
        "datasource": source,
        "expr": query.text,
        "legendFormat": query.legend,
        "instant": once,
        "range": not once,
    }
