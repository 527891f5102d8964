"""Servers that routers are tested against."""

from collections.abc import AsyncIterator

import pytest

from tests.support.engines import Engine
from tests.support.openai_server import OpenAiServer, openai_server
from tests.support.stack import Stack


@pytest.fixture
async def server() -> AsyncIterator[OpenAiServer]:
    """A server that answers with the last message's words."""
    async with openai_server() as server:
        yield server


@pytest.fixture
async def other() -> AsyncIterator[OpenAiServer]:
    """Another one, to fall back to."""
    async with openai_server("other-words") as server:
        yield server


@pytest.fixture(scope="session")
def vllm_engine(stack: Stack) -> Engine:
    """The real vLLM of the whole stack."""
    process = stack.process("vllm")
    log = stack.data_dir / "logs" / "vllm.log"
    return Engine(f"http://127.0.0.1:{process['port']}", "smollm2-135m", process["pid"], log)
