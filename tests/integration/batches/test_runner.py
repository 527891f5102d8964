"""A batch's life: every line once in what comes out, whoever refuses, fails, cancels or goes away in between."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
import sqlalchemy as sa

from api.batches.sending import Reply
from api.batches.states import Status
from api.batches.store import NewBatch
from api.errors import BatchNotFound, BatchOver, TooManyBatches
from api.owner import owner_of
from core.principal import Principal, Role
from storage.schema import api_keys, batch_lines, batches, files
from tests.integration.batches.conftest import CHAT, House, meets, names

FAULT = Reply(502, {"error": {"code": "upstream_failed"}})


async def test_every_line_is_answered_once_and_counted(house: House) -> None:
    ids = names(25)
    house.provider.replies["line-3"] = [Reply(400, {"error": {"code": "invalid_request"}})]
    batch = await house.batch(*ids, metadata={"for": "test"})
    assert (batch.status, batch.total, batch.model) == (Status.VALIDATING, 0, None)
    async with house.working():
        ended = await house.until(batch)
    assert ended.status is Status.COMPLETED
    assert (ended.total, ended.completed, ended.failed, ended.model) == (25, 24, 1, "m")
    assert ended.usage == {"input_tokens": 120, "cached_tokens": 0, "output_tokens": 48, "reasoning_tokens": 0}
    assert ended.metadata == {"for": "test"}
    assert batch.created_at <= (ended.in_progress_at or 0) <= (ended.finalizing_at or 0) <= (ended.completed_at or 0)
    output, errors = await house.lines_of(ended.output_file_id), await house.lines_of(ended.error_file_id)
    assert [one["custom_id"] for one in output] == [one for one in ids if one != "line-3"]
    assert all(one["response"]["body"]["echo"] == one["custom_id"] and one["error"] is None for one in output)
    assert len({one["id"] for one in output + errors}) == 25
    (wrong,) = errors
    assert (wrong["custom_id"], wrong["response"]["status_code"], wrong["error"]) == ("line-3", 400, None)
    assert Counter(house.provider.asked) == Counter(ids)
    assert len(set(house.provider.names)) == 25
    assert house.provider.most <= 2


async def test_what_comes_out_is_its_owner_s_and_its_lines_are_swept(house: House) -> None:
    batch = await house.batch("a", output_expires_after_s=3600)
    async with house.working():
        ended = await house.until(batch)
    made = await house.files.get(house.principal, ended.output_file_id or "")
    given = await house.files.get(house.principal, batch.input_file_id)
    assert (made.purpose, made.creator) == ("batch_output", given.creator)
    assert given.acl is None
    others = [
        replace(house.principal, user_id="usr_other"),
        replace(house.principal, user_id=None, team_id="team_other"),
        replace(house.principal, user_id=None, team_id=None),
    ]
    own = owner_of(house.principal)
    for other in others:
        seen = [file.id for file in await house.files.list(other)]
        assert given.id in seen
        assert (made.id in seen) == (owner_of(other) == own)
    assert made.id in [file.id for file in await house.files.list(house.principal)]
    assert made.expires_at == pytest.approx(made.created_at + 3600)
    assert ended.error_file_id is None
    house.clock.ahead_s += 60

    async def swept() -> bool:
        return await house.rows(sa.select(batch_lines.c.number)) == []

    async with house.working():
        await meets(swept)
    assert (await house.now(batch)).completed == 1


async def test_a_file_that_is_none_ends_its_batch_with_the_lines_at_fault(house: House) -> None:
    right = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {}}
    batch = await house.batch(lines=[right, {**right, "url": "/v1/embeddings"}, right])
    async with house.working():
        ended = await house.until(batch)
    assert ended.status is Status.FAILED
    told = [(one["code"], one["line"], one["param"]) for one in ended.errors or []]
    assert told == [("invalid_url", 2, "url"), ("duplicate_custom_id", 3, "custom_id")]
    assert (ended.output_file_id, ended.error_file_id, ended.total) == (None, None, 0)
    assert house.provider.asked == []


async def test_an_input_that_was_deleted_meanwhile_ends_its_batch(house: House) -> None:
    batch = await house.batch("a")
    await house.files.delete(house.principal, batch.input_file_id)
    async with house.working():
        ended = await house.until(batch)
    assert [one["code"] for one in ended.errors or []] == ["file_not_found"]


async def test_what_a_limit_refuses_waits_and_costs_no_attempt(house: House) -> None:
    refusals = [Reply(429, {}, 0.05), Reply(503, {}, 0.05)] * 4
    house.provider.replies["line-1"] = refusals
    batch = await house.batch(*names(3))
    async with house.working(attempts=1):
        ended = await house.until(batch)
    assert (ended.status, ended.completed) == (Status.COMPLETED, 3)
    assert house.provider.asked.count("line-1") == 9


async def test_while_a_limit_refuses_nothing_else_of_the_batch_is_sent(light_house: House) -> None:
    house = light_house
    for name in names(6):
        house.provider.replies[name] = [Reply(429, {}, 1000.0)]
    batch = await house.batch(*names(6))
    other = await house.batch("other")
    async with house.working(parallel=1):
        assert (await house.until(other)).status is Status.COMPLETED  # it is nobody else's limit
        await asyncio.sleep(0.3)
        assert len(house.provider.asked) == 2
        house.clock.ahead_s += 61  # it is asked for again before the limit said: somebody may have raised it
        await meets(lambda: len(house.provider.asked) == 3)
    assert (await house.now(batch)).status is Status.IN_PROGRESS


async def test_an_upstream_that_fails_is_tried_again_as_often_as_set(house: House) -> None:
    house.provider.replies = {"line-0": [FAULT] * 2, "line-1": [FAULT] * 9}
    batch = await house.batch(*names(3))
    async with house.working(attempts=3):
        async with asyncio.timeout(20):
            while house.provider.asked.count("line-1") < 3:
                house.clock.ahead_s += 1
                await asyncio.sleep(0.05)
        ended = await house.until(batch)
    assert (ended.completed, ended.failed) == (2, 1)
    assert Counter(house.provider.asked) == {"line-0": 3, "line-1": 3, "line-2": 1}
    (failed,) = await house.lines_of(ended.error_file_id)
    assert failed["error"] is None
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("line-1", 502)


async def test_a_cancel_stops_new_lines_within_two_seconds_and_keeps_what_is_done(house: House) -> None:
    ids = names(20)
    batch = await house.batch(*ids)
    async with house.working(poll_s=1.0):  # as it is in the gateway
        await meets(lambda: len(house.provider.asked) >= 5)
        house.provider.gate.clear()
        await meets(lambda: house.provider.running == 2)
        cancelling = await house.batches.cancel(house.principal, batch.id)
        assert cancelling.status is Status.CANCELLING
        sent = len(house.provider.asked)
        ended = await house.until(batch, limit_s=4.0)
        assert len(house.provider.asked) == sent
        assert house.provider.running == 0
    assert (ended.status, ended.total) == (Status.CANCELLED, 20)
    output, errors = await house.out(ended)
    assert output + errors == Counter(ids)
    assert output == Counter(house.provider.asked[: sent - 2])
    assert (ended.completed, ended.failed) == (sent - 2, 22 - sent)
    assert {one["error"]["code"] for one in await house.lines_of(ended.error_file_id)} == {"batch_cancelled"}
    assert await house.batches.cancel(house.principal, batch.id) == ended  # once more changes nothing


async def test_a_batch_that_is_cancelled_before_it_was_read_has_no_files(house: House) -> None:
    batch = await house.batch("a")
    await house.batches.cancel(house.principal, batch.id)
    async with house.working():
        ended = await house.until(batch)
    assert (ended.status, ended.output_file_id, ended.error_file_id) == (Status.CANCELLED, None, None)
    assert house.provider.asked == []


async def test_what_has_ended_cannot_be_cancelled(house: House) -> None:
    batch = await house.batch("a")
    async with house.working():
        await house.until(batch)
    with pytest.raises(BatchOver):
        await house.batches.cancel(house.principal, batch.id)


async def test_at_the_end_of_its_window_what_is_done_stands_and_the_rest_has_expired(house: House) -> None:
    """The day's budget is used up in the middle; time passes by the clock of the test."""
    ids = names(6)
    for name in ids[3:]:
        house.provider.replies[name] = [Reply(429, {"error": {"code": "insufficient_quota"}}, 50_000.0)] * 10_000
    batch = await house.batch(*ids)
    async with house.working(parallel=1):

        async def three_done() -> bool:
            return (await house.now(batch)).completed == 3

        await meets(three_done)
        for _ in range(23):
            house.clock.ahead_s += 3600
            await asyncio.sleep(0.05)
        assert (await house.now(batch)).status is Status.IN_PROGRESS
        house.clock.ahead_s += 3600
        ended = await house.until(batch)
    assert (ended.status, ended.completed, ended.failed) == (Status.EXPIRED, 3, 3)
    assert ended.expired_at is not None
    assert await house.out(ended) == (Counter(ids[:3]), Counter(ids[3:]))
    lines = await house.lines_of(ended.error_file_id)
    assert {(one["response"], one["error"]["code"]) for one in lines} == {(None, "batch_expired")}


