"""Run in the environment of the official SDKs: a plain user of `openai` who sends batches."""

import json
import time
from typing import Any

import openai
from lines import Order, obey

ENDED = ("completed", "failed", "expired", "cancelled")


def client(order: Order) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{order['url']}/v1", api_key=order["key"], max_retries=0, timeout=60)


def version(_: Order) -> Order:
    return {"version": openai.__version__}


def uploaded(one: openai.OpenAI, requests: list[Any]) -> str:
    data = "\n".join(json.dumps(request) for request in requests).encode()
    return one.files.create(file=("requests.jsonl", data), purpose="batch").id


def create(order: Order) -> Order:
    """Upload the requests and make a batch of them."""
    one = client(order)
    made = one.batches.create(
        input_file_id=uploaded(one, order["requests"]),
        endpoint=order["endpoint"],
        completion_window="24h",
        **order.get("fields", {}),
    )
    return {"batch": made.to_dict()}


def wait(order: Order) -> Order:
    """Poll until it has ended, or has so many answers. Returns: how it was each time."""
    one, seen = client(order), []
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        batch = one.batches.retrieve(order["batch_id"])
        seen.append(batch.to_dict())
        counts = batch.request_counts
        if batch.status in ENDED or (counts is not None and counts.completed >= order.get("completed", 10**9)):
            break
        time.sleep(0.05)
    return {"seen": seen}


def cancel(order: Order) -> Order:
    return {"batch": client(order).batches.cancel(order["batch_id"]).to_dict()}


def listed(order: Order) -> Order:
    """Every batch, page by page."""
    return {"ids": [batch.id for batch in client(order).batches.list(limit=order.get("limit", 20))]}


def content(order: Order) -> Order:
    """The lines of a file that came out, and what the SDK makes of each answer."""
    one = client(order)
    file = one.files.retrieve(order["file_id"])
    lines = [json.loads(line) for line in one.files.content(order["file_id"]).text.splitlines()]
    return {"file": file.to_dict(), "lines": lines}


obey({action.__name__: action for action in (version, create, wait, cancel, listed, content)})
