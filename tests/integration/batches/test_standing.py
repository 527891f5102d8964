"""Who a batch is sent for is who its key, or its user, is at that moment."""

from collections import Counter

import pytest
import sqlalchemy as sa

from api.batches.batchleases import BatchLease, BatchLeases, Outcome
from api.batches.sending import Reply
from api.identities import Identity
from api.lookup import Lookup
from core.priority import Priority
from core.reach import HOME
from storage.schema import api_keys, limits, tenants, users
from tests.integration.batches.conftest import House


async def now(house: House) -> Identity | None:
    """The key's identity; it is the one that who shows the key has."""
    lookup = Lookup(house.database, house.clock)
    standing = await lookup.standing("key_1", "user_1")
    shown = (await lookup.keys(["0" * 64])).get("0" * 64)
    assert standing == (None if shown is None else shown.identity)
    return standing


async def change(house: House, statement: sa.Update | sa.Insert) -> None:
    await house.database.write(lambda connection: connection.execute(statement))


async def test_a_key_is_what_it_is_now(house: House) -> None:
    first = await now(house)
    assert first is not None
    assert (first.principal, first.subjects) == (house.principal, ())
    values = {"reach": HOME.row(), "scopes": ["chat"], "priority": Priority.INTERACTIVE, "generation": 4}
    await change(house, sa.update(api_keys).values(values))
    limit = {"tenant_id": "t", "kind": "key", "subject_id": "key_1", "parallel": 3, "strict": False, "changed_at": 0.0}
    await change(house, sa.insert(limits).values(limit))
    second = await now(house)
    assert second is not None
    assert (second.principal.reach.local_only, second.principal.scopes) == (True, frozenset({"chat"}))
    assert ([one.limits.parallel for one in second.subjects], second.generation) == ([3], 4)
    await change(house, sa.update(api_keys).values(reach=None))
    await change(house, sa.update(tenants).values(reach=HOME.row()))
    third = await now(house)
    assert third is not None
    assert third.principal.reach.local_only
    await change(house, sa.update(tenants).values(disabled_at=1.0))
    assert await now(house) is None


async def test_a_user_without_a_key_is_what_the_user_is_now(house: House) -> None:
    lookup = Lookup(house.database, house.clock)
    user = {"id": "user_1", "tenant_id": "t", "name": "u", "role": "member", "groups": ["sales"]}
    await change(house, sa.insert(users).values(**user, created_at=0.0, changed_at=0.0))
    found = await lookup.standing(None, "user_1")
    assert found is not None
    assert (found.principal.key_id, found.principal.user_id, found.principal.groups) == (
        None,
        "user_1",
        frozenset({"sales"}),
    )
    await change(house, sa.update(users).values(disabled_at=1.0))
    assert await lookup.standing(None, "user_1") is None
    assert await lookup.standing(None, None) is None


async def test_long_answers_are_written_out_some_at_a_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of embeddings has gigabytes of answers: no more of them is read at once than fits a worker."""
    read: list[int] = []
    outcomes = BatchLeases.outcomes

    async def counted(self: BatchLeases, lease: BatchLease, after: int) -> list[Outcome]:
        found = await outcomes(self, lease, after)
        read.append(sum(len(one.answer or "") for one in found))
        return found

    monkeypatch.setattr(BatchLeases, "outcomes", counted)
    ids = [f"line-{number}" for number in range(40)]
    text = "x" * 500_000
    for one in ids:
        house.provider.replies[one] = [Reply(200, {"said": text, "usage": {"prompt_tokens": 1, "total_tokens": 1}})]
    batch = await house.batch(*ids)
    async with house.working():
        ended = await house.until(batch, limit_s=60)
    assert (await house.out(ended))[0] == Counter(ids)
    assert max(read) < 10_000_000
    assert len(read) >= 5
