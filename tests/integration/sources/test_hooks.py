"""Signed messages bring documents: forged, stale and replayed ones have no effect."""

import asyncio
import json
import os
import stat
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from api.errors import SettingsRefused
from api.hooks.secrets import HouseKey
from retrieval.rows import fetch
from storage.schema import hook_messages, hooks
from tests.integration.sources.conftest import Desk, Open, signed

BODY = json.dumps({"collection": "c", "documents": [{"title": "t", "content": "text"}]})
NOWHERE = "redis://127.0.0.1:1/0"


async def test_a_signed_message_brings_documents_once(desks: Open) -> None:
    async with desks() as desk:
        hook = await desk.hook()
        headers = signed(hook["secret"], "msg_1", BODY)
        answer = await desk.send(hook["id"], headers, BODY)
        assert answer.status_code == 202, answer.text
        assert len(answer.json()["document_ids"]) == 1
        again = await desk.send(hook["id"], headers, BODY)
        assert (again.status_code, again.json()["error"]["code"]) == (409, "message_replayed")
        later = await desk.send(hook["id"], signed(hook["secret"], "msg_1", BODY), BODY)
        assert later.status_code == 409, "the same id under a newer signature"
        assert await desk.jobs() == 1


async def test_what_nobody_signed_has_no_effect(desks: Open, figure: Callable[[str], None]) -> None:
    async with desks() as desk:
        hook, other = await desk.hook(), await desk.hook()
        secret = hook["secret"]
        good = signed(secret, "msg_1", BODY)
        first, second = good["webhook-signature"], signed(other["secret"], "msg_1", BODY)["webhook-signature"]
        forged: list[tuple[str, dict[str, str], str]] = [
            (hook["id"], {}, BODY),
            *((hook["id"], {**good, name: ""}, BODY) for name in good),
            (hook["id"], good, BODY + " "),
            (hook["id"], good, BODY.replace("text", "next")),
            (hook["id"], {**good, "webhook-id": "msg_2"}, BODY),
            (hook["id"], {**good, "webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)}, BODY),
            (hook["id"], {**good, "webhook-timestamp": "nan"}, BODY),
            (hook["id"], {**good, "webhook-timestamp": "9" * 40}, BODY),
            (hook["id"], {**good, "webhook-id": "m" * 5000}, BODY),
            (hook["id"], {**good, "webhook-signature": second}, BODY),
            (hook["id"], {**good, "webhook-signature": first.replace("v1,", "v2,")}, BODY),
            (hook["id"], {**good, "webhook-signature": first.replace("v1,", "v1a,")}, BODY),
            (hook["id"], {**good, "webhook-signature": first[:-1]}, BODY),
            (hook["id"], {**good, "webhook-signature": "v1,"}, BODY),
            (hook["id"], {**good, "webhook-signature": ",,, v1"}, BODY),
            (hook["id"], {**good, "webhook-signature": "v1,x " * 50 + first}, BODY),
            (other["id"], good, BODY),
            ("", good, BODY),
            ("hook_none", good, BODY),
            (hook["id"] + "0", good, BODY),
            (hook["id"], signed(secret, "msg_1", BODY, time.time() - 400), BODY),
            (hook["id"], signed(secret, "msg_1", BODY, time.time() + 400), BODY),
        ]
        answers = [await desk.send(*message) for message in forged]
        figure(f"{len(forged)} forged or stale messages: {dict(Counter(answer.status_code for answer in answers))}")
        assert {answer.status_code for answer in answers} == {401}
        assert await desk.jobs() == 0
        both = {**good, "webhook-signature": f"{second} {first}"}
        assert (await desk.send(hook["id"], both, BODY)).status_code == 202, "of several signatures one may be right"


@pytest.mark.parametrize("redis_at", ["", NOWHERE], ids=["redis", "redis is silent"])
async def test_of_many_replays_at_two_workers_exactly_one_wins(
    desks: Open, redis_at: str, figure: Callable[[str], None]
) -> None:
    async with desks(redis_at) as one, desks(redis_at) as other:
        hook = await one.hook()
        headers = signed(hook["secret"], "msg_1", BODY)

        async def insist(desk: Desk) -> int:
            """Send it as senders do: again, where a busy machine says that it can't be taken now."""
            while True:
                answer = await desk.send(hook["id"], headers, BODY)
                if answer.status_code != 503:
                    return int(answer.status_code)
                await asyncio.sleep(0.2)

        statuses = Counter(await asyncio.gather(*(insist((one, other)[number % 2]) for number in range(40))))
        figure(f"40 at once, {redis_at or 'Redis answers'}: {dict(statuses)}")
        assert statuses == {202: 1, 409: 39}
        assert await one.jobs() == 1
        assert len(await fetch(one.gate.database, sa.select(hook_messages))) == 1


async def test_a_replay_is_refused_after_redis_has_forgotten_everything(desks: Open) -> None:
    async with desks() as desk, desks(NOWHERE) as deaf:
        hook = await desk.hook()
        headers = signed(hook["secret"], "msg_1", BODY)
        assert (await desk.send(hook["id"], headers, BODY)).status_code == 202
        assert (await deaf.send(hook["id"], headers, BODY)).status_code == 409


async def test_a_message_that_could_not_be_taken_may_come_again(desks: Open) -> None:
    async with desks() as desk:
        hook = await desk.hook()
        bad = json.dumps({"collection": "none", "documents": [{"content": "x"}]})
        assert (await desk.send(hook["id"], signed(hook["secret"], "msg_1", bad), bad)).status_code == 404
        assert (await desk.send(hook["id"], signed(hook["secret"], "msg_1", BODY), BODY)).status_code == 202
        for broken in ("{", "[]", "{}", '{"collection": "c", "url": "http://169.254.169.254/"}'):
            answer = await desk.send(hook["id"], signed(hook["secret"], "msg_2", broken), broken)
            assert answer.status_code == 400, broken


async def test_a_hook_is_of_its_tenant_and_its_collections(desks: Open) -> None:
    async with desks() as desk:
        await desk.gate.made("/v1/admin/tenants", name="acme")
        foreign = await desk.hook(tenant="acme")
        narrow = await desk.hook(collections=["other"])
        for hook, status in ((foreign, 404), (narrow, 403)):
            answer = await desk.send(hook["id"], signed(hook["secret"], "msg_1", BODY), BODY)
            assert answer.status_code == status, answer.text
        assert await desk.jobs() == 0


async def test_a_revoked_hook_takes_nothing_more(desks: Open) -> None:
    async with desks() as desk:
        await desk.gate.made("/v1/admin/tenants", name="acme")
        hook, other = await desk.hook(), await desk.hook(tenant="acme")
        revoked = await desk.gate.call("DELETE", f"/v1/admin/hooks/{hook['id']}")
        assert revoked.json()["revoked_at"] is not None
        assert (await desk.send(hook["id"], signed(hook["secret"], "msg_1", BODY), BODY)).status_code == 401
        assert (await desk.gate.call("DELETE", "/v1/admin/tenants/acme")).status_code in (200, 404)
        tenant = other["tenant"]
        assert (await desk.gate.call("DELETE", f"/v1/admin/tenants/{tenant}")).status_code == 200
        assert (await desk.send(other["id"], signed(other["secret"], "msg_1", BODY), BODY)).status_code == 401
        assert {act["action"] for act in await desk.gate.acts()} >= {"hook.create", "hook.revoke"}


async def test_a_secret_is_shown_once_and_stands_in_no_table(desks: Open, tmp_path: Path) -> None:
    async with desks() as desk:
        hook = await desk.hook()
        listed = await desk.gate.call("GET", "/v1/admin/hooks")
        assert hook["secret"] not in listed.text
        assert [one["id"] for one in listed.json()["data"]] == [hook["id"]]
        rows = await fetch(desk.gate.database, sa.select(hooks))
        assert hook["secret"].removeprefix("whsec_")[:20] not in str(rows)
        answer = await desk.gate.call("POST", "/v1/admin/hooks", json={"name": "x"})
        assert answer.headers["cache-control"] == "no-store"
        file = tmp_path / "data" / "hooks.key"
        assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
        assert [one.name for one in file.parent.glob(".hooks*")] == []


def test_the_key_of_the_house_is_made_once_and_is_the_same_for_all(tmp_path: Path) -> None:
    file = tmp_path / "data" / "hooks.key"
    made = {HouseKey(None, file).secret_of("hook_1") for _ in range(3)}
    assert len(made) == 1
    assert HouseKey(SecretStr("k" * 40), file).secret_of("hook_1") not in made
    assert HouseKey(None, file).secret_of("hook_2") not in made
    with pytest.raises(SettingsRefused, match="STOKER_HOOKS_KEY"):
        HouseKey(None, file, hosts=2).secret_of("hook_1")
    file.write_text("short")
    with pytest.raises(SettingsRefused, match="no key"):
        HouseKey(None, file).secret_of("hook_1")


async def test_a_member_makes_no_hooks(desks: Open) -> None:
    async with desks() as desk:
        member = (await desk.gate.key("member"))["key"]
        answer: Any = await desk.gate.call("POST", "/v1/admin/hooks", member, json={"name": "x"})
        assert answer.status_code == 403
