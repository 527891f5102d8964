"""Who uses what: asked of the ledger in SQL, since metrics are read by anybody and must not tell of tenants."""

from monitoring.dashboards.form import Dashboard, Panel, Query

_USD = "sum(ledger.nano_usd) / 1000000000.0"
_OF = "FROM ledger JOIN tenants ON tenants.id = ledger.tenant_id WHERE $__unixEpochFilter(ledger.at)"


def _over_time(title: str, unit: str, value: str, also: str = "") -> Panel:
    text = f"SELECT $__unixEpochGroup(ledger.at, '1h') AS time, tenants.name AS metric, {value} AS value {_OF}{also}"
    return Panel(title, unit, [Query(f"{text} GROUP BY 1, 2 ORDER BY 1")], width=12, sql=True)


DASHBOARD = Dashboard(
    "stoker-tenants",
    "Tenants",
    [
        Panel(
            "Tenants",
            "none",
            [
                Query(
                    f"SELECT tenants.name AS tenant, count(DISTINCT ledger.request_id) AS requests, {_USD} AS usd, "
                    "sum(ledger.tokens_in) AS tokens_in, sum(ledger.tokens_out) AS tokens_out, "
                    "sum(ledger.nano_usd_saved) / 1000000000.0 AS usd_saved_by_caches "
                    f"{_OF} GROUP BY 1 ORDER BY usd DESC LIMIT 100"
                )
            ],
            "table",
            width=24,
            sql=True,
        ),
        _over_time("Money an hour", "currencyUSD", _USD),
        _over_time("Requests an hour", "none", "count(DISTINCT ledger.request_id)"),
        _over_time("Tokens an hour", "none", "sum(ledger.tokens_in + ledger.tokens_out)"),
        _over_time("Failed requests an hour", "none", "count(DISTINCT ledger.request_id)", " AND ledger.status >= 500"),
        Panel(
            "Models of tenants",
            "none",
            [
                Query(
                    f"SELECT tenants.name AS tenant, ledger.model_group, {_USD} AS usd {_OF} "
                    "GROUP BY 1, 2 ORDER BY usd DESC LIMIT 100"
                )
            ],
            "table",
            width=12,
            sql=True,
        ),
        Panel(
            "Budgets that were spent",
            "none",
            [
                Query(
                    "SELECT budget_alerts.tenant_id AS tenant, budget_alerts.kind, "
                    "budget_alerts.subject_id AS subject, budget_alerts.period, budget_alerts.percent "
                    "FROM budget_alerts WHERE $__unixEpochFilter(budget_alerts.at) "
                    "ORDER BY budget_alerts.at DESC LIMIT 100"
                )
            ],
            "table",
            width=12,
            sql=True,
        ),
    ],
)
