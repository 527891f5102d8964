"""Identities by key, token or session, kept in the worker.

A key that the worker knows costs no SQL. One task asks SQL once a second what has changed and drops it; the host's mark
makes that happen before the next request of any worker here. While SQL is silent, what was confirmed last lives on for
`outage_s`, and what is not known is "away", never "wrong".
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple, Protocol

from api.errors import NotAuthenticated, SessionEnded
from api.jwt import Claims, is_token
from api.keytext import digest_of, has_key_form
from api.login.secret import has_secret_form, is_session_name, name_of
from core.clock import Clock
from core.dependency import DependencyError
from core.limits import EVERYONE, Subject
from core.principal import Principal
from monitoring.logs import logger

_log = logger(__name__)

_UNKNOWN_S = 1.0  # seconds for which a wrong key is remembered as wrong
_TOKEN_S = 60.0  # seconds for which a verified token is not verified again
_CATCH_UP_S = 2.0  # seconds that a request waits to learn what has changed, before it goes on with what is known
_ANEW_S = 600.0  # seconds after which an identity is read anew, should the hosts' clocks have hidden a change
_BATCH = 200  # keys and sessions asked for in one query


@dataclass(frozen=True, slots=True)
class Session:
    """What a caller who signed in has beside their key or user.

    Attributes:
        name: the key's or user's, to be shown.
        csrf_sha256: of the token that their changing requests carry.
        expires_at: seconds since the epoch.
    """

    name: str
    csrf_sha256: str = field(repr=False)
    expires_at: float


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, and whose limits hold.

    Attributes:
        subjects: key, user, team, tenant and all tenants together, those that have limits.
        models: model groups that have limits, the tenant's own or for all tenants, by name.
        routes: routes that have limits, the tenant's own or for all tenants, by template.
        generation: of the key; rises by one with each change of it. 0 for a token.
        digest: of the key's text, or the session's name; empty for a token.
        session: None where a key or token was shown.
        limits_amounts: whether tokens or money are limited anywhere above.
    """

    principal: Principal
    subjects: tuple[Subject, ...] = ()
    models: Mapping[str, tuple[Subject, ...]] = field(default_factory=dict)
    routes: Mapping[str, tuple[Subject, ...]] = field(default_factory=dict)
    generation: int = 0
    digest: str = field(default="", repr=False)
    session: Session | None = None
    limits_amounts: bool = field(init=False, compare=False)
    _of_request: dict[tuple[str, str], tuple[Subject, ...]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        everybody = chain(self.subjects, *self.models.values(), *self.routes.values())
        object.__setattr__(self, "limits_amounts", any(map(_limits_amounts, everybody)))

    def subjects_of(self, model_group: str, route: str) -> tuple[Subject, ...]:
        """Those whose limits hold for one request, by the name of its model group and the template of its route.

        The same request gets the same tuple.
        """
        model, its_route = self.models.get(model_group, ()), self.routes.get(route, ())
        if not model and not its_route:
            return self.subjects
        found = self._of_request.get((model_group, route))
        if found is None:
            found = self._of_request[model_group, route] = (*self.subjects, *model, *its_route)
        return found


@dataclass(frozen=True, slots=True)
class Found:
    """An identity as SQL has it; `ends_at` in seconds since the epoch, None: never."""

    identity: Identity
    ends_at: float | None


class Change(NamedTuple):
    """A row that changed, or whose limits did; `kind` is key, user, team, tenant or session."""

    kind: str
    id: str
    changed_at: float


class Source(Protocol):
    """Where identities are kept; each call raises DependencyError when it is silent."""

    async def keys(self, digests: Sequence[str]) -> Mapping[str, Found]:
        """The live keys among these hashes."""
        ...

    async def sessions(self, names: Sequence[str]) -> Mapping[str, Found]:
        """The live sessions among these names, each of a live key or user."""
        ...

    async def user(self, claims: Claims) -> Found | None:
        """The user of a token, made on first sight; None where the tenant or user is disabled or the tenant unknown."""
        ...

    async def changed(self, since: float) -> frozenset[Change]:
        """All rows changed since a time, in seconds since the epoch."""
        ...


class Tokens(Protocol):
    """Verifies JWTs."""

    async def verify(self, token: str) -> Claims:
        """Raises: NotAuthenticated; DependencyError: the issuer's keys can't be had."""
        ...


class Mark(Protocol):
    """Stands elsewhere after each change."""

    def read(self) -> int: ...


@dataclass(slots=True)
class _Entry:
    identity: Identity
    ends_at: float  # seconds since the epoch
    loaded_s: float  # monotonic
    by_key: bool  # or by session; not by token


class Identities:
    """The identities of one worker.

    Args:
        size: most identities kept; the longest unused goes first.
        outage_s: seconds that an identity lives after SQL last confirmed it.
        overlap_s: seconds between the earliest and the latest that a change can be dated and be seen: the longest
            transaction and the difference of the hosts' clocks.
    """

    def __init__(
        self,
        source: Source,
        tokens: Tokens,
        mark: Mark,
        clock: Clock,
        *,
        size: int = 10_000,
        outage_s: float = 60.0,
        overlap_s: float = 10.0,
    ) -> None:
        self._source = source
        self._tokens = tokens
        self._mark = mark
        self._clock = clock
        self._size = size
        self._outage_s = outage_s
        self._overlap_s = overlap_s
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._waiting: dict[str, asyncio.Future[Found | Exception | None]] = {}
        self._loading: asyncio.Task[None] | None = None
        self._polling = asyncio.Lock()
        self._catching_up: tuple[int, asyncio.Task[None]] | None = None
        self._seen = mark.read()  # where the mark stood when we last knew everything
        self._since = clock.time()
        self._confirmed_s = clock.monotonic()
        self._changes: frozenset[Change] = frozenset()
        self._drops = 0

    def cached(self, text: str) -> Identity | None:
        """The identity of a key or token that the worker knows and may use; asks nobody, some 2 microseconds."""
        if self._mark.read() != self._seen:
            return None
        return self._live(digest_of(text))

    def cached_session(self, secret: str) -> Identity | None:
        """As `cached`, by the secret of a session."""
        if self._mark.read() != self._seen:
            return None
        return self._live(name_of(secret))

    async def identify(self, text: str) -> Identity:
        """The identity of a key or token.

        Raises:
            NotAuthenticated: it is unknown, expired, revoked or disabled.
            DependencyError: it is not known here, and SQL or the token's issuer is silent.
        """
        await self._catch_up()
        digest = digest_of(text)
        known = self._live(digest)
        if known is not None:
            return known
        if is_token(text):
            return await self._from_token(text, digest)
        return await self._look_up(digest, possible=has_key_form(text))

    async def session(self, secret: str) -> Identity:
        """The identity of a session.

        Raises:
            SessionEnded: it is unknown or over, or what it stands on has ended: its key, user or tenant.
            DependencyError: it is not known here, and SQL is silent.
        """
        await self._catch_up()
        name = name_of(secret)
        return self._live(name) or await self._look_up(name, possible=has_secret_form(secret))

    async def of_claims(self, claims: Claims) -> Identity:
        """The user of a verified token, made on first sight.

        Raises: NotAuthenticated: user or tenant is unknown or disabled; DependencyError.
        """
        found = await self._source.user(claims)
        if found is None:
            raise NotAuthenticated(f"the token's user or tenant ({claims.tenant}) is unknown here, or disabled")
        return found.identity

    async def renew(self, identity: Identity) -> Identity:
        """Read a key, or a session of one, anew, which admission knows to have changed.

        Raises: NotAuthenticated: it has ended; DependencyError.
        """
        if identity.principal.key_id is None:
            return identity
        self.refresh(identity.principal.key_id)
        found = await self._load(identity.digest)
        if found is None:
            raise _refusal(identity.digest)
        return found.identity

    def refresh(self, key_id: str) -> None:
        """Forget one key, which admission knows to have changed."""
        self._drop(frozenset({Change("key", key_id, 0.0)}))

    async def aclose(self) -> None:
        """End what still asks SQL."""
        tasks = {task for task in (self._loading, self._catching_up and self._catching_up[1]) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def poll(self) -> None:
        """Ask SQL what has changed, and drop it; when SQL is silent nothing happens, and identities grow old.

        Raises nothing: identities that nobody confirms end by themselves, and the next poll may do better.
        """
        async with self._polling:
            now, now_s = self._clock.time(), self._clock.monotonic()
            try:
                changes = await self._source.changed(self._since - self._overlap_s)
                self._drop(changes - self._changes)
                self._changes, self._since, self._confirmed_s = changes, now, now_s
                await self._read_anew(now_s)
            except DependencyError as error:
                _log.warning("identities could not be confirmed", reason=str(error))
            except Exception as error:
                _log.error("the poll for changed identities failed", exc_info=error)

    def _drop(self, changes: frozenset[Change]) -> None:
        if not changes:
            return
        self._drops += 1
        self._unknown.clear()
        names = {(change.kind, change.id) for change in changes}
        gone = [digest for digest, entry in self._entries.items() if not names.isdisjoint(_names(entry.identity))]
        for digest in gone:
            del self._entries[digest]

    async def _read_anew(self, now_s: float) -> None:
        old = (d for d, entry in self._entries.items() if entry.by_key and now_s - entry.loaded_s > _ANEW_S)
        digests = list(islice(old, _BATCH))
        if digests:
            drops = self._drops
            found = await self._find(digests)
            for digest in digests:
                self._entries.pop(digest, None)
                if digest in found:
                    self._keep(digest, found[digest], drops)

    async def _catch_up(self) -> None:
        """Before a request, where the mark has moved: learn what has changed, but do not wait for a silent SQL."""
        mark = self._mark.read()
        if mark == self._seen:
            return
        if self._catching_up is None or self._catching_up[0] != mark:
            self._catching_up = mark, asyncio.create_task(self.poll())
        await asyncio.wait({self._catching_up[1]}, timeout=_CATCH_UP_S)
        self._seen = mark

    def _live(self, digest: str) -> Identity | None:
        entry = self._entries.get(digest)
        if entry is None:
            return None
        if self._clock.time() >= entry.ends_at:
            del self._entries[digest]
            return None
        if self._clock.monotonic() - max(self._confirmed_s, entry.loaded_s) > self._outage_s:
            return None
        self._entries.move_to_end(digest)
        return entry.identity

    async def _from_token(self, text: str, digest: str) -> Identity:
        claims = await self._tokens.verify(text)
        drops = self._drops
        identity = await self.of_claims(claims)
        ends_at = min(claims.expires_at, self._clock.time() + _TOKEN_S)
        self._keep(digest, Found(identity, ends_at), drops, by_key=False)
        return identity

    async def _look_up(self, digest: str, *, possible: bool) -> Identity:
        """Ask SQL for what is not known here, unless it could not be there or was not a moment ago."""
        if not possible or self._is_unknown(digest):
            raise _refusal(digest)
        found = await self._load(digest)
        if found is None:
            self._remember_unknown(digest)
            raise _refusal(digest)
        return found.identity

    async def _load(self, digest: str) -> Found | None:
        """Ask SQL for one key or session, together with whoever asks at the same time."""
        future = self._waiting.get(digest)
        if future is None:
            future = self._waiting[digest] = asyncio.get_running_loop().create_future()
            if self._loading is None:
                self._loading = asyncio.create_task(self._load_waiting())
        await asyncio.wait({future})  # not the future itself: a client that leaves must not cancel it for the others
        outcome = future.result()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _load_waiting(self) -> None:
        try:
            while self._waiting:
                digests = list(islice(self._waiting, _BATCH))
                # Taken out first: who asks from here on may know of a later change, and gets a query of its own.
                batch = {digest: self._waiting.pop(digest) for digest in digests}
                try:
                    outcomes = await self._ask(digests)
                except asyncio.CancelledError:
                    for future in batch.values():
                        future.cancel()
                    raise
                for digest, future in batch.items():
                    future.set_result(outcomes.get(digest))
        finally:
            self._loading = None

    async def _ask(self, digests: Sequence[str]) -> Mapping[str, Found | Exception]:
        drops, now_s = self._drops, self._clock.monotonic()
        try:
            found = await self._find(digests)
        except Exception as error:  # each who waits raises it
            return dict.fromkeys(digests, error)
        for digest, one in found.items():
            self._keep(digest, one, drops, loaded_s=now_s)
        return found

    async def _find(self, digests: Sequence[str]) -> Mapping[str, Found]:
        """Ask SQL for hashes of keys and names of sessions."""
        sessions = [digest for digest in digests if is_session_name(digest)]
        if not sessions:
            return await self._source.keys(digests)
        keys = [digest for digest in digests if not is_session_name(digest)]
        found = dict(await self._source.sessions(sessions))
        if keys:
            found.update(await self._source.keys(keys))
        return found

    def _keep(
        self, digest: str, found: Found, drops: int, *, by_key: bool = True, loaded_s: float | None = None
    ) -> None:
        if drops != self._drops:
            return  # something was dropped since it was asked for: it may be older than that change
        loaded = self._clock.monotonic() if loaded_s is None else loaded_s
        ends_at = float("inf") if found.ends_at is None else found.ends_at
        self._entries[digest] = _Entry(found.identity, ends_at, loaded, by_key)
        self._entries.move_to_end(digest)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def _is_unknown(self, digest: str) -> bool:
        return self._unknown.get(digest, 0.0) > self._clock.monotonic()

    def _remember_unknown(self, digest: str) -> None:
        self._unknown[digest] = self._clock.monotonic() + _UNKNOWN_S
        self._unknown.move_to_end(digest)
        if len(self._unknown) > self._size:
            self._unknown.popitem(last=False)


def _refusal(digest: str) -> NotAuthenticated:
    if is_session_name(digest):
        return SessionEnded("this session is over; sign in again")
    return NotAuthenticated(
        "this API key is not known, or has expired or been revoked; make one with `./stoker keys create NAME`"
    )


def _limits_amounts(subject: Subject) -> bool:
    bounds = subject.limits
    amounts = (bounds.tokens_per_minute, bounds.nano_usd_per_day, bounds.nano_usd_per_month)
    return any(bound is not None for bound in amounts)


def _names(identity: Identity) -> set[tuple[str, str | None]]:
    """The rows that an identity was made of."""
    principal = identity.principal
    return {
        ("key", principal.key_id),
        ("user", principal.user_id),
        ("team", principal.team_id),
        ("tenant", principal.tenant_id),
        ("tenant", EVERYONE),
        ("session", identity.digest),
    }


@asynccontextmanager
async def polled(identities: Identities, interval_s: float) -> AsyncIterator[Identities]:
    """Polls every `interval_s` seconds while it is open."""

    async def poll_for_ever() -> None:
        while True:
            await asyncio.sleep(interval_s)
            await identities.poll()

    task = asyncio.create_task(poll_for_ever())
    try:
        yield identities
    finally:
        task.cancel()
        await asyncio.wait({task})
        await identities.aclose()
