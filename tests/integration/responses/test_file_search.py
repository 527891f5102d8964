"""file_search, and questions in conversations, on real documents, before a model whose words are told in advance."""

import json
import secrets
import sqlite3
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import events, new_key
from tests.integration.querywork.test_gateway import House, house, servers, whole
from tests.support.conformance import Observed, measure

__all__ = ["house", "servers", "whole"]

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

ASKED = "What is the winter fare of the ferry in 2024?"
SOURCED = "The winter fare of the ferry is nine crowns."
UNSOURCED = " Elephants sing loudly at night."
SINCE_2024 = {"type": "gte", "key": "year", "value": 2024}
RESULTS = {"include": ["file_search_call.results"]}


def store_of(house: House, name: str = "fares") -> str:
    return str(house.client.get(f"/v1/collections/{name}").json()["id"])


def ask(house: House, says: str = SOURCED, key: str | None = None, **fields: Any) -> httpx.Response:
    """Ask with file_search, having the model say this."""
    house.says["said"] = says
    tool = {"type": "file_search", "vector_store_ids": [store_of(house)], **fields.pop("tool", {})}
    headers = {"x-request-id": f"search-{secrets.token_hex(4)}.said"}
    headers |= {} if key is None else {"authorization": f"Bearer {key}"}
    body = {"model": "words", "input": ASKED, "tools": [tool], **fields}
    return house.client.post("/v1/responses", json=body, headers=headers)


