"""Run in the environment of the official SDKs: a plain user of `openai` who knows the address and the key."""

from functools import cache
from typing import Any

import openai
from lines import Order, obey, partly


@cache
def made(url: str, key: str, retries: int, timeout_s: float) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=key, max_retries=retries, timeout=timeout_s)


def client(order: Order) -> openai.OpenAI:
    """One for each set of options, so that connections are kept from order to order."""
    return made(f"{order['url']}/v1", order["key"], order.get("retries", 0), order.get("timeout_s", 120))


def asked(order: Order) -> dict[str, Any]:
    messages = order.get("messages", [{"role": "user", "content": order.get("text", "")}])
    return {"model": order["model"], "messages": messages, **order.get("fields", {})}


def usage_of(usage: Any) -> list[int] | None:
    return None if usage is None else [usage.prompt_tokens, usage.completion_tokens]


def version(_: Order) -> Order:
    return {"version": openai.__version__}


def models(order: Order) -> Order:
    return {"models": sorted(model.id for model in client(order).models.list())}


def model(order: Order) -> Order:
    return {"model": client(order).models.retrieve(order["model"]).id}


def whole(order: Order) -> Order:
    answer = client(order).chat.completions.create(**asked(order))
    return {
        "text": answer.choices[0].message.content,
        "usage": usage_of(answer.usage),
        "request_id": answer._request_id,
    }


def raw(order: Order) -> Order:
    answer = client(order).chat.completions.with_raw_response.create(**asked(order))
    return {"headers": dict(answer.headers), "text": answer.parse().choices[0].message.content}


def stream(order: Order) -> Order:
    text: list[str] = []
    usage, without_choice = None, 0
    try:
        for chunk in client(order).chat.completions.create(**asked(order), stream=True):
            usage = chunk.usage or usage
            without_choice += not chunk.choices
            text += [choice.delta.content or "" for choice in chunk.choices]
    except Exception as error:
        return partly(text, error)
    return {"text": "".join(text), "usage": usage_of(usage), "without_choice": without_choice}


def helper(order: Order) -> Order:
    """The helper that gathers a stream."""
    text: list[str] = []
    try:
        with client(order).chat.completions.stream(**asked(order)) as events:
            for event in events:
                if event.type == "content.delta":
                    text.append(event.delta)  # noqa: PERF401 - one by one: the stream may break
            final = events.get_final_completion()
    except Exception as error:
        return partly(text, error)
    return {"text": "".join(text), "final": final.choices[0].message.content, "usage": usage_of(final.usage)}


def leave(order: Order) -> Order:
    """Leave streams in the middle, then ask again on the same client."""
    one = client(order)
    for _ in range(order["times"]):
        with one.chat.completions.create(**asked(order), stream=True) as chunks:
            next(chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content)
    messages = [{"role": "user", "content": "still here"}]
    answer = one.chat.completions.create(model=order["model"], messages=messages, max_tokens=8)
    return {"text": answer.choices[0].message.content}


def completion(order: Order) -> Order:
    answer = client(order).completions.create(model=order["model"], prompt=order["text"], **order.get("fields", {}))
    return {"text": answer.choices[0].text, "usage": usage_of(answer.usage)}


def embed(order: Order) -> Order:
    answer = client(order).embeddings.create(model=order["model"], input=order["texts"])
    return {"vectors": [item.embedding for item in answer.data]}


def cited(order: Order) -> Order:
    """An answer from documents: whole, streamed and by the helper that gathers a stream, with its sources."""
    one = client(order)
    answer = one.chat.completions.create(**asked(order))
    chunks = list(one.chat.completions.create(**asked(order), stream=True, stream_options={"include_usage": True}))
    with one.chat.completions.stream(**asked(order)) as events:
        final = events.until_done().get_final_completion()
    said, ended = answer.choices[0].message, next(one for one in chunks if one.choices and one.choices[0].finish_reason)
    deltas = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    return {
        "text": said.content,
        "streamed": "".join(deltas),
        "final": final.choices[0].message.content,
        "addresses": [[note.type, note.url_citation.url] for note in said.annotations or []],
        "final_addresses": [[note.type, note.url_citation.url] for note in final.choices[0].message.annotations or []],
        "citations": said.model_extra["citations"],
        "streamed_citations": ended.choices[0].delta.model_extra["citations"],
        "usage": usage_of(answer.usage),
        "streamed_usage": usage_of(chunks[-1].usage),
        "dumped": answer.to_dict(),
        "chunks": [chunk.to_dict() for chunk in chunks],
    }


obey({action.__name__: action for action in (
    version, models, model, whole, raw, stream, helper, leave, completion, embed, cited,
)})  # fmt: skip
