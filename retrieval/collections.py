"""Collections: named sets of documents of one tenant, with one embedding space."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, get_args

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.ids import is_id, new_id
from core.principal import Principal
from core.reach import ANYWHERE, Reach
from retrieval import lifecycle
from retrieval.access import may_read, reads_as
from retrieval.analyzer import LANGUAGES
from retrieval.called import CollectionId, of_tenant
from retrieval.editions import Edition, edition_of
from retrieval.embedder import Embedder, Space
from retrieval.errors import CollectionExists, CollectionNotFound, CollectionShared, InputInvalid
from retrieval.life import FOREVER, Life
from retrieval.progress import Progress, progress
from retrieval.query import Way
from retrieval.rows import fetch
from retrieval.settings import Placement, RetrievalSettings
from retrieval.values import check_metadata
from storage.schema import collection_prompts, collections, documents
from storage.sql import Database

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CHUNKING = {"characters": (100, 8000), "tokens": (32, 8000), "overlap": (0, 4000)}
_LONGEST_TITLE = 512
_MOST_DAYS = 365
_STRATEGIES = ("structure", "fixed")

Also = Callable[[AsyncConnection, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection as a caller sees it.

    Attributes:
        chunking: what differs from the settings: "characters", "tokens", "overlap", "strategy".
        language: what its texts are written in; one of `analyzer.LANGUAGES`.
        search: how it is searched unless a question asks for another way.
        placement: whether it has a Milvus collection of its own, or shares one with others of its embedding space.
        version: rises whenever what a search can find changes.
        documents: how many there are, in any status.
        chunks: how many are visible.
        reach: where text of it may go.
        title: what a vector store is called, where that is no collection's name, or was taken; None: its name.
        answers: what it says of answers from it, which is not retrieval's to read.
        prompt_version: of the template in that; 0: it has none.
        life: how long it lasts unless it is used.
        reindex: how far it is, while it is being indexed anew; not told in lists.
    """

    id: str
    tenant_id: str
    name: str
    description: str
    metadata: dict[str, Any]
    chunking: dict[str, Any]
    language: str
    search: Way
    placement: Placement
    embedding_space: str
    dimensions: int
    version: int
    documents: int
    chunks: int
    created_at: float
    reach: Reach
    title: str | None = None
    life: Life = FOREVER
    reindex: Progress | None = None
    answers: dict[str, Any] = field(default_factory=dict)
    prompt_version: int = 0


