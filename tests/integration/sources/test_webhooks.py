"""The ends of jobs are told: signed, once at least, also when whoever tells them is killed."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web
from standardwebhooks import Webhook

from api.hooks.delivering import Deliverer, Patience
from api.hooks.ends import Ends
from api.hooks.secrets import HouseKey
from core.clock import SystemClock
from core.principal import Principal, Role
from retrieval.intake import NewFile
from retrieval.rows import fetch
from retrieval.sources.fetcher import Bounds, Fetcher
from retrieval.sources.guard import Guard
from retrieval.sources.open import open_guard
from storage.schema import deliveries, tasks
from tests.integration.sources.conftest import Desk, Open
from tests.support.process import ROOT

BOUNDS = Bounds(connect_s=2, read_s=2, total_s=2, bytes=0, redirects=0)


@dataclass
class Receiver:
    """Somebody's webhook. `answers` are the statuses of its next answers; 200 when there is none left; 0: silence."""

    port: int = 0
    answers: list[int] = field(default_factory=list)
    got: list[tuple[dict[str, str], str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def verified(self, secret: str) -> list[dict[str, Any]]:
        """What came, read by the reference library. Raises: WebhookVerificationError."""
        return [Webhook(secret).verify(body, headers) for headers, body in self.got]

    async def answer(self, request: web.Request) -> web.Response:
        self.got.append(({name.lower(): value for name, value in request.headers.items()}, await request.text()))
        status = self.answers.pop(0) if self.answers else 200
        if not status:
            await asyncio.sleep(60)
        return web.Response(status=status, headers={"location": "/elsewhere"})


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{tail:.*}", receiver.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def until(holds: Callable[[], Awaitable[object]], seconds: float = 60) -> None:
    end_s = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < end_s
        await asyncio.sleep(0.05)


def deliverer(desk: Desk, guard: Guard | None = None, retry_s: float = 0.05, lease_s: float = 30.0) -> Deliverer:
    settings, database = desk.gate.state.settings, desk.gate.database
    guard = guard or open_guard(settings)
    patience = Patience(lease_s=lease_s, retry_s=retry_s, factor=1.0)
    return Deliverer(database, SystemClock(), HouseKey.of(settings), guard, Fetcher(guard, BOUNDS, "stoker"), patience)


def ends(desk: Desk, give_up_s: float = 86_400.0) -> Ends:
    return Ends(desk.gate.database, SystemClock(), give_up_s)


async def register(desk: Desk, receiver: Receiver, **fields: Any) -> dict[str, Any]:
    return await desk.gate.made("/v1/admin/webhooks", url=receiver.url, **fields)


async def job(desk: Desk, *statuses: str) -> str:
    """A job whose documents ended so, without a worker."""
    principal = Principal("default", "key_1", Role.ADMIN)
    files = [NewFile(f"{number}.txt", None, b"very secret text") for number, _ in enumerate(statuses)]
    accepted = await desk.gate.state.retrieval.intake.accept(principal, "c", files)
    for document_id, status in zip(accepted.document_ids, statuses, strict=True):
        await end(desk, accepted.job_id, document_id, status)
    return str(accepted.job_id)


async def end(desk: Desk, job_id: str, document_id: str, status: str) -> None:
    async def write(connection: Any) -> None:
        mine = sa.and_(tasks.c.job_id == job_id, tasks.c.document_id == document_id)
        await connection.execute(tasks.update().where(mine).values(status=status, finished_at=time.time()))

    await desk.gate.database.write(write)


async def listed(desk: Desk, webhook: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await desk.gate.call("GET", f"/v1/admin/webhooks/{webhook['id']}/deliveries")
    return list(answer.json()["data"])


def opening(receiver: Receiver) -> dict[str, Any]:
    return {"fetch_allow": [f"127.0.0.1:{receiver.port}"]}


async def test_the_end_of_a_job_is_told_signed_and_without_content(desks: Open) -> None:
    async with receiving() as receiver, desks(**opening(receiver)) as desk:
        webhook = await register(desk, receiver)
        job_id = await job(desk, "ready", "failed")
        assert await ends(desk).check() == 1
        assert await ends(desk).check() == 0, "it is told once"
        assert await deliverer(desk).deliver() == 1
        (told,) = receiver.verified(webhook["secret"])
        assert told["type"] == "job.failed"
        assert (told["data"]["job_id"], told["data"]["status"]) == (job_id, "failed")
        assert [one["status"] for one in told["data"]["documents"]] == ["ready", "failed"]
        assert "very secret" not in receiver.got[0][1]
        (delivery,) = await listed(desk, webhook)
        assert (delivery["status"], delivery["attempts"], delivery["answer"]) == ("delivered", 1, 200)
        assert receiver.got[0][0]["webhook-id"] == delivery["id"]
        assert webhook["secret"] not in (await desk.gate.call("GET", "/v1/admin/webhooks")).text


async def test_a_job_that_goes_on_is_not_told_of(desks: Open) -> None:
    async with receiving() as receiver, desks(**opening(receiver)) as desk:
        webhook = await register(desk, receiver)
        job_id = await job(desk, "ready", "queued")
        assert await ends(desk).check() == 0
        await desk.gate.state.retrieval.jobs.cancel(Principal("default", "key_1", Role.ADMIN), job_id)
        assert await ends(desk).check() == 1
        await deliverer(desk).deliver()
        assert receiver.verified(webhook["secret"])[0]["type"] == "job.cancelled"
        await desk.gate.state.retrieval.jobs.retry(Principal("default", "key_1", Role.ADMIN), job_id)
        assert await ends(desk).check() == 0, "it goes on again"


async def test_only_the_events_and_the_tenant_that_were_asked_for(desks: Open) -> None:
    async with receiving() as receiver, desks(**opening(receiver)) as desk:
        await desk.gate.made("/v1/admin/tenants", name="acme")
        await register(desk, receiver, tenant="acme")
        await register(desk, receiver, events=["job.cancelled"])
        wanted = await register(desk, receiver, events=["job.succeeded"])
        await job(desk, "ready")
        assert await ends(desk).check() == 1
        await deliverer(desk).deliver()
        assert len(receiver.verified(wanted["secret"])) == 1


async def test_what_is_not_taken_is_told_again_under_the_same_id(desks: Open) -> None:
    async with receiving() as receiver, desks(**opening(receiver)) as desk:
        webhook = await register(desk, receiver)
        receiver.answers = [500, 302, 429]
        await job(desk, "ready")
        await ends(desk).check()

        async def delivered() -> bool:
            await deliverer(desk).deliver()
            return (await listed(desk, webhook))[0]["status"] == "delivered"

        await until(delivered)
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
        assert len(receiver.verified(webhook["secret"])) == 4, "a redirect is not followed"


async def test_it_is_given_up_in_the_end_and_can_be_told_again(desks: Open) -> None:
    async with receiving() as receiver, desks(**opening(receiver)) as desk:
        webhook = await register(desk, receiver)
        receiver.answers = [500]
        await job(desk, "ready")
        await ends(desk, give_up_s=0.01).check()
        await deliverer(desk, retry_s=5.0).deliver()
        (delivery,) = await listed(desk, webhook)
        assert (delivery["status"], delivery["answer"], delivery["error"]) == ("given_up", 500, "it answered 500")
        path = f"/v1/admin/webhooks/{webhook['id']}/deliveries/{delivery['id']}/redeliver"
        again = await desk.gate.call("POST", path)
        assert (again.status_code, again.json()["status"]) == (200, "waiting")
        await deliverer(desk).deliver()
        assert (await listed(desk, webhook))[0]["status"] == "delivered"
        assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1


async def test_several_deliverers_tell_each_thing_once(desks: Open) -> None:
    async with receiving() as receiver, desks(**opening(receiver)) as one, desks(**opening(receiver)) as other:
        await register(one, receiver)
        for _ in range(10):
            await job(one, "ready")
        await asyncio.gather(*(ends(desk).check() for desk in (one, other)))
        await asyncio.gather(*(deliverer(desk).deliver() for desk in (one, other, one, other)))

        async def all_told() -> bool:
            await deliverer(one).deliver()
            return not await fetch(one.gate.database, sa.select(deliveries.c.id).where(deliveries.c.ended_at.is_(None)))

        await until(all_told)
        ids = [headers["webhook-id"] for headers, _ in receiver.got]
        assert len(ids) == len(set(ids)) == 10


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/x", "http://169.254.169.254/", "ftp://example.com/", "x"])
async def test_an_address_inside_is_refused_when_it_is_registered(desks: Open, address: str) -> None:
    async with desks() as desk:
        answer = await desk.gate.call("POST", "/v1/admin/webhooks", json={"url": address})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "address_refused")


async def test_an_address_that_leads_inside_later_is_not_reached(desks: Open) -> None:
    async with receiving() as receiver, desks(**opening(receiver)) as desk:
        webhook = await register(desk, receiver)
        await job(desk, "ready")
        await ends(desk).check()
        await deliverer(desk, Guard([], [80, 443])).deliver()
        (delivery,) = await listed(desk, webhook)
        assert delivery["status"] == "waiting"
        assert "STOKER_FETCH_ALLOW" in delivery["error"]
        assert receiver.got == []


async def test_what_waits_for_a_deleted_webhook_is_not_told(desks: Open) -> None:
    async with receiving() as receiver, desks(**opening(receiver)) as desk:
        webhook = await register(desk, receiver)
        await job(desk, "ready")
        await ends(desk).check()
        assert (await desk.gate.call("DELETE", f"/v1/admin/webhooks/{webhook['id']}")).json()["deleted"]
        await deliverer(desk).deliver()
        assert receiver.got == []


async def test_a_delivery_survives_the_death_of_its_deliverer(
    desks: Open, url: str, redis_url: str, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """A keeper is killed with -9 in the middle of a delivery; the next one tells it under the same id."""
    async with receiving() as receiver, desks(**opening(receiver)) as desk:
        webhook = await register(desk, receiver)
        receiver.answers = [0]
        await job(desk, "ready")
        first = keeper(tmp_path, url, redis_url, receiver)

        async def asked() -> bool:
            assert first.poll() is None, (tmp_path / "keeper.log").read_text()
            return bool(receiver.got)

        await until(asked)
        first.send_signal(signal.SIGKILL)
        first.wait()
        began = time.monotonic()
        second = keeper(tmp_path, url, redis_url, receiver)
        try:

            async def delivered() -> bool:
                return (await listed(desk, webhook))[0]["status"] == "delivered"

            await until(delivered)
        finally:
            second.terminate()
            second.wait()
        ids = [headers["webhook-id"] for headers, _ in receiver.got]
        figure(f"told {len(ids)} times, delivered {time.monotonic() - began:.1f} s after the kill")
        assert len(ids) >= 2
        assert len(set(ids)) == 1
        assert receiver.verified(webhook["secret"])[-1]["type"] == "job.succeeded"


def keeper(folder: Path, url: str, redis_url: str, receiver: Receiver) -> subprocess.Popen[bytes]:
    settings = {
        "STOKER_DATA_DIR": str(folder / "data"),
        "STOKER_DATABASE_URL": url,
        "STOKER_REDIS_URL": redis_url,
        "STOKER_OBJECT_STORE": f"folder:{folder / 'objects'}",
        "STOKER_FETCH_ALLOW": f"127.0.0.1:{receiver.port}",
        "STOKER_WEBHOOK_DEADLINE_S": "2",
        "STOKER_WEBHOOK_RETRY_S": "0.1",
    }
    with (folder / "keeper.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "api.keeper"], cwd=ROOT, env={**os.environ, **settings}, stdout=log, stderr=log
        )
