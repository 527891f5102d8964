"""Has admission ask the ledger anew, where it may have counted money wrongly: a sum that is too small overspends a
budget, one that is too large refuses who could pay.

The lines of the ledger are the truth, so a sum that is loaded after they are in SQL is right. In doubt are sums of whom
these lines concern:

- a dead worker's last ones, which nobody settled;
- those of requests that began before a limit of money was set, by which they were not held to it;
- segments after the first: a stream's former ones may have been in SQL, and so in a sum, before the stream ended;
- where several hosts have ledgers of their own, those that came to SQL late: a sum may have been asked for meanwhile.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.ledger.line import Line
from core.clock import Clock
from core.dependency import DependencyError
from core.limits import EVERYONE, Limits, Subject, SubjectKind
from storage.schema import limits
from storage.sql import Database

_LATE_S = 1.0
_CLOCKS_APART_S = 2.0
"""And so late another host's workers may learn of a new limit."""


class Forgetful(Protocol):
    """What knows sums of spent money: `api.admission.admission.Admission`."""

    async def forget_spent(self, tenant_id: str, subjects: Iterable[Subject]) -> None: ...

    async def forget_common(self, subjects: Iterable[Subject]) -> None: ...


class Recounts:
    """Looks at what was shipped.

    Args:
        hosts: that share one SQL database; each ships its own lines.
    """

    def __init__(self, database: Database, admission: Forgetful, clock: Clock, hosts: int = 1) -> None:
        self._database = database
        self._admission = admission
        self._clock = clock
        self._hosts = hosts
        self._slack_s = _CLOCKS_APART_S if hosts > 1 else 0.0
        self._new: list[Line] = []
        self._doubtful: list[Line] = []

    async def dropped(self, lines: Sequence[Line]) -> None:
        """Nobody settled these. Raises: DependencyError: Redis is away."""
        for tenant_id, concerned in _own(lines).items():
            await self._admission.forget_spent(tenant_id, concerned)
        await self._admission.forget_common(_common(lines))

    def note(self, lines: Sequence[Line]) -> None:
        """Remember lines that are in SQL now; some may come twice."""
        now = self._clock.time()
        for line in lines:
            late = self._hosts > 1 and now - (line.at + line.latency_ms / 1000) > _LATE_S
            (self._doubtful if line.segment or late else self._new).append(line)

    async def check(self) -> int:
        """Have the sums of those forgotten that lines noted since the last check leave in doubt.

        Returns: how many lines did.
        Raises: DependencyError: SQL or Redis is away; the next check looks at the same and more.
        """
        new, self._new = self._new, []
        try:
            self._doubtful += await self._older_than_their_limit(new)
        except BaseException:
            self._new = new + self._new
            raise
        doubtful, self._doubtful = self._doubtful, []
        try:
            if doubtful:
                await self.dropped(doubtful)
        except DependencyError:
            self._doubtful = doubtful + self._doubtful
            raise
        return len(doubtful)

    async def _older_than_their_limit(self, lines: Sequence[Line]) -> list[Line]:
        if not lines:
            return []
        query = sa.select(limits.c.tenant_id, limits.c.kind, limits.c.subject_id, limits.c.changed_at).where(
            limits.c.changed_at > min(line.at for line in lines) - self._slack_s,
            sa.or_(limits.c.nano_usd_per_day.is_not(None), limits.c.nano_usd_per_month.is_not(None)),
        )

        async def find(connection: AsyncConnection) -> Sequence[Any]:
            return (await connection.execute(query)).all()

        rows = await self._database.read(find)
        set_at = {(row.tenant_id, SubjectKind(row.kind), row.subject_id): row.changed_at for row in rows}
        if not set_at:
            return []
        return [
            line
            for line in lines
            if any(line.at < set_at.get(held_to, 0.0) + self._slack_s for held_to in _held_to(line))
        ]


def _held_to(line: Line) -> list[tuple[str, SubjectKind, str]]:
    """Whose limits a line falls under: tenant, kind and id of each subject."""
    own = [(line.tenant_id, subject.kind, subject.id) for subject in _subjects(line)]
    return own + [(EVERYONE, subject.kind, subject.id) for subject in _common([line])]


def _own(lines: Iterable[Line]) -> dict[str, set[Subject]]:
    """Everybody whose limits some lines fall under, by tenant."""
    found: dict[str, set[Subject]] = {}
    for line in lines:
        found.setdefault(line.tenant_id, set()).update(_subjects(line))
    return found


def _subjects(line: Line) -> list[Subject]:
    ids = {
        SubjectKind.KEY: line.key_id,
        SubjectKind.USER: line.user_id,
        SubjectKind.TEAM: line.team_id,
        SubjectKind.TENANT: line.tenant_id,
        SubjectKind.MODEL: line.model_group,
        SubjectKind.ROUTE: line.route,
    }
    return [Subject(kind, name, Limits()) for kind, name in ids.items() if name is not None]


def _common(lines: Iterable[Line]) -> set[Subject]:
    """Those that all tenants share and that some lines fall under."""
    found = {Subject(SubjectKind.TENANT, EVERYONE, Limits(), common=True)}
    for line in lines:
        for kind, name in ((SubjectKind.MODEL, line.model_group), (SubjectKind.ROUTE, line.route)):
            found.add(Subject(kind, name, Limits(), common=True))
    return found
