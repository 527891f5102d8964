"""How a stream that broke goes on: by token ids, else prefill, else replay, and always to the one right answer."""

from typing import Any

import orjson
import pytest

from router.call import Call
from router.deployment import Deployment
from router.router import Router, open_router
from tests.faults.router.calls import PATIENT, TOOLS, chat, completion, deployment
from tests.faults.router.conftest import Twins
from tests.integration.router.calls import config
from tests.support.exact.check import Got, expected, take
from tests.support.exact.faults import Failure, Fault
from tests.support.exact.served import Served
from tests.support.exact.server import ExactServer, exact_server

CUT = Failure(Fault.CUT, at=5)
JSON: dict[str, Any] = {"response_format": {"type": "json_object"}, "max_tokens": 400}
CALL: dict[str, Any] = {"tools": TOOLS, "max_tokens": 400}


def routed(*servers: ExactServer, fault: Fault | None = None) -> tuple[Deployment, ...]:
    return tuple(deployment(server, f"d{at}", fault=fault, breaker=PATIENT) for at, server in enumerate(servers))


async def ask(router: Router, twins: Twins, call: Call) -> Got:
    return await take(twins[0].model, call, await router.open(call))


async def asked(twins: Twins, call: Call) -> Got:
    """Put one call to the two, whichever comes first."""
    async with open_router(config(*routed(*twins))) as router:
        return await ask(router, twins, call)


def logs(twins: Twins) -> list[Served]:
    """What both served, in order of arrival."""
    return sorted([*twins[0].log, *twins[1].log], key=lambda served: served.began_s)


def hows(got: Got) -> list[str]:
    return [rescue["how"] for rescue in got.rescued]


async def test_plain_text_goes_on_by_token_ids(twins: Twins) -> None:
    twins[0].plan.append(CUT)
    call = chat()
    got = await asked(twins, call)
    assert (got.wrong, hows(got)) == ([], ["token_ids"])
    first, second = logs(twins)
    assert (first.way, second.way) == ("whole", "token_ids")
    assert 0 < got.rescued[0]["after_tokens"] <= first.sent == 5
    assert len(second.made) == len(expected(twins[0].model, call).tokens) - got.rescued[0]["after_tokens"]


async def test_an_old_completion_goes_on_by_token_ids(twins: Twins) -> None:
    twins[0].plan.append(CUT)
    got = await asked(twins, completion())
    assert (got.wrong, hows(got)) == ([], ["token_ids"])


async def test_a_completion_of_token_ids_goes_on(twins: Twins) -> None:
    twins[0].plan.append(CUT)
    got = await asked(twins, completion(prompt=[0, 300, 301, 302]))
    assert got.wrong == []
    assert got.rescued


async def test_an_engine_that_tells_no_ids_is_continued_by_prefill(twins: Twins) -> None:
    twins[0].gives_ids = twins[1].gives_ids = False
    twins[0].plan.append(CUT)
    got = await asked(twins, chat())
    assert (got.wrong, hows(got)) == ([], ["prefill"])
    assert logs(twins)[1].way == "prefill"


async def test_an_engine_that_takes_no_ids_is_asked_by_prefill(twins: Twins) -> None:
    twins[0].takes_ids = twins[1].takes_ids = False
    twins[0].plan.append(CUT)
    got = await asked(twins, chat())
    assert (got.wrong, hows(got)) == ([], ["prefill"])


async def test_an_engine_that_refuses_both_is_asked_for_the_whole_again(twins: Twins) -> None:
    twins[0].takes_ids = twins[1].takes_ids = False
    twins[0].plan.append(CUT)
    twins[0].plan.extend([None, Failure(Fault.NO_PREFILL)])  # ids are refused by taking none
    got = await asked(twins, chat())
    assert (got.wrong, hows(got)) == ([], ["replay"])
    assert [served.way for served in logs(twins)] == ["whole", "token_ids", "prefill", "whole"]


