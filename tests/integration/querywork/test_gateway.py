"""Query work through a whole gateway, before a model whose words are told in advance."""

import json
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import await_lines, events, new_key
from tests.integration.retrieval.conftest import Servers, servers
from tests.support.gateway import Gateway, gateway
from tests.support.openai_server import Fault, OpenAiServer, openai_server_in_thread
from tests.support.process import running

__all__ = ["servers"]

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

DEADLINE_S = 4.0
ASKED = "And what does it cost?"
TURNS = [
    {"role": "user", "content": "When does the ferry leave in winter?"},
    {"role": "assistant", "content": "At nine."},
]
REWRITTEN = "What is the winter fare of the ferry?"
SINCE_2024 = {"type": "gte", "key": "year", "value": 2024}
EVERYTHING = {"rewrite": True, "multi_query": 2, "hyde": True, "self_query": True}
WORK = {
    "question": REWRITTEN,
    "queries": ["price of the boat", "ferry tariff"],
    "hypothetical": "The winter fare of the ferry is nine crowns.",
    "filter": SINCE_2024,
    "failed": {},
}
GOOD: dict[str, str | Fault] = {
    "rewrite": REWRITTEN,
    "multi_query": json.dumps({"queries": WORK["queries"]}),
    "hyde": str(WORK["hypothetical"]),
    "self_query": json.dumps({"filter": SINCE_2024}),
}
DOCUMENTS: list[dict[str, Any]] = [
    {"title": f"fares {year}", "content": f"The winter fare of the ferry is {fare} crowns.", "metadata": {"year": year}}
    for year, fare in ((2022, "seven"), (2023, "eight"), (2024, "nine"))
]
CLOSED = {
    "title": "closed",
    "content": "The winter fare of the ferry will be twenty crowns.",
    "metadata": {"year": 2025, "codename": "Quillfeather"},
    "acl": {"groups": ["sales"]},
}


@dataclass
class House:
    """A gateway and its model.

    Attributes:
        says: what the model says, or how it fails, by step; to a question it repeats what it is shown.
        members: keys of ann, who is in the group sales, and of bob, who is not.
    """

    gate: Gateway
    server: OpenAiServer
    client: httpx.Client
    says: dict[str, str | Fault]
    members: dict[str, str] = field(default_factory=dict)

    def ask(self, key: str | None = None, **fields: Any) -> httpx.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        body = {"query": ASKED, "collection": "fares", "messages": TURNS, **fields}
        return self.client.post("/v1/query", json=body, headers=headers)

    def asked(self, **fields: Any) -> dict[str, Any]:
        answer = self.ask(**fields)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def chats(self, request_id: str) -> dict[str, dict[str, Any]]:
        """What reached the model for one request: bodies by step, the answer's by the empty name."""
        names = [headers.get("x-request-id", "") for headers in self.server.headers]
        named = zip(names, self.server.bodies, strict=True)
        return {name[len(request_id) + 1 :]: body for name, body in named if name.startswith(request_id)}