async def test_what_was_never_begun_expires_line_by_line_too(house: House) -> None:
    batch = await house.batch(*names(4))
    house.clock.ahead_s += 24 * 3600
    async with house.working():
        ended = await house.until(batch)
    assert (ended.status, ended.total, ended.failed, house.provider.asked) == (Status.EXPIRED, 4, 4, [])
    assert await house.out(ended) == (Counter(), Counter(names(4)))


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_key_that_ends_in_the_middle_ends_the_batch_with_the_reason(house: House, how: str) -> None:
    ids = names(12)
    batch = await house.batch(*ids)
    async with house.working():
        await meets(lambda: len(house.provider.asked) >= 4)
        house.provider.gate.clear()  # or all lines may be done before the key has ended
        await meets(lambda: house.provider.running == 2)
        column = {"revoked": "revoked_at", "expired": "expires_at"}[how]
        gone = sa.update(api_keys).where(api_keys.c.id == "key_1").values({column: 1.0})
        await house.database.write(lambda connection: connection.execute(gone))
        house.provider.gate.set()
        ended = await house.until(batch)
    assert ended.status is Status.FAILED
    assert [one["code"] for one in ended.errors or []] == ["invalid_api_key"]
    output, errors = await house.out(ended)
    assert output + errors == Counter(ids)
    assert output
    assert {one["error"]["code"] for one in await house.lines_of(ended.error_file_id)} == {"batch_failed"}
    sent = len(house.provider.asked)
    async with house.working():
        await asyncio.sleep(0.2)
    assert len(house.provider.asked) == sent