@pytest.mark.parametrize("more", [JSON, CALL], ids=["json", "call"])
@pytest.mark.parametrize("at", [1, 5, 20])
async def test_json_and_calls_are_asked_for_again_and_passed_over_while_equal(
    twins: Twins, more: dict[str, Any], at: int
) -> None:
    twins[0].plan.append(Failure(Fault.CUT, at=at))
    call = chat(**more)
    got = await asked(twins, call)
    assert (got.wrong, hows(got)) == ([], ["replay"])
    assert set(orjson.loads(got.text)) == {"place", "reason", "other", "days"}


@pytest.mark.parametrize("gives_ids", [True, False])
async def test_every_place_of_an_answer_can_be_its_cut(twins: Twins, gives_ids: bool) -> None:
    """Also inside a character of several tokens, and right before the end."""
    twins[0].gives_ids = twins[1].gives_ids = gives_ids
    call = chat(max_tokens=60)
    while "🦊" not in expected(twins[0].model, call).text or expected(twins[0].model, call).reason != "stop":
        call = chat(max_tokens=60)
    tokens = len(expected(twins[0].model, call).tokens)
    async with open_router(config(*routed(*twins))) as router:
        for at in range(1, tokens):
            twins[0].plan.append(Failure(Fault.CUT, at=at))
            got = await ask(router, twins, call)
            assert (at, got.wrong) == (at, [])


@pytest.mark.parametrize("gives_ids", [True, False])
@pytest.mark.parametrize("kind", ["chat", "completion"])
async def test_text_held_back_for_a_stop_string_is_not_lost(twins: Twins, kind: str, gives_ids: bool) -> None:
    twins[0].gives_ids = twins[1].gives_ids = gives_ids
    make = chat if kind == "chat" else completion
    async with open_router(config(*routed(*twins))) as router:
        for at in range(4, 10):
            call = make(max_tokens=30, temperature=0)  # by replay, which only an answer without chance allows
            while len(words := expected(twins[0].model, call).text.split(" ")) < 14:
                call = make(max_tokens=30, temperature=0)
            call.body["stop"] = [f"{words[10][-1:]} {words[11]}", "never comes"]
            twins[0].plan.append(Failure(Fault.CUT, at=at))
            got = await ask(router, twins, call)
            assert (at, got.wrong) == (at, [])


async def test_the_least_length_counts_what_was_said_before(twins: Twins) -> None:
    call = chat(max_tokens=100)
    while not 14 < len(expected(twins[0].model, call).tokens) < 24:
        call = chat(max_tokens=100)
    call.body["min_tokens"] = 20
    twins[0].plan.append(Failure(Fault.CUT, at=12))
    got = await asked(twins, call)
    assert (got.wrong, hows(got)) == ([], ["token_ids"])


async def test_an_answer_without_a_bound_goes_on_to_its_own_end(twins: Twins) -> None:
    call = chat()
    del call.body["max_tokens"]
    twins[0].plan.append(CUT)
    got = await asked(twins, call)
    assert got.wrong == []
    assert got.rescued


async def test_a_message_that_is_to_be_continued_goes_on(twins: Twins) -> None:
    call = chat(add_generation_prompt=False, continue_final_message=True)
    call.body["messages"].append({"role": "assistant", "content": "Well then, the"})
    twins[0].plan.append(CUT)
    assert (await asked(twins, call)).wrong == []


async def test_who_asked_for_token_ids_gets_all_of_them(twins: Twins) -> None:
    call = chat(return_token_ids=True)
    twins[0].plan.append(CUT)
    async with open_router(config(*routed(*twins))) as router:
        answer = await router.open(call)
        assert answer.frames is not None
        body = b"".join([piece async for piece in answer.frames])
        await answer.aclose()
    frames = body.decode().split("\n\n")[:-2]
    chunks = [orjson.loads(frame.removeprefix("data: ")) for frame in frames]
    told = expected(twins[0].model, call)
    ids = [token for chunk in chunks for choice in chunk["choices"] for token in choice.get("token_ids") or []]
    assert ids == list(told.tokens)
    assert [chunk["prompt_token_ids"] for chunk in chunks if chunk.get("prompt_token_ids")] == [list(told.prompt)]