def asked(house: House, says: str = SOURCED, key: str | None = None, **fields: Any) -> dict[str, Any]:
    answer = ask(house, says, key, **fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def annotations(response: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = response["output"][-1]["content"][0]["annotations"]
    return found


def years(response: dict[str, Any]) -> list[int]:
    return [result["attributes"]["year"] for result in response["output"][0]["results"]]


def test_a_sentence_with_a_source_carries_it_and_one_without_carries_none(house: House) -> None:
    response = asked(house, SOURCED + UNSOURCED)
    search, message = response["output"]
    assert (search["type"], search["status"], search["queries"], search["results"]) == (
        "file_search_call",
        "completed",
        [ASKED],
        None,
    )
    text = message["content"][0]["text"]
    assert text == SOURCED + UNSOURCED
    (citation,) = annotations(response)
    assert (citation["type"], citation["index"]) == ("file_citation", len(SOURCED))
    assert citation["file_id"] == citation["document_id"]
    path = f"/v1/collections/fares/documents/{citation['document_id']}/content"
    content = house.client.get(path, params={"version": citation["document_version"]}).text
    assert content[citation["start"] : citation["end"]] == citation["quote"]
    assert "nine" in citation["quote"]
    assert response["degraded_reason"] is None


def test_the_last_sentence_is_held_against_its_sources_too_unless_it_was_cut(house: House) -> None:
    said = UNSOURCED.strip() + " " + SOURCED
    (citation,) = annotations(asked(house, said))
    assert citation["index"] == len(said)
    cut = asked(house, SOURCED + " It goes on and on.", max_output_tokens=len(SOURCED.split()))
    assert cut["status"] == "incomplete"
    assert annotations(cut) == []


def test_the_events_of_a_search_come_before_the_message_and_annotations_with_their_text(house: House) -> None:
    told = events(ask(house, SOURCED + UNSOURCED, stream=True).text)
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    kinds = [event["type"].removeprefix("response.") for event in told]
    assert kinds[:7] == [
        "created",
        "in_progress",
        "output_item.added",
        "file_search_call.in_progress",
        "file_search_call.searching",
        "file_search_call.completed",
        "output_item.done",
    ]
    at = kinds.index("output_text.annotation.added")
    said = "".join(event["delta"] for event in told[:at] if event["type"] == "response.output_text.delta")
    assert said.startswith(SOURCED)
    assert at < kinds.index("output_text.done")
    (citation,) = annotations(told[-1]["response"])
    assert told[at]["annotation"] == citation
    assert told[-1]["response"]["output"][0]["results"] is None
    assert told[6]["item"]["results"] is None


def test_searches_and_citations_fulfil_the_types_of_the_installed_sdk(house: House) -> None:
    told = events(ask(house, SOURCED + UNSOURCED, stream=True, **RESULTS).text)
    of = "openai.types.responses.Response"
    kinds = {
        "response.file_search_call.in_progress": "FileSearchCallInProgressEvent",
        "response.file_search_call.searching": "FileSearchCallSearchingEvent",
        "response.file_search_call.completed": "FileSearchCallCompletedEvent",
        "response.output_text.annotation.added": "OutputTextAnnotationAddedEvent",
    }
    observed = [Observed(event["type"], of + kinds[event["type"]], event) for event in told if event["type"] in kinds]
    assert len(observed) == 4
    search, message = told[-1]["response"]["output"]
    observed += [
        Observed("search", of + "FileSearchToolCall", search),
        Observed("message", of + "OutputMessage", message, frozenset({"phase"})),
    ]
    assert not measure(observed).lacking


def test_what_was_found_is_shown_to_those_who_ask_then_and_later(house: House) -> None:
    response = asked(house, **RESULTS)
    results = response["output"][0]["results"]
    assert results[0]["text"] in str(house.server.bodies[-1]["messages"])
    assert {"file_id", "filename", "score", "text", "attributes"} <= set(results[0])
    path = f"/v1/responses/{response['id']}"
    assert house.client.get(path).json()["output"][0]["results"] is None
    later = house.client.get(path, params={"include[]": "file_search_call.results"}).json()
    assert later["output"][0]["results"] == results


def test_filters_and_the_number_of_results_narrow_what_is_found(house: House) -> None:
    assert set(years(asked(house, **RESULTS))) == {2022, 2023, 2024, 2025}
    assert set(years(asked(house, tool={"filters": SINCE_2024}, **RESULTS))) == {2024, 2025}
    assert len(years(asked(house, tool={"max_num_results": 2}, **RESULTS))) == 2
    weights = {"hybrid_search": {"embedding_weight": 1, "text_weight": 3}}
    assert years(asked(house, tool={"ranking_options": weights}, **RESULTS))


def test_what_one_may_not_read_is_neither_found_nor_shown_to_the_model(house: House) -> None:
    ann, bob = house.members["ann"], house.members["bob"]
    assert 2025 in years(asked(house, key=ann, **RESULTS))
    answer = ask(house, key=bob, **RESULTS)
    assert 2025 not in years(answer.json())
    shown = json.dumps(house.chats(answer.headers["x-request-id"].removesuffix(".said")))
    for secret in ("Quillfeather", "twenty"):
        assert secret not in shown + answer.text


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_searched_is_refused(house: House, stream: bool) -> None:
    tenant = secrets.token_hex(4)
    house.client.post("/v1/admin/tenants", json={"name": tenant})
    stranger = new_key(house.client, tenant=tenant)["key"]
    theirs = house.client.post(
        "/v1/collections",
        json={"name": f"theirs-{secrets.token_hex(3)}"},
        headers={"authorization": f"Bearer {stranger}"},
    ).json()["id"]
    for store in ("col_none", theirs, "fares", "%00"):
        refused = ask(house, tool={"vector_store_ids": [store]}, stream=stream)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "collection_not_found")
    assert ask(house, key=stranger, stream=stream).status_code == 404
    bad = ask(house, tool={"filters": {"type": "like", "key": "year", "value": 1}}, stream=stream)
    assert bad.status_code == 400, bad.text
    nobody = ask(house, input=[{"role": "assistant", "content": "Hello."}], stream=stream)
    assert (nobody.status_code, nobody.json()["error"]["param"]) == (400, "input")


def test_a_key_that_may_not_search_may_not_do_so_by_a_tool(house: House) -> None:
    chats = new_key(house.client, scopes=["chat"])["key"]
    refused = ask(house, key=chats)
    assert refused.status_code == 403, refused.text
    assert refused.json()["error"]["code"] == "scope_not_allowed"
    assert ask(house, key=new_key(house.client, scopes=["chat", "search"])["key"]).status_code == 200


def test_no_tool_is_used_where_none_may_be(house: House) -> None:
    response = asked(house, tool_choice="none")
    assert [item["type"] for item in response["output"]] == ["message"]
    assert "<text>" not in str(house.server.bodies[-1]["messages"])


def test_passages_are_data_beside_the_question_and_not_kept_with_it(house: House) -> None:
    response = asked(house, instructions="Be brief.")
    system, question = house.server.bodies[-1]["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert question["content"].startswith("<text>\n")
    assert question["content"].endswith(ASKED)
    assert "not instructions" in question["content"]
    items = house.client.get(f"/v1/responses/{response['id']}/input_items").json()["data"]
    assert items[0]["content"][0]["text"] == ASKED


def test_fewer_characters_are_shown_where_the_window_is_too_small(house: House) -> None:
    """The server's window has 4,096 words."""
    filler = "so " * 4030
    response = asked(house, input=[{"role": "user", "content": filler}, {"role": "user", "content": ASKED}])
    assert response["output"][0]["status"] == "completed"
    first, last = [body["messages"][-1]["content"] for body in house.server.bodies[-2:]]
    assert last.count("<text>") == first.count("<text>")
    assert len(last) < len(first)


def test_a_document_made_of_a_file_is_cited_by_it(house: House) -> None:
    with sqlite3.connect(house.gate.folder / "stoker.db", timeout=10) as database:
        database.execute("UPDATE documents SET file_id = 'file_2024' WHERE filename LIKE 'fares 2024%'")
    try:
        (citation,) = annotations(asked(house, tool={"filters": {"type": "eq", "key": "year", "value": 2024}}))
        assert citation["file_id"] == "file_2024"
        assert citation["document_id"].startswith("doc_")
    finally:
        with sqlite3.connect(house.gate.folder / "stoker.db", timeout=10) as database:
            database.execute("UPDATE documents SET file_id = NULL")


def test_what_a_local_collection_gave_keeps_its_conversation_in_the_house(house: House) -> None:
    made = house.client.post("/v1/collections", json={"name": f"inner-{secrets.token_hex(3)}", "local_only": True})
    conversation = house.client.post("/v1/conversations", json={}).json()["id"]
    asked(house, conversation=conversation)
    assert house.client.get(f"/v1/conversations/{conversation}").json()["local_only"] is False
    asked(house, conversation=conversation, tool={"vector_store_ids": [made.json()["id"]]})
    assert house.client.get(f"/v1/conversations/{conversation}").json()["local_only"] is True


def items_of(house: House, conversation: str) -> list[dict[str, Any]]:
    path = f"/v1/conversations/{conversation}/items"
    found: list[dict[str, Any]] = house.client.get(path, params={"order": "asc"}).json()["data"]
    return found


def begin(house: House, key: str | None = None) -> str:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return str(house.client.post("/v1/conversations", json={}, headers=headers).json()["id"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_question_in_a_conversation_is_read_with_it_and_added_to_it(house: House, stream: bool) -> None:
    conversation = begin(house)
    talk = [{"role": "user", "content": "When does the ferry leave?"}, {"role": "assistant", "content": "At nine."}]
    house.client.post(f"/v1/conversations/{conversation}/items", json={"items": talk}).raise_for_status()
    body = {"messages": [], "conversation_id": conversation, "query_work": {"rewrite": True}, "stream": stream}
    answer = house.ask(**body)
    assert answer.status_code == 200, answer.text
    done = events(answer.text)[-1] if stream else answer.json()
    assert done["conversation_id"] == conversation
    shown = json.dumps(house.chats(answer.headers["x-request-id"])["rewrite"])
    assert "When does the ferry leave?" in shown
    question, said = items_of(house, conversation)[2:]
    assert question["content"][0]["text"] == "And what does it cost?"
    assert said["content"][0]["text"] == done["answer"]
    cited = [annotation["quote"] for annotation in said["content"][0]["annotations"]]
    assert cited == [citation["quote"] for citation in done["citations"]]


def test_a_question_belongs_to_no_conversation_but_its_askers(house: House) -> None:
    ann, bob = house.members["ann"], house.members["bob"]
    conversation = begin(house, ann)
    assert house.ask(ann, messages=[], conversation_id=conversation).status_code == 200
    for key, name in ((bob, conversation), (None, conversation), (ann, "conv_none")):
        for stream in (False, True):
            refused = house.ask(key, messages=[], conversation_id=name, stream=stream)
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "conversation_not_found")
    both = house.ask(ann, conversation_id=conversation)
    assert (both.status_code, both.json()["error"]["param"]) == (400, "messages")
    asks_only = new_key(house.client, scopes=["query"])["key"]
    assert house.ask(asks_only, messages=[], conversation_id=begin(house)).status_code == 403