class Collections:
    """Makes, finds and deletes a tenant's collections."""

    def __init__(self, database: Database, embedder: Embedder, clock: Clock, settings: RetrievalSettings) -> None:
        self._database = database
        self._embedder = embedder
        self._clock = clock
        self._settings = settings

    async def create(
        self,
        principal: Principal,
        name: str | None,
        description: str = "",
        metadata: dict[str, Any] | None = None,
        chunking: dict[str, Any] | None = None,
        placement: str | None = None,
        language: str | None = None,
        search: dict[str, Any] | None = None,
        embedding_model: str | None = None,
        reach: Reach = ANYWHERE,
        title: str | None = None,
        expires_after_days: int | None = None,
        also: Also | None = None,
    ) -> Collection:
        """Make an empty collection in one embedding space.

        Args:
            name: None: its id.
            placement: `dedicated` or `pooled`; None: as the settings say.
            language: one of `analyzer.LANGUAGES`, for ever; None: as the settings say.
            search: as `Way.read` takes it.
            embedding_model: the space's name; None: the first that the embedding server serves.
            reach: where text of it may go; that of what a caller makes goes no further than the caller's own.
            title: what it is called, where a collection's name is something else.
            expires_after_days: since its last use; None: it stays.
            also: what is done with its id in the same transaction.

        Raises:
            CollectionExists: the tenant has one of this name.
            InputInvalid: a name, title, metadata, life, chunking, placement, language, way to search or embedding model
                that can't be taken.
            DependencyError: SQL or the embedding server is away.
        """
        if name is not None and not is_name(name):
            raise InputInvalid(
                "name",
                "A collection's name has 1 to 100 letters, digits, '.', '_' or '-', begins with no sign, and is no id.",
            )
        life = Life(check_days(expires_after_days))
        metadata = check_metadata(metadata or {})
        chunking = check_chunking(chunking or {})
        placement = self._settings.placement if placement is None else placement
        if placement not in get_args(Placement):
            raise InputInvalid("placement", f"placement is one of {', '.join(get_args(Placement))}.")
        language = self._settings.language if language is None else language
        if language not in LANGUAGES:
            raise InputInvalid("language", f"language is one of {', '.join(sorted(LANGUAGES))}.")
        way = Way.read(search or {}, "search")
        reach = reach.narrowed(principal.reach)
        space = await self._embedder.choose(embedding_model, reach=reach)
        made_id, now_s = new_id("col"), self._clock.time()
        row = {
            "id": made_id,
            "tenant_id": principal.tenant_id,
            "name": name or made_id,
            "live_name": name or made_id,
            "title": check_title(title),
            "description": description,
            "metadata": metadata,
            "chunking": chunking,
            "language": language,
            "search": way.as_json(),
            "embedding_space": space.name,
            "dimensions": space.dimensions,
            "average_terms": self._settings.average_terms,
            "pool": pool_of(space) if placement == "pooled" else None,
            "reach": reach.row(),
            "expires_after_days": life.days,
            "used_at": None if life.days is None else now_s,
            "created_at": now_s,
        }

        async def insert(connection: AsyncConnection) -> None:
            await connection.execute(collections.insert().values(row))
            if also is not None:
                await also(connection, made_id)

        try:
            await self._database.write(insert)
        except sa.exc.IntegrityError as error:
            raise CollectionExists(name or made_id) from error
        return await self.get(principal, CollectionId(made_id))

    async def create_if_free(self, principal: Principal, name: str, **about: Any) -> Collection | None:
        """As `create`, or None where the tenant has one of this name."""
        try:
            return await self.create(principal, name, **about)
        except CollectionExists:
            return None

    async def get(self, principal: Principal, name: str) -> Collection:
        """Raises: CollectionNotFound."""
        statement = _select().where(of_tenant(principal.tenant_id, name))

        async def find(connection: AsyncConnection) -> Collection:
            row = (await connection.execute(statement)).one_or_none()
            if row is None:
                raise CollectionNotFound(name)
            return _as_collection(row, await progress(connection, row.id, reads_as(principal)))

        return await self._database.read(find)

    async def edition(self, principal: Principal, name: str) -> Edition | None:
        """What of a collection a kept answer depends on; None: it has expired. Raises: CollectionNotFound."""
        return await edition_of(self._database, principal, name, self._clock)

    async def list(self, principal: Principal, after: str | None = None, limit: int = 20) -> list[Collection]:
        """List collections in order of creation, those after the id `after`; at most `limit`."""
        statement = (
            _select()
            .where(collections.c.tenant_id == principal.tenant_id, collections.c.deleted_at.is_(None))
            .order_by(collections.c.id)
            .limit(limit)
        )
        if after is not None:
            statement = statement.where(collections.c.id > after)

        return [_as_collection(row) for row in await fetch(self._database, statement)]

    async def change(
        self,
        principal: Principal,
        name: str,
        *,
        description: str | None = None,
        metadata: dict[str, Any] | None = None,
        search: dict[str, Any] | None = None,
        title: str | None = None,
        life: Life | None = None,
        also: Also | None = None,
    ) -> Collection:
        """Change what is given, and leave the rest as it is.

        Args:
            search: what is to be otherwise, as `Way.read` takes it; an empty one: all as usual again.
            title: what it is called; its name stays.
            life: how long it lasts from now on; `FOREVER`: it stays.
            also: what is done with its id in the same transaction.

        Raises: CollectionNotFound, CollectionExpired; InputInvalid: metadata, a title, a life or a way to search that
            can't be taken.
        """
        metadata = None if metadata is None else check_metadata(metadata)
        title = check_title(title)

        async def update(connection: AsyncConnection) -> None:
            collection = await lifecycle.lock_collection(connection, principal.tenant_id, name, self._clock.time())
            values: dict[str, Any] = {"description": description, "metadata": metadata, "title": title}
            if search is not None:
                base = Way.read(collection.search, "search") if search else None
                values["search"] = Way.read(search, "search", base).as_json()
                values["version"] = collection.version + 1  # what is found changes
            given = {key: value for key, value in values.items() if value is not None}
            if life is not None:
                given["expires_after_days"] = check_days(life.days)
                given["used_at"] = None if life.days is None else self._clock.time()
            if given:
                await connection.execute(collections.update().where(collections.c.id == collection.id).values(**given))
            if also is not None:
                await also(connection, collection.id)

        await self._database.write(update)
        return await self.get(principal, name)

    async def delete(self, principal: Principal, name: str) -> None:
        """Hide the collection and all of its documents at once; rows and files are removed by the sweep.

        Raises: CollectionNotFound; CollectionShared: it holds documents that the caller may not read.
        """

        async def hide(connection: AsyncConnection) -> None:
            collection = await lifecycle.lock_collection(connection, principal.tenant_id, name)
            others = sa.select(documents.c.id).where(
                documents.c.collection_id == collection.id,
                documents.c.deleted_at.is_(None),
                ~may_read(reads_as(principal)),
            )
            if (await connection.execute(others.limit(1))).first() is not None:
                raise CollectionShared(name)
            await lifecycle.hide_collection(connection, collection.id, self._clock.time())

        await self._database.write(hide)


