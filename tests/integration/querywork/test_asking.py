"""One step of query work through the real router and ledger: admitted, billed, and given up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from api.admission.admission import Ask
from api.admission.errors import Dimension, LimitReached
from api.admission.meters import metered
from api.admission.reservation import Reservation
from api.answers.asking import Asker
from api.answers.queryprompts import Prompt
from api.answers.question import StepFailed
from api.answers.reservations import Reservations
from api.identities import Identity
from api.ledger.ledger import Ledger
from api.ledger.line import Line
from api.metering import Metering
from core.clock import SystemClock
from core.limits import Limits, Subject, SubjectKind
from core.money import Price
from core.principal import Principal, Role
from core.usage import Usage
from router.config import RouterConfig
from router.errors import GuardRefused
from router.router import open_router
from tests.integration.router.calls import config, native
from tests.support.guards import Judges, posted
from tests.support.openai_server import Fault, OpenAiServer, openai_server
from tests.unit.ledger.test_ledger import in_journal, in_slots

PRICE = Price(prompt=2_000_000, cached=2_000_000, completion=4_000_000)
PROMPT = Prompt("a b c d e f g", 5)
EARLY = [Fault.ERROR_500, Fault.BUSY_503, Fault.LIMIT_429, Fault.KEY_401, Fault.ERROR_EVENT_FIRST, Fault.WRONG_TYPE]
LATE = [Fault.CUT_MID_STREAM, Fault.STOP_MID_STREAM]
KEY = Subject(SubjectKind.KEY, "key_1", Limits())


@dataclass
class Admitted:
    """Admits everybody, or refuses; keeps what it was asked and told."""

    refuses: bool = False
    asks: list[Ask] = field(default_factory=list)
    settled: list[tuple[int, int]] = field(default_factory=list)
    released: int = 0

    async def admit(self, ask: Ask) -> Reservation:
        if self.refuses:
            raise LimitReached(KEY, Dimension.TOKENS, 1, 2.0)
        self.asks.append(ask)
        return Reservation(ask.tenant_id, ask.request_id, ask.tokens, ask.nano_usd, metered(ask.tenant_id, ()))

    def settle(self, _: Reservation, tokens: int, nano_usd: int) -> None:
        self.settled.append((tokens, nano_usd))

    def release(self, _: Reservation) -> None:
        self.released += 1


@dataclass
class House:
    server: OpenAiServer
    admitted: Admitted
    asker: Callable[[str | None], Asker]
    lines: Callable[[], list[Line]]
    slots: Callable[[], list[Line]]
    follow: Callable[[RouterConfig], Awaitable[None]]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    admitted: Any = Admitted()
    ledger = Ledger(tmp_path, SystemClock())
    principal = Principal("t", "key_1", Role.MEMBER)
    nobody: Any = None
    metering = Metering(admitted, ledger, nobody, SystemClock())
    async with openai_server() as server, open_router(config(native(server, price=PRICE))) as router:

        def asker(model: str | None = "g") -> Asker:
            reservations = Reservations(metering, Identity(principal), "/v1/query")
            return Asker(router, reservations, principal, model, "req_1")

        yield House(server, admitted, asker, lambda: in_journal(tmp_path), lambda: in_slots(tmp_path), router.follow)
    ledger.close()


async def test_a_step_reserves_what_it_may_use_and_pays_what_it_used_under_a_name_of_its_own(house: House) -> None:
    ask = house.asker("g")
    house.server.script = lambda name, _: f"the words of {name.rpartition('.')[2]}"
    hyde, rewrite = await asyncio.gather(ask("hyde", PROMPT), ask("rewrite", PROMPT))
    assert (hyde, rewrite) == ("the words of hyde", "the words of rewrite")
    assert sorted(headers["x-request-id"] for headers in house.server.headers) == ["req_1.hyde", "req_1.rewrite"]
    used = Usage(7, 4)
    assert ask.usage == used + used
    lines = house.lines()
    assert sorted(line.request_id.partition(".")[2] for line in lines) == ["req_1.hyde", "req_1.rewrite"]
    assert len({line.name for line in lines}) == 2
    for line in lines:
        assert (line.route, line.model_group, line.deployment, line.outcome) == ("/v1/query", "g", "native-1", "ok")
        assert (line.tokens_in, line.tokens_out, line.nano_usd) == (7, 4, 30_000)
    assert house.admitted.settled == [(11, 30_000), (11, 30_000)]
    for reserved in house.admitted.asks:
        assert reserved.tokens > len(PROMPT.content) + PROMPT.max_tokens
        assert reserved.nano_usd >= 30_000


@pytest.mark.parametrize("fault", EARLY, ids=lambda fault: fault.name)
async def test_a_model_that_is_away_is_a_step_that_failed_and_costs_nothing(house: House, fault: Fault) -> None:
    house.server.fault = fault
    ask = house.asker("g")
    with pytest.raises(StepFailed, match="no model answered") as caught:
        await ask("hyde", PROMPT)
    assert "secret" not in str(caught.value)
    assert (house.lines(), house.admitted.released, ask.usage) == ([], 1, Usage())


async def test_what_a_guard_refuses_is_more_than_a_step_that_failed(house: House) -> None:
    guarded = replace(config(native(house.server, price=PRICE)), guards={"g": posted(Judges("secret"))})
    await house.follow(guarded)
    house.server.script = lambda *_: "the secret pier"
    with pytest.raises(GuardRefused, match="not spoken of"):
        await house.asker("g")("hyde", PROMPT)
    (line,) = house.lines()
    assert line.outcome == "failed"
    assert line.tokens_out in (2, 3)  # the third may have come with the second


@pytest.mark.parametrize("fault", LATE, ids=lambda fault: fault.name)
async def test_what_was_read_before_a_stream_broke_is_paid(house: House, fault: Fault) -> None:
    house.server.fault = fault
    ask = house.asker("g")
    with pytest.raises(StepFailed, match="no model answered"):
        await ask("hyde", PROMPT)
    (line,) = house.lines()
    assert (line.tokens_out, line.outcome) == (2, "failed")
    assert house.admitted.settled == [(line.tokens_in + 2, line.nano_usd)]


async def test_what_was_read_before_the_deadline_is_paid_and_the_engine_is_told_to_stop(house: House) -> None:
    house.server.fault = Fault.HANG_MID_STREAM
    ask = house.asker("g")
    task = asyncio.create_task(ask("hyde", PROMPT))
    async with asyncio.timeout(10):
        while [line.tokens_out for line in house.slots()] != [2]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()  # as the deadline does
        with pytest.raises(asyncio.CancelledError):
            await task
        while not house.server.cancelled:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    (line,) = house.lines()
    assert (line.tokens_out, line.outcome) == (2, "failed")
    assert ask.usage == Usage(0, 2)


async def test_an_answer_that_does_not_end_is_given_up(house: House) -> None:
    house.server.script = lambda *_: " ".join(["x" * 100] * 200)
    ask = house.asker("g")
    with pytest.raises(StepFailed, match="far more than was asked for"):
        await ask("hyde", Prompt("a", 200))
    (line,) = house.lines()
    assert (line.tokens_in, line.outcome) == (0, "failed")
    assert 70 < line.tokens_out <= 200


async def test_a_text_that_was_cut_off_is_none_where_its_end_matters(house: House) -> None:
    house.server.script = lambda *_: "one two three four five six"
    ask = house.asker("g")
    with pytest.raises(StepFailed, match="cut off"):
        await ask("rewrite", PROMPT)
    assert await ask("hyde", Prompt("a", 5, whole=False)) == "one two three four five"
    assert [line.outcome for line in house.lines()] == ["ok", "ok"]


async def test_a_limit_is_no_failure_of_the_step(house: House) -> None:
    house.admitted.refuses = True
    with pytest.raises(LimitReached):
        await house.asker("g")("hyde", PROMPT)
    assert house.server.requests == 0


async def test_where_there_is_no_model_nobody_is_asked(house: House) -> None:
    with pytest.raises(StepFailed, match="no model is configured"):
        await house.asker(None)("hyde", PROMPT)
    assert house.admitted.asks == []
