"""Routers and calls for these tests."""

from typing import Any

from core.breaker import BreakerPolicy
from core.reach import ANYWHERE
from router.config import RouterConfig
from router.deployment import Deadlines, Deployment, LaneName
from router.router import Answer, Call
from tests.support.openai_server import OpenAiServer

DEADLINES = Deadlines(connect_s=10, first_token_s=10, between_tokens_s=10, total_s=30, embedding_s=30)
HURRIED = Deadlines(connect_s=10, first_token_s=0.5, between_tokens_s=0.5, total_s=5, embedding_s=5)
"""For servers that fall silent; others have all the time that a busy machine takes."""


def native(server: OpenAiServer, name: str = "native-1", group: str = "g", **more: Any) -> Deployment:
    """A deployment on the native lane."""
    more.setdefault("deadlines", DEADLINES)
    more.setdefault("breaker", BreakerPolicy(failures_to_open=2, probe_after_s=0.2, successes_to_close=1))
    return Deployment(name, group, server.model, LaneName.NATIVE, False, api_base=server.base_url, **more)


def hosted(
    server: OpenAiServer, name: str = "hosted-1", group: str = "hosted", limit_s: float = 15, **more: Any
) -> Deployment:
    """A deployment on the LiteLLM lane, which takes the server for OpenAI."""
    return Deployment(
        name, group, f"openai/{server.model}", LaneName.LITELLM, True, provider="openai", api_base=server.base_url,
        api_key="sk-test", deadlines=Deadlines(1, limit_s, 1, limit_s, limit_s), **more,
    )  # fmt: skip


def config(*deployments: Deployment, **fallbacks: list[str]) -> RouterConfig:
    """A configuration as `router.config.load` makes it."""
    return RouterConfig(deployments, fallbacks)


def chat(
    text: str = "one two three four", stream: bool = False, group: str = "g", tenant: str = "t", **more: Any
) -> Call:
    """A chat call; keywords beyond Call's own fields go into the body."""
    reach = more.pop("reach", ANYWHERE)
    body = {"model": group, "messages": [{"role": "user", "content": text}], **more}
    if stream:
        body["stream"] = True
    return Call("chat.completions", group, body, stream, reach, "req_1", tenant=tenant)


async def read(answer: Answer) -> bytes:
    """The whole stream."""
    assert answer.frames is not None
    return b"".join([piece async for piece in answer.frames])
