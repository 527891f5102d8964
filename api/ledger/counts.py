"""Metrics of the ledger: what stands in SQL, counted as it gets there."""

from collections import defaultdict
from collections.abc import Sequence

from api.ledger.line import Line
from core.money import NANO_PER_USD
from monitoring import metrics

OTHER = "other"


class SpentCounts:
    """Of one keeper.

    Args:
        tenants: how many may have series of their own, those first that come first; 0: nothing is counted by tenant.

    Raises: OSError: the folder of metrics can't be read.
    """

    def __init__(self, tenants: int) -> None:
        self._most = tenants
        told = metrics.samples_of(metrics.TENANT_REQUESTS) if tenants else []  # by keepers that have ended
        self._known = {sample.labels["tenant"] for sample in told} - {OTHER}

    def note(self, lines: Sequence[Line]) -> None:
        """Count lines that are in SQL now."""
        spent: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        for line in lines:
            spent[line.route, line.model_group, line.deployment] += line.nano_usd
            if self._most:
                self._count(self._series_of(line.tenant_id), line, line.nano_usd / NANO_PER_USD)
        for labels, nano_usd in spent.items():
            metrics.SPENT_USD.labels(*labels).inc(nano_usd / NANO_PER_USD)

    def _series_of(self, tenant_id: str) -> str:
        if tenant_id not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(tenant_id)
        return tenant_id

    def _count(self, tenant: str, line: Line, usd: float) -> None:
        if line.segment == 0:  # further ones are what others did for the same request
            metrics.TENANT_REQUESTS.labels(tenant).inc()
        metrics.TENANT_USD.labels(tenant).inc(usd)
        for direction, tokens in (("in", line.tokens_in), ("cached", line.tokens_cached), ("out", line.tokens_out)):
            if tokens:
                metrics.TENANT_TOKENS.labels(tenant, direction).inc(tokens)
