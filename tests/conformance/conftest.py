"""The official SDKs, and a gateway in front of a server that fails on demand."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import httpx
import pytest

from tests.support.gateway import Gateway, gateway
from tests.support.network import free_port
from tests.support.openai_server import OpenAiServer, openai_server_in_thread
from tests.support.sdk import NAMES, Sdk, is_possible, sdk

Crew = Callable[[str], Sdk]
Order = dict[str, Any]

ALLOWED = "https://allowed.example"
REQUEST_DEADLINE_S = 5.0
MAX_BODY_BYTES = 200_000


@pytest.fixture(scope="session")
def crew() -> Iterator[Crew]:
    """Gives an SDK by its name; each is started once."""
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(sdk(name)))


@pytest.fixture(params=["openai-python", pytest.param("openai-node", marks=pytest.mark.heavy)])
def openai(request: pytest.FixtureRequest, crew: Crew) -> Sdk:
    """Each of OpenAI's SDKs."""
    return crew(request.param)


@pytest.fixture(params=["anthropic-python", "anthropic-node"])
def anthropic(request: pytest.FixtureRequest, crew: Crew) -> Sdk:
    """Each of Anthropic's SDKs."""
    return crew(request.param)


@pytest.fixture
def everyone(crew: Crew) -> list[Sdk]:
    """All SDKs that this machine can run, for tests that wait: they wait together."""
    return [crew(name) for name in NAMES if is_possible(name)]


@pytest.fixture(scope="session")
def server() -> Iterator[OpenAiServer]:
    with openai_server_in_thread() as one:
        yield one


@pytest.fixture(scope="session")
def gate(server: OpenAiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Model groups: `words` and `house/words` chat, `vectors` embeds, `away` points at a port where nobody listens."""
    settings = {
        "STOKER_CORS_ORIGINS": ALLOWED,
        "STOKER_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        "STOKER_REQUEST_DEADLINE_S": str(REQUEST_DEADLINE_S),
    }
    with gateway(tmp_path_factory.mktemp("sdk"), 0, settings=settings, configuration=_configuration(server)) as one:
        yield one


def _configuration(server: OpenAiServer) -> str:
    away = f"http://127.0.0.1:{free_port()}/v1"
    price = "input_cost_per_token: 0.000001, output_cost_per_token: 0.000001"
    groups = [
        ("words", server.base_url, "chat"),
        ("house/words", server.base_url, "chat"),
        ("vectors", server.base_url, "embedding"),
        ("away", away, "chat"),
    ]
    entries = [
        f"  - model_name: {name}\n"
        f"    litellm_params: {{model: hosted_vllm/{server.model}, {price}, api_base: '{base}'}}\n"
        f"    model_info: {{mode: {mode}}}\n"
        for name, base, mode in groups
    ]
    # Tests make it fail more often than a deployment may before it is rested, and wait for its silence.
    rest = "  breaker: {failures_to_open: 1000}\n  deadlines: {between_tokens_s: 3}\n"
    return f"model_list:\n{''.join(entries)}stoker:\n{rest}"


@pytest.fixture
def faulty(server: OpenAiServer) -> Iterator[OpenAiServer]:
    """The server, to be told how it fails; afterwards it is whole again, and has forgotten what it was asked."""
    server.bodies.clear()
    server.headers.clear()
    yield server
    server.fault, server.pause_s = None, 0.0


@pytest.fixture(scope="session")
def admin(gate: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gate.url, headers={"authorization": f"Bearer {gate.key}"}, timeout=30) as one:
        yield one


@pytest.fixture
def whoever(gate: Gateway) -> Order:
    """What every order to an SDK begins with: the gateway's address, and a key without limits."""
    return {"url": gate.url, "key": gate.key, "model": "words", "text": "one two three four five"}


@pytest.fixture
def new_key(admin: httpx.Client) -> Callable[..., str]:
    """Makes a key with these fields."""

    def make(**fields: Any) -> str:
        answer = admin.post("/v1/admin/keys", json={"name": "sdk", **fields})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    return make
