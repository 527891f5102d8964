"""A random walk of several tenants over files and vector stores: everybody sees and finds what is theirs, and no more.

What each caller may see is reckoned a second time from what was done. A seed names the walk.
"""

import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from api.errors import FileNotFound
from api.files.store import Files
from api.files.store import NewFile as NewStored
from api.vectorstores.attaching import Attaching, Attachment
from api.vectorstores.shown import WORDS
from api.vectorstores.store import VectorStores
from api.vectorstores.turning import Turn
from core.clock import SystemClock
from core.principal import Principal, Role
from retrieval.called import CollectionId
from retrieval.cutting import OVERLAP, SIZE
from retrieval.errors import CollectionNotFound, DocumentNotFound, DocumentTaken, JobNotFound
from retrieval.leases import Leases
from retrieval.parsing import Parser
from retrieval.pipeline import Pipeline
from retrieval.query import Query
from tests.integration.retrieval.conftest import House

pytestmark = pytest.mark.slow
FEW, SOME, MANY = (4, 250), (20, 1_000), (20, 4_000)  # tenants, steps
SEED = int(os.environ.get("FILES_SEED", "1"))
USERS, GROUPS = ("ann", "bob", "*"), ("sales", "user:ann")
HOSTILE = ('" or tenant_id != "', "a b", "%", "é漢", "x" * 300)
Acl = dict[str, list[str]] | None


def open_to(acl: Acl, who: Principal) -> bool:
    if acl is None or who.role is Role.MANAGER:
        return True
    return who.user_id in acl.get("users", []) or bool(who.groups & set(acl.get("groups", [])))


@dataclass
class File:
    """A file as it should be."""

    id: str
    text: str
    acl: Acl


@dataclass
class Document:
    """What was made of a file in one store."""

    id: str
    acl: Acl
    attributes: dict[str, Any]


@dataclass
class Tenant:
    """A tenant's people, their files, and the stores with what is in them by file."""

    people: list[Principal]
    files: dict[str, File] = field(default_factory=dict)
    stores: dict[str, dict[str, Document]] = field(default_factory=dict)
    batches: list[tuple[str, str]] = field(default_factory=list)


