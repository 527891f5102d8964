"""What these tests ask, and how they read what comes."""

from dataclasses import dataclass
from typing import Any

import orjson

from core.reach import ANYWHERE
from router.router import Answer, Call
from tests.integration.providers.wire import ChatWire, Seen, Told, Wire

WHO = "tenant-ofthehouse/user-9"
REQUEST = "req_ofthehouse"
ARGUMENTS = '{"city":"Reykjavík"}'
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
ASKED = {
    "messages": [{"role": "system", "content": "Be brief: ünïcode."}, {"role": "user", "content": "Count, please."}],
    "max_tokens": 50,
    "temperature": 0.3,
    "stop": ["END", "STOP"],
}
SAID = Told("Be brief: ünïcode.", "Count, please.", 50, 0.3, ["END", "STOP"])


def chat(group: str, *, stream: bool = False, **more: Any) -> Call:
    body = {"model": group, **ASKED, **more, **({"stream": True} if stream else {})}
    return Call("chat.completions", group, body, stream, ANYWHERE, REQUEST, tenant="t", who=WHO)


def embed(group: str, **more: Any) -> Call:
    body = {"model": group, "input": ["a b", "c d e"], **more}
    return Call("embeddings", group, body, False, ANYWHERE, REQUEST, tenant="t", who=WHO)


@dataclass
class Got:
    """An answer as a client reads it."""

    text: str
    tools: list[tuple[str, str]]
    reason: str | None
    usage: dict[str, Any]
    broken: bool


async def read(answer: Answer) -> Got:
    if answer.frames is None:
        body = orjson.loads(answer.body)
        (choice,) = body["choices"]
        calls = [
            (call["function"]["name"], call["function"]["arguments"])
            for call in choice["message"].get("tool_calls", ())
        ]
        return Got(choice["message"].get("content") or "", calls, choice["finish_reason"], body["usage"], False)
    return of_frames(b"".join([piece async for piece in answer.frames]).decode())


def of_frames(text: str) -> Got:
    """A stream's frames, put together as OpenAI's SDKs do."""
    data = [frame.removeprefix("data: ") for frame in text.split("\n\n") if frame]
    whole = data[-1] == "[DONE]"
    chunks = [orjson.loads(one) for one in (data[:-1] if whole else data)]
    got = Got("", [], None, {}, not whole)
    names: dict[int, list[str]] = {}
    for chunk in chunks:
        got.usage = chunk.get("usage") or got.usage
        for choice in chunk.get("choices", ()):
            got.reason = choice.get("finish_reason") or got.reason
            got.text += choice["delta"].get("content") or ""
            for call in choice["delta"].get("tool_calls") or ():
                name = names.setdefault(call["index"], ["", ""])
                name[0] += call["function"].get("name") or ""
                name[1] += call["function"].get("arguments") or ""
    got.tools = [(name, arguments) for name, arguments in names.values()]
    return got


def only(wire: Wire) -> Seen:
    """The one request that a server has seen, which it took."""
    assert wire.refusals == []
    (seen,) = wire.seen
    return seen


def kept_secret(wire: Wire, seen: Seen) -> None:
    """Each secret stands in its header alone, or nowhere, and nothing else of ours went out."""
    said = {"path": seen.path, "query": str(seen.query), "names": str(list(seen.headers)), "body": seen.raw.decode()}
    said |= seen.headers
    for secret, place in wire.secrets().items():
        assert [where for where, text in said.items() if secret in text] == ([place] if place else [])
    for ours in ("ofthehouse", "user-9", "stoker", "request-id", "openai-1", "aws_", "os.environ"):
        assert [where for where, text in said.items() if ours in text.lower()] == []


def chatter(wires: dict[str, Wire], name: str) -> ChatWire:
    wire = wires[name]
    assert isinstance(wire, ChatWire)
    return wire
