"""The calls of one question do not refuse one another, and meet everybody else's limits as any call does."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from api.admission.errors import Dimension, LimitReached
from api.answers.reservations import Reservations
from api.identities import Identity
from api.metering import Size
from core.limits import Limits, Subject, SubjectKind
from core.money import Price
from core.principal import Principal, Role
from router.router import Bound
from tests.simulation.loop import VirtualLoop

IDENTITY = Identity(Principal("t", "key_1", Role.MEMBER))
KEY = Subject(SubjectKind.KEY, "key_1", Limits())


class Narrow:
    """Admits so many at once; what ends is free again a moment later, as when Redis is told of it."""

    def __init__(self, places: int, dimension: Dimension = Dimension.PARALLEL) -> None:
        self.free = places
        self.dimension = dimension
        self.most = self.running = self.refused = 0

    async def admit(self, *_: object) -> SimpleNamespace:
        await asyncio.sleep(0.001)
        if not self.free:
            self.refused += 1
            raise LimitReached(KEY, self.dimension, 1, 1.0)
        self.free -= 1
        self.running += 1
        self.most = max(self.most, self.running)
        return SimpleNamespace()

    def end(self) -> None:
        self.running -= 1
        asyncio.get_running_loop().call_later(0.1, self._free_one)

    def _free_one(self) -> None:
        self.free += 1


def four_calls(admission: Narrow) -> float:
    """One after the other where there is no room for more. Returns: seconds."""

    async def main() -> float:
        metering: Any = admission
        reservations = Reservations(metering, IDENTITY, "/v1/query")

        async def call(number: int) -> None:
            await reservations.admit("m", f"req.{number}", Size(1, 1), Bound(Price(), 1))
            await asyncio.sleep(1.0)
            admission.end()
            reservations.ended()

        began_s = asyncio.get_running_loop().time()
        await asyncio.gather(*(call(number) for number in range(3)))
        await call(3)
        return asyncio.get_running_loop().time() - began_s

    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


@pytest.mark.parametrize("dimension", [Dimension.PARALLEL, Dimension.TOKENS, Dimension.USD_DAY])
def test_calls_of_one_question_wait_for_each_other_where_a_limit_has_room_for_one(dimension: Dimension) -> None:
    admission = Narrow(1, dimension)
    assert 4.0 < four_calls(admission) < 5.0
    assert admission.most == 1
    assert admission.refused


def test_where_there_is_room_they_run_at_once() -> None:
    admission = Narrow(3)
    assert four_calls(admission) < 2.3
    assert admission.most == 3


@pytest.mark.parametrize(("places", "dimension"), [(0, Dimension.PARALLEL), (1, Dimension.REQUESTS)])
def test_what_others_hold_and_what_does_not_come_back_is_not_waited_for(places: int, dimension: Dimension) -> None:
    admission = Narrow(places, dimension)
    with pytest.raises(LimitReached):
        four_calls(admission)
    assert admission.refused <= 4
