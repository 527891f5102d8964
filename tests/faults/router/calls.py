"""Deployments and calls for these tests; deadlines are short only where a silence waits for them."""

import itertools
from dataclasses import replace
from typing import Any

from core.breaker import BreakerPolicy
from core.reach import ANYWHERE
from router.call import Call
from router.deployment import Deadlines, Deployment, LaneName
from tests.support.exact.faults import Fault
from tests.support.exact.server import ExactServer

UNHURRIED = Deadlines(connect_s=10, first_token_s=10, between_tokens_s=10, total_s=30, embedding_s=30)
HURRIED = replace(UNHURRIED, first_token_s=0.4, between_tokens_s=0.4, total_s=4)
HURRIED_WHOLE = replace(HURRIED, total_s=0.8)
SILENT = frozenset({Fault.STALL, Fault.LATE, Fault.STALL_MID})
PATIENT = BreakerPolicy(failures_to_open=10**6, probe_after_s=0.2, successes_to_close=1)

TOOLS = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("look_up", "book")]

_numbers = itertools.count()


def deployment(
    server: ExactServer, name: str, *, group: str = "g", stream: bool = True, fault: Fault | None = None, **more: Any
) -> Deployment:
    """A deployment on the native lane, addressed and hurried as the fault needs it."""
    silent = HURRIED if stream else HURRIED_WHOLE
    return Deployment(
        name,
        group,
        server.model,
        LaneName.NATIVE,
        False,
        api_base=server.tls_base_url if fault is Fault.TLS_CLOSE else server.base_url,
        **{
            "deadlines": silent if fault in SILENT else UNHURRIED,
            "breaker": BreakerPolicy(failures_to_open=2, probe_after_s=0.2, successes_to_close=1),
            **more,
        },
    )


def chat(*, stream: bool = True, group: str = "g", **more: Any) -> Call:
    """A chat call with a prompt that no other has, and so with an answer of its own."""
    number = next(_numbers)
    body: dict[str, Any] = {
        "model": group,
        "messages": [{"role": "user", "content": f"Tell me of sea number {number}."}],
        "max_tokens": 16,
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Call("chat.completions", group, body | more, stream, ANYWHERE, f"req_{number}", tenant="t")


def completion(*, stream: bool = True, group: str = "g", **more: Any) -> Call:
    """The same in the old form."""
    call = chat(stream=stream, group=group)
    body = {name: value for name, value in call.body.items() if name != "messages"}
    body["prompt"] = f"Once upon a time, sea number {call.request_id}"
    return replace(call, kind="completions", body=body | more)
