"""Which lines have a sum of money asked for anew."""

from collections.abc import Iterable

import pytest

from api.ledger.line import Line
from api.ledger.recounts import Recounts
from core.clock import ManualClock
from core.dependency import DependencyUnavailable
from core.limits import Subject
from storage.sql import Database
from tests.integration.ledger.test_alerts import limit
from tests.support.ledger import NOON, a_line, finished


class Heard:
    """Remembers whose sums are to be forgotten."""

    def __init__(self) -> None:
        self.away = False
        self.own: set[tuple[str, str]] = set()
        self.common: set[str] = set()

    async def forget_spent(self, tenant_id: str, subjects: Iterable[Subject]) -> None:
        if self.away:
            raise DependencyUnavailable("redis", "redis is away")
        self.own |= {(tenant_id, subject.id) for subject in subjects}

    async def forget_common(self, subjects: Iterable[Subject]) -> None:
        self.common |= {subject.id for subject in subjects}


def a_second(name: str, at: float, segment: int = 0) -> Line:
    """A line of a request that took a second."""
    return finished(a_line(name, at=at, segment=segment), latency_ms=1000.0)


async def test_a_line_that_began_before_its_limit_of_money_is_counted_anew(database: Database) -> None:
    clock, heard = ManualClock(NOON), Heard()
    recounts = Recounts(database, heard, clock)
    await limit(database, "key", "key_1", nano_usd_per_month=1000, changed_at=NOON)
    recounts.note([a_second("after", NOON + 3)])
    assert await recounts.check() == 0
    assert not heard.own
    recounts.note([a_second("before", NOON - 1), a_second("after", NOON + 4)])
    assert await recounts.check() == 1
    assert ("default", "key_1") in heard.own
    assert "words" in heard.common
    assert await recounts.check() == 0


@pytest.mark.parametrize(("hosts", "doubtful"), [(1, 0), (2, 1)])
async def test_another_hosts_clock_may_be_apart_and_its_workers_learn_later(
    database: Database, hosts: int, doubtful: int
) -> None:
    """On one host the first lines of a new key would be doubted, and with SQL away it would hear 503."""
    recounts = Recounts(database, Heard(), ManualClock(NOON + 2), hosts)
    await limit(database, "key", "key_1", nano_usd_per_month=1000, changed_at=NOON)
    recounts.note([a_second("soon", NOON + 1.5)])
    assert await recounts.check() == doubtful


async def test_a_limit_that_all_tenants_share_concerns_everybodys_lines(database: Database) -> None:
    heard = Heard()
    recounts = Recounts(database, heard, ManualClock(NOON))
    await limit(database, "model", "words", tenant_id="*", nano_usd_per_day=1000, changed_at=NOON)
    recounts.note([a_second("before", NOON - 1)])
    assert await recounts.check() == 1


async def test_a_limit_of_something_else_concerns_no_line(database: Database) -> None:
    recounts = Recounts(database, Heard(), ManualClock(NOON))
    await limit(database, "key", "key_1", parallel=3, changed_at=NOON)
    await limit(database, "key", "key_2", nano_usd_per_day=3, changed_at=NOON)
    recounts.note([a_second("before", NOON - 1)])
    assert await recounts.check() == 0


async def test_a_second_segment_is_counted_anew(database: Database) -> None:
    recounts = Recounts(database, Heard(), ManualClock(NOON))
    recounts.note([a_second("one", NOON), a_second("one", NOON, segment=1)])
    assert await recounts.check() == 1


@pytest.mark.parametrize(("hosts", "late"), [(1, 0), (2, 1)])
async def test_of_several_hosts_lines_that_come_late_are_counted_anew(
    database: Database, hosts: int, late: int
) -> None:
    clock = ManualClock(NOON)
    recounts = Recounts(database, Heard(), clock, hosts)
    clock.advance(2.5)
    recounts.note([a_second("late", NOON), a_second("soon", NOON + 1)])
    assert await recounts.check() == late


async def test_what_redis_could_not_be_told_is_told_later(database: Database) -> None:
    heard = Heard()
    recounts = Recounts(database, heard, ManualClock(NOON))
    recounts.note([a_second("one", NOON, segment=1)])
    heard.away = True
    with pytest.raises(DependencyUnavailable):
        await recounts.check()
    heard.away = False
    assert await recounts.check() == 1
    assert heard.own
