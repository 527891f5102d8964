"""Run in the environment of the official SDKs: a plain user of `openai` who goes the whole way with documents."""

import json
import time
from typing import Any

import openai
from lines import Order, obey

ENDED = ("completed", "failed", "expired", "cancelled")


def journey(order: Order) -> Order:
    """A store, files, searches, answers with sources, a conversation, a batch, and all of it deleted."""
    one = openai.OpenAI(base_url=f"{order['url']}/v1", api_key=order["key"], max_retries=0, timeout=120)
    model, question = order["model"], order["question"]
    store = one.vector_stores.create(name=order["name"], metadata={"of": "the harbour"})
    files = {
        name: one.files.create(file=(name, text.encode()), purpose="assistants")
        for name, text in order["files"].items()
    }
    attached = [
        one.vector_stores.files.create_and_poll(
            file.id, vector_store_id=store.id, attributes={"kind": name}, poll_interval_ms=200
        )
        for name, file in files.items()
    ]
    texts = {
        file.id: "".join(part.text or "" for part in one.vector_stores.files.content(file.id, vector_store_id=store.id))
        for file in files.values()
    }
    found = {
        name: [
            hit.content[0].text
            for hit in one.vector_stores.search(
                store.id, query=question, filters={"type": "eq", "key": "kind", "value": name}
            )
        ]
        for name in files
    }
    asked: dict[str, Any] = {
        "model": model,
        "tools": [{"type": "file_search", "vector_store_ids": [store.id]}],
        "include": ["file_search_call.results"],
    }
    whole = one.responses.create(input=question, **asked)
    events = list(one.responses.create(input=question, stream=True, **asked))
    talk = one.conversations.create()
    said = [
        one.responses.create(input=text, conversation=talk.id, **asked).output_text
        for text in (question, order["further"])
    ]
    items = [item.to_dict() for item in one.conversations.items.list(talk.id, order="asc")]
    return {
        "files": {name: file.id for name, file in files.items()},
        "attached": [one_file.status for one_file in attached],
        "texts": texts,
        "found": found,
        "response": whole.to_dict(mode="json"),
        "output_text": whole.output_text,
        "events": [event.to_dict(mode="json") for event in events],
        "said": said,
        "items": items,
        "batch": batch(one, [{**asked, "input": text} for text in (question, order["further"])]),
        "deleted": [
            *(one.files.delete(file.id).deleted for file in files.values()),
            one.vector_stores.delete(store.id).deleted,
            one.conversations.delete(talk.id).deleted,
        ],
    }


def batch(one: openai.OpenAI, bodies: list[dict[str, Any]]) -> Order:
    """Ask for several responses at once, and wait for them."""
    lines = [
        json.dumps({"custom_id": str(at), "method": "POST", "url": "/v1/responses", "body": body})
        for at, body in enumerate(bodies)
    ]
    file = one.files.create(file=("questions.jsonl", "\n".join(lines).encode()), purpose="batch")
    made = one.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
    limit = time.monotonic() + 120
    while made.status not in ENDED and time.monotonic() < limit:
        time.sleep(0.1)
        made = one.batches.retrieve(made.id)
    out = one.files.content(made.output_file_id).text if made.output_file_id else ""
    return {"status": made.status, "lines": [json.loads(line) for line in out.splitlines()]}


obey({"journey": journey})
