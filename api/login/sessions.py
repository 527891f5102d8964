"""Sessions: opened by a sign-in, kept as a hash, ended by a sign-out or by their time."""

from collections.abc import Mapping

from sqlalchemy import CursorResult, delete, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.acting import Actor
from api.announcer import Announcer
from api.audit import note
from api.login.secret import csrf_token_of, new_secret, sha256_of
from core.clock import Clock
from storage.schema import sessions
from storage.sql import Database

_SHOWN = 12  # signs of a session's hash that the audit log names it by


class Sessions:
    """The sessions, in SQL."""

    def __init__(self, database: Database, clock: Clock, announcer: Announcer, lifetime_s: float) -> None:
        self._database = database
        self._clock = clock
        self._announcer = announcer
        self._lifetime_s = lifetime_s

    async def open(self, by: Actor, how: Mapping[str, str], replaced: str | None) -> str:
        """Sign in, always into a new session.

        Args:
            how: for the audit log.
            replaced: secret of the session that the browser had before, which ends now; it may be anything.

        Returns: the secret.
        Raises: DependencyError.
        """
        secret, now = new_secret(), self._clock.time()
        principal, expires_at = by.principal, now + self._lifetime_s
        row = {
            "sha256": sha256_of(secret),
            "tenant_id": principal.tenant_id,
            "user_id": principal.user_id,
            "key_id": principal.key_id,
            "csrf_sha256": sha256_of(csrf_token_of(secret)),
            "created_at": now,
            "expires_at": expires_at,
        }

        async def act(connection: AsyncConnection) -> bool:
            ended = replaced is not None and await _end(connection, sha256_of(replaced), now)
            await connection.execute(insert(sessions).values(**row))
            told = {**how, "session": sha256_of(secret)[:_SHOWN], "expires_at": expires_at}
            await note(connection, by, now, principal.tenant_id, "session.sign_in", by.id, told)
            return ended

        if await self._database.write(act):
            await self._announcer.announce()
        return secret

    async def close(self, by: Actor, secret: str) -> None:
        """Sign out: the session's next request is refused. Raises: DependencyError."""
        now = self._clock.time()

        async def act(connection: AsyncConnection) -> None:
            if await _end(connection, sha256_of(secret), now):
                told = {"session": sha256_of(secret)[:_SHOWN]}
                await note(connection, by, now, by.principal.tenant_id, "session.sign_out", by.id, told)

        await self._database.write(act)
        await self._announcer.announce()


async def forget_expired(database: Database, clock: Clock) -> None:
    """Delete the rows of sessions that have expired. Raises: DependencyError."""

    async def act(connection: AsyncConnection) -> None:
        await connection.execute(delete(sessions).where(sessions.c.expires_at <= clock.time()))

    await database.write(act)


async def _end(connection: AsyncConnection, sha256: str, now: float) -> bool:
    """End a session, unless it was ended before. Returns: whether it was live."""
    live = (sessions.c.sha256 == sha256, sessions.c.revoked_at.is_(None), sessions.c.expires_at > now)
    result: CursorResult[object] = await connection.execute(update(sessions).where(*live).values(revoked_at=now))
    return result.rowcount > 0
