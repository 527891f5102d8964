"""Responses in SQL, on each database."""

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.conversations.items import assistant_message, user_message
from api.conversations.store import Conversations
from api.errors import PreviousNotFound, ResponseNotFound
from api.responses.keeping import Keeper
from api.responses.request import read
from api.responses.store import Responses, Stored, forget_gone
from core.clock import ManualClock
from core.ids import new_id
from core.principal import Principal, Role
from core.reach import ANYWHERE, HOME, Reach
from storage.schema import responses
from storage.sql import Database
from tests.integration.identity.conftest import gate, postgres, postgres_url, sqlite_url, url
from tests.support.gate import Gate

__all__ = ["gate", "postgres", "postgres_url", "sqlite_url", "url"]

MUCH = 10**9


class Kept:
    """A store with a clock that is told to move."""

    def __init__(self, database: Database, tenant_id: str) -> None:
        self.database = database
        self.clock = ManualClock()
        self.store = Responses(database, self.clock, days=30)
        self.asker = Principal(tenant_id, "key_1", Role.MEMBER)
        conversations = Conversations(database, self.clock)
        self.conversations = conversations
        self.keeper = Keeper(database, conversations, self.store, self.clock)

    async def keep(self, text: str, previous_id: str | None = None, reach: Reach = ANYWHERE) -> str:
        said = assistant_message(f"on {text}")
        response = {"id": new_id("resp"), "status": "completed", "output": [said]}
        stored = Stored(response["id"], previous_id, None, reach, [user_message(text)], response)

        async def write(connection: AsyncConnection) -> None:
            await self.store.keep(connection, self.asker, stored)

        await self.database.write(write)
        return str(response["id"])

    async def texts(self, response_id: str, most_bytes: int = MUCH) -> list[str]:
        items, _, _ = await self.store.chain(self.asker, response_id, most_bytes)
        return [item["content"][0]["text"] for item in items]


@pytest.fixture
async def kept(gate: Gate) -> Kept:
    tenant = (await gate.call("GET", "/v1/admin/tenants")).json()["data"][0]["id"]
    return Kept(gate.database, tenant)


async def chain(kept: Kept, length: int) -> list[str]:
    ids: list[str] = []
    for number in range(length):
        ids.append(await kept.keep(str(number), ids[-1] if ids else None))
    return ids


async def test_a_chain_is_what_was_said_in_its_order(kept: Kept) -> None:
    ids = await chain(kept, 4)
    assert await kept.texts(ids[2]) == ["0", "on 0", "1", "on 1", "2", "on 2"]


async def test_nobody_else_goes_on_from_a_response_or_finds_it(kept: Kept) -> None:
    (response_id,) = await chain(kept, 1)
    own = kept.asker.tenant_id
    others = [
        Principal(own, "key_1", Role.ADMIN, user_id="usr_1"),
        Principal(own, "key_1", Role.ADMIN, team_id="team_1"),
        Principal("another tenant", "key_2", Role.ADMIN),
    ]
    for other in others:
        for found in (
            kept.store.get(other, response_id),
            kept.store.chain(other, response_id, MUCH),
            kept.store.delete(other, response_id),
        ):
            with pytest.raises(ResponseNotFound):
                await found
    assert (await kept.store.get(kept.asker, response_id)).id == response_id


async def test_a_chain_ends_where_a_response_was_deleted(kept: Kept) -> None:
    ids = await chain(kept, 4)
    await kept.store.delete(kept.asker, ids[1])
    assert await kept.texts(ids[3]) == ["2", "on 2", "3", "on 3"]
    with pytest.raises(PreviousNotFound):
        await kept.texts(ids[1])
    with pytest.raises(ResponseNotFound):
        await kept.store.delete(kept.asker, ids[1])


async def test_a_chain_is_read_as_far_back_as_the_bytes_go(kept: Kept) -> None:
    ids = await chain(kept, 6)
    items, _, more = await kept.store.chain(kept.asker, ids[-1], 1000)
    assert more
    assert 0 < len(items) < 12
    assert items[-1]["content"][0]["text"] == "on 5"
    assert not (await kept.store.chain(kept.asker, ids[-1], MUCH))[2]


async def test_what_may_not_leave_the_house_stays_there_down_the_chain(kept: Kept) -> None:
    first = await kept.keep("a secret", reach=HOME)
    last = await kept.keep("more", await kept.keep("on", first))
    assert (await kept.store.chain(kept.asker, last, MUCH))[1].local_only
    assert (await kept.store.chain(kept.asker, await kept.keep("free"), MUCH))[1] == ANYWHERE


async def test_a_response_ends_with_its_days_and_the_sweep_removes_what_is_gone(kept: Kept) -> None:
    old = await kept.keep("old")
    deleted = await kept.keep("deleted")
    await kept.store.delete(kept.asker, deleted)
    kept.clock.advance(29 * 86_400)
    young = await kept.keep("young")
    assert (await kept.store.get(kept.asker, old)).id == old
    assert await forget_gone(kept.database, kept.clock) == 1
    kept.clock.advance(2 * 86_400)
    with pytest.raises(ResponseNotFound):
        await kept.store.get(kept.asker, old)
    assert await forget_gone(kept.database, kept.clock) == 1
    left = await kept.database.read(lambda connection: connection.execute(sa.select(responses.c.id)))
    assert [row.id for row in left] == [young]


async def test_an_answer_and_its_place_in_a_conversation_are_kept_together_or_not_at_all(kept: Kept) -> None:
    conversation = await kept.conversations.create(kept.asker, [], {})
    asked, _ = read({"model": "m", "input": "One?", "conversation": conversation.id})
    response = {"id": new_id("resp"), "status": "completed", "output": [assistant_message("One.")]}
    await kept.keeper.keep(kept.asker, asked, response, reach=HOME)
    items = await kept.conversations.items(kept.asker, conversation.id, None, 10, "asc")
    assert [item["content"][0]["text"] for item in items] == ["One?", "One."]
    assert (await kept.conversations.get(kept.asker, conversation.id)).reach.local_only
    again, _ = read({"model": "m", "input": "Two?", "conversation": conversation.id})
    taken = {**response, "output": [assistant_message("Two.")]}  # the response's id is another's already
    with pytest.raises(sa.exc.IntegrityError):
        await kept.keeper.keep(kept.asker, again, taken, reach=ANYWHERE)
    assert len(await kept.conversations.items(kept.asker, conversation.id, None, 10, "asc")) == 2


async def test_an_answer_whose_conversation_was_deleted_meanwhile_is_kept_alone(kept: Kept) -> None:
    conversation = await kept.conversations.create(kept.asker, [], {})
    asked, _ = read({"model": "m", "input": "One?", "conversation": conversation.id})
    await kept.conversations.delete(kept.asker, conversation.id)
    response = {"id": new_id("resp"), "status": "completed", "output": []}
    await kept.keeper.keep(kept.asker, asked, response, reach=ANYWHERE)
    assert (await kept.store.get(kept.asker, response["id"])).id == response["id"]


async def test_what_failed_is_added_to_no_conversation(kept: Kept) -> None:
    conversation = await kept.conversations.create(kept.asker, [], {})
    asked, _ = read({"model": "m", "input": "One?", "conversation": conversation.id})
    response = {"id": new_id("resp"), "status": "failed", "output": [assistant_message("On")]}
    await kept.keeper.keep(kept.asker, asked, response, reach=ANYWHERE)
    assert await kept.conversations.items(kept.asker, conversation.id) == []
    assert (await kept.store.get(kept.asker, response["id"])).response["status"] == "failed"
