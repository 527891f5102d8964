"""Tells the operator's webhook of budget alerts."""

from collections.abc import Sequence
from typing import Any

import aiohttp
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.ledger.reports import dollars, spent
from core.clock import Clock
from core.limits import Limits, Subject, SubjectKind
from monitoring.logs import logger
from storage.schema import budget_alerts, limits
from storage.sql import Database

_DEADLINE_S = 5.0
_LONGEST_REST_S = 300.0
_GIVEN_UP_S = 3 * 86_400.0
_MOST_FAILURES = 10  # that are counted: the rest is the longest by then
_log = logger(__name__)


class Webhook:
    """Posts each stored alert until the webhook takes it; kept in SQL, so a restart forgets none.

    A body may arrive twice, when the keeper is killed before it has noted the answer: its `id` tells. An alert that
    nobody took for three days is left.
    """

    def __init__(self, database: Database, clock: Clock, session: aiohttp.ClientSession, url: str) -> None:
        self._database = database
        self._clock = clock
        self._session = session
        self._url = url
        self._failures = 0
        self._rest_until_s = 0.0

    async def deliver(self) -> int:
        """Post what waits, the oldest first, up to the first failure; then rest 1 s, 2 s, 4 s up to 300 s.

        Returns: alerts that were taken.

        Raises: DependencyError: SQL is away.
        """
        if self._clock.monotonic() < self._rest_until_s:
            return 0
        taken = 0
        for alert in await self._waiting():
            if not await self._post(await self._body(alert)):
                self._rest_until_s = self._clock.monotonic() + min(_LONGEST_REST_S, 2.0**self._failures)
                self._failures = min(self._failures + 1, _MOST_FAILURES)
                break
            self._failures = 0
            await self._note(alert)
            taken += 1
        return taken

    async def _waiting(self) -> Sequence[sa.Row[Any]]:
        query = (
            sa.select(budget_alerts, limits.c.nano_usd_per_day, limits.c.nano_usd_per_month)
            .outerjoin(limits, _same_subject())
            .where(budget_alerts.c.delivered_at.is_(None), budget_alerts.c.at > self._clock.time() - _GIVEN_UP_S)
            .order_by(budget_alerts.c.at, budget_alerts.c.subject_id, budget_alerts.c.period, budget_alerts.c.percent)
            .limit(100)
        )

        async def find(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            return (await connection.execute(query)).all()

        return await self._database.read(find)

    async def _body(self, alert: sa.Row[Any]) -> dict[str, Any]:
        subject = Subject(SubjectKind(alert.kind), alert.subject_id, Limits())
        nano_usd = await spent(self._database, alert.tenant_id, subject, alert.period)
        limit = alert.nano_usd_per_day if len(alert.period) == len("2026-11-21") else alert.nano_usd_per_month
        return {
            "type": "budget_alert",
            "id": ":".join((alert.tenant_id, alert.kind, alert.subject_id, alert.period, str(alert.percent))),
            "tenant": alert.tenant_id,
            "kind": alert.kind,
            "subject": alert.subject_id,
            "period": alert.period,
            "percent": alert.percent,
            "at": int(alert.at),
            "spent_usd": dollars(nano_usd),
            "limit_usd": None if limit is None else dollars(limit),
        }

    async def _post(self, body: dict[str, Any]) -> bool:
        timeout = aiohttp.ClientTimeout(total=_DEADLINE_S)
        try:
            async with self._session.post(self._url, json=body, timeout=timeout, allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.warning("the budget webhook does not answer", reason=type(error).__name__)
            return False
        if not 200 <= status < 300:
            _log.warning("the budget webhook refuses an alert", status=status, id=body["id"])
            return False
        return True

    async def _note(self, alert: sa.Row[Any]) -> None:
        update = (
            budget_alerts.update()
            .where(
                budget_alerts.c.tenant_id == alert.tenant_id,
                budget_alerts.c.kind == alert.kind,
                budget_alerts.c.subject_id == alert.subject_id,
                budget_alerts.c.period == alert.period,
                budget_alerts.c.percent == alert.percent,
            )
            .values(delivered_at=self._clock.time())
        )

        async def write(connection: AsyncConnection) -> None:
            await connection.execute(update)

        await self._database.write(write)


def _same_subject() -> sa.ColumnElement[bool]:
    return sa.and_(
        limits.c.tenant_id == budget_alerts.c.tenant_id,
        limits.c.kind == budget_alerts.c.kind,
        limits.c.subject_id == budget_alerts.c.subject_id,
    )
