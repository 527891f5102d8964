"""One gateway before two providers of one model, whose answers can be told in advance."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import events, new_key
from tests.support.exact import model as exact
from tests.support.exact.faults import Failure
from tests.support.exact.served import Served
from tests.support.exact.server import ExactServer, exact_server_in_thread
from tests.support.gateway import Gateway, gateway

PRICES = "input_cost_per_token: 0.000001, output_cost_per_token: 0.000002"


@dataclass
class House:
    """The gateway, and the providers of `twins`; `lone` has only the first of them, and nobody to be rescued by."""

    gate: Gateway
    client: httpx.Client
    servers: tuple[ExactServer, ExactServer]

    def ask(self, key: str | None = None, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        """A request of at most 24 tokens, to `lone` unless said otherwise."""
        own = {} if key is None else {"authorization": f"Bearer {key}"}
        body = {"model": "lone", "max_output_tokens": 24, **fields}
        return self.client.post("/v1/responses", json=body, headers={**own, **(headers or {})})

    def asked(self, **fields: Any) -> dict[str, Any]:
        """The same; it must succeed."""
        answer = self.ask(**fields)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def told(self, **fields: Any) -> list[dict[str, Any]]:
        """The events of a stream."""
        answer = self.ask(stream=True, **fields)
        assert answer.status_code == 200, answer.text
        return events(answer.text)

    def key(self, **fields: Any) -> str:
        return str(new_key(self.client, **fields)["key"])

    def served(self, response: httpx.Response) -> list[Served]:
        """What reached the providers for one request."""
        name = response.headers["x-request-id"]
        return [one for server in self.servers for one in server.log if one.name == name]

    def last(self) -> Served:
        """The newest request that reached the first provider."""
        return self.servers[0].log[-1]

    def fail(self, *failures: Failure) -> None:
        """Have the next requests to any provider fail so, in turn."""
        self.servers[0].plan.extend(failures)


def expected(messages: list[dict[str, Any]], **fields: Any) -> exact.Told:
    """What the model must say."""
    return exact.answer("exact", exact.read_chat({"messages": messages, "max_tokens": 24, **fields}))


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def text_of(response: dict[str, Any]) -> str:
    """As the SDK's `output_text`."""
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts if part["type"] == "output_text")


@pytest.fixture(scope="package")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with exact_server_in_thread() as first, exact_server_in_thread() as second:
        second.plan = first.plan
        entries = [("lone", first), ("twins", first), ("twins", second)]
        models = "".join(
            f"  - model_name: {name}\n    litellm_params: {{model: hosted_vllm/exact, {PRICES}, "
            f"api_base: '{server.base_url}'}}\n"
            for name, server in entries
        )
        configuration = f"model_list:\n{models}stoker:\n  breaker: {{failures_to_open: 1000}}\n"
        folder = tmp_path_factory.mktemp("responses")
        with gateway(folder, 1, configuration=configuration, settings={"STOKER_WORKERS": "2"}) as gate:
            headers = {"authorization": f"Bearer {gate.key}"}
            with httpx.Client(base_url=gate.url, headers=headers, timeout=60) as client:
                yield House(gate, client, (first, second))


@pytest.fixture
def house(opened: House) -> Iterator[House]:
    """The same, whole."""
    yield opened
    for server in opened.servers:
        server.pause_s, server.failure = 0.0, None
        server.plan.clear()
