"""A gateway whose engine has a hosted provider behind it, which is a canary: it notes every byte that reaches it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.integration.hot.conftest import new_key
from tests.integration.querywork.test_gateway import House, open_house
from tests.integration.retrieval.conftest import Servers, servers
from tests.support.openai_server import OpenAiServer, openai_server_in_thread

__all__ = ["servers"]


@dataclass
class Watched:
    """The house and the canary."""

    house: House
    canary: OpenAiServer

    @property
    def heard(self) -> int:
        """Requests that have reached the canary."""
        return len(self.canary.bodies) + len(self.canary.counted) + self.canary.refused_counts


@pytest.fixture(scope="module")
def opened(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with openai_server_in_thread() as canary:
        cloud = f"model: openai/words, api_key: sk-test, api_base: '{canary.base_url}', region_name: eu-west-1"
        models = (
            f"  - model_name: cloud\n    litellm_params: {{{cloud}}}\n"
            f"  - model_name: cloud-embed\n    litellm_params: {{{cloud}}}\n    model_info: {{mode: embedding}}\n"
            "  - model_name: sealed\n    litellm_params: {model: hosted_vllm/words, api_base: 'http://127.0.0.1:9/v1'}\n"
        )
        routing = (
            "router_settings:\n  fallbacks: [{words: [cloud]}, {sealed: [cloud]}]\n"
            "  context_window_fallbacks: [{words: [cloud]}]\n"
        )
        settings = {"STOKER_AUTO_MODELS": "words,cloud", "STOKER_AUTO_THRESHOLDS": "0"}
        folder = tmp_path_factory.mktemp("policy")
        with open_house(servers, folder, models=models, routing=routing, policy=POLICY, **settings) as house:
            yield Watched(house, canary)


POLICY = "  policy: {sealed: {local_only: true}}\n"


@pytest.fixture
def watched(opened: Watched) -> Iterator[Watched]:
    """The same, with nothing heard and a model that is well."""
    opened.canary.bodies.clear()
    opened.canary.headers.clear()
    opened.house.says.clear()
    yield opened
    opened.house.server.fault = None


@pytest.fixture(scope="module")
def free(opened: Watched) -> str:
    """A key whose text may go anywhere."""
    return str(new_key(opened.house.client)["key"])
