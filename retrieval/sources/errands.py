"""Errands: what has to be fetched for a job, kept in SQL and held by lease, as tasks are (`retrieval.leases`).

One document's errand is wanted for as long as its task is `fetching`: a cancel, a deletion or a newer upload takes the
task away, and whoever comes home with the bytes is turned away. One host is asked by one worker at a time, and not
again before its rest is over; of tenants that wait, the one with the fewest errands under way comes first.
"""

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.ids import new_id
from core.principal import Principal, Role
from core.reach import Reach
from retrieval.errors import ErrandLost
from retrieval.rows import fetch
from retrieval.sources.fetcher import Known
from retrieval.status import Fault, Status
from storage.schema import documents, errands, hosts, tasks
from storage.silence import Silence
from storage.sql import Database

Also = Callable[[AsyncConnection], Awaitable[None]]


class Kind(enum.StrEnum):
    """What is at an address."""

    URL = "url"
    PAGE = "page"  # of a sitemap: redirects stay on its host
    OBJECT = "object"
    SITEMAP = "sitemap"
    PREFIX = "prefix"


class ErrandStatus(enum.StrEnum):
    """Of one document's errand `done` alone matters: its task says the rest."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something is.

    Attributes:
        host: to which one is polite; None: nobody asks for that.
        after_s: until it is fetched, at least.
    """

    kind: Kind
    address: str
    host: str | None = None
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Errand:
    """One errand, held by one worker until the fence moves on.

    Attributes:
        attempt: counted from 1.
        document_id: None: it is a list.
        plan: of a list: who asked, how, and what was found.
        placed: of what was found, that came into the job or was left out.
        known: of the document, since it was fetched from this address.
    """

    id: str
    job_id: str
    tenant_id: str
    document_id: str | None
    kind: Kind
    address: str
    host: str | None
    plan: dict[str, Any]
    placed: int
    attempt: int
    fence: int
    filename: str
    known: Known | None


async def send_out(
    connection: AsyncConnection,
    principal: Principal,
    job_id: str,
    origin: Origin,
    now_s: float,
    document_id: str | None = None,
    plan: Mapping[str, Any] | None = None,
) -> None:
    """Write an errand down, for one document or for a list."""
    await connection.execute(
        errands.insert().values(
            id=new_id("err"),
            job_id=job_id,
            tenant_id=principal.tenant_id,
            document_id=document_id,
            kind=origin.kind,
            address=origin.address,
            host=origin.host,
            plan=None if plan is None else {**plan, "by": _written(principal)},
            status=ErrandStatus.OPEN,
            not_before=now_s + origin.after_s,
            created_at=now_s,
        )
    )