@pytest.fixture(scope="module")
def whole(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(servers, tmp_path_factory.mktemp("gate")) as house:
        yield house


@contextmanager
def open_house(
    servers: Servers, folder: Path, *, models: str = "", routing: str = "", policy: str = "", **more: str
) -> Iterator[House]:
    """Start it, and fill it with documents.

    Args:
        models: more entries of `model_list`.
        routing: more sections of stoker.yaml; `policy`: more of its section `stoker`.
        more: settings of the gateway.
    """
    settings = {
        "STOKER_MILVUS_URI": servers.milvus_uri,
        "STOKER_EMBEDDING_URL": servers.embedding_url,
        "STOKER_EMBEDDING_DEADLINE_S": "15",
        "STOKER_SEARCH_DEADLINE_S": "12",
        "STOKER_QUERY_WORK_DEADLINE_S": str(DEADLINE_S),
        **more,
    }
    with bare_house(folder, models=models, routing=routing, policy=policy, **settings) as house:
        worker = {**settings, "STOKER_DATA_DIR": str(house.gate.folder), "STOKER_REDIS_URL": house.gate.redis_url}
        with running([sys.executable, "-m", "retrieval.worker"], folder / "worker.log", lambda: True, worker):
            fill(house)
            yield house


@contextmanager
def bare_house(
    folder: Path, *, models: str = "", routing: str = "", policy: str = "", **settings: str
) -> Iterator[House]:
    """The same without documents, and without what indexes them."""
    says: dict[str, str | Fault] = {}

    def script(name: str, _: dict[str, Any]) -> str | Fault | None:
        return says.get(name.rpartition(".")[2])

    with openai_server_in_thread() as server:
        server.script = script
        configuration = (
            "model_list:\n  - model_name: words\n    litellm_params: {model: hosted_vllm/words, "
            f"api_base: '{server.base_url}', input_cost_per_token: 0.000001, output_cost_per_token: 0.000002}}\n"
            f"{models}{routing}stoker:\n  breaker: {{failures_to_open: 1000}}\n{policy}"
        )
        with gateway(folder, 1, settings=settings, configuration=configuration) as gate:
            headers = {"authorization": f"Bearer {gate.key}"}
            with httpx.Client(base_url=gate.url, headers=headers, timeout=60) as client:
                house = House(gate, server, client, says)
                for name, groups in (("ann", ["sales"]), ("bob", [])):
                    user = client.post("/v1/admin/users", json={"name": name, "groups": groups}).raise_for_status()
                    house.members[name] = new_key(client, user=user.json()["id"])["key"]
                yield house


def fill(house: House) -> None:
    client = house.client
    client.post("/v1/collections", json={"name": "fares"}).raise_for_status()
    sent = client.post("/v1/ingest", json={"collection": "fares", "documents": [*DOCUMENTS, CLOSED]})
    job = sent.raise_for_status().json()["job_id"]
    limit_s = time.monotonic() + 60
    while (status := client.get(f"/v1/jobs/{job}").json()["status"]) != "succeeded":
        assert status in ("queued", "running"), status
        assert time.monotonic() < limit_s
        time.sleep(0.1)


@pytest.fixture
def house(whole: House) -> House:
    """The same, with a model that does every step well."""
    whole.says.clear()
    whole.says.update(GOOD)
    return whole


def years(passages: list[dict[str, Any]]) -> set[int]:
    return {passage["metadata"]["year"] for passage in passages}


def streamed(answer: httpx.Response) -> list[tuple[str, Any]]:
    names = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    return list(zip(names, events(answer.text), strict=True))


def test_where_nothing_is_asked_for_nothing_is_done_and_nothing_is_shown(house: House) -> None:
    name = f"plain-{secrets.token_hex(4)}"
    for fields in ({}, {"query_work": {}}, {"query_work": {"rewrite": False, "multi_query": 0, "hyde": False}}):
        body = {"query": "What is the winter fare?", "collection": "fares", "messages": TURNS, **fields}
        answer = house.client.post("/v1/query", json=body, headers={"x-request-id": name})
        assert answer.status_code == 200, answer.text
        assert "query_work" not in answer.json()
        assert set(answer.json()["timings_ms"]) == {"retrieve", "pack", "generate", "verify", "total"}
    assert set(house.chats(name)) == {""}
    retrieval, *_, usage, done = streamed(house.ask(stream=True))
    assert (retrieval[0], usage[0], done[0]) == ("retrieval", "usage", "done")
    assert "query_work" not in {**retrieval[1], **done[1]}


def test_everything_at_once_is_shown_searched_timed_and_paid(house: House) -> None:
    made = new_key(house.client)
    answer = house.ask(made["key"], query_work=EVERYTHING)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["query_work"] == WORK
    steps = {"rewrite", "multi_query", "hyde", "self_query"}
    assert steps | {"retrieve", "pack", "generate", "verify", "total"} == set(said["timings_ms"])
    assert "nine" in said["answer"]
    chats = house.chats(answer.headers["x-request-id"])
    assert set(chats) == {"", "rewrite", "multi_query", "hyde", "self_query"}
    assert REWRITTEN in chats[""]["messages"][0]["content"]
    assert {step for step, body in chats.items() if "response_format" in body} == {"multi_query", "self_query"}
    lines = await_lines(house.gate, 5, key_id=made["id"])
    assert {line["outcome"] for line in lines} == {"ok"}
    assert sum(line["tokens_in"] for line in lines) == said["usage"]["prompt_tokens"]
    assert sum(line["tokens_out"] for line in lines) == said["usage"]["completion_tokens"]
    assert sum(line["nano_usd"] for line in lines) == 1000 * said["usage"]["prompt_tokens"] + (
        2000 * said["usage"]["completion_tokens"]
    )
    assert len({line["request_id"] for line in lines}) == 5


def test_a_stream_tells_it_with_the_passages_and_at_the_end(house: House) -> None:
    told = streamed(house.ask(stream=True, query_work=EVERYTHING))
    names = [name for name, _ in told]
    assert names[0] == "retrieval"
    assert told[0][1]["query_work"] == told[-1][1]["query_work"] == WORK
    assert years(told[0][1]["data"]) == {2024, 2025}, "the admin reads what is closed, too"
    assert dict(told)["usage"] == told[-1][1]["usage"]
    assert told[-1][1]["usage"]["prompt_tokens"] > 100, "the steps are in it"


@pytest.mark.parametrize("step", ["rewrite", "multi_query", "hyde"])
@pytest.mark.parametrize("said", [Fault.ERROR_500, Fault.CUT_MID_STREAM, " ", ASKED, "x" * 4000], ids=range(5))
def test_a_step_that_fails_is_left_out_and_named(house: House, step: str, said: str | Fault) -> None:
    house.says[step] = said
    shown = house.asked(query_work={**EVERYTHING, "self_query": False})["query_work"]
    assert set(shown["failed"]) == {step}
    assert "secret" not in shown["failed"][step]
    missing = {"rewrite": ("question", ASKED), "multi_query": ("queries", []), "hyde": ("hypothetical", None)}
    expected = {**WORK, "filter": None, missing[step][0]: missing[step][1], "failed": shown["failed"]}
    assert shown == expected


@pytest.mark.parametrize(
    "said",
    [
        Fault.ERROR_500,
        Fault.CUT_MID_STREAM,
        " ",
        "No filter.",
        json.dumps({"filter": {"type": "eq", "key": "nobodys", "value": 1}}),
        json.dumps({"filter": {"type": "eq", "key": "year", "value": "2024"}}),
        json.dumps({"filter": {}}),
        json.dumps({"filter": "year >= 2024 or true"}),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_filter_that_cannot_be_read_is_an_error_and_never_an_unfiltered_search(
    house: House, said: str | Fault, stream: bool
) -> None:
    house.says["self_query"] = said
    answer = house.ask(query_work={"self_query": True}, stream=stream)
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("filter_unreadable", "query_work.self_query")
    assert 'give "filter" yourself, or leave self_query out' in error["message"]
    assert "secret" not in error["message"]
    assert "" not in house.chats(answer.headers["x-request-id"]), "no answer was asked for"


def test_a_model_that_says_that_there_is_no_filter_is_believed(house: House) -> None:
    house.says["self_query"] = '{"filter": null}'
    told = streamed(house.ask(query_work={"self_query": True}, stream=True))
    assert told[0][1]["query_work"]["filter"] is None
    assert years(told[0][1]["data"]) == {2022, 2023, 2024, 2025}


@pytest.mark.parametrize(
    "widening",
    [
        {"type": "gte", "key": "year", "value": 0},
        {"type": "ne", "key": "year", "value": 0},
        {"type": "or", "filters": [SINCE_2024, {"type": "lt", "key": "year", "value": 2024}]},
    ],
)
@pytest.mark.parametrize("kind", ["plain", "and", "or"])
def test_what_the_model_writes_never_widens_the_callers_own_filter(
    house: House, widening: dict[str, Any], kind: str
) -> None:
    house.says["self_query"] = json.dumps({"filter": widening})
    own: dict[str, Any] = {"type": "eq", "key": "year", "value": 2023}
    own = own if kind == "plain" else {"type": kind, "filters": [own]}
    told = streamed(house.ask(query_work={"self_query": True}, filter=own, stream=True))
    assert told[0][1]["query_work"]["filter"] == widening, "what was read is shown alone"
    assert years(told[0][1]["data"]) == {2023}


def test_metadata_that_one_may_not_read_reaches_no_model_and_cannot_be_filtered_by(house: House) -> None:
    codename = {"type": "eq", "key": "codename", "value": "Quillfeather"}
    house.says["self_query"] = json.dumps({"filter": codename})
    ann = house.ask(house.members["ann"], query_work={"self_query": True}, stream=True)
    assert years(streamed(ann)[0][1]["data"]) == {2025}
    shown = house.chats(ann.headers["x-request-id"])["self_query"]["messages"][0]["content"]
    assert "Quillfeather" in shown
    assert "2025" in shown
    bob = house.ask(house.members["bob"], query_work={"self_query": True})
    assert bob.status_code == 422
    shown = json.dumps(house.chats(bob.headers["x-request-id"]))
    for secret in ("Quillfeather", "codename", "2025"):
        assert secret not in shown
    nobodys = {**codename, "key": "cardname"}
    house.says["self_query"] = json.dumps({"filter": nobodys})
    other = house.ask(house.members["bob"], query_work={"self_query": True})
    assert other.json()["error"]["message"].replace("cardname", "codename") == bob.json()["error"]["message"]


def test_a_filter_read_for_one_who_may_not_read_a_document_does_not_find_it(house: House) -> None:
    house.says["self_query"] = json.dumps({"filter": SINCE_2024})
    told = streamed(house.ask(house.members["bob"], query_work={"self_query": True}, stream=True))
    assert years(told[0][1]["data"]) == {2024}


def test_what_hangs_is_given_up_in_time_and_a_hanging_filter_is_an_error(house: House) -> None:
    house.says["multi_query"] = house.says["hyde"] = Fault.HANG
    began_s = time.monotonic()
    shown = house.asked(query_work={"multi_query": 2, "hyde": True})["query_work"]
    assert time.monotonic() - began_s < 4 * DEADLINE_S
    assert set(shown["failed"]) == {"multi_query", "hyde"}
    house.says["self_query"] = Fault.HANG
    answer = house.ask(query_work={"self_query": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "filter_unreadable")
    assert f"{DEADLINE_S:g} s" in answer.json()["error"]["message"]


def test_a_key_that_may_ask_one_thing_at_a_time_may_ask_with_query_work(house: House) -> None:
    narrow = new_key(house.client, limits={"parallel": 1})["key"]
    answer = house.ask(narrow, query_work=EVERYTHING)
    assert answer.status_code == 200, answer.text
    assert answer.json()["query_work"] == WORK


def test_a_limit_refuses_the_whole_question(house: House) -> None:
    for limits in ({"rpm": 3, "burst": 3}, {"tpm": 500}):
        made = new_key(house.client, limits=limits)
        answer = house.ask(made["key"], query_work=EVERYTHING)
        assert answer.status_code == 429, answer.text
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert "" not in house.chats(answer.headers["x-request-id"])


def test_what_is_wrong_with_the_question_is_found_before_a_model_is_paid(house: House) -> None:
    for fields, status in (
        ({"collection": "nowhere", "query_work": {"hyde": True}}, 404),
        ({"collection": "nowhere", "query_work": EVERYTHING}, 404),
        ({"filter": {"type": "like"}, "query_work": EVERYTHING}, 400),
        ({"model": "nobody", "query_work": EVERYTHING}, 404),
        ({"query": " ", "query_work": EVERYTHING}, 400),
    ):
        answer = house.ask(**fields)
        assert answer.status_code == status, answer.text
        assert house.chats(answer.headers["x-request-id"]) == {}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query_work": {"multi_query": 5}}, "query_work.multi_query"),
        ({"query_work": {"multi_query": True}}, "query_work.multi_query"),
        ({"query_work": {"hyde": "yes"}}, "query_work.hyde"),
        ({"query_work": {"magic": True}}, "query_work.magic"),
        ({"query_work": True}, "query_work"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages.0.name"),
        ({"messages": TURNS * 11}, "messages"),
    ],
)
def test_a_field_out_of_range_is_named(house: House, fields: dict[str, Any], param: str) -> None:
    answer = house.ask(**fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_broken_unicode_in_a_question_is_the_callers_to_mend(house: House) -> None:
    body = b'{"query": "what \\ud800 is", "collection": "fares", "query_work": {"hyde": true}}'
    headers = {"content-type": "application/json"}
    assert house.client.post("/v1/query", content=body, headers=headers).status_code == 400


def test_steps_have_their_histograms_and_all_tokens_are_counted_once(house: House) -> None:
    def counted(direction: str) -> float:
        name = f'stoker_tokens_total{{direction="{direction}",model_group="words"}} '
        text = house.client.get("/metrics").text
        return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))

    before = counted("in"), counted("out")
    usage = house.asked(query_work=EVERYTHING)["usage"]
    assert counted("in") - before[0] == usage["prompt_tokens"]
    assert counted("out") - before[1] == usage["completion_tokens"]
    text = house.client.get("/metrics").text
    for step in GOOD:
        assert f'stoker_retrieval_stage_seconds_count{{stage="answer_{step}"}}' in text


def test_a_collection_says_how_it_is_answered_from(house: House) -> None:
    client, template = house.client, "Read this: {sources} Then tell: {question}"
    made = client.post("/v1/collections", json={"name": "said", "answers": {"generate": "quote", "prompt": template}})
    assert made.status_code == 201, made.text
    shown = {"generate": "quote", "prompt": template}
    assert (made.json()["answers"], made.json()["prompt_version"]) == (shown, 1)
    changed = client.patch("/v1/collections/fares", json={"answers": {"prompt": template, "passages": 2}})
    assert changed.status_code == 200, changed.text
    name = f"told-{secrets.token_hex(4)}"
    body = {"query": "What is the winter fare?", "collection": "fares"}
    answer = client.post("/v1/query", json=body, headers={"x-request-id": name}).json()
    assert answer["prompt_version"] == 1
    content = house.chats(name)[""]["messages"][-1]["content"]
    assert content.startswith("Read this: <text>")
    assert content.count("<text>") == 2
    assert house.server.counted, "the engine was asked how long that is"
    client.patch("/v1/collections/fares", json={"answers": {"prompt": "{question} {sources}"}}).raise_for_status()
    listed = client.get("/v1/collections/fares/prompts").json()
    assert [(one["version"], one["in_use"]) for one in listed["data"]] == [(2, True), (1, False)]
    assert client.get("/v1/collections/fares/prompts", params={"after": "2"}).json()["data"] == listed["data"][1:]
    client.patch("/v1/collections/fares", json={"answers": {"prompt_version": 1}}).raise_for_status()
    assert client.get("/v1/collections/fares").json()["answers"] == {"passages": 2, "prompt": template}
    for wrong, param in (
        ({"prompt": "{sources}"}, "answers.prompt"),
        ({"prompt_version": 7}, "answers.prompt_version"),
        ({"wings": 1}, "answers"),
        ({"passages": 99}, "answers.passages"),
    ):
        for refused in (
            client.patch("/v1/collections/fares", json={"answers": wrong}),
            client.post("/v1/collections", json={"name": "wrong", "answers": wrong}),
        ):
            assert refused.status_code == 400, refused.text
            assert refused.json()["error"]["param"] == param
    assert client.get("/v1/collections/wrong").status_code == 404
    assert client.get("/v1/collections/fares/prompts", params={"after": "x"}).status_code == 400
    reader = {"authorization": f"Bearer {new_key(client, role='reader')['key']}"}
    assert client.get("/v1/collections/fares/prompts", headers=reader).status_code == 403
    client.patch("/v1/collections/fares", json={"answers": {}}).raise_for_status()
    assert house.asked(query="What is the winter fare?")["prompt_version"] == 0
    client.delete("/v1/collections/said").raise_for_status()


def test_a_model_that_fails_at_first_is_asked_again_and_billed_once(house: House) -> None:
    made, name = new_key(house.client), f"twice-{secrets.token_hex(4)}"
    house.says[name] = Fault.ERROR_500
    headers = {"x-request-id": name, "authorization": f"Bearer {made['key']}"}
    body = {"query": "What is the winter fare?", "collection": "fares"}
    answer = house.client.post("/v1/query", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["degraded"] is False, answer.text
    assert set(house.chats(name)) == {"", "again"}
    (line,) = await_lines(house.gate, 1, key_id=made["id"])
    assert (line["outcome"], line["tokens_out"]) == ("ok", answer.json()["usage"]["completion_tokens"])


def test_a_question_of_nothing_or_of_too_much_is_refused_by_name(house: House) -> None:
    for query, says in ((" \u200b\n", "The question is empty."), ("x" * 8001, "has at most 8,000 characters")):
        refused = house.ask(query=query)
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["param"] == "query"
        assert says in refused.json()["error"]["message"]
