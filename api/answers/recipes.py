"""What collections say of their answers: kept beside the collection, with every version of its template.

A template is never changed: another one is another version, so that an answer can name the one that it was made by.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.answers.recipe import Recipe, read_changes
from api.errors import RequestInvalid
from core.clock import Clock
from core.principal import Principal
from core.reach import ANYWHERE, Reach
from retrieval.called import of_tenant
from retrieval.errors import CollectionNotFound
from retrieval.rows import fetch
from storage.schema import collection_prompts, collections
from storage.sql import Database

_PARAM = "answers"
_VERSION = "prompt_version"


@dataclass(frozen=True, slots=True)
class Said:
    """What one collection says.

    Attributes:
        answers: what is otherwise than the settings have it, without the template.
        prompt: its template; None: the built-in one.
        reach: where text of its documents may go.
    """

    answers: Mapping[str, Any] = field(default_factory=dict)
    prompt: str | None = None
    prompt_version: int = 0
    reach: Reach = ANYWHERE

    def over(self, recipe: Recipe) -> Recipe:
        """A recipe with what the collection says over it."""
        changed = recipe.over(self.answers)
        return changed if self.prompt is None else changed.with_prompt(self.prompt, self.prompt_version)


class Says(Protocol):
    """Knows what collections say."""

    async def of(self, principal: Principal, collection: str) -> Said:
        """Raises: CollectionNotFound; DependencyError."""
        ...


class _Unsaid:
    async def of(self, principal: Principal, collection: str) -> Said:  # noqa: ARG002
        return Said()


UNSAID: Says = _Unsaid()  # the settings decide alone


@dataclass(frozen=True, slots=True)
class PromptVersion:
    """One version of a collection's template."""

    version: int
    template: str
    created_at: float
    created_by: str
    in_use: bool


class Recipes:
    """Reads what collections say."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, principal: Principal, collection: str) -> Said:
        """Raises: CollectionNotFound; DependencyError: SQL is away."""
        statement = (
            sa.select(
                collections.c.answers,
                collections.c.prompt_version,
                collections.c.reach,
                collection_prompts.c.template,
            )
            .select_from(collections.outerjoin(collection_prompts, _in_use()))
            .where(of_tenant(principal.tenant_id, collection))
        )
        for row in await fetch(self._database, statement):
            return Said(row.answers, row.template, row.prompt_version, Reach.read(row.reach))
        raise CollectionNotFound(collection)

    async def prompts(
        self, principal: Principal, collection: str, after: int | None = None, limit: int = 20
    ) -> list[PromptVersion]:
        """The versions of its template, the newest first, those before the version `after`; at most `limit`.

        Raises: CollectionNotFound; DependencyError: SQL is away.
        """
        used = (await self.of(principal, collection)).prompt_version
        statement = (
            sa.select(collection_prompts)
            .join(collections, collections.c.id == collection_prompts.c.collection_id)
            .where(of_tenant(principal.tenant_id, collection))
            .order_by(collection_prompts.c.version.desc())
            .limit(limit)
        )
        if after is not None:
            statement = statement.where(collection_prompts.c.version < after)
        return [
            PromptVersion(row.version, row.template, row.created_at, row.created_by, row.version == used)
            for row in await fetch(self._database, statement)
        ]


def keeping(raw: object, principal: Principal, clock: Clock) -> Callable[[AsyncConnection, str], Awaitable[None]]:
    """What keeps this of a collection, within the transaction that makes or changes it.

    Args:
        raw: what is to be otherwise, as `Recipe.over` takes it, or with `prompt_version`, one to go back to; a null is
            as the settings have it; an empty object: all is.

    Raises: RequestInvalid: it can't be taken; now, or for a version that is not there, within the transaction.
    """
    fields = dict(raw) if isinstance(raw, Mapping) else {}
    version = _read_version(fields.pop(_VERSION)) if _VERSION in fields else None
    if version is not None and "prompt" in fields:
        raise RequestInvalid(f"{_PARAM} takes a prompt or a {_VERSION}, not both", f"{_PARAM}.{_VERSION}")
    given = read_changes(fields if isinstance(raw, Mapping) else raw, _PARAM)
    template = given.pop("prompt", None)
    nulls = {name for name, value in fields.items() if value is None}

    async def keep(connection: AsyncConnection, collection_id: str) -> None:
        this = collections.c.id == collection_id
        columns = sa.select(collections.c.answers, collections.c.prompt_version).where(this)
        row = (await connection.execute(columns)).one()
        said, used = row.answers, row.prompt_version
        if template is not None:
            used = await _version_of(connection, collection_id, used, template, principal, clock)
        elif version is not None:
            used = await _known(connection, collection_id, version)
        elif raw == {} or "prompt" in nulls:
            used = 0
        kept = {} if raw == {} else _joined(said, given, nulls)
        await connection.execute(collections.update().where(this).values(answers=kept, prompt_version=used))

    return keep


def _joined(said: Mapping[str, Any], given: Mapping[str, Any], nulls: set[str]) -> dict[str, Any]:
    """What a collection says with changes over it; of deadlines each stays that is not named."""
    joined = {name: value for name, value in {**said, **given}.items() if name not in nulls}
    if "deadlines_s" in given:
        joined["deadlines_s"] = {**said.get("deadlines_s", {}), **given["deadlines_s"]}
    return joined


def _read_version(value: object) -> int:
    """Raises: RequestInvalid."""
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise RequestInvalid(f"{_PARAM}.{_VERSION} is the number of a version, or null", f"{_PARAM}.{_VERSION}")
    return value


async def _version_of(
    connection: AsyncConnection, collection_id: str, used: int, template: str, principal: Principal, clock: Clock
) -> int:
    """The version that this template is: the one in use where that says the same, else a new one."""
    theirs = collection_prompts.c.collection_id == collection_id
    newest = sa.select(sa.func.coalesce(sa.func.max(collection_prompts.c.version), 0)).where(theirs)
    same = sa.select(collection_prompts.c.template).where(theirs, collection_prompts.c.version == used)
    if (await connection.execute(same)).scalar_one_or_none() == template:
        return used
    version = int((await connection.execute(newest)).scalar_one()) + 1
    row = {
        "collection_id": collection_id,
        "version": version,
        "template": template,
        "created_at": clock.time(),
        "created_by": f"key:{principal.key_id}" if principal.user_id is None else f"user:{principal.user_id}",
    }
    await connection.execute(collection_prompts.insert().values(row))
    return version


async def _known(connection: AsyncConnection, collection_id: str, version: int) -> int:
    """Raises: RequestInvalid: there is no such version."""
    this = sa.and_(collection_prompts.c.collection_id == collection_id, collection_prompts.c.version == version)
    if version and (await connection.execute(sa.select(collection_prompts.c.version).where(this))).first() is None:
        raise RequestInvalid(
            f"the collection has no prompt of version {version}; GET its /prompts lists those there are",
            f"{_PARAM}.{_VERSION}",
        )
    return version


def _in_use() -> sa.ColumnElement[bool]:
    return sa.and_(
        collection_prompts.c.collection_id == collections.c.id,
        collection_prompts.c.version == collections.c.prompt_version,
    )
