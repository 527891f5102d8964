"""What the dashboard Tenants asks SQL is answered, on both databases."""

from typing import Any

import pytest
import sqlalchemy as sa

from api.ledger.line import row
from monitoring.dashboards.tenants import DASHBOARD
from storage.schema import budget_alerts, ledger
from storage.sql import Database
from tests.integration.ledger.test_alerts import limit
from tests.support.ledger import NOON, a_line, finished


def _as_sql(text: str, seconds: int = 3600) -> str:
    """With Grafana's macros filled in for a range of a day, as its PostgreSQL data source does it."""
    text = text.replace("$__unixEpochFilter(ledger.at)", f"ledger.at >= {NOON - 60} AND ledger.at <= {NOON + 86_400}")
    text = text.replace(
        "$__unixEpochFilter(budget_alerts.at)", f"budget_alerts.at >= {NOON - 60} AND budget_alerts.at <= {NOON + 60}"
    )
    text = text.replace("$__unixEpochGroup(ledger.at, '1h')", f"floor((ledger.at)/{seconds})*{seconds}")
    assert "$__" not in text
    return text


async def _asked(database: Database, title: str) -> list[dict[str, Any]]:
    (panel,) = (panel for panel in DASHBOARD.panels if panel.title == title)
    (query,) = panel.queries
    found = await database.read(lambda connection: connection.execute(sa.text(_as_sql(query.text))))
    return [dict(each) for each in found.mappings()]


@pytest.fixture
async def used(database: Database) -> Database:
    await limit(database, "tenant", "default")  # makes the tenant
    lines = [
        finished(a_line("a", at=NOON), nano_usd=2_000_000_000),
        finished(a_line("b", at=NOON + 60), nano_usd=500_000_000),
        finished(a_line("late", at=NOON + 7200), nano_usd=1_000_000_000, status=503),
        finished(a_line("old", at=NOON - 7200), nano_usd=9_000_000_000),
    ]
    alert = {"tenant_id": "default", "kind": "key", "subject_id": "k", "period": "2026-11", "percent": 80, "at": NOON}
    await database.write(lambda connection: connection.execute(sa.insert(ledger), [row(line) for line in lines]))
    await database.write(lambda connection: connection.execute(sa.insert(budget_alerts), [alert]))
    return database


async def test_every_panel_is_answered_with_what_the_ledger_says(used: Database) -> None:
    (tenant,) = await _asked(used, "Tenants")
    assert (tenant["tenant"], tenant["requests"], float(tenant["usd"])) == ("default", 3, 3.5)
    assert [(row["metric"], float(row["value"])) for row in await _asked(used, "Money an hour")] == [
        ("default", 2.5),
        ("default", 1.0),
    ]
    assert [row["value"] for row in await _asked(used, "Requests an hour")] == [2, 1]
    assert [row["value"] for row in await _asked(used, "Failed requests an hour")] == [1]
    assert (
        sum(row["value"] for row in await _asked(used, "Tokens an hour")) == tenant["tokens_in"] + tenant["tokens_out"]
    )
    (model,) = await _asked(used, "Models of tenants")
    assert float(model["usd"]) == 3.5
    assert [(row["kind"], row["subject"], row["percent"]) for row in await _asked(used, "Budgets that were spent")] == [
        ("key", "k", 80)
    ]


def test_every_panel_is_asked() -> None:
    assert [panel.title for panel in DASHBOARD.panels] == [
        "Tenants",
        "Money an hour",
        "Requests an hour",
        "Tokens an hour",
        "Failed requests an hour",
        "Models of tenants",
        "Budgets that were spent",
    ]
