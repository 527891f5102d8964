"""Entries, flights and purges on a real Valkey."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from redis import Redis

from api.caching.cache import Bounds, Cache, Flight, Hit
from api.caching.name import ALL, Documents, Name, name_of, of_collection, of_key
from core.principal import Principal, Role
from storage.redis import RedisClient
from storage.scripts import ScriptLine
from tests.support.valkey import valkey_server

CALLER = Principal("ten_a", "key_a", Role.MEMBER)
PIER = Documents("col_a", 1)
PATIENT = Bounds(deadline_s=5)
pytestmark = pytest.mark.usefixtures("redis")


def named(text: str, caller: Principal = CALLER, documents: Documents = PIER) -> Name:
    return name_of(caller, "answer", {"query": text}, [documents])


@asynccontextmanager
async def opened(url: str, bounds: Bounds = PATIENT) -> AsyncIterator[Cache]:
    """A cache as one worker has it."""
    client = RedisClient(url, bounds.deadline_s)
    line = ScriptLine(client)
    cache = Cache(line, bounds)
    try:
        yield cache
    finally:
        await cache.close()
        await line.close()
        await client.close()


async def filled(cache: Cache, name: Name, body: str = "an answer", ttl_s: float = 60) -> None:
    flight = await cache.look(name)
    assert isinstance(flight, Flight)
    flight.keep(body, ttl_s)
    found = await cache.look(name)
    assert isinstance(found, Hit)


async def test_what_was_kept_is_found_by_all_workers_and_by_nobody_else(url: str) -> None:
    async with opened(url) as one, opened(url) as other:
        await filled(one, named("a"), "größer than ever")
        found = await other.look(named("a"))
        assert isinstance(found, Hit)
        assert found.body == "größer than ever"
        assert 0 <= found.age_s < 60
        for stranger in (
            named("b"),
            named("a", replace(CALLER, tenant_id="ten_b")),
            named("a", replace(CALLER, user_id="usr_b")),
            named("a", documents=Documents("col_a", 2)),
        ):
            flight = await other.look(stranger)
            assert isinstance(flight, Flight)
            flight.leave()


async def test_an_entry_ends_by_itself(url: str, redis: Redis) -> None:
    async with opened(url) as cache:
        await filled(cache, named("a"), ttl_s=1)
        await asyncio.sleep(1.1)
        assert isinstance(await cache.look(named("a")), Flight)


@pytest.mark.parametrize("workers", [1, 4])
async def test_of_two_hundred_who_ask_at_once_one_makes_the_entry(
    url: str, workers: int, figure: Callable[[str], None]
) -> None:
    made = 0

    async def ask(cache: Cache) -> str:
        nonlocal made
        found = await cache.look(named("a"))
        if isinstance(found, Hit):
            return found.body
        assert isinstance(found, Flight)
        made += 1
        await asyncio.sleep(0.3)
        found.keep("an answer", 60)
        return "an answer"

    async with opened(url) as one, opened(url) as two, opened(url) as three, opened(url) as four:
        caches = [one, two, three, four][:workers]
        answers = await asyncio.gather(*(ask(caches[at % workers]) for at in range(200)))
    figure(f"200 who ask at once in {workers} workers: {made} made it")
    assert made == 1
    assert set(answers) == {"an answer"}


async def test_where_one_gives_up_the_next_one_makes_it_and_where_nothing_can_be_kept_nobody_waits(url: str) -> None:
    async with opened(url) as cache, opened(url) as other:
        first = await cache.look(named("a"))
        assert isinstance(first, Flight)
        waiting = [asyncio.create_task(one.look(named("a"))) for one in (cache, other)]
        await asyncio.sleep(0.05)
        first.leave()
        done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        (second,) = [task.result() for task in done]
        assert isinstance(second, Flight)
        second.leave(barren=True)
        assert [task.result() for task in (await asyncio.wait(pending, timeout=5))[0]] == [None]
        began_s = time.monotonic()
        assert [await one.look(named("a")) for one in (cache, other)] == [None, None]
        assert time.monotonic() - began_s < 5


async def test_a_worker_that_dies_holds_nobody_up(url: str) -> None:
    """Its flight's lease ends; and one that lives goes on beyond the lease."""
    bounds = Bounds(deadline_s=5, lease_s=0.6)
    script = (
        "import asyncio, sys\n"
        "from tests.integration.caching.test_cache import Bounds, named, opened\n"
        "async def main():\n"
        "    async with opened(sys.argv[1], Bounds(deadline_s=5, lease_s=0.6)) as cache:\n"
        "        await cache.look(named('a'))\n"
        "        print('leads', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    dying = await asyncio.create_subprocess_exec(sys.executable, "-c", script, url, stdout=asyncio.subprocess.PIPE)
    assert dying.stdout is not None
    assert await dying.stdout.readline() == b"leads\n"
    async with opened(url, bounds) as cache:
        waiting = asyncio.create_task(cache.look(named("a")))
        await asyncio.sleep(1.5)
        assert not waiting.done()
        os.kill(dying.pid, signal.SIGKILL)
        await dying.wait()
        flight = await asyncio.wait_for(waiting, 10)
        assert isinstance(flight, Flight)
        flight.leave()


@pytest.mark.parametrize("carried", [ALL, of_key("key_a"), of_collection("col_a")])
async def test_what_is_purged_is_not_found_again(url: str, carried: str) -> None:
    async with opened(url) as cache:
        stays = named("a", replace(CALLER, tenant_id="ten_b", key_id="key_b"), Documents("col_b", 1))
        other = named("a", replace(CALLER, key_id="key_b"), Documents("col_b", 1))
        for name in (named("a"), stays, other):
            await filled(cache, name)
        slow = await cache.look(named("slow"))
        assert isinstance(slow, Flight)
        await cache.purge("ten_a", carried)
        late = asyncio.create_task(cache.look(named("slow")))  # it comes after the purge, and waits
        await asyncio.sleep(0.05)
        slow.keep("made of what was purged", 60)
        anew = await late
        assert isinstance(anew, Flight)
        anew.leave()
        for name in (named("a"), named("slow")):
            flight = await cache.look(name)
            assert isinstance(flight, Flight)
            flight.keep("new", 60)
            assert isinstance(await cache.look(name), Hit)
        assert isinstance(await cache.look(stays), Hit)
        assert isinstance(await cache.look(other), Flight if carried == ALL else Hit)


async def test_a_tenants_entries_are_never_larger_than_its_share_and_take_none_of_anothers(
    url: str, redis: Redis
) -> None:
    bounds = Bounds(deadline_s=5, entry_bytes=1000, tenant_bytes=5000)
    async with opened(url, bounds) as cache:
        neighbour = named("a", replace(CALLER, tenant_id="ten_b"))
        await filled(cache, neighbour)
        for at in range(40):
            await filled(cache, named(f"{at}"), "x" * (100 + 37 * at % 900), ttl_s=60 + at)
            if at % 3 == 0:  # another answer of the same name, of another length
                redis.delete(named(f"{at}").key)
                await filled(cache, named(f"{at}"), "y" * 50, ttl_s=60 + at)
            sizes = [redis.hstrlen(key, "body") + len(key) for key in redis.scan_iter("{ten_a}:cache:answer:*")]
            assert sum(sizes) <= int(redis.get("{ten_a}:cache:index:bytes") or 0) <= 5000
        assert isinstance(await cache.look(named("39")), Hit)
        assert isinstance(await cache.look(named("0")), Flight)
        assert isinstance(await cache.look(neighbour), Hit)
        for text in ("z" * 1001, "ü" * 501):
            large = await cache.look(named(text))
            assert isinstance(large, Flight)
            large.keep(text, 60)
            assert await cache.look(named(text)) is None


async def test_with_redis_away_or_frozen_everybody_goes_without(
    tmp_path_factory: pytest.TempPathFactory, url: str
) -> None:
    bounds = Bounds(deadline_s=0.2)
    with valkey_server(tmp_path_factory.mktemp("frozen")) as address:
        pid = int(Redis.from_url(address).info("server")["process_id"])
        async with opened(address, bounds) as cache:
            flight = await cache.look(named("a"))
            assert isinstance(flight, Flight)
            os.kill(pid, signal.SIGSTOP)
            try:
                began_s = time.monotonic()
                waiting = [asyncio.create_task(cache.look(named(text))) for text in "aab"]
                flight.keep("an answer", 60)
                found = await asyncio.wait_for(asyncio.gather(*waiting), 10)
                assert all(one is None or isinstance(one, Hit) for one in found)
                assert found[2] is None
                assert time.monotonic() - began_s < 5
            finally:
                os.kill(pid, signal.SIGCONT)
    async with opened("redis://127.0.0.1:1/0", bounds) as cache:
        assert await cache.look(named("a")) is None
