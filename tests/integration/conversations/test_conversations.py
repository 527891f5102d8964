"""/v1/conversations, through the whole application, on each database."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from api.conversations import rows
from api.conversations.history import size_of
from api.conversations.items import user_message as store_item
from api.conversations.store import Conversations
from api.conversations.sweep import forget_deleted
from api.errors import ConversationFull, ConversationNotFound
from core.clock import SystemClock
from core.principal import Principal, Role
from core.reach import HOME
from storage.schema import conversation_items, conversations
from tests.support.gate import Gate

PATH = "/v1/conversations"


def message(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": text}


async def begin(gate: Gate, key: str | None = None, **fields: Any) -> dict[str, Any]:
    answer = await gate.call("POST", PATH, key, json=fields)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def texts(gate: Gate, conversation_id: str, key: str | None = None, **params: Any) -> list[str]:
    answer = await gate.call("GET", f"{PATH}/{conversation_id}/items", key, params=params)
    assert answer.status_code == 200, answer.text
    return [item["content"][0]["text"] for item in answer.json()["data"]]


async def test_a_conversation_is_begun_read_changed_and_deleted(gate: Gate) -> None:
    made = await begin(gate, items=[message("Hello.")], metadata={"topic": "ferries"}, title="Ferries")
    assert (made["object"], made["metadata"], made["title"]) == ("conversation", {"topic": "ferries"}, "Ferries")
    path = f"{PATH}/{made['id']}"
    assert (await gate.call("GET", path)).json() == made
    changed = (await gate.call("POST", path, json={"metadata": {"a": "b"}})).json()
    assert (changed["metadata"], changed["title"]) == ({"a": "b"}, "Ferries")
    changed = (await gate.call("POST", path, json={"title": None})).json()
    assert (changed["metadata"], changed["title"]) == ({"a": "b"}, None)
    gone = (await gate.call("DELETE", path)).json()
    assert gone == {"id": made["id"], "object": "conversation.deleted", "deleted": True}
    for method, tail in (("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "/items"), ("GET", "/export")):
        answer = await gate.call(method, path + tail, json={} if method == "POST" else None)
        assert answer.status_code == 404, (method, tail)
        assert answer.json()["error"]["code"] == "conversation_not_found"
    assert made["id"] not in str((await gate.call("GET", PATH)).json())


async def test_items_are_listed_by_cursor_in_both_orders(gate: Gate) -> None:
    conversation_id = (await begin(gate))["id"]
    for ten in range(3):
        items = [message(str(10 * ten + one)) for one in range(10)]
        answer = await gate.call("POST", f"{PATH}/{conversation_id}/items", json={"items": items})
        assert answer.status_code == 200, answer.text
        assert [item["content"][0]["text"] for item in answer.json()["data"]] == [one["content"] for one in items]
    for order, expected in (("asc", list(range(30))), ("desc", list(range(29, -1, -1)))):
        seen: list[str] = []
        after: dict[str, str] = {}
        for left in (23, 16, 9, 2, 0):
            answer = await gate.call(
                "GET", f"{PATH}/{conversation_id}/items", params={"order": order, "limit": 7, **after}
            )
            page = answer.json()
            seen += [item["content"][0]["text"] for item in page["data"]]
            after = {"after": page["last_id"]}
            assert page["has_more"] == (left > 0)
        assert seen == [str(number) for number in expected]
    assert (await texts(gate, conversation_id))[0] == "29", "the newest first, as OpenAI has it"


async def test_one_item_is_read_and_taken_out(gate: Gate) -> None:
    conversation_id = (await begin(gate, items=[message(word) for word in ("one", "two", "three")]))["id"]
    items = (await gate.call("GET", f"{PATH}/{conversation_id}/items", params={"order": "asc"})).json()["data"]
    path = f"{PATH}/{conversation_id}/items/{items[1]['id']}"
    assert (await gate.call("GET", path)).json() == items[1]
    assert (await gate.call("DELETE", path)).json()["id"] == conversation_id
    for method in ("GET", "DELETE"):
        answer = await gate.call(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "item_not_found")
    assert await texts(gate, conversation_id, order="asc") == ["one", "three"]
    behind = await gate.call("GET", f"{PATH}/{conversation_id}/items", params={"after": items[1]["id"]})
    assert behind.status_code == 404
    await gate.call("POST", f"{PATH}/{conversation_id}/items", json={"items": [message("four")]})
    assert await texts(gate, conversation_id, order="asc") == ["one", "three", "four"]


async def test_the_export_holds_everything(gate: Gate) -> None:
    conversation_id = (await begin(gate, title="All of it"))["id"]
    for ten in range(11):
        items = [message(str(20 * ten + one)) for one in range(20)]
        await gate.call("POST", f"{PATH}/{conversation_id}/items", json={"items": items})
    answer = await gate.call("GET", f"{PATH}/{conversation_id}/export")
    assert answer.headers["content-disposition"] == f'attachment; filename="{conversation_id}.json"'
    exported = answer.json()
    assert exported["title"] == "All of it"
    assert [item["content"][0]["text"] for item in exported["items"]] == [str(number) for number in range(220)]
    empty = (await begin(gate))["id"]
    assert (await gate.call("GET", f"{PATH}/{empty}/export")).json()["items"] == []


async def test_the_own_ones_are_listed_by_cursor(light_gate: Gate) -> None:
    key = (await light_gate.key(user=(await light_gate.made("/v1/admin/users", name="ann"))["id"]))["key"]
    made = [(await begin(light_gate, key, title=str(number)))["id"] for number in range(5)]
    await begin(light_gate, title="the admin's")
    first = (await light_gate.call("GET", PATH, key, params={"limit": 3})).json()
    rest = (await light_gate.call("GET", PATH, key, params={"limit": 3, "after": first["last_id"]})).json()
    assert [one["id"] for one in first["data"] + rest["data"]] == sorted(made, reverse=True)
    assert (first["has_more"], rest["has_more"]) == (True, False)
    oldest = (await light_gate.call("GET", PATH, key, params={"order": "asc"})).json()["data"]
    assert [one["id"] for one in oldest] == sorted(made)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"items": [message("x")] * 21}, "at most 20"),
        ({"items": [{"type": "computer_call"}]}, "must be one of"),
        ({"metadata": {str(at): "x" for at in range(17)}}, "at most 16"),
        ({"title": "x" * 201}, "200"),
        ({"title": "\0"}, "title must be"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
async def test_what_cannot_be_taken_is_a_400_and_nothing_is_kept(
    light_gate: Gate, body: dict[str, Any], says: str
) -> None:
    answer = await light_gate.call("POST", PATH, json=body)
    assert answer.status_code == 400, answer.text
    assert says in answer.json()["error"]["message"]
    assert (await light_gate.call("GET", PATH)).json()["data"] == []


async def test_hostile_names_are_404(gate: Gate) -> None:
    own = (await begin(gate, items=[message("mine")]))["id"]
    for name in ("conv_" + "x" * 5000, "%F0%9F%A6%8A", "..%2Fx", "'%20OR%201=1--", "conv_%25"):
        for path in (f"{PATH}/{name}", f"{PATH}/{name}/items", f"{PATH}/{own}/items/{name}"):
            assert (await gate.call("GET", path)).status_code == 404, path


@dataclass
class Walk:
    """Somebody's conversation, and everybody who is not its owner."""

    conversation_id: str
    item_id: str
    others: dict[str, str]