class Errands:
    """Takes, renews and ends errands for one worker.

    Args:
        delay_s: between two calls to one host.
        retry_s: until a first failure is tried again; four times that after each further one.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        worker: str,
        *,
        lease_s: float,
        max_attempts: int,
        delay_s: float,
        retry_s: float,
    ) -> None:
        self._database = database
        self._clock = clock
        self._worker = worker
        self._lease_s = lease_s
        self._max_attempts = max_attempts
        self._delay_s = delay_s
        self._retry_s = retry_s
        self._silence = Silence(database, clock, errands, lease_s, held=errands.c.status == ErrandStatus.OPEN)

    async def any_open(self) -> bool:
        """Whether there is anything to fetch, now or later; takes no write lock. Raises: DependencyError."""
        now_s = self._clock.time()
        waiting = sa.select(errands.c.id).where(errands.c.status == ErrandStatus.OPEN, errands.c.not_before <= now_s)
        return bool(await fetch(self._database, waiting.limit(1)))

    async def acquire(self) -> Errand | None:
        """Take an errand; None when none may be begun now. Raises: DependencyError: SQL is away."""
        await self._silence.take_back()
        return await self._database.write(self._acquire)

    async def renew(self, errand: Errand) -> None:
        """Raises: ErrandLost; DependencyError: SQL is away."""
        until = {"lease_until": self._clock.time() + self._lease_s}
        await self._database.write(lambda connection: self.hold(connection, errand, until))

    async def write(self, errand: Errand, values: Mapping[str, Any]) -> None:
        """Change an errand that is held. Raises: ErrandLost; DependencyError: SQL is away."""
        await self._database.write(lambda connection: self.hold(connection, errand, values))

    async def hold(self, connection: AsyncConnection, errand: Errand, values: Mapping[str, Any]) -> None:
        """The same, in the caller's transaction. Raises: ErrandLost: nothing may be written any more."""
        held = sa.and_(
            errands.c.id == errand.id, errands.c.fence == errand.fence, errands.c.status == ErrandStatus.OPEN
        )
        if (await connection.execute(errands.update().where(held).values(**values))).rowcount != 1:
            raise ErrandLost(f"the errand {errand.id} was taken back")
        if errand.host is not None and values.get("lease_until", ...) is None:  # it ends: the rest counts from here
            await self._rest(connection, errand.host)

    async def finish(
        self, connection: AsyncConnection, errand: Errand, values: Mapping[str, Any] | None = None
    ) -> None:
        """End it well, in the caller's transaction. Raises: ErrandLost."""
        await self.hold(connection, errand, _ended(ErrandStatus.DONE) | dict(values or {}))

    async def fail(self, errand: Errand, reason: str, fault: Fault = Fault.INVALID) -> None:
        """End it, and its document, without success. Raises: ErrandLost; DependencyError: SQL is away."""

        async def end(connection: AsyncConnection) -> None:
            await self.hold(connection, errand, _ended(ErrandStatus.FAILED) | {"error": reason})
            await self._fail_document(connection, errand.job_id, errand.document_id, reason, fault)

        await self._database.write(end)

    async def retry(self, errand: Errand, reason: str, wait_s: float | None = None) -> bool:
        """Hand an errand back after a failed attempt; the last attempt's failure is final.

        Args:
            wait_s: as the server wished.

        Returns: whether it will be tried again.

        Raises: ErrandLost; DependencyError: SQL is away.
        """
        if errand.attempt >= self._max_attempts:
            await self.fail(errand, f"{reason} (after {errand.attempt} attempts)", Fault.SERVER)
            return False
        pause_s = self._retry_s * 4.0 ** (errand.attempt - 1) if wait_s is None else wait_s
        await self.write(errand, _handed_back() | {"error": reason, "not_before": self._clock.time() + pause_s})
        return True

    async def release(self, errand: Errand) -> None:
        """Hand back what nothing is wrong with. Raises: ErrandLost; DependencyError: SQL is away."""
        await self.write(errand, _handed_back() | {"attempts": errands.c.attempts - 1})

    async def forget_hosts(self) -> None:
        """Delete hosts that may be asked. Raises: DependencyError: SQL is away."""
        rested = hosts.delete().where(hosts.c.next_at < self._clock.time() - 60.0)

        async def delete(connection: AsyncConnection) -> None:
            await connection.execute(rested)

        await self._database.write(delete)

    async def _acquire(self, connection: AsyncConnection) -> Errand | None:
        now_s = self._clock.time()
        running = errands.c.lease_until.is_not(None)
        asked = sa.select(errands.c.host).where(running, errands.c.host.is_not(None))
        shares = (
            sa.select(errands.c.tenant_id, sa.func.count().label("count"))
            .where(running)
            .group_by(errands.c.tenant_id)
            .subquery()
        )
        rests = sa.select(hosts.c.host).where(self._rests(now_s))
        of_task = sa.and_(tasks.c.job_id == errands.c.job_id, tasks.c.document_id == errands.c.document_id)
        waiting = (
            sa.select(errands)
            .outerjoin(tasks, of_task)
            .outerjoin(shares, shares.c.tenant_id == errands.c.tenant_id)
            .where(
                errands.c.status == ErrandStatus.OPEN,
                errands.c.not_before <= now_s,
                errands.c.lease_until.is_(None),
                sa.or_(errands.c.document_id.is_(None), tasks.c.status == Status.FETCHING),
                sa.or_(errands.c.host.is_(None), errands.c.host.not_in(asked) & errands.c.host.not_in(rests)),
            )
            .order_by(sa.func.coalesce(shares.c.count, 0), errands.c.created_at, errands.c.id)
            .limit(1)
            .with_for_update(of=errands, skip_locked=True)
        )
        row = (await connection.execute(waiting)).one_or_none()
        if row is None:
            return None
        if row.attempts >= self._max_attempts:
            reason = f"Whoever fetched it was lost {row.attempts} times."
            await connection.execute(
                errands.update()
                .where(errands.c.id == row.id)
                .values(_ended(ErrandStatus.FAILED) | {"error": reason, "fence": row.fence + 1})
            )
            await self._fail_document(connection, row.job_id, row.document_id, reason, Fault.SERVER)
            return None
        if row.host is not None and not await self._take_host(connection, row.host, now_s):
            return None
        same = sa.and_(errands.c.id == row.id, errands.c.fence == row.fence)  # PostgreSQL may show it as it was
        lease = {"worker": self._worker, "lease_until": now_s + self._lease_s, "attempts": row.attempts + 1}
        lease["fence"] = row.fence + 1
        if not (await connection.execute(errands.update().where(same).values(**lease))).rowcount:
            return None
        filename, known = await _document(connection, row)
        return Errand(
            id=row.id,
            job_id=row.job_id,
            tenant_id=row.tenant_id,
            document_id=row.document_id,
            kind=Kind(row.kind),
            address=row.address,
            host=row.host,
            plan=row.plan or {},
            placed=row.placed,
            attempt=row.attempts + 1,
            fence=row.fence + 1,
            filename=filename,
            known=known,
        )

    async def _rest(self, connection: AsyncConnection, host: str) -> None:
        until = {"next_at": self._clock.time() + self._delay_s}
        await connection.execute(hosts.update().where(hosts.c.host == host).values(**until))

    async def _take_host(self, connection: AsyncConnection, host: str, now_s: float) -> bool:
        """Let the host rest from now on; False: another worker was there a moment before."""
        insert = self._database.upsert(hosts).values(host=host, next_at=now_s + self._delay_s)
        taken = insert.on_conflict_do_update(
            index_elements=[hosts.c.host], set_={"next_at": now_s + self._delay_s}, where=sa.not_(self._rests(now_s))
        )
        return (await connection.execute(taken)).rowcount == 1

    def _rests(self, now_s: float) -> sa.ColumnElement[bool]:
        """Which hosts were asked just now; one that seems to rest for longer was asked before a clock was set back."""
        return sa.and_(hosts.c.next_at > now_s, hosts.c.next_at <= now_s + self._delay_s)

    async def _fail_document(
        self, connection: AsyncConnection, job_id: str, document_id: str | None, reason: str, fault: Fault
    ) -> None:
        if document_id is None:
            return
        now_s = self._clock.time()
        theirs = sa.and_(
            tasks.c.job_id == job_id, tasks.c.document_id == document_id, tasks.c.status == Status.FETCHING
        )
        ended = {"status": Status.FAILED, "error": reason, "finished_at": now_s}
        if (await connection.execute(tasks.update().where(theirs).values(**ended))).rowcount:
            about = {"status": Status.FAILED, "error": reason, "fault": fault, "updated_at": now_s}
            await connection.execute(documents.update().where(documents.c.id == document_id).values(**about))


