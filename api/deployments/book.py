"""What administrators changed of the deployments, in SQL, so that every worker and every start knows of it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.acting import Actor
from api.audit import note
from api.errors import NameTaken, RequestInvalid
from core.clock import Clock
from core.limits import EVERYONE
from router.config import Changes
from storage.schema import deployments, stopped_experiments
from storage.sql import Database

State = Literal["active", "draining", "removed"]

_REFERENCE = "os.environ/"
_SECRETS = ("api_key", "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "vertex_credentials")


@dataclass(frozen=True, slots=True)
class Row:
    """What was last done to one deployment.

    Attributes:
        entry: as `model_list` has it; None where the configuration names the deployment.
        changed_at: seconds since the epoch.
    """

    name: str
    state: State
    entry: Mapping[str, Any] | None
    changed_at: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """An experiment that was ended.

    Attributes:
        stopped_at: in seconds since the epoch.
        again_at: when it was started again; None: it has ended.
    """

    name: str
    reason: str
    stopped_at: float
    again_at: float | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """All that administrators changed, and what experiments ended themselves."""

    deployments: Sequence[Row] = ()
    stopped: Sequence[Stopped] = ()

    def changes(self) -> Changes:
        """As the configuration's reader takes them."""
        return Changes(
            added=[row.entry for row in self.deployments if row.entry is not None],
            draining={row.name for row in self.deployments if row.state == "draining"},
            removed={row.name for row in self.deployments if row.state == "removed"},
            stopped={one.name for one in self.stopped if one.again_at is None},
        )


class DeploymentBook:
    """Reads and writes the rows; `changed` is called after each commit."""

    def __init__(self, database: Database, clock: Clock, changed: Callable[[], None]) -> None:
        self._database = database
        self._clock = clock
        self._changed = changed

    async def kept(self) -> Kept:
        """All, in the order of their names."""

        async def find(connection: AsyncConnection) -> Kept:
            rows = await connection.execute(select(deployments).order_by(deployments.c.name))
            ended = await connection.execute(select(stopped_experiments).order_by(stopped_experiments.c.name))
            return Kept(
                [Row(row.name, row.state, row.entry, row.changed_at) for row in rows],
                [Stopped(row.name, row.reason, row.stopped_at, row.again_at) for row in ended],
            )

        return await self._database.read(find)

    async def stop(self, by: Actor, name: str, reason: str) -> None:
        """End an experiment; one that has ended stays as it is."""
        now = self._clock.time()
        ended = {"reason": reason[:1000], "stopped_at": now, "again_at": None}
        table = stopped_experiments
        again = update(table).where(table.c.name == name, table.c.again_at.is_not(None)).values(**ended)

        async def act(connection: AsyncConnection) -> None:
            made = await connection.execute(self._database.insert_or_ignore(table).values(name=name, **ended))
            if not made.rowcount:
                made = await connection.execute(again)
            if made.rowcount:
                await note(connection, by, now, EVERYONE, "experiment.stop", name, {"reason": reason})

        await self._database.write(act)
        self._changed()

    async def start(self, by: Actor, name: str) -> None:
        """Have an experiment that has ended go on."""
        now = self._clock.time()

        async def act(connection: AsyncConnection) -> None:
            table = stopped_experiments
            ended = update(table).where(table.c.name == name, table.c.again_at.is_(None))
            if (await connection.execute(ended.values(again_at=now))).rowcount:
                await note(connection, by, now, EVERYONE, "experiment.start", name)

        await self._database.write(act)
        self._changed()

    async def add(self, by: Actor, name: str, entry: Mapping[str, Any]) -> None:
        """Add a deployment. Raises: NameTaken: by one that was added before."""
        row = {"name": name, "state": "active", "entry": dict(entry), "changed_at": self._clock.time()}
        details = {"model_name": entry["model_name"], "litellm_params": entry["litellm_params"]}

        async def act(connection: AsyncConnection) -> None:
            await connection.execute(insert(deployments).values(**row))
            await note(connection, by, self._clock.time(), EVERYONE, "deployment.add", name, details)

        try:
            await self._database.write(act)
        except IntegrityError as error:
            raise NameTaken(f"there is a deployment {name} already", "model_info.id") from error
        self._changed()

    async def put(self, by: Actor, name: str, state: State) -> None:
        """Have a deployment be in a state; one that was added and is removed is forgotten."""
        now = self._clock.time()

        async def act(connection: AsyncConnection) -> None:
            before = (await connection.execute(select(deployments).where(deployments.c.name == name))).first()
            entry = None if before is None else before.entry
            if before is not None and before.state == state:
                return
            await connection.execute(delete(deployments).where(deployments.c.name == name))
            if not (entry is None and state == "active") and not (entry is not None and state == "removed"):
                row = {"name": name, "state": state, "entry": entry, "changed_at": now}
                await connection.execute(insert(deployments).values(**row))
            await note(connection, by, now, EVERYONE, f"deployment.{_ACTS[state]}", name)

        await self._database.write(act)
        self._changed()


_ACTS: Mapping[State, str] = {"active": "activate", "draining": "drain", "removed": "remove"}


def check_secrets(parameters: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Let through parameters whose secrets are named and not told: SQL and the audit log keep them.

    Args:
        allowed: variables that may be named; an administrator of the API need not be one of the host.

    Raises: RequestInvalid: names the field.
    """
    for key, value in parameters.items():
        place = f"litellm_params.{key}"
        texts = [value] if isinstance(value, str) else []
        if key == "extra_headers" and value:
            raise RequestInvalid("extra_headers may hold secrets, so they can stand in the file alone", place)
        for text in texts:
            refers = text.startswith(_REFERENCE)
            if key in _SECRETS and not refers:
                raise RequestInvalid(f"{key} is kept nowhere: set a variable, and write os.environ/ITS_NAME", place)
            if refers and key not in _SECRETS:
                raise RequestInvalid(f"only secrets are read from the environment; write {key} itself", place)
            if refers and text.removeprefix(_REFERENCE) not in allowed:
                raise RequestInvalid(
                    "this variable may not be named here: add it to STOKER_DEPLOYMENT_SECRETS, and restart", place
                )
            if key == "api_base" and ("@" in text or "?" in text):
                raise RequestInvalid("api_base is kept as it stands, so it may hold no user and no query", place)
