"""Servers that routers are tested against."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.engines import Engine, start_vllm
from tests.support.openai_server import OpenAiServer, openai_server


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
def vllm_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A real vLLM of this folder's own."""
    with start_vllm(tmp_path_factory.mktemp("vllm")) as engine:
        yield engine
