"""All providers' servers, and a router whose configuration names them as a user would."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from router.config import RouterConfig, load
from router.router import Router, open_router
from tests.integration.providers.anthropic_wire import AnthropicWire
from tests.integration.providers.aws_wire import BedrockWire, SagemakerWire
from tests.integration.providers.cohere_wire import CohereWire
from tests.integration.providers.openai_wire import AzureWire, OpenAiWire
from tests.integration.providers.voyage_wire import VoyageWire
from tests.integration.providers.wire import ChatWire, Wire, serving

KINDS = (OpenAiWire, AzureWire, AnthropicWire, BedrockWire, SagemakerWire, CohereWire, VoyageWire)
CHATS = [kind.name for kind in KINDS if issubclass(kind, ChatWire)]
EMBEDS = [kind.name for kind in KINDS if kind is not AnthropicWire]


def written(wires: Sequence[Wire], **more: object) -> str:
    """The text of a stoker.yaml that names them all, with more for each one's `litellm_params`."""
    entries = [entry for wire in wires for entry in wire.entries()]
    for entry in entries:
        entry["litellm_params"].update(more)
    return yaml.safe_dump({"model_list": entries})


@pytest.fixture(scope="package")
def served() -> Iterator[dict[str, Wire]]:
    """The servers by name, and their secrets in the environment."""
    wires: list[Wire] = [kind() for kind in KINDS]
    with serving(wires), pytest.MonkeyPatch.context() as patch:
        for wire in wires:
            for name, value in wire.environment().items():
                patch.setenv(name, value)
        yield {wire.name: wire for wire in wires}


@pytest.fixture
def wires(served: dict[str, Wire]) -> dict[str, Wire]:
    for wire in served.values():
        wire.reset()
    return served


@pytest.fixture
def config(wires: dict[str, Wire], tmp_path: Path) -> RouterConfig:
    path = tmp_path / "stoker.yaml"
    path.write_text(written(list(wires.values())))
    return load(path)


@pytest.fixture
async def router(config: RouterConfig) -> AsyncIterator[Router]:
    async with open_router(config) as router:
        yield router
