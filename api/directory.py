"""The directory of who may do what: keys, tenants, teams, users, limits and sessions, opened together."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from api.announcer import Announcer, Bumped, Recount, recount_nothing, tell_nobody
from api.audit import AuditLog
from api.hooks.endpoints import Endpoints
from api.hooks.hooks import Hooks
from api.hooks.secrets import HouseKey
from api.identities import Identities, polled
from api.jwt import open_verifier
from api.keys import Keys
from api.limits import LimitBook
from api.login.oidc import Oidc, open_oidc
from api.login.sessions import Sessions
from api.lookup import Lookup
from api.mark import HostMark
from api.settings import ApiSettings
from api.teams import Teams
from api.tenants import Tenants
from api.users import Users
from core.clock import Clock
from retrieval.sources.open import open_guard
from storage.sql import Database

_CLOCKS_APART_S = 5.0  # how much the clocks of two hosts may differ


@dataclass(frozen=True, slots=True)
class Directory:
    """One for each worker; `open_directory` makes it."""

    identities: Identities
    keys: Keys
    tenants: Tenants
    teams: Teams
    users: Users
    limits: LimitBook
    audit: AuditLog
    hooks: Hooks
    webhooks: Endpoints
    sessions: Sessions
    oidc: Oidc


@asynccontextmanager
async def open_directory(
    settings: ApiSettings,
    database: Database,
    clock: Clock,
    model_names: Callable[[], Sequence[str]],
    bumped: Bumped = tell_nobody,
    recount: Recount = recount_nothing,
) -> AsyncIterator[Directory]:
    """Open the directory, and keep what the worker remembers of it true while it is open.

    Args:
        model_names: the model groups that there are.
        bumped: told tenant, key and generation of every key that was changed here.
        recount: told tenant and subject before a limit of money is set.
    """
    async with AsyncExitStack() as stack:
        mark = HostMark(settings.data_dir / "identities.mark")
        stack.callback(mark.close)
        verifier = await stack.enter_async_context(
            open_verifier(
                settings.jwt_issuers, clock, leeway_s=settings.jwt_leeway_s, deadline_s=settings.jwks_deadline_s
            )
        )
        identities = Identities(
            Lookup(database, clock),
            verifier,
            mark,
            clock,
            size=settings.identity_cache,
            outage_s=settings.identity_outage_s,
            overlap_s=settings.sql_deadline_s + _CLOCKS_APART_S,
        )
        await stack.enter_async_context(polled(identities, settings.identity_poll_s))
        announcer = Announcer(mark, bumped, recount)
        oidc = await stack.enter_async_context(
            open_oidc(
                settings.oidc_providers,
                settings.public_url or "",  # set where there are providers
                verifier,
                identities,
                deadline_s=settings.oidc_deadline_s,
                clock=clock,
            )
        )
        key = HouseKey.of(settings)
        yield Directory(
            identities=identities,
            keys=Keys(database, clock, announcer),
            tenants=Tenants(database, clock, announcer),
            teams=Teams(database, clock),
            users=Users(database, clock, announcer),
            limits=LimitBook(database, clock, announcer, model_names),
            audit=AuditLog(database),
            hooks=Hooks(database, clock, key),
            webhooks=Endpoints(database, clock, key, open_guard(settings), settings.webhook_give_up_s),
            sessions=Sessions(database, clock, announcer, settings.session_hours * 3600),
            oidc=oidc,
        )
