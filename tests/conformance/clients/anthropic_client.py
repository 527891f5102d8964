"""Run in the environment of the official SDKs: a plain user of `anthropic` who knows the address and the key."""

from functools import cache
from typing import Any

import anthropic
from lines import Order, obey, partly


@cache
def made(url: str, key: str, retries: int, timeout_s: float) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key=key, max_retries=retries, timeout=timeout_s)


def client(order: Order) -> anthropic.Anthropic:
    """One for each set of options, so that connections are kept from order to order."""
    return made(order["url"], order["key"], order.get("retries", 0), order.get("timeout_s", 120))


def asked(order: Order) -> dict[str, Any]:
    messages = order.get("messages", [{"role": "user", "content": order.get("text", "")}])
    fields = dict(order.get("fields", {}))
    extra = {name: fields.pop(name) for name in ("temperature", "top_p") if name in fields}  # it has no words for them
    return {"model": order["model"], "messages": messages, "max_tokens": 64, "extra_body": extra, **fields}


def told_whole(message: anthropic.types.Message) -> Order:
    return {
        "final": "".join(block.text for block in message.content if block.type == "text"),
        "usage": [message.usage.input_tokens, message.usage.output_tokens],
        "reason": message.stop_reason,
    }


def version(_: Order) -> Order:
    return {"version": anthropic.__version__}


def models(order: Order) -> Order:
    return {"models": sorted(model.id for model in client(order).models.list())}


def whole(order: Order) -> Order:
    message = client(order).messages.create(**asked(order))
    return {**told_whole(message), "request_id": message._request_id}


def stream(order: Order) -> Order:
    text: list[str] = []
    kinds: list[str] = []
    try:
        for event in client(order).messages.create(**asked(order), stream=True):
            kinds.append(event.type)
            if event.type == "content_block_delta":
                text.append(event.delta.text)
    except Exception as error:
        return partly(text, error)
    return {"text": "".join(text), "kinds": kinds}


def helper(order: Order) -> Order:
    """The helper that gathers a stream."""
    text: list[str] = []
    try:
        with client(order).messages.stream(**asked(order)) as events:
            for delta in events.text_stream:
                text.append(delta)  # noqa: PERF402 - one by one: the stream may break
            final = events.get_final_message()
            request_id = events.request_id
    except Exception as error:
        return partly(text, error)
    return {"text": "".join(text), **told_whole(final), "request_id": request_id}


def leave(order: Order) -> Order:
    """Leave streams in the middle, then ask again on the same client."""
    one = client(order)
    for _ in range(order["times"]):
        with one.messages.create(**asked(order), stream=True) as events:
            next(event for event in events if event.type == "content_block_delta")
    messages = [{"role": "user", "content": "still here"}]
    return told_whole(one.messages.create(model=order["model"], messages=messages, max_tokens=8))


def blocks_of(message: anthropic.types.Message) -> list[list[Any]]:
    """Each block's text, and its citations with the class that the SDK takes them for."""
    return [
        [block.text, [[type(one).__name__, one.to_dict()] for one in block.citations or []]]
        for block in message.content
        if block.type == "text"
    ]


def cited(order: Order) -> Order:
    """An answer from documents: whole, event by event, and by the helper that gathers a stream."""
    one = client(order)
    message = one.messages.create(**asked(order))
    events = list(one.messages.create(**asked(order), stream=True))
    with one.messages.stream(**asked(order)) as told:
        final = told.get_final_message()
    return {
        **told_whole(message),
        "blocks": blocks_of(message),
        "final_blocks": blocks_of(final),
        "final_usage": [final.usage.input_tokens, final.usage.output_tokens],
        "kinds": [event.type for event in events],
        "classes": sorted({type(event).__name__ for event in events}),
    }


obey({action.__name__: action for action in (version, models, whole, stream, helper, leave, cited)})