def _select() -> sa.Select[*tuple[Any, ...]]:
    count = (
        sa.select(sa.func.count())
        .where(documents.c.collection_id == collections.c.id, documents.c.deleted_at.is_(None))
        .scalar_subquery()
    )
    template = (
        sa.select(collection_prompts.c.template)
        .where(
            collection_prompts.c.collection_id == collections.c.id,
            collection_prompts.c.version == collections.c.prompt_version,
        )
        .scalar_subquery()
    )
    return sa.select(collections, count.label("documents"), template.label("template"))


def _as_collection(row: Any, reindex: Progress | None = None) -> Collection:
    return Collection(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        description=row.description,
        metadata=row.metadata,
        chunking=row.chunking,
        language=row.language,
        search=Way.read(row.search, "search"),
        placement="dedicated" if row.pool is None else "pooled",
        embedding_space=row.embedding_space,
        dimensions=row.dimensions,
        version=row.version,
        documents=row.documents,
        chunks=row.chunks,
        created_at=row.created_at,
        reach=Reach.read(row.reach),
        title=row.title,
        life=Life.of(row),
        reindex=reindex,
        answers=row.answers if row.template is None else {**row.answers, "prompt": row.template},
        prompt_version=row.prompt_version,
    )


def pool_of(space: Space) -> str:
    """The Milvus collection of all pooled collections of an embedding space."""
    return f"pool_{hashlib.sha256(f'{space.name}/{space.dimensions}'.encode()).hexdigest()[:16]}"


def is_name(text: str) -> bool:
    """Whether a collection may be named so; never as another one's id might be."""
    return _NAME.fullmatch(text) is not None and not is_id(text, "col")


def check_title(title: str | None) -> str | None:
    """Take what a vector store is called. Raises: InputInvalid."""
    if title is not None and (len(title) > _LONGEST_TITLE or not (title.isprintable() or title == "")):
        raise InputInvalid("name", f"A vector store's name has at most {_LONGEST_TITLE} printable characters.")
    return title


def check_days(days: int | None) -> int | None:
    """Take how long a collection lasts. Raises: InputInvalid."""
    if days is not None and (type(days) is not int or not 1 <= days <= _MOST_DAYS):
        raise InputInvalid("expires_after", f"expires_after.days is a whole number from 1 to {_MOST_DAYS}.")
    return days


def check_chunking(chunking: dict[str, Any]) -> dict[str, Any]:
    """Take what a collection says of its chunks. Raises: InputInvalid."""
    for key, value in chunking.items():
        if key == "strategy":
            if value not in _STRATEGIES:
                raise InputInvalid("chunking", f"chunking.strategy is one of {', '.join(_STRATEGIES)}.")
            continue
        if key not in _CHUNKING:
            raise InputInvalid("chunking", f"chunking takes {', '.join(_CHUNKING)} and strategy, not {key[:100]!r}.")
        low, high = _CHUNKING[key]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InputInvalid("chunking", f"chunking.{key} must be a whole number from {low} to {high}.")
    return dict(chunking)
