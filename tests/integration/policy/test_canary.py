"""Text that may not leave the house reaches no hosted provider by any path; each path is one that leads there else."""

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import new_key
from tests.integration.policy.conftest import Watched
from tests.integration.querywork.test_gateway import TURNS
from tests.support.openai_server import Fault

pytestmark = pytest.mark.slow

Ask = Callable[[str, dict[str, Any]], httpx.Response]
"""POST a body to a path as the caller whose text is to stay, or not."""
LONG = "word " * 5000


def chat(model: str, text: str = "Tell a secret", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 8, **more}


def chats(watched: Watched, ask: Ask) -> None:
    ask("/v1/chat/completions", chat("cloud"))


def streams(watched: Watched, ask: Ask) -> None:
    ask("/v1/chat/completions", chat("cloud", stream=True))


def embeds(watched: Watched, ask: Ask) -> None:
    ask("/v1/embeddings", {"model": "cloud-embed", "input": "a secret"})


def falls_back(watched: Watched, ask: Ask) -> None:
    watched.house.server.fault = Fault.ERROR_500
    ask("/v1/chat/completions", chat("words"))


def falls_back_for_length(watched: Watched, ask: Ask) -> None:
    ask("/v1/chat/completions", chat("words", LONG))


def is_rescued(watched: Watched, ask: Ask) -> None:
    watched.house.server.fault = Fault.CUT_MID_STREAM
    ask("/v1/chat/completions", chat("words", "one two three four five six", stream=True))


def is_chosen_by_auto(watched: Watched, ask: Ask) -> None:
    ask("/v1/chat/completions", chat("auto", "Prove that there is no largest prime number, step by step."))


def responds(watched: Watched, ask: Ask) -> None:
    ask("/v1/responses", {"model": "cloud", "input": "a secret", "store": False})


def answers(watched: Watched, ask: Ask) -> None:
    ask("/v1/query", {"query": "What is the winter fare?", "collection": "fares", "model": "cloud"})


def answers_by_fallback(watched: Watched, ask: Ask) -> None:
    watched.house.server.fault = Fault.ERROR_500
    ask("/v1/query", {"query": "What is the winter fare of the ferry?", "collection": "fares", "use_cache": False})


def answers_a_chat(watched: Watched, ask: Ask) -> None:
    ask("/v1/chat/completions", chat("cloud", "What is the winter fare?", retrieval={"collection": "fares"}))


def works_on_questions(watched: Watched, ask: Ask) -> None:
    watched.house.server.fault = Fault.ERROR_500
    work = {"rewrite": True, "multi_query": 2, "hyde": True, "self_query": True}
    ask("/v1/query", {"query": "And in winter?", "collection": "fares", "messages": TURNS, "query_work": work})


def runs_a_batch(watched: Watched, ask: Ask) -> None:
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": chat("cloud")}
    headers = ask.headers  # type: ignore[attr-defined]
    client = watched.house.client
    upload = {"file": ("lines.jsonl", json.dumps(line).encode())}
    file = client.post("/v1/files", files=upload, data={"purpose": "batch"}, headers=headers).raise_for_status().json()
    asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    made = client.post("/v1/batches", json=asked, headers=headers).raise_for_status().json()
    by_s = time.monotonic() + 60
    while client.get(f"/v1/batches/{made['id']}", headers=headers).json()["status"] not in ("completed", "failed"):
        assert time.monotonic() < by_s
        time.sleep(0.1)


PATHS = [
    chats, streams, embeds, falls_back, falls_back_for_length, is_rescued, is_chosen_by_auto, responds, answers,
    answers_by_fallback, answers_a_chat, works_on_questions, runs_a_batch,
]  # fmt: skip


def asking(watched: Watched, key: str, **headers: str) -> Ask:
    said = {"authorization": f"Bearer {key}", **headers}

    def ask(path: str, body: dict[str, Any]) -> httpx.Response:
        named = {**said, "x-request-id": f"canary-{secrets.token_hex(6)}"}
        return watched.house.client.post(path, json=body, headers=named)

    ask.headers = said  # type: ignore[attr-defined]
    return ask


@pytest.mark.parametrize("path", PATHS)
def test_each_path_leads_out_where_it_may(watched: Watched, free: str, path: Callable[[Watched, Ask], None]) -> None:
    """Else the other tests of this file could not fail."""
    path(watched, asking(watched, free))
    assert watched.heard > 0


@pytest.fixture(scope="module")
def closed(opened: Watched) -> dict[str, tuple[str, dict[str, str]]]:
    """Callers whose text may not go to the canary, each for another reason: key and headers."""
    client = opened.house.client
    tenant = client.post("/v1/admin/tenants", json={"name": secrets.token_hex(6), "local_only": True}).json()["id"]
    return {
        "key": (new_key(client, local_only=True)["key"], {}),
        "tenant": (new_key(client, tenant=tenant)["key"], {}),
        "providers": (new_key(client, providers=["azure", "bedrock"])["key"], {}),
        "regions": (new_key(client, regions=["us", "eu-central-1"])["key"], {}),
        "header": (new_key(client)["key"], {"x-stoker-reach": "local"}),
        "narrowed header": (new_key(client)["key"], {"x-stoker-reach": "providers=openai; regions=us"}),
    }


REASONS = ("key", "tenant", "providers", "regions", "header", "narrowed header")
CLOSED = [
    (path, reason)
    for path in PATHS
    for reason in REASONS
    if not (path is runs_a_batch and "header" in reason)  # that one is refused
]


@pytest.mark.parametrize(("path", "reason"), CLOSED)
def test_what_may_not_leave_the_house_does_not(
    watched: Watched, closed: dict[str, tuple[str, dict[str, str]]], path: Callable[[Watched, Ask], None], reason: str
) -> None:
    key, headers = closed[reason]
    path(watched, asking(watched, key, **headers))
    assert watched.heard == 0, watched.canary.bodies


