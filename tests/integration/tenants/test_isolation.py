"""A long random walk of many tenants with hostile names, values and filters: everybody finds exactly what is theirs.

What each caller may find is reckoned a second time from what was done, by an evaluator of its own. The walk goes on
over one population, which grows old as a real one does; a seed names it.
"""

import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from core.clock import SystemClock
from core.principal import Principal, Role
from retrieval.errors import CollectionNotFound, DocumentNotFound, FilterInvalid
from retrieval.intake import NewFile
from retrieval.leases import Leases, refresh_stale
from retrieval.parsing import Parser
from retrieval.pipeline import Pipeline
from retrieval.query import Query
from retrieval.values import check_filename
from tests.integration.retrieval.conftest import House
from tests.integration.retrieval.test_hostile_filters import holds

HOSTILE = [
    '" or tenant_id != "',
    "x\\",
    "']",
    "é漢🚢",
    "a b",
    '") or (1 == 1',
    "%",
    "*",
    "user:ann",
    "group:sales",
    "--",
    "$(x)",
]
USERS = ["ann", "bob", "user:ann", '" or "" == "', "*"]
GROUPS = ["sales", "ann", "group:sales", "*", "x\\"]
KEYS = ["lang", 'a"b', "tenant_id", 'k"] == "v" or tenant_id != "', "we ird"]
VALUES: list[Any] = [*HOSTILE[:6], "en", 0, 7, -0.5, True, False, 2**53]
BAD: list[Any] = [
    {}, [], "lang == 'en'", {"type": "eq"}, {"type": "eq", "key": "", "value": 1}, {"type": "or", "filters": []},
    {"type": "raw", "key": "lang", "value": "en"}, {"type": "eq", "key": "lang", "value": None},
    {"type": "eq", "key": "lang", "value": {"$ne": 1}}, {"type": "gt", "key": "lang", "value": True},
    {"type": "eq", "key": "lang", "value": "a\x00b"}, {"type": "in", "key": "lang", "value": "en"},
    {"type": "eq", "key": "lang", "value": "en", "expr": "1 == 1"}, {"type": "eq", "key": ["lang"], "value": 1},
    {"type": "eq", "key": "lang", "value": float("nan")}, {"type": "eq", "key": "lang", "value": 10**30},
]  # fmt: skip
pytestmark = pytest.mark.slow
FEW, SOME, MANY = (6, 150), (50, 1_500), (50, 40_000)
PARTS = range(1, 6)  # of the long run, each by a seed of its own
SEED = int(os.environ.get("ISOLATION_SEED", "1"))


@dataclass
class Known:
    """A document as it should be."""

    id: str
    filename: str
    metadata: dict[str, Any]
    acl: dict[str, list[str]] | None

    def open_to(self, who: Principal) -> bool:
        if self.acl is None or who.role is Role.MANAGER:
            return True
        return who.user_id in self.acl.get("users", []) or bool(who.groups & set(self.acl.get("groups", [])))


@dataclass
class Tenant:
    """A tenant's people and what its one collection holds."""

    collection: str
    people: list[Principal]
    documents: dict[str, Known] = field(default_factory=dict)


