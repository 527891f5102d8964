"""The way to a central gateway, by itself: asked only while it is known to be well, and to be the right one."""

import aiohttp
import pytest

from api.answers.recipes import Said
from core.clock import ManualClock
from core.reach import ANYWHERE, HOME, Reach
from edge.central import LOOK_EVERY_S, Central, open_central
from edge.errors import CentralSilent
from edge.library import ShelvedCollection
from tests.support.central import fake_central


def _collection(reach: Reach = ANYWHERE) -> ShelvedCollection:
    return ShelvedCollection("papers", "col_1", reach, Said())


async def _asked(central: Central) -> bool:
    """Whether a question was answered there."""
    try:
        await central.ask({"query": "x", "collection": "papers"}, "r")
    except CentralSilent:
        return False
    return True


async def test_nothing_is_asked_before_it_was_looked_at() -> None:
    with fake_central("col_1") as fake:
        async with aiohttp.ClientSession() as session:
            central = Central(session, fake.url, "k", _collection(), 1.0, ManualClock())
            assert not await _asked(central)
            assert fake.asked == []
            await central.look()
            assert await _asked(central)


async def test_after_one_failure_nobody_waits_for_it_until_a_look_finds_it_well() -> None:
    with fake_central("col_1") as fake:
        clock = ManualClock()
        async with aiohttp.ClientSession() as session:
            central = Central(session, fake.url, "k", _collection(), 0.2, clock)
            await central.look()
            fake.does = "silent"
            for _ in range(20):
                assert not await _asked(central)
            assert len(fake.asked) == 1
            fake.does = "answer"
            clock.advance(LOOK_EVERY_S)
            assert not await _asked(central)  # a question is no probe
            await central.look()
            assert await _asked(central)


@pytest.mark.parametrize("reach", [HOME, Reach(providers=frozenset({"azure"})), Reach(regions=frozenset({"eu"}))])
async def test_bound_text_goes_to_no_gateway_but_its_origin(reach: Reach) -> None:
    for collection_id, may in (("col_1", True), ("col_2", False)):
        with fake_central(collection_id) as fake:
            async with aiohttp.ClientSession() as session:
                central = Central(session, fake.url, "k", _collection(reach), 1.0, ManualClock())
                await central.look()
                assert await _asked(central) is may
                assert len(fake.asked) == may
                assert central.state == "ready" if may else "bound to its house" in central.state


async def test_free_text_may_go_to_any() -> None:
    with fake_central("col_2") as fake:
        async with aiohttp.ClientSession() as session:
            central = Central(session, fake.url, "k", _collection(), 1.0, ManualClock())
            await central.look()
            assert await _asked(central)


@pytest.mark.parametrize("does", ["refuse", "nonsense"])
async def test_what_is_no_answer_is_none(does: str) -> None:
    with fake_central("col_1") as fake:
        async with aiohttp.ClientSession() as session:
            central = Central(session, fake.url, "k", _collection(), 1.0, ManualClock())
            await central.look()
            fake.does = does  # type: ignore[assignment]
            assert not await _asked(central)


async def test_it_is_opened_at_once_where_nobody_answers() -> None:
    async with open_central("http://127.0.0.1:9", "k", _collection(), 1.0, ManualClock()) as central:
        assert not central.ready
        assert not await _asked(central)
