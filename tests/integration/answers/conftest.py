"""One gateway on real parts for all trials of answers, before two models that say what they are told to."""

from collections.abc import Iterator

import pytest

from tests.integration.retrieval.conftest import Servers, servers
from tests.support.answering import Desk, desk
from tests.support.cutting import CutServer, cut_server_in_thread
from tests.support.openai_server import OpenAiServer, openai_server_in_thread

__all__ = ["servers"]


@pytest.fixture(scope="package")
def words() -> Iterator[OpenAiServer]:
    """The model group `words`."""
    with openai_server_in_thread() as one:
        yield one


@pytest.fixture(scope="package")
def cuts() -> Iterator[CutServer]:
    """The model group `cuts`."""
    with cut_server_in_thread() as one:
        yield one


@pytest.fixture(scope="package")
def opened(
    servers: Servers, words: OpenAiServer, cuts: CutServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("answers")
    addresses = servers.milvus_uri, servers.embedding_url
    with desk(folder, *addresses, words=words.base_url, cuts=cuts.base_url) as one:
        yield one