@pytest.mark.parametrize("how", [{"local_only": True}, {"providers": ["azure"]}, {"regions": ["us"]}])
@pytest.mark.parametrize("path", [answers, answers_by_fallback, answers_a_chat, works_on_questions])
def test_nor_does_text_of_a_collection_that_stays(
    watched: Watched, free: str, path: Callable[[Watched, Ask], None], how: dict[str, Any]
) -> None:
    name = secrets.token_hex(6)
    client = watched.house.client
    made = client.post("/v1/collections", json={"name": name, **how})
    assert made.status_code == 201, made.text
    assert how.items() <= made.json().items()
    documents = [{"title": "a", "content": "The winter fare of the ferry is nine crowns."}]
    job = client.post("/v1/ingest", json={"collection": name, "documents": documents}).raise_for_status().json()
    by_s = time.monotonic() + 60
    while client.get(f"/v1/jobs/{job['job_id']}").json()["status"] != "succeeded":
        assert time.monotonic() < by_s
        time.sleep(0.1)
    inner = asking(watched, free)

    def ask(route: str, body: dict[str, Any]) -> httpx.Response:
        if "retrieval" in body:
            return inner(route, {**body, "retrieval": {"collection": name}})
        return inner(route, {**body, "collection": name})

    path(watched, ask)
    assert watched.heard == 0, watched.canary.bodies


def test_nor_what_is_for_a_group_that_stays(watched: Watched, free: str) -> None:
    refused = asking(watched, free)("/v1/chat/completions", chat("sealed"))
    assert (refused.status_code, watched.heard) == (503, 0)


def test_a_refusal_says_where_text_may_go(watched: Watched) -> None:
    client = watched.house.client
    elsewhere = "openai in eu-west-1, and this request may go to providers azure and regions us"
    for fields, words in (
        ({"local_only": True}, "may not leave the house"),
        ({"providers": ["azure"], "regions": ["us"]}, elsewhere),
    ):
        refused = asking(watched, new_key(client, **fields)["key"])("/v1/chat/completions", chat("cloud"))
        assert refused.status_code == 403
        assert words in refused.json()["error"]["message"]
        assert refused.json()["error"]["code"] == "text_may_not_leave"
        assert refused.headers["x-should-retry"] == "false"
    allowed = new_key(client, providers=["openai"], regions=["eu"])
    assert asking(watched, allowed["key"])("/v1/chat/completions", chat("cloud")).status_code == 200


def test_a_request_only_narrows_and_says_what_it_cannot_read(watched: Watched) -> None:
    key = new_key(watched.house.client, local_only=True)["key"]
    wider = asking(watched, key, **{"x-stoker-reach": "providers=openai"})
    assert wider("/v1/chat/completions", chat("cloud")).status_code == 403
    unread = asking(watched, key, **{"x-stoker-reach": "everywhere"})
    for route, body in (("/v1/chat/completions", chat("words")), ("/v1/search", {"collection": "fares", "query": "a"})):
        refused = unread(route, body)
        assert refused.status_code == 400
        assert "x-stoker-reach" in refused.json()["error"]["message"]
    assert watched.heard == 0


@pytest.mark.parametrize(
    "fields", [{"local_only": True, "providers": ["azure"]}, {"local_only": False, "providers": []}]
)
def test_fields_that_contradict_each_other_are_refused(watched: Watched, fields: dict[str, Any]) -> None:
    for path, body in (("/v1/admin/keys", {"name": "k"}), ("/v1/collections", {"name": secrets.token_hex(4)})):
        refused = watched.house.client.post(path, json={**body, **fields})
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["param"] == "local_only"


def test_every_header_counts_and_an_empty_one_is_none(watched: Watched) -> None:
    key = new_key(watched.house.client)["key"]
    for route, body in (("/v1/chat/completions", chat("cloud")), ("/v1/responses", {"model": "cloud", "input": "a"})):
        for said in (("local", "providers=openai"), ("providers=openai", "local")):
            headers = [("authorization", f"Bearer {key}"), *(("x-stoker-reach", one) for one in said)]
            assert watched.house.client.post(route, json=body, headers=headers).status_code == 403
        empty = asking(watched, key, **{"x-stoker-reach": ""})
        assert empty(route, body).status_code == 400
    asked = {"input_file_id": "file_none", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = watched.house.client.post("/v1/batches", json=asked, headers={"x-stoker-reach": "local"})
    assert (batch.status_code, batch.json()["error"]["param"]) == (400, "x-stoker-reach")
    assert watched.heard == 0


def test_a_key_that_is_changed_is_held_to_it_at_once(watched: Watched) -> None:
    client = watched.house.client
    made = new_key(client)
    ask = asking(watched, made["key"])
    assert ask("/v1/chat/completions", chat("cloud")).status_code == 200
    for change, shown, status in (
        ({"providers": ["azure"]}, {"local_only": False, "providers": ["azure"], "regions": None}, 403),
        ({"regions": ["eu"]}, {"local_only": False, "providers": ["azure"], "regions": ["eu"]}, 403),
        ({"providers": ["openai"]}, {"local_only": False, "providers": ["openai"], "regions": ["eu"]}, 200),
        ({"local_only": True}, {"local_only": True, "providers": [], "regions": ["eu"]}, 403),
        ({"local_only": False, "regions": None}, {"local_only": False, "providers": None, "regions": None}, 200),
    ):
        changed = client.patch(f"/v1/admin/keys/{made['id']}", json=change).raise_for_status().json()
        assert {name: changed[name] for name in shown} == shown
        assert ask("/v1/chat/completions", chat("cloud")).status_code == status
