"""Says that identities have changed: to the workers of this host by its mark, and to admission by key."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from sqlalchemy import ColumnElement, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.limits import Subject
from storage.schema import api_keys

Bumped = Callable[[str, str, int], Awaitable[None]]
Recount = Callable[[str, Subject], Awaitable[None]]


class Raised(NamedTuple):
    """A key whose generation rose."""

    tenant_id: str
    key_id: str
    generation: int


class MovableMark(Protocol):
    """What every worker of the host looks at before it trusts what it knows."""

    def move(self) -> None: ...


async def tell_nobody(_tenant_id: str, _key_id: str, _generation: int) -> None:
    """For where there is no admission."""


async def recount_nothing(_tenant_id: str, _subject: Subject) -> None:
    """For where there is no admission."""


class Announcer:
    """Called after each commit; `recount` within what is to be committed.

    Args:
        bumped: told tenant, key and new generation of every key that changed; raises nothing, since the change is made.
        recount: told tenant and subject, of whom admission must not believe any more what it knows to be spent; raises
            DependencyError where admission can't be told.
    """

    def __init__(self, mark: MovableMark, bumped: Bumped = tell_nobody, recount: Recount = recount_nothing) -> None:
        self._mark = mark
        self._bumped = bumped
        self._recount = recount

    async def recount(self, tenant_id: str, subject: Subject) -> None:
        """Before a limit of money is set: while there was none, admission did not count what was spent.

        Raises: DependencyError: the limit can't be set now.
        """
        if subject.limits.nano_usd_per_day is not None or subject.limits.nano_usd_per_month is not None:
            await self._recount(tenant_id, subject)

    async def announce(self, keys: Sequence[Raised] = ()) -> None:
        """Say that something changed, and which keys."""
        self._mark.move()
        for key in keys:
            await self._bumped(*key)


async def raise_generations(connection: AsyncConnection, which: ColumnElement[bool], now: float) -> Sequence[Raised]:
    """Raise the generation of keys by one, within the transaction of what changed them."""
    statement = (
        update(api_keys)
        .where(which)
        .values(generation=api_keys.c.generation + 1, changed_at=now)
        .returning(api_keys.c.tenant_id, api_keys.c.id, api_keys.c.generation)
    )
    return [Raised(*row) for row in await connection.execute(statement)]