async def test_who_asked_for_no_usage_gets_none(twins: Twins) -> None:
    call = chat()
    del call.body["stream_options"]
    twins[0].plan.append(CUT)
    got = await asked(twins, call)
    assert (got.wrong, hows(got)) == ([], ["token_ids"])


@pytest.mark.parametrize("second", [Fault.CUT, Fault.ERROR_MID, Fault.STALL_MID, Fault.END, Fault.GARBAGE_MID])
async def test_a_stream_that_breaks_twice_goes_on_twice(second: Fault) -> None:
    async with exact_server() as a, exact_server() as b, exact_server() as c:
        for server in (a, b, c):
            server.pause_s, server.plan = 0.002, a.plan
        a.plan.extend([CUT, Failure(second, at=4)])
        call = chat()
        async with open_router(config(*routed(a, b, c, fault=second))) as router:
            got = await take(a.model, call, await router.open(call))
    assert (got.wrong, hows(got)) == ([], ["token_ids", "token_ids"])
    assert got.rescued[0]["to"] == got.rescued[1]["from"]
    assert got.rescued[0]["after_tokens"] < got.rescued[1]["after_tokens"]


async def test_a_stream_that_breaks_at_both_of_two_goes_back_to_the_first(twins: Twins) -> None:
    """A connection that was cut is no server that died."""
    twins[0].plan.extend([CUT, Failure(Fault.CUT, at=4)])
    got = await asked(twins, chat())
    assert (got.wrong, hows(got)) == ([], ["token_ids", "token_ids"])


@pytest.mark.parametrize("early", [Fault.ERROR_500, Fault.STALL, Fault.BUSY_503, Fault.LIMIT_429, Fault.EMPTY])
async def test_a_rescuer_that_fails_early_leaves_it_to_the_next(early: Fault) -> None:
    async with exact_server() as a, exact_server() as b, exact_server() as c:
        for server in (a, b, c):
            server.pause_s, server.plan = 0.002, a.plan
        a.plan.extend([CUT, Failure(early)])
        call = chat()
        async with open_router(config(*routed(a, b, c, fault=early))) as router:
            got = await take(a.model, call, await router.open(call))
    assert got.wrong == []
    assert len(got.rescued) == 1
    assert sorted(len(server.log) for server in (a, b, c)) == [1, 1, 1]


@pytest.mark.parametrize(
    "fault", [Fault.CUT, Fault.END, Fault.CLOSE, Fault.ERROR_MID, Fault.GARBAGE_MID], ids=lambda fault: fault.name
)
async def test_an_answer_that_lacks_only_its_last_token_is_made_whole(twins: Twins, fault: Fault) -> None:
    call = chat(max_tokens=12)
    tokens = len(expected(twins[0].model, call).tokens)
    twins[0].plan.append(Failure(fault, at=tokens - 1))
    assert (await asked(twins, call)).wrong == []


async def test_a_different_model_does_not_go_on_by_the_first_ones_token_ids() -> None:
    async with exact_server("exact") as a, exact_server("other") as b:
        a.pause_s = b.pause_s = 0.002
        call = chat()
        async with (
            a.failing(CUT),
            open_router(config(deployment(a, "a"), deployment(b, "b", group="f"), g=["f"])) as router,
        ):
            answer = await router.open(call)
            assert answer.frames is not None
            body = b"".join([piece async for piece in answer.frames])
            await answer.aclose()
    assert all(served.way != "token_ids" for served in b.log)
    assert body.endswith(b"data: [DONE]\n\n") or b"stream_broken" in body
