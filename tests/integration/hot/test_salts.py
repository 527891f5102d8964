"""Which tenant asks is told to engines by a salt alone, whatever door was taken, and by every worker alike."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.first_key import DEFAULT_TENANT
from router.salt import salt_of
from tests.integration.hot.conftest import new_key
from tests.support.batches import Batcher, chat, jsonl
from tests.support.exact.server import ExactServer, exact_server_in_thread
from tests.support.gateway import Gateway, gateway

pytestmark = pytest.mark.slow  # a gateway is started


@pytest.fixture(scope="module")
def engine() -> Iterator[ExactServer]:
    with exact_server_in_thread() as one:
        yield one


@pytest.fixture(scope="module")
def parted(engine: ExactServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two workers and the model groups `exact` and `vectors`."""
    entry = f"litellm_params: {{model: hosted_vllm/exact, api_base: '{engine.base_url}'}}"
    vectors = f"{{model_name: vectors, {entry}, model_info: {{mode: embedding, engine: vllm}}}}"
    configuration = f"model_list: [{{model_name: exact, {entry}}}, {vectors}]\n"
    folder: Path = tmp_path_factory.mktemp("salts")
    with gateway(folder, 1, configuration=configuration, settings={"STOKER_WORKERS": "2"}) as gate:
        yield gate


def doors(client: httpx.Client) -> list[tuple[str, dict[str, Any]]]:
    said = [{"role": "user", "content": "Go on."}]
    conversation = client.post("/v1/conversations", json={}).raise_for_status().json()["id"]
    bounded = {"model": "exact", "max_tokens": 3}
    return [
        ("/v1/chat/completions", {**bounded, "messages": said}),
        ("/v1/chat/completions", {**bounded, "messages": said, "stream": True}),
        ("/v1/chat/completions", {**bounded, "messages": said, "conversation_id": conversation}),
        ("/v1/completions", {**bounded, "prompt": "Go on."}),
        ("/v1/messages", {**bounded, "messages": said}),
        ("/v1/messages", {**bounded, "messages": said, "stream": True}),
        ("/v1/responses", {"model": "exact", "max_output_tokens": 3, "input": "Go on."}),
        ("/v1/responses", {"model": "exact", "max_output_tokens": 3, "input": "Go on.", "stream": True}),
        ("/v1/embeddings", {"model": "vectors", "input": "Go on."}),
    ]


def test_every_door_tells_the_engine_the_tenants_salt_in_every_worker(parted: Gateway, engine: ExactServer) -> None:
    with httpx.Client(base_url=parted.url, headers={"authorization": f"Bearer {parted.key}"}, timeout=60) as admin:
        other = admin.post("/v1/admin/tenants", json={"name": "other"}).raise_for_status().json()["id"]
        keys = {DEFAULT_TENANT: parted.key, other: new_key(admin, tenant=other, role="member")["key"]}
        assert salt_of(DEFAULT_TENANT) != salt_of(other)
        for tenant, key in keys.items():
            for _ in range(4):  # a connection each, so that both workers get some
                headers = {"authorization": f"Bearer {key}"}
                with httpx.Client(base_url=parted.url, headers=headers, timeout=60) as client:
                    for path, body in doors(client):
                        engine.log.clear()
                        answer = client.post(path, json=body)
                        assert answer.status_code == 200, (path, answer.text)
                        wanted = None if path == "/v1/embeddings" else salt_of(tenant)  # vectors have no prefixes
                        assert [one.body.get("cache_salt") for one in engine.log] == [wanted], path
                        assert tenant not in str(engine.log[0].body)
        refused = admin.post("/v1/chat/completions", json={**doors(admin)[0][1], "cache_salt": "mine"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "cache_salt")


def test_a_batchs_lines_do_too(parted: Gateway, engine: ExactServer) -> None:
    engine.log.clear()
    batcher = Batcher(parted, parted.key)
    ended = batcher.until(batcher.create(jsonl([chat("Go on."), chat("Go further.")]))["id"])
    assert ended["request_counts"]["completed"] == 2
    assert [one.body.get("cache_salt") for one in engine.log] == [salt_of(DEFAULT_TENANT)] * 2