class Walk:
    """The steps, and what they are to come to."""

    def __init__(self, house: House, chance: random.Random, leases: Leases, pipeline: Pipeline) -> None:
        self.house = house
        self.chance = chance
        self.leases = leases
        self.pipeline = pipeline
        self.tenants: list[Tenant] = []
        self.done: Counter[str] = Counter()
        self.steps: list[tuple[int, Callable[[], Any]]] = [
            (60, self.search), (6, self.search_badly), (10, self.read), (4, self.reach_over), (8, self.change),
            (2, self.put), (2, self.delete), (1, self.refresh),
        ]  # fmt: skip

    async def settle(self, count: int) -> None:
        """Make tenants, each with a few documents: a quarter of them in one pool, half under one name."""
        for number in range(count):
            somebody = await self.house.tenant()
            people = [replace(somebody, role=Role.MANAGER)]
            for role in (Role.MEMBER, Role.READER):
                user = self.chance.choice([None, *USERS])
                groups = frozenset(self.chance.sample(GROUPS, self.chance.randrange(3)))
                people.append(replace(somebody, role=role, user_id=user, groups=groups))
            tenant = Tenant("shared" if number % 2 else f"own-{number}", people)
            placement = "pooled" if number % 8 < 2 else "dedicated"  # of either name; a pool is slow on Milvus Lite
            await self.house.retrieval.collections.create(somebody, tenant.collection, placement=placement)
            self.tenants.append(tenant)
            for _ in range(3):
                await self.put(tenant)

    async def step(self) -> None:
        weights, acts = zip(*self.steps, strict=True)
        act = self.chance.choices(acts, weights)[0]
        self.done[act.__name__] += 1
        await act()

    def anybody(self) -> tuple[Tenant, Principal]:
        tenant = self.chance.choice(self.tenants)
        return tenant, self.chance.choice(tenant.people)

    def metadata(self) -> dict[str, Any]:
        return {key: self.chance.choice(VALUES) for key in self.chance.sample(KEYS, self.chance.randrange(3))}

    def acl(self) -> dict[str, list[str]] | None:
        if self.chance.random() < 0.4:
            return None
        return {
            "users": self.chance.sample(USERS, self.chance.randrange(3)),
            "groups": self.chance.sample(GROUPS, self.chance.randrange(3)),
        }

    def filter(self, depth: int = 0) -> dict[str, Any]:
        if depth < 3 and self.chance.random() < 0.3:
            parts = [self.filter(depth + 1) for _ in range(self.chance.randint(1, 3))]
            return {"type": self.chance.choice(["and", "or"]), "filters": parts}
        kind, key = self.chance.choice(["eq", "ne", "in", "nin", "gt", "lte"]), self.chance.choice(KEYS)
        if kind in ("in", "nin"):
            return {"type": kind, "key": key, "value": self.chance.sample(VALUES, self.chance.randint(1, 3))}
        known = [value for value in VALUES if kind in ("eq", "ne") or not isinstance(value, bool)]
        return {"type": kind, "key": key, "value": self.chance.choice(known)}

    async def search(self) -> None:
        tenant, who = self.anybody()
        wanted = self.filter() if self.chance.random() < 0.6 else None
        mode = "hybrid" if self.chance.random() < 0.05 else "lexical"
        found = await self.house.retrieval.searcher.search(
            who, Query(tenant.collection, "harbour", top_k=100, mode=mode, filter=wanted)
        )
        expected = {
            one.id: one.metadata
            for one in tenant.documents.values()
            if one.open_to(who) and (wanted is None or holds(wanted, one.metadata))
        }
        assert {one.document_id: one.metadata for one in found.passages} == expected, (who, wanted)
        self.done["found"] += len(expected)
        self.done["hidden by a list"] += sum(not one.open_to(who) for one in tenant.documents.values())

    async def search_badly(self) -> None:
        tenant, who = self.anybody()
        with pytest.raises(FilterInvalid):
            await self.house.retrieval.searcher.search(
                who, Query(tenant.collection, "harbour", mode="lexical", filter=self.chance.choice(BAD))
            )

    async def read(self) -> None:
        """A document of one's own tenant, by each way of reading it."""
        tenant, who = self.anybody()
        door = self.house.retrieval.documents
        listed = await door.list(who, tenant.collection, limit=100)
        assert {one.id for one in listed} == {one.id for one in tenant.documents.values() if one.open_to(who)}
        for one in tenant.documents.values():
            if one.open_to(who):
                assert one.filename in await door.content(who, tenant.collection, one.id)
            else:
                with pytest.raises(DocumentNotFound):
                    await door.content(who, tenant.collection, one.id)

    async def reach_over(self) -> None:
        """Another tenant's document, by its id and by the name of its collection."""
        (own, who), (other, _) = self.anybody(), self.anybody()
        if own is other or not other.documents:
            return
        target = self.chance.choice(list(other.documents.values()))
        door = self.house.retrieval.documents
        for collection in (own.collection, other.collection):
            for act in (
                door.get(who, collection, target.id),
                door.content(who, collection, target.id),
                door.change(who, collection, target.id, acl=None),
                door.delete(who, collection, target.id),
            ):
                with pytest.raises((DocumentNotFound, CollectionNotFound)):
                    await act

    async def change(self) -> None:
        tenant, who = self.anybody()
        if not tenant.documents:
            return
        target = self.chance.choice(list(tenant.documents.values()))
        changes: dict[str, Any] = {}
        if self.chance.random() < 0.6:
            changes["metadata"] = self.metadata()
        if self.chance.random() < 0.6:
            changes["acl"] = self.acl()
        door = self.house.retrieval.documents
        if not target.open_to(who):
            with pytest.raises(DocumentNotFound):
                await door.change(who, tenant.collection, target.id, **changes)
            return
        await door.change(who, tenant.collection, target.id, **changes)
        target.metadata = changes.get("metadata", target.metadata)
        target.acl = changes.get("acl", target.acl)

    async def put(self, tenant: Tenant | None = None) -> None:
        """A new document, or a new version of one."""
        tenant = tenant or self.anybody()[0]
        manager = tenant.people[0]
        name = check_filename(f"{self.chance.choice(HOSTILE)}{self.chance.randrange(4)}.md")
        metadata, acl = self.metadata(), self.acl()
        text = f"The harbour of {name}, {self.chance.random()}."
        accepted = await self.house.retrieval.intake.accept(
            manager, tenant.collection, [NewFile(name, None, text.encode(), metadata, acl)]
        )
        await self.work()
        known = tenant.documents.get(name)
        kept = known.acl if known is not None and acl is None else acl
        tenant.documents[name] = Known(accepted.document_ids[0], name, metadata, kept)

    async def delete(self) -> None:
        tenant, who = self.anybody()
        if not tenant.documents:
            return
        target = self.chance.choice(list(tenant.documents.values()))
        door = self.house.retrieval.documents
        if not target.open_to(who):
            with pytest.raises(DocumentNotFound):
                await door.delete(who, tenant.collection, target.id)
            return
        await door.delete(who, tenant.collection, target.id)
        del tenant.documents[target.filename]

    async def refresh(self) -> None:
        """Bring the index's rows up to date."""
        self.done["rows written anew"] += await refresh_stale(self.house.database, SystemClock())
        await self.work()

    async def work(self) -> None:
        while (lease := await self.leases.acquire()) is not None:
            await self.pipeline.run(lease)


@pytest.fixture
async def walk(house: House) -> AsyncIterator[Walk]:
    parser = Parser(house.settings.parse_deadline_s, house.settings.parse_memory_bytes, house.settings.max_characters)
    leases = house.leases()
    yield Walk(house, random.Random(SEED), leases, house.pipeline(leases, parser))
    await parser.close()


@pytest.mark.parametrize(
    ("tenants", "steps", "part"),
    [
        pytest.param(*FEW, 0, marks=pytest.mark.light),
        pytest.param(*SOME, 0, marks=pytest.mark.heavy),
        *(pytest.param(*MANY, part, marks=pytest.mark.long) for part in PARTS),
    ],
)
async def test_everybody_finds_what_is_theirs_and_nothing_else(
    walk: Walk, tenants: int, steps: int, part: int, figure: Callable[[str], None]
) -> None:
    walk.chance.seed(f"{SEED}.{part}")
    await walk.settle(tenants)
    for _ in range(steps):
        await walk.step()
    figure(f"{tenants} tenants, {steps} operations, seed {SEED}.{part}: {dict(walk.done)}")
    assert walk.done["found"]
    assert walk.done["hidden by a list"]
    assert walk.done["rows written anew"]