class Walk:
    """The steps, and what they are to come to."""

    def __init__(self, house: House, leases: Leases, pipeline: Pipeline) -> None:
        clock = SystemClock()
        self.house, self.leases, self.pipeline = house, leases, pipeline
        self.files = Files(house.database, house.objects, house.retrieval.documents, clock)
        self.stores = VectorStores(house.database, clock, house.settings)
        self.attaching = Attaching(self.files, house.retrieval.intake, clock, at_once=2)
        self.chance = random.Random(SEED)
        self.tenants: list[Tenant] = []
        self.done: Counter[str] = Counter()
        self.steps: list[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = [
            (8, self.keep), (20, self.read_files), (10, self.read_store), (25, self.search), (6, self.attach),
            (5, self.change), (3, self.detach), (2, self.delete_file), (12, self.reach_over),
        ]  # fmt: skip

    async def settle(self, count: int) -> None:
        for _ in range(count):
            somebody = await self.house.tenant()
            people = [replace(somebody, role=Role.MANAGER)]
            for user, groups in (("ann", ["sales"]), ("bob", []), (None, [])):
                people.append(replace(somebody, role=Role.MEMBER, user_id=user, groups=frozenset(groups)))
            tenant = Tenant(people)
            for name in ("shared", None):
                made = await self.house.retrieval.collections.create(people[0], name, placement="pooled", title=name)
                tenant.stores[made.id] = {}
            self.tenants.append(tenant)
            for _ in range(4):
                await self.keep(tenant)
            for _ in range(2):
                await self.attach(tenant)

    async def step(self) -> None:
        weights, acts = zip(*self.steps, strict=True)
        act = self.chance.choices(acts, weights)[0]
        self.done[act.__name__] += 1
        await act()

    def anybody(self) -> tuple[Tenant, Principal]:
        tenant = self.chance.choice(self.tenants)
        return tenant, self.chance.choice(tenant.people)

    def acl(self) -> Acl:
        if self.chance.random() < 0.5:
            return None
        return {
            "users": self.chance.sample(USERS, self.chance.randrange(3)),
            "groups": self.chance.sample(GROUPS, self.chance.randrange(2)),
        }

    def attributes(self) -> dict[str, Any]:
        return {key: self.chance.choice([*HOSTILE, 1, True]) for key in self.chance.sample(["lang", 'a"b'], 1)}

    async def keep(self, tenant: Tenant | None = None) -> None:
        """A file, whoever sends it; names repeat."""
        of, who = (tenant, tenant.people[0]) if tenant else self.anybody()
        acl, text = self.acl(), f"The harbour, {self.chance.random()}."
        name = f"{self.chance.choice(HOSTILE)}.md"
        kept = await self.files.keep(who, NewStored(name, "assistants", text.encode(), acl=acl))
        of.files[kept.id] = File(kept.id, text, acl)

    async def read_files(self) -> None:
        tenant, who = self.anybody()
        mine = {one.id for one in tenant.files.values() if open_to(one.acl, who)}
        assert {one.id for one in await self.files.list(who, limit=1000)} == mine
        for one in self.chance.sample(list(tenant.files.values()), min(3, len(tenant.files))):
            if one.id in mine:
                assert (await self.files.content(who, one.id)).decode() == one.text
            else:
                await refused(
                    self.files.get(who, one.id), self.files.content(who, one.id), self.files.delete(who, one.id)
                )
                self.done["hidden by a list"] += 1

    async def read_store(self) -> None:
        tenant, who = self.anybody()
        listed = await self.stores.list(who, Turn(limit=100))
        assert {one.id for one in listed.items} == set(tenant.stores)
        store_id = self.chance.choice(list(tenant.stores))
        mine = {of for of, one in tenant.stores[store_id].items() if open_to(one.acl, who)}
        page = await self.stores.files(who, store_id, Turn(limit=100), WORDS["completed"])
        assert {one.id for one in page.items} == mine
        counted = (await self.stores.get(who, store_id)).counted
        assert sum(counted.files.values()) == len(mine)
        assert counted.usage_bytes == sum(one.usage_bytes for one in page.items)
        for of, one in tenant.stores[store_id].items():
            if of not in mine:
                await refused(self.stores.file(who, store_id, of))
            else:
                told = await self.stores.file(who, store_id, of)
                assert (told.document_id, told.attributes) == (one.id, one.attributes)

    async def search(self) -> None:
        tenant, who = self.anybody()
        store_id = self.chance.choice(list(tenant.stores))
        wanted = self.attributes() if self.chance.random() < 0.4 else {}
        filters = [{"type": "eq", "key": key, "value": value} for key, value in wanted.items()]
        query = Query(
            CollectionId(store_id), "harbour", top_k=100, mode="lexical", filter=filters[0] if filters else None
        )
        found = await self.house.retrieval.searcher.search(who, query)
        expected = {
            of
            for of, one in tenant.stores[store_id].items()
            if open_to(one.acl, who) and all(same(one.attributes.get(key), value) for key, value in wanted.items())
        }
        assert {one.file_id for one in found.passages} == expected
        self.done["found"] += len(expected)

    async def attach(self, tenant: Tenant | None = None) -> None:
        """One or two files, some of which are in the store already."""
        of, who = (tenant, tenant.people[0]) if tenant else self.anybody()
        store_id = self.chance.choice(list(of.stores))
        some = self.chance.sample(list(of.files.values()), min(3, len(of.files)))
        attributes = self.attributes()
        cutting = self.chance.choice([None, {SIZE: 100, OVERLAP: 10}])
        wanted = [Attachment(one.id, attributes, cutting) for one in some]
        act = self.attaching.attach(who, CollectionId(store_id), wanted)
        hidden = [
            one for one in some if one.id in of.stores[store_id] and not open_to(of.stores[store_id][one.id].acl, who)
        ]
        if not all(open_to(one.acl, who) for one in some):
            await refused(act)
            return
        if hidden or not some:
            act.close()  # a part of them may be taken, and another refused
            return
        accepted = await act
        await self.work()
        of.batches.append((store_id, accepted.job_id))
        for one, document_id in zip(some, accepted.document_ids, strict=True):
            known = of.stores[store_id].get(one.id)
            acl = known.acl if known is not None and one.acl is None else one.acl
            assert known is None or known.id == document_id
            of.stores[store_id][one.id] = Document(document_id, acl, attributes)

    async def change(self) -> None:
        """Attributes, or who may read what was made of a file."""
        tenant, who = self.anybody()
        store_id = self.chance.choice(list(tenant.stores))
        if not tenant.stores[store_id]:
            return
        one = self.chance.choice(list(tenant.stores[store_id].values()))
        attributes, acl = self.attributes(), self.acl()
        change = self.house.retrieval.documents.change(
            who, CollectionId(store_id), one.id, metadata=attributes, acl=acl
        )
        if not open_to(one.acl, who):
            await refused(change)
            return
        await change
        one.attributes, one.acl = attributes, acl
        self.done["changed"] += 1

    async def detach(self) -> None:
        tenant, who = self.anybody()
        store_id = self.chance.choice(list(tenant.stores))
        if tenant.stores[store_id]:
            of, one = self.chance.choice(list(tenant.stores[store_id].items()))
            delete = self.house.retrieval.documents.delete(who, CollectionId(store_id), one.id)
            if not open_to(one.acl, who):
                await refused(delete)
                return
            await delete
            del tenant.stores[store_id][of]

    async def delete_file(self) -> None:
        tenant, who = self.anybody()
        if not tenant.files:
            return
        one = self.chance.choice(list(tenant.files.values()))
        if not open_to(one.acl, who):
            await refused(self.files.delete(who, one.id))
            return
        await self.files.delete(who, one.id)
        del tenant.files[one.id]
        for held in tenant.stores.values():
            if one.id in held and open_to(held[one.id].acl, who):
                del held[one.id]
                self.done["gone with its file"] += 1

    async def reach_over(self) -> None:
        """Another tenant's file, store, document and batch, by their ids, alone and mixed with what is one's own."""
        (own, who), (other, _) = self.anybody(), self.anybody()
        if own is other or not other.files:
            return
        theirs, store_id = self.chance.choice(list(other.files)), self.chance.choice(list(other.stores))
        mine = self.chance.choice(list(own.stores))
        there, here = CollectionId(store_id), CollectionId(mine)
        documents = self.house.retrieval.documents
        await refused(
            self.files.get(who, theirs),
            self.files.content(who, theirs),
            self.files.delete(who, theirs),
            self.attaching.attach(who, here, [Attachment(theirs, {}, None)]),
            self.stores.get(who, store_id),
            self.stores.files(who, store_id, Turn()),
            self.house.retrieval.searcher.search(who, Query(there, "harbour", mode="lexical")),
            self.house.retrieval.collections.delete(who, there),
            self.house.retrieval.collections.change(who, there, title="mine"),
        )
        if own.files:
            await refused(self.attaching.attach(who, there, [Attachment(next(iter(own.files)), {}, None)]))
        for of, one in list(other.stores[store_id].items())[:2]:
            for where, id_ in ((there, store_id), (here, mine)):
                await refused(
                    self.stores.file(who, id_, of),
                    documents.content(who, where, one.id),
                    documents.change(who, where, one.id, acl=None),
                    documents.delete(who, where, one.id),
                )
        for _, job_id in other.batches[:1]:
            await refused(self.house.retrieval.jobs.get(who, job_id), self.house.retrieval.jobs.cancel(who, job_id))
        self.done["reached over"] += 1

    async def work(self) -> None:
        while (lease := await self.leases.acquire()) is not None:
            await self.pipeline.run(lease)


async def refused(*acts: Coroutine[Any, Any, Any]) -> None:
    """Each is refused as if it were not there."""
    for act in acts:
        with pytest.raises((FileNotFound, CollectionNotFound, DocumentNotFound, DocumentTaken, JobNotFound)):
            await act


def same(found: Any, value: Any) -> bool:
    """As the index compares: text never equals a number, and true is 1."""
    return isinstance(found, str) == isinstance(value, str) and found == value


@pytest.fixture
async def walk(house: House) -> AsyncIterator[Walk]:
    parser = Parser(house.settings.parse_deadline_s, house.settings.parse_memory_bytes, house.settings.max_characters)
    leases = house.leases()
    yield Walk(house, leases, house.pipeline(leases, parser))
    await parser.close()


@pytest.mark.parametrize(
    ("tenants", "steps"),
    [
        pytest.param(*FEW, marks=pytest.mark.light),
        pytest.param(*SOME, marks=pytest.mark.heavy),
        pytest.param(*MANY, marks=pytest.mark.long),
    ],
)
async def test_everybody_sees_the_files_and_stores_that_are_theirs_and_nothing_else(
    walk: Walk, tenants: int, steps: int, figure: Callable[[str], None]
) -> None:
    walk.chance.seed(f"{SEED}")
    await walk.settle(tenants)
    for _ in range(steps):
        await walk.step()
    figure(f"{tenants} tenants, {steps} operations, seed {SEED}: {json.dumps(walk.done)}")
    for happened in ("found", "hidden by a list", "reached over", "gone with its file"):
        assert walk.done[happened], happened
