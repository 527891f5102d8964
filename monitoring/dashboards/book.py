"""All dashboards."""

from collections.abc import Mapping

from monitoring.dashboards import cost, gpus, overview, rag, sla, tenants
from monitoring.dashboards.form import as_json

DASHBOARDS = (
    overview.DASHBOARD,
    gpus.DASHBOARD,
    rag.DASHBOARD,
    cost.DASHBOARD,
    tenants.DASHBOARD,
    sla.DASHBOARD,
)


def files() -> Mapping[str, str]:
    """File name to its text."""
    return {f"{dashboard.uid}.json": as_json(dashboard) for dashboard in DASHBOARDS}