def asker(plan: Mapping[str, Any]) -> Principal:
    """Who asked for a list."""
    by = plan["by"]
    return Principal(
        tenant_id=by["tenant_id"],
        key_id=by["key_id"],
        role=Role(by["role"]),
        user_id=by["user_id"],
        groups=frozenset(by["groups"]),
        reach=Reach.read(by["reach"]),
    )


def _written(principal: Principal) -> dict[str, Any]:
    return {
        "tenant_id": principal.tenant_id,
        "key_id": principal.key_id,
        "role": principal.role.value,
        "user_id": principal.user_id,
        "groups": sorted(principal.groups),
        "reach": principal.reach.row(),
    }


async def _document(connection: AsyncConnection, row: Any) -> tuple[str, Known | None]:
    """Name of an errand's document, and what is known of it since it was fetched from the same address."""
    if row.document_id is None:
        return "", None
    about = sa.select(documents.c.filename, documents.c.origin, documents.c.source_key)
    found = (await connection.execute(about.where(documents.c.id == row.document_id))).one()
    if not found.origin or not found.source_key or found.origin["address"] != row.address:
        return found.filename, None
    return found.filename, Known(found.origin["answered"], found.origin["etag"], found.origin["modified"])


def _handed_back() -> dict[str, Any]:
    return {"worker": None, "lease_until": None, "fence": errands.c.fence + 1}


def _ended(status: ErrandStatus) -> dict[str, Any]:
    return {"status": status, "worker": None, "lease_until": None, "error": None}
