"""`./stoker bench engine`: tokens a second through the gateway, beside the same engine asked directly.

A whole stack with real vLLM; pairs alternate which of the two goes first, so that a slow minute meets both.
"""

import argparse
import asyncio
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import uvloop

from tests.load.client import Connection
from tests.support.stack import Stack, start_stack

_PROMPT = "Tell a long story of a lighthouse, number {number}, and of those who kept it through the winter."


def request_of(port: int, key: str, model: str, tokens: int, number: int) -> bytes:
    """A stream of exactly `tokens` tokens, with a prompt that no other request has."""
    body = httpx.Request(
        "POST",
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json={
            "model": model,
            "messages": [{"role": "user", "content": _PROMPT.format(number=number)}],
            "max_tokens": tokens,
            "min_tokens": tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    ).content
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def tokens_per_s(port: int, key: str, model: str, streams: int, tokens: int, first: int) -> float:
    """Run `streams` streams at once. Returns: tokens a second from the first request to the last frame."""
    connections = [await Connection.open(port) for _ in range(streams)]
    requests = [request_of(port, key, model, tokens, first + at) for at in range(streams)]
    began = time.perf_counter()
    replies = await asyncio.gather(*(each.ask(request) for each, request in zip(connections, requests, strict=True)))
    took_s = time.perf_counter() - began
    for connection, reply in zip(connections, replies, strict=True):
        connection.close()
        if reply.status != 200 or b'"completion_tokens":%d' % tokens not in reply.body:
            raise RuntimeError(f"status {reply.status}: {reply.body[-300:]!r}")
    return streams * tokens / took_s


async def measure(stack: Stack, pairs: int, streams: int, tokens: int) -> None:
    """Print each pair, then the median of their ratios."""
    model = next(
        each["id"] for each in stack.client.get("/v1/models").json()["data"] if "minilm" not in each["id"].lower()
    )
    limits = {"rpm": 10**6, "tpm": 10**9, "parallel": 10**4, "usd_per_day": "1000"}
    key = stack.client.post("/v1/admin/keys", json={"name": "bench", "limits": limits}).raise_for_status().json()["key"]
    ports = {"direct": int(stack.process("vllm")["port"]), "gateway": int(stack.url.rpartition(":")[2])}
    for port in ports.values():  # warm, both ways
        await tokens_per_s(port, key, model, streams, 8, 10**6)
    ratios = []
    for pair in range(pairs):
        found = {}
        for way in sorted(ports, reverse=bool(pair % 2)):
            first = (2 * pair + (way == "direct")) * streams  # no prompt twice: nothing is cached
            found[way] = await tokens_per_s(ports[way], key, model, streams, tokens, first)
        ratios.append(found["gateway"] / found["direct"])
        print(
            f"pair {pair + 1}: direct {found['direct']:.1f} tokens/s, through the gateway {found['gateway']:.1f}: "
            f"{ratios[-1] * 100:.1f} %",
            flush=True,
        )
    median = statistics.median(ratios)
    print(f"{model}, {streams} streams of {tokens} tokens, median of {pairs} pairs: {median * 100:.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=48, help="of each stream")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder, start_stack(Path(folder) / "data", "--no-demo") as stack:
        uvloop.run(measure(stack, arguments.pairs, arguments.streams, arguments.tokens))


if __name__ == "__main__":
    main()
