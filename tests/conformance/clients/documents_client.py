"""Run in the environment of the official SDKs: a plain user of `openai` with files and vector stores."""

from functools import cache
from io import BytesIO
from typing import Any

import openai
from lines import Order, obey


@cache
def made(url: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120)


def client(order: Order) -> openai.OpenAI:
    return made(order["url"], order["key"])


def named(text: str, name: str) -> tuple[str, bytes]:
    return name, text.encode()


def whole_way(order: Order) -> Order:
    """Files, a store, single files and batches, searches, changes and deletions, as a program would go."""
    one, seen = client(order), {}
    file = one.files.create(
        file=named("The lighthouse of Wellhaven was built in 1872.", "light.md"),
        purpose="assistants",
        expires_after={"anchor": "created_at", "seconds": 7200},
    )
    seen["file"] = file.to_dict()
    seen["content"] = one.files.content(file.id).read().decode()
    seen["listed"] = file.id in [each.id for each in one.files.list(purpose="assistants", limit=2)]
    seen["waited"] = one.files.wait_for_processing(file.id).status
    store = one.vector_stores.create(
        name=order["name"], file_ids=[file.id], metadata={"of": "the harbour"}, description="What a harbour has.",
        expires_after={"anchor": "last_active_at", "days": 7},
    )  # fmt: skip
    seen["store"] = store.to_dict()
    seen["first"] = one.vector_stores.files.poll(file.id, vector_store_id=store.id).to_dict()
    single = one.vector_stores.files.upload_and_poll(
        vector_store_id=store.id,
        file=BytesIO(b"The ferry to Wellhaven sails at seven."),
        attributes={"kind": "ferry", "year": 2024, "daily": True},
        chunking_strategy={"type": "static", "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 50}},
    )
    seen["single"] = single.to_dict()
    batch = one.vector_stores.file_batches.upload_and_poll(
        store.id, files=[named(f"Pier {n} has {n} cranes.", f"pier{n}.md") for n in range(5)]
    )
    seen["batch"] = batch.to_dict()
    seen["batch_files"] = len(
        list(one.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, limit=2))
    )
    own = one.files.create(file=named("The dock closes in June.", "dock.md"), purpose="user_data")
    again = one.vector_stores.file_batches.create_and_poll(
        store.id, files=[{"file_id": own.id, "attributes": {"kind": "dock"}}]
    )
    seen["again"] = again.to_dict()
    seen["files"] = sorted(each.id for each in one.vector_stores.files.list(store.id, limit=3))
    seen["completed"] = len(list(one.vector_stores.files.list(store.id, filter="completed")))
    seen["ferry"] = found(one, store.id, "When does it sail?", filters={"type": "eq", "key": "kind", "value": "ferry"})
    seen["built"] = found(one, store.id, "When was the lighthouse built?", max_num_results=1)
    seen["several"] = found(one, store.id, ["lighthouse", "cranes"], ranking_options={"ranker": "none"})
    seen["years"] = found(
        one, store.id, "Wellhaven",
        filters={"type": "and", "filters": [
            {"type": "gte", "key": "year", "value": 2024}, {"type": "eq", "key": "daily", "value": True}]},
    )  # fmt: skip
    seen["text"] = "".join(
        part.text or "" for part in one.vector_stores.files.content(single.id, vector_store_id=store.id)
    )
    changed = one.vector_stores.files.update(single.id, vector_store_id=store.id, attributes={"kind": "boat"})
    seen["changed"] = changed.attributes
    seen["no_ferry"] = found(one, store.id, "sail", filters={"type": "eq", "key": "kind", "value": "ferry"})
    seen["boat"] = found(one, store.id, "sail", filters={"type": "eq", "key": "kind", "value": "boat"})
    seen["renamed"] = one.vector_stores.update(store.id, name="Another name!", metadata={"a": "b"}).to_dict()
    seen["retrieved"] = one.vector_stores.retrieve(store.id).to_dict()
    seen["detached"] = one.vector_stores.files.delete(single.id, vector_store_id=store.id).to_dict()
    seen["still_a_file"] = one.files.retrieve(single.id).id == single.id
    seen["file_deleted"] = one.files.delete(file.id).to_dict()
    seen["gone_with_it"] = found(one, store.id, "When was the lighthouse built?")
    seen["stores"] = store.id in [each.id for each in one.vector_stores.list(limit=1)]
    seen["deleted"] = one.vector_stores.delete(store.id).to_dict()
    return seen


def found(one: openai.OpenAI, store_id: str, query: Any, **fields: Any) -> list[str]:
    return [each.content[0].text for each in one.vector_stores.search(store_id, query=query, **fields)]


obey({"whole_way": whole_way})
