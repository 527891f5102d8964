"""Every fault of an upstream, streaming and not: beside a healthy twin the client gets the whole right answer; alone
it gets the right error in time, and never an answer that is cut, mended or doubled without saying so.
"""

import asyncio
import time

import orjson
import pytest

from api.errors import meaning_of
from router.errors import NoDeployment, RouterError, UpstreamFailed, UpstreamRefused, UpstreamTimeout
from router.router import Router, open_router
from tests.faults.router.calls import chat, completion, deployment
from tests.faults.router.conftest import Twins
from tests.integration.router.calls import config, read
from tests.support.exact.check import Got, examine_stream, expected, take
from tests.support.exact.faults import HARMLESS, IN_THE_MIDDLE, OF_CONNECTIONS, STREAMS_ONLY, Failure, Fault
from tests.support.exact.server import ExactServer

UNTOLD = (Fault.LYING_USAGE, Fault.NO_USAGE)

CASES = [
    pytest.param(fault, stream, id=f"{fault.name.lower()}-{'stream' if stream else 'whole'}")
    for fault in Fault
    for stream in (True, False)
    if fault is not Fault.NO_PREFILL and (stream or fault not in STREAMS_ONLY)
]
BROKEN = [case for case in CASES if case.values[0] not in HARMLESS and case.values[0] is not Fault.FLAP]

ERRORS: dict[Fault, tuple[type[RouterError], int]] = {
    Fault.REFUSE: (NoDeployment, 503),
    Fault.RESET: (NoDeployment, 503),
    Fault.TLS_CLOSE: (NoDeployment, 503),
    Fault.STALL: (UpstreamTimeout, 504),
    Fault.LATE: (UpstreamTimeout, 504),
    Fault.STALL_MID: (UpstreamTimeout, 504),  # of an answer in one piece
    Fault.LIMIT_429: (UpstreamRefused, 429),
    Fault.LIMIT_429_BARE: (UpstreamRefused, 429),
    Fault.BUSY_503: (NoDeployment, 503),
    Fault.BUSY_529: (NoDeployment, 503),
}
OTHERS = (UpstreamFailed, 502)


async def ask(router: Router, model: str, *, stream: bool, usage_told: bool = True) -> Got:
    call = chat(stream=stream)
    return await take(model, call, await router.open(call), usage_told=usage_told)


def met(server: ExactServer, fault: Fault) -> bool:
    """The server has shown the fault; that it does not listen can only be seen from outside."""
    if fault in OF_CONNECTIONS:
        return fault in (Fault.REFUSE, Fault.FLAP) or server.accepted > 0
    return any(served.failed is fault for served in server.log)


@pytest.mark.parametrize(("fault", "stream"), CASES)
async def test_beside_a_healthy_twin_the_client_gets_the_whole_right_answer(
    twins: Twins, fault: Fault, stream: bool
) -> None:
    faulty, healthy = twins
    deployments = [
        deployment(faulty, "faulty", stream=stream, fault=fault),
        deployment(healthy, "healthy", stream=stream),
    ]
    async with faulty.failing(Failure(fault)), open_router(config(*deployments)) as router:
        ends_s = time.monotonic() + (0.8 if fault is Fault.FLAP else 0)
        for at in range(100):
            got = await ask(router, faulty.model, stream=stream, usage_told=fault not in UNTOLD)
            assert got.wrong == []
            for rescue in got.rescued:
                assert (rescue["from"], rescue["to"]) == ("faulty", "healthy")
            if at and met(faulty, fault) and time.monotonic() > ends_s:
                break
        else:
            pytest.fail("the faulty server was never asked")
        if fault in IN_THE_MIDDLE and stream:
            assert any(not served.ended for served in faulty.log)


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.ERROR_500, Fault.LIMIT_429, Fault.CUT, Fault.ERROR_MID])
async def test_beside_a_healthy_fallback_group_the_client_gets_the_whole_right_answer(
    twins: Twins, fault: Fault
) -> None:
    faulty, healthy = twins
    deployments = [deployment(faulty, "faulty", fault=fault), deployment(healthy, "healthy", group="f")]
    async with faulty.failing(Failure(fault)), open_router(config(*deployments, g=["f"])) as router:
        got = await ask(router, faulty.model, stream=True)
    assert got.wrong == []
    assert met(faulty, fault)
    if fault in IN_THE_MIDDLE:
        assert [(each["from"], each["to"]) for each in got.rescued] == [("faulty", "healthy")]


