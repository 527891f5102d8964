"""The whole way: a client's request, the gateway, the provider's wire format, and back; billed by what was said."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import await_lines
from tests.integration.providers.asking import ARGUMENTS, ASKED, SAID, TOOLS, Got, chatter, kept_secret, of_frames, only
from tests.integration.providers.conftest import CHATS, EMBEDS, written
from tests.integration.providers.wire import USAGE, VECTORS, Fault, Say, Wire
from tests.support.gateway import Gateway, gateway

pytestmark = pytest.mark.slow  # a gateway is started

_PRICES = {
    "input_cost_per_token": 0.000001,
    "output_cost_per_token": 0.000002,
    "cache_read_input_token_cost": 0.0000001,
}


@pytest.fixture(scope="module")
def gate(served: dict[str, Wire], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    configuration = written(list(served.values()), **_PRICES)
    with gateway(tmp_path_factory.mktemp("hosted"), 1, configuration=configuration) as one:
        yield one


@pytest.fixture(scope="module")
def client(gate: Gateway) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {gate.key}"}
    with httpx.Client(base_url=gate.url, headers=headers, timeout=30) as one:
        yield one


def _post(client: httpx.Client, name: str, **more: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json={"model": name, **ASKED, **more})


@pytest.mark.parametrize("name", CHATS)
def test_chats_go_through_and_are_billed_by_the_providers_tokens(
    wires: dict[str, Wire], gate: Gateway, client: httpx.Client, name: str
) -> None:
    wire = chatter(wires, name)
    whole = _post(client, name)
    assert whole.status_code == 200, whole.text
    assert whole.json()["choices"][0]["message"]["content"] == "one two three"
    assert wire.told(only(wire)) == SAID
    wire.says = Say(tool=ARGUMENTS, reason="tool_calls")
    streamed = _post(client, name, stream=True, tools=TOOLS, stream_options={"include_usage": True})
    got: Got = of_frames(streamed.text)
    assert (got.tools[0][0], got.reason, got.broken) == ("weather", "tool_calls", False)
    assert wire.refusals == []
    for seen in wire.seen:
        kept_secret(wire, seen)
        assert gate.key not in seen.raw.decode() + "".join(seen.headers.values())
    for line in await_lines(gate, 2, model_group=name):
        counted = (line["tokens_in"], line["tokens_out"], line["tokens_cached"])
        assert counted == (USAGE.prompt_tokens, USAGE.completion_tokens, USAGE.cached_tokens)
        assert line["nano_usd"] == 529 * 1000 + 512 * 100 + 77 * 2000


@pytest.mark.parametrize("name", EMBEDS)
def test_embeddings_go_through(wires: dict[str, Wire], client: httpx.Client, name: str) -> None:
    answer = client.post("/v1/embeddings", json={"model": f"{name}-embed", "input": ["a b", "c d e"]})
    assert answer.status_code == 200, answer.text
    assert [row["embedding"] for row in answer.json()["data"]] == list(VECTORS)
    assert wires[name].refusals == []


@pytest.mark.parametrize("name", CHATS)
def test_a_limit_reaches_the_client_with_its_time_and_without_its_text(
    wires: dict[str, Wire], client: httpx.Client, name: str
) -> None:
    wires[name].fault = Fault.LIMIT
    answer = _post(client, name)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "9")
    assert "secret" not in answer.text
