"""Deployments and calls for these tests; deadlines are short, since stalls wait for them."""

import itertools
from dataclasses import replace
from typing import Any

from core.breaker import BreakerPolicy
from router.call import Call
from router.deployment import Deadlines, Deployment, LaneName
from tests.support.exact.faults import Fault
from tests.support.exact.server import ExactServer

DEADLINES = Deadlines(connect_s=1, first_token_s=0.4, between_tokens_s=0.4, total_s=4, embedding_s=4)
WHOLE = replace(DEADLINES, total_s=0.8)
SHAKING_HANDS = replace(DEADLINES, connect_s=4, first_token_s=4)  # TLS is a processor's work, on a busy machine too
PATIENT = BreakerPolicy(failures_to_open=10**6, probe_after_s=0.2, successes_to_close=1)

TOOLS = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("look_up", "book")]

_numbers = itertools.count()


def deployment(
    server: ExactServer, name: str, *, group: str = "g", stream: bool = True, fault: Fault | None = None, **more: Any
) -> Deployment:
    """A deployment on the native lane, addressed as the fault needs it."""
    deadlines = DEADLINES if stream else WHOLE
    return Deployment(
        name,
        group,
        server.model,
        LaneName.NATIVE,
        False,
        api_base=server.tls_base_url if fault is Fault.TLS_CLOSE else server.base_url,
        **{
            "deadlines": SHAKING_HANDS if fault is Fault.TLS_CLOSE else deadlines,
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
    return Call("chat.completions", group, body | more, stream, True, f"req_{number}")


def completion(*, stream: bool = True, group: str = "g", **more: Any) -> Call:
    """The same in the old form."""
    call = chat(stream=stream, group=group)
    body = {name: value for name, value in call.body.items() if name != "messages"}
    body["prompt"] = f"Once upon a time, sea number {call.request_id}"
    return replace(call, kind="completions", body=body | more)