@pytest.mark.parametrize(("fault", "stream"), BROKEN)
async def test_alone_a_fault_has_its_own_error_within_its_deadline(twins: Twins, fault: Fault, stream: bool) -> None:
    faulty, _ = twins
    alone = deployment(faulty, "faulty", stream=stream, fault=fault)
    began_s = time.monotonic()
    async with faulty.failing(Failure(fault)), open_router(config(alone)) as router:
        call = chat(stream=stream)
        if stream and fault in IN_THE_MIDDLE:
            body = await read(await router.open(call))
            assert_told_that_it_broke(body, faulty.model, call.body, expected(faulty.model, call).text)
        else:
            kind, status = ERRORS.get(fault, OTHERS)
            with pytest.raises(RouterError) as caught:
                await router.open(call)
            error = caught.value
            assert isinstance(error, kind)
            assert "secret" not in str(error)
            meaning = meaning_of(error)
            assert (error.status if isinstance(error, UpstreamRefused) else meaning and meaning.status) == status
            if fault in (Fault.LIMIT_429, Fault.BUSY_503):
                assert getattr(error, "retry_after_s", None) == (9 if fault is Fault.LIMIT_429 else 7)
    assert time.monotonic() - began_s < 30
    assert met(faulty, fault)


def assert_told_that_it_broke(body: bytes, model: str, asked: dict[str, object], text: str) -> None:
    """The stream holds the beginning of the text, once, and its last frame is an error event."""
    *frames, last, rest = body.decode().split("\n\n")
    error = orjson.loads(last.removeprefix("data: "))["error"]
    assert rest == ""
    assert set(error) >= {"message", "type", "param", "code"}
    assert error["code"] == "stream_broken"
    assert "secret" not in body.decode()
    assert "data: [DONE]" not in frames
    chunks = [orjson.loads(frame.removeprefix("data: ")) for frame in frames]
    said = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert 0 < len(said) <= len(text)  # it may be cut where only its end is missing
    assert text.startswith(said)


@pytest.mark.parametrize(("fault", "stream"), [case for case in CASES if case.values[0] in HARMLESS])
async def test_alone_a_harmless_fault_spoils_no_answer(twins: Twins, fault: Fault, stream: bool) -> None:
    faulty, _ = twins
    alone = deployment(faulty, "faulty", stream=stream)
    if fault is Fault.DRIP:
        faulty.pause_s = 0
    async with faulty.failing(Failure(fault)), open_router(config(alone)) as router:
        got = await ask(router, faulty.model, stream=stream, usage_told=fault not in UNTOLD)
    assert got.wrong == []


async def test_alone_a_server_that_comes_and_goes_gives_right_answers_or_errors_and_nothing_between(
    twins: Twins,
) -> None:
    faulty, _ = twins
    right = broken = failed = 0
    async with faulty.failing(Failure(Fault.FLAP)), open_router(config(deployment(faulty, "faulty"))) as router:
        ends_s = time.monotonic() + 1.2
        while time.monotonic() < ends_s:
            call = chat()
            try:
                body = await read(await router.open(call))
            except (NoDeployment, UpstreamFailed):
                failed += 1
                await asyncio.sleep(0.02)
                continue
            told = expected(faulty.model, call)
            if b"[DONE]" in body:
                right += 1
                assert examine_stream(body, call.body, told).wrong == []
            else:
                broken += 1
                assert_told_that_it_broke(body, faulty.model, call.body, told.text)
    assert right
    assert failed


async def test_a_token_that_is_late_but_in_time_is_waited_for(twins: Twins) -> None:
    faulty, healthy = twins
    faulty.plan.append(Failure(Fault.LATE, late_s=0.5))
    async with open_router(config(deployment(faulty, "a"), deployment(healthy, "b"))) as router:
        got = await ask(router, faulty.model, stream=True)
    assert got.wrong == []
    assert len(faulty.log) + len(healthy.log) == 1


@pytest.mark.parametrize("kind", ["chat", "completion"])
async def test_without_a_fault_nothing_is_added_to_an_answer(twins: Twins, kind: str) -> None:
    first, second = twins
    call = (chat if kind == "chat" else completion)()
    del call.body["stream_options"]
    async with open_router(config(deployment(first, "a"), deployment(second, "b"))) as router:
        got = await take(first.model, call, await router.open(call))
    assert (got.wrong, got.rescued) == ([], [])
