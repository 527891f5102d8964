"""Run in the environment of the official SDKs: a plain user of `openai`'s responses and conversations."""

import asyncio
import json
from functools import cache
from typing import Any

import openai
import pydantic
from lines import Order, obey, told


class Place(pydantic.BaseModel):
    """What a model is to say."""

    place: str
    reason: str
    other: str
    days: int


@cache
def made(url: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=120)


def client(order: Order) -> openai.OpenAI:
    return made(f"{order['url']}/v1", order["key"])


def asked(order: Order) -> dict[str, Any]:
    return {"model": order["model"], **order["fields"]}


def plain(value: Any) -> Any:
    """An object of the SDK as the JSON that it was made of."""
    return value.to_dict(mode="json")


def create(order: Order) -> Order:
    answer = client(order).responses.create(**asked(order))
    return {"text": answer.output_text, "response": plain(answer), "request_id": answer._request_id}


def stream(order: Order) -> Order:
    events = list(client(order).responses.create(**asked(order), stream=True))
    return {"events": [plain(event) for event in events], "classes": [type(event).__name__ for event in events]}


def helper(order: Order) -> Order:
    """The helper that gathers a stream."""
    kinds, snapshots = [], []
    with client(order).responses.stream(**asked(order)) as events:
        for event in events:
            kinds.append(event.type)
            if event.type in ("response.output_text.delta", "response.function_call_arguments.delta"):
                snapshots.append(event.snapshot)
        final = events.get_final_response()
    return {"kinds": kinds, "last": snapshots[-1] if snapshots else None, "response": plain(final)}


def helper_async(order: Order) -> Order:
    """The same of the asynchronous client."""

    async def run() -> Order:
        async with (
            openai.AsyncOpenAI(base_url=f"{order['url']}/v1", api_key=order["key"], max_retries=0) as one,
            one.responses.stream(**asked(order)) as events,
        ):
            kinds = [event.type async for event in events]
            return {"kinds": kinds, "response": plain(await events.get_final_response())}

    return asyncio.run(run())


def parse(order: Order) -> Order:
    """A schema made of a class, and the answer as one of its kind."""
    answer = client(order).responses.parse(**asked(order), text_format=Place)
    assert isinstance(answer.output_parsed, Place)
    return {"parsed": answer.output_parsed.model_dump(), "text": answer.output_text}


def parse_stream(order: Order) -> Order:
    with client(order).responses.stream(**asked(order), text_format=Place) as events:
        answer = events.get_final_response()
    assert isinstance(answer.output_parsed, Place)
    return {"parsed": answer.output_parsed.model_dump()}


def broken(order: Order) -> Order:
    """A stream that breaks, by hand and by the helper."""
    kinds = []
    for event in client(order).responses.create(**asked(order), stream=True):
        kinds.append(event.type)
    failed = plain(event)
    again = []
    try:
        with client(order).responses.stream(**asked(order)) as events:
            again = [one.type for one in events]
            events.get_final_response()
    except RuntimeError as error:
        return {"kinds": kinds, "failed": failed, "again": again, "raised": str(error)}
    return {"kinds": kinds, "failed": failed, "again": again, "raised": None}


def kept(order: Order) -> Order:
    """Everything that can be done with a response that is kept."""
    one = client(order)
    made_ = one.responses.create(**asked(order))
    found = one.responses.retrieve(made_.id)
    items = list(one.responses.input_items.list(made_.id, limit=1, order="asc"))
    errors = {}
    for name, act in (
        ("cancel", one.responses.cancel),
        ("stream", lambda id_: one.responses.retrieve(id_, stream=True)),
    ):
        try:
            act(made_.id)
        except openai.APIStatusError as error:
            errors[name] = told(error)
    on = one.responses.create(model=order["model"], input="And?", previous_response_id=made_.id)
    one.responses.delete(made_.id)
    try:
        one.responses.retrieve(made_.id)
    except openai.NotFoundError as error:
        errors["deleted"] = told(error)
    return {
        "same": plain(found) == plain(made_),
        "items": [plain(item) for item in items],
        "previous": on.previous_response_id,
        "id": made_.id,
        "errors": errors,
        "input_items": json.loads(one.responses.input_items.with_raw_response.list(on.id).text),
    }


def conversation(order: Order) -> Order:
    """Everything that can be done with a conversation."""
    one, raw = client(order).conversations, client(order).conversations.with_raw_response
    said = [{"role": "user", "content": f"Number {number}."} for number in range(5)]
    begun = one.create(items=said[:2], metadata={"topic": "numbers"})
    changed = one.update(begun.id, metadata={"topic": "words"})
    added = one.items.create(begun.id, items=said[2:])
    pages = [item.content[0].text for item in one.items.list(begun.id, limit=2, order="asc")]
    single = one.items.retrieve(added.data[0].id, conversation_id=begun.id)
    after = one.items.delete(added.data[0].id, conversation_id=begun.id)
    answer = client(order).responses.create(model=order["model"], input="And?", conversation=begun.id)
    listed = raw.items.list(begun.id, order="asc", include=["file_search_call.results"])
    shapes = {
        "Conversation": raw.retrieve(begun.id).text,
        "ConversationItemList": listed.text,
        "ConversationDeletedResource": raw.delete(begun.id).text,
    }
    try:
        one.retrieve(begun.id)
        gone = False
    except openai.NotFoundError:
        gone = True
    return {
        "metadata": [begun.metadata, changed.metadata],
        "pages": pages,
        "single": plain(single),
        "after": after.id == begun.id,
        "belongs": answer.conversation.id == begun.id if answer.conversation else False,
        "texts": [item["content"][0]["text"] for item in json.loads(shapes["ConversationItemList"])["data"]],
        "gone": gone,
        "shapes": {name: json.loads(text) for name, text in shapes.items()},
    }


def version(_: Order) -> Order:
    return {"version": openai.__version__}


obey({action.__name__: action for action in (
    version, create, stream, helper, helper_async, parse, parse_stream, broken, kept, conversation,
)})  # fmt: skip