async def test_a_key_that_has_ended_reads_no_file(house: House) -> None:
    batch = await house.batch("a")
    await house.revoke()
    async with house.working():
        ended = await house.until(batch)
    assert [one["code"] for one in ended.errors or []] == ["invalid_api_key"]


async def test_a_small_batch_is_not_behind_all_lines_of_a_large_one(light_house: House) -> None:
    house = light_house
    large, small = await house.batch(*names(60)), await house.batch("small-1", "small-2")
    async with house.working(parallel=1):
        await house.until(small)
        await house.until(large)
    assert house.provider.asked.index("small-2") < 40


async def test_an_owner_alone_sees_a_batch(house: House) -> None:
    batch = await house.batch("a")
    others = [
        Principal("t", "key_1", Role.ADMIN, user_id="user_1"),
        Principal("t", "key_1", Role.MANAGER, team_id="team_1"),
        Principal("u", "key_1", Role.ADMIN),
    ]
    for other in others:
        with pytest.raises(BatchNotFound):
            await house.batches.get(other, batch.id)
        with pytest.raises(BatchNotFound):
            await house.batches.cancel(other, batch.id)
        assert await house.batches.list(other, None, 10) == []
    rotated = Principal("t", "key_2", Role.MEMBER)
    assert await house.batches.get(rotated, batch.id) == batch


async def test_lists_come_newest_first_and_page_by_page(house: House) -> None:
    made = []
    for at in range(3):
        made.append((await house.batch(f"line-{at}")).id)
        await asyncio.sleep(0.002)  # ids sort by the millisecond
    first = await house.batches.list(house.principal, None, 2)
    assert [one.id for one in first] == made[:0:-1]
    assert [one.id for one in await house.batches.list(house.principal, first[-1].id, 2)] == made[:1]


async def test_no_tenant_fills_the_queue_for_ever(house: House) -> None:
    batch = await house.batch("a")
    new = NewBatch(CHAT, batch.input_file_id)
    for _ in range(9):
        await house.batches.create(house.principal, new)
    with pytest.raises(TooManyBatches):
        await house.batches.create(house.principal, new)
    await house.batches.cancel(house.principal, batch.id)
    async with house.working():
        await house.until(batch)
    await house.batches.create(house.principal, new)


async def test_a_worker_that_ends_hands_back_what_it_was_sending(house: House) -> None:
    house.provider.gate.clear()
    batch = await house.batch(*names(4))
    async with house.working():
        await meets(lambda: house.provider.running == 2)
    rows = await house.rows(sa.select(batch_lines.c.status, batch_lines.c.attempts))
    assert {tuple(row) for row in rows} == {("queued", 0)}
    house.provider.gate.set()
    async with house.working():
        assert (await house.until(batch)).completed == 4


async def test_a_line_at_which_worker_after_worker_ends_is_given_up(light_house: House) -> None:
    house = light_house
    batch = await house.batch(*names(2))
    async with house.working(parallel=1):
        house.provider.gate.clear()
        await meets(lambda: house.provider.running == 1)
    house.provider.gate.set()
    looker = house.runner()._lines
    for _ in range(3):
        await house.runner()._lines.acquire([batch.id])
        assert await looker.take_back() == 0
        house.clock.ahead_s += 40
        assert await looker.take_back() == 1
    asked = house.provider.asked.count("line-0")
    assert asked == 1  # and handed back
    async with house.working(attempts=3):
        ended = await house.until(batch)
    (line,) = await house.lines_of(ended.error_file_id)
    assert (line["custom_id"], line["error"]["code"]) == ("line-0", "attempts_exhausted")
    assert house.provider.asked.count("line-0") == asked


async def test_no_row_stays_behind_of_files_that_nobody_names(house: House) -> None:
    batch = await house.batch("a")
    async with house.working():
        ended = await house.until(batch)
    found = {row.id for row in await house.rows(sa.select(files.c.id))}
    assert found == {batch.input_file_id, ended.output_file_id}
    (row,) = await house.rows(sa.select(batches.c.lease_until, batches.c.worker))
    assert tuple(row) == (None, None)
