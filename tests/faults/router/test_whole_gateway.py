"""A handful of the same faults through a whole gateway: what its clients get over HTTP."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.faults.router.calls import chat
from tests.support.exact.check import examine_stream, examine_whole, expected
from tests.support.exact.faults import Failure, Fault
from tests.support.exact.server import ExactServer, exact_server_in_thread
from tests.support.gateway import Gateway, gateway

pytestmark = pytest.mark.heavy  # a gateway is started; the router alone is tested beside this

_SETTINGS = (
    "stoker:\n"
    "  deadlines: {connect_s: 0.5, first_token_s: 0.6, between_tokens_s: 0.6, total_s: 5}\n"
    "  breaker: {failures_to_open: 1000}\n"
)
_EITHER = (Fault.RESET, Fault.ERROR_500, Fault.CUT, Fault.END, Fault.GARBAGE_FIRST)


@dataclass(frozen=True)
class House:
    """A gateway before two servers of one model, which share their plan; `alone` is a model that only one has."""

    gateway: Gateway
    servers: tuple[ExactServer, ExactServer]

    def post(self, body: dict[str, Any]) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.gateway.key}"}
        return httpx.post(f"{self.gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=15)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with exact_server_in_thread() as first, exact_server_in_thread() as second:
        for server in (first, second):
            server.pause_s, server.plan = 0.005, first.plan
        entries = "".join(
            f"  - model_name: {group}\n"
            f"    litellm_params: {{model: hosted_vllm/exact, api_base: '{server.base_url}'}}\n"
            for group, server in (("exact", first), ("exact", second), ("alone", first))
        )
        folder = tmp_path_factory.mktemp("gateway")
        with gateway(folder, first.port, configuration=f"model_list:\n{entries}{_SETTINGS}", keeper=False) as one:
            yield House(one, (first, second))


@pytest.mark.parametrize(
    ("fault", "stream"),
    [
        *((fault, stream) for fault in _EITHER for stream in (True, False)),
        (Fault.STALL, True),  # an answer in one piece may take its 5 s here
        (Fault.STALL_MID, True),
    ],
)
def test_beside_a_healthy_twin_a_client_gets_the_whole_right_answer(house: House, fault: Fault, stream: bool) -> None:
    call = chat(stream=stream, group="exact")
    house.servers[0].plan.append(Failure(fault))
    response = house.post(call.body)
    assert not house.servers[0].plan
    told = expected("exact", call)
    assert response.status_code == 200
    got = examine_stream(response.content, call.body, told) if stream else examine_whole(response.content, told)
    assert got.wrong == []
    if stream and fault in (Fault.CUT, Fault.STALL_MID, Fault.END):
        assert [rescue["how"] for rescue in got.rescued] == ["token_ids"]


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault.ERROR_500, 502), (Fault.STALL, 504), (Fault.LIMIT_429, 429), (Fault.BUSY_503, 503), (Fault.EMPTY, 502)],
)
def test_alone_a_client_gets_the_right_error_in_openais_form(house: House, fault: Fault, status: int) -> None:
    house.servers[0].plan.append(Failure(fault))
    began_s = time.monotonic()
    response = house.post(chat(group="alone").body)
    assert time.monotonic() - began_s < 30  # soon, on a busy machine
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "secret" not in response.text
    if fault in (Fault.LIMIT_429, Fault.BUSY_503):
        assert response.headers["retry-after"] == ("9" if fault is Fault.LIMIT_429 else "7")


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.STALL_MID, Fault.ERROR_MID])
def test_alone_a_stream_that_breaks_ends_in_an_error_event(house: House, fault: Fault) -> None:
    house.servers[0].plan.append(Failure(fault))
    call = chat(group="alone")
    response = house.post(call.body)
    got = examine_stream(response.content, call.body, expected("exact", call))
    assert got.error is not None
    assert got.error["code"] == "stream_broken"
    assert b"[DONE]" not in response.content
    assert b"secret" not in response.content