async def walk(gate: Gate) -> Walk:
    """The owner is a user of the tenant acme; the others are of the same tenant and team, or of another tenant."""
    for tenant in ("acme", "bolt"):
        await gate.made("/v1/admin/tenants", name=tenant)
    team = (await gate.made("/v1/admin/teams", name="crew", tenant="acme"))["id"]
    ann = (await gate.made("/v1/admin/users", name="ann", tenant="acme", team=team))["id"]
    bob = (await gate.made("/v1/admin/users", name="bob", tenant="acme", team=team))["id"]
    owner = (await gate.key(tenant="acme", user=ann))["key"]
    again = (await gate.key(tenant="acme", user=ann))["key"]
    made = await begin(gate, owner, items=[message("the secret of ann")])
    assert await texts(gate, made["id"], again) == ["the secret of ann"], "another key of the same user"
    item_id = (await gate.call("GET", f"{PATH}/{made['id']}/items", owner)).json()["data"][0]["id"]
    others = {
        "another user of the team": (await gate.key(tenant="acme", user=bob))["key"],
        "a key of the team": (await gate.key(tenant="acme", team=team))["key"],
        "a key of the tenant": (await gate.key(tenant="acme"))["key"],
        "the tenant's manager": (await gate.key("manager", tenant="acme"))["key"],
        "another tenant": (await gate.key(tenant="bolt"))["key"],
        "the admin": gate.admin,
    }
    return Walk(made["id"], item_id, others)


async def test_nobody_but_its_owner_sees_or_changes_anything_of_a_conversation(gate: Gate) -> None:
    found = await walk(gate)
    path, item = f"{PATH}/{found.conversation_id}", f"/items/{found.item_id}"
    own = [("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "/export"), ("GET", "/items"), ("POST", "/items")]
    bodies = {"": {"title": "mine"}, "/items": {"items": [message("I was here")]}}
    for who, key in found.others.items():
        elses = (await begin(gate, key, items=[message("something else")]))["id"]
        for method, tail in (*own, ("GET", item), ("DELETE", item)):
            answer = await gate.call(method, path + tail, key, **({"json": bodies[tail]} if method == "POST" else {}))
            assert answer.status_code == 404, (who, method, tail, answer.text)
            assert "secret" not in answer.text
        for method in ("GET", "DELETE"):  # by way of a conversation of one's own
            assert (await gate.call(method, f"{PATH}/{elses}{item}", key)).status_code == 404
        after = await gate.call("GET", f"{PATH}/{elses}/items", key, params={"after": found.item_id})
        assert after.status_code == 404
        assert found.conversation_id not in (await gate.call("GET", PATH, key)).text
    async with asyncio.timeout(5):
        kept = await gate.database.read(lambda connection: connection.execute(sa.select(conversation_items)))
    assert [row.item["content"][0]["text"] for row in kept if row.conversation_id == found.conversation_id] == [
        "the secret of ann"
    ]


async def test_keys_without_user_and_team_share_what_they_keep_so_that_one_can_be_rotated(gate: Gate) -> None:
    await gate.made("/v1/admin/tenants", name="acme")
    first, second = [(await gate.key(tenant="acme"))["key"] for _ in range(2)]
    conversation_id = (await begin(gate, first, items=[message("Hello.")]))["id"]
    assert await texts(gate, conversation_id, second) == ["Hello."]


async def test_such_keys_of_another_tenant_have_no_part_in_it(gate: Gate) -> None:
    for tenant in ("acme", "bolt"):
        await gate.made("/v1/admin/tenants", name=tenant)
    own, other = [(await gate.key(tenant=tenant))["key"] for tenant in ("acme", "bolt")]
    path = f"{PATH}/{(await begin(gate, own, items=[message('Hello.')]))['id']}"
    for method, tail in (("GET", ""), ("GET", "/items"), ("GET", "/export"), ("DELETE", "")):
        assert (await gate.call(method, path + tail, other)).status_code == 404, (method, tail)
    assert (await gate.call("GET", PATH, other)).json()["data"] == []
    assert (await gate.call("GET", path, own)).status_code == 200


async def tenant_of(gate: Gate) -> str:
    return str((await gate.call("GET", "/v1/admin/tenants")).json()["data"][0]["id"])


async def test_who_adds_at_the_same_time_is_put_in_some_order_and_nobody_is_lost(gate: Gate) -> None:
    kept = Conversations(gate.database, SystemClock())
    tenant = await tenant_of(gate)
    asker = Principal(tenant, "key_1", Role.MEMBER)
    made = await kept.create(asker, [], {})
    pairs = [[store_item(f"{number} asks"), store_item(f"{number} answers")] for number in range(12)]
    await asyncio.gather(*(kept.add(asker, made.id, pair) for pair in pairs))
    said = [item["content"][0]["text"] for item in await kept.items(asker, made.id, None, 100, "asc")]
    assert len(said) == 24
    assert {(said[at], said[at + 1]) for at in range(0, 24, 2)} == {
        (f"{number} asks", f"{number} answers") for number in range(12)
    }


async def test_what_was_said_by_one_who_keeps_it_in_the_house_stays_there_for_ever(light_gate: Gate) -> None:
    kept = Conversations(light_gate.database, SystemClock())
    tenant = await tenant_of(light_gate)
    free, bound = Principal(tenant, "key_1", Role.MEMBER), Principal(tenant, "key_2", Role.MEMBER, reach=HOME)
    made = await kept.create(free, [store_item("Hello.")], {})
    assert not made.reach.local_only
    await kept.add(bound, made.id, [store_item("a secret")])
    await kept.add(free, made.id, [store_item("and on")])
    assert (await kept.get(free, made.id)).reach.local_only
    assert (await kept.create(bound, [], {})).reach.local_only


async def test_the_newest_items_come_first_as_far_as_the_bytes_go(light_gate: Gate) -> None:
    kept = Conversations(light_gate.database, SystemClock())
    tenant = await tenant_of(light_gate)
    asker = Principal(tenant, "key_1", Role.MEMBER)
    items = [store_item(f"{number:4}") for number in range(250)]
    made = await kept.create(asker, items, {})
    each = size_of(items[0])
    for most, expected in ((0, 0), (each - 1, 0), (each, 1), (each * 130 + 1, 130), (each * 1000, 250)):
        _, found, more = await kept.newest(asker, made.id, most)
        assert found == items[250 - expected :]
        assert more == (expected < 250)


async def test_a_conversation_ends_somewhere(light_gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_ITEMS", 3)
    kept = Conversations(light_gate.database, SystemClock())
    tenant = await tenant_of(light_gate)
    asker = Principal(tenant, "key_1", Role.MEMBER)
    made = await kept.create(asker, [store_item("1"), store_item("2")], {})
    with pytest.raises(ConversationFull):
        await kept.add(asker, made.id, [store_item("3"), store_item("4")])
    await kept.add(asker, made.id, [store_item("3")])
    assert (await kept.get(asker, made.id)).items == 3


async def test_the_sweep_removes_what_was_deleted_and_nothing_else(gate: Gate) -> None:
    kept = Conversations(gate.database, SystemClock())
    tenant = await tenant_of(gate)
    asker = Principal(tenant, "key_1", Role.MEMBER)
    made = [await kept.create(asker, [store_item(str(number))], {}) for number in range(4)]
    for one in made[:3]:
        await kept.delete(asker, one.id)
    assert await forget_deleted(gate.database) == 3
    assert await forget_deleted(gate.database) == 0
    for table, name in ((conversations, "id"), (conversation_items, "conversation_id")):
        left = await gate.database.read(lambda connection, table=table: connection.execute(sa.select(table)))
        assert [getattr(row, name) for row in left] == [made[3].id]
    with pytest.raises(ConversationNotFound):
        await kept.get(asker, made[0].id)
