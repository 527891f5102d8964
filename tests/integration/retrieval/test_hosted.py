"""Hosted embedders: a real gateway with LiteLLM before a server that it takes for OpenAI; and what may not go there."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from core.clock import SystemClock
from core.principal import Principal
from core.reach import ANYWHERE, HOME, Reach
from retrieval import generations
from retrieval.errors import InputInvalid, SpaceHosted
from retrieval.hosted import HostedModel
from retrieval.intake import NewFile
from retrieval.open import open_retrieval
from retrieval.rows import fetch
from retrieval.search import Query
from retrieval.settings import RetrievalSettings
from retrieval.status import Status
from storage.schema import collections, tenants
from tests.integration.retrieval.conftest import House
from tests.support.gateway import Gateway, gateway
from tests.support.openai_server import OpenAiServer, openai_server_in_thread

pytestmark = pytest.mark.slow  # LiteLLM takes seconds to import

CLOUD = HostedModel(dimensions=32, query_prefix="ask: ", document_prefix="read: ")
TEXT = "The tide is high at the pier."


@dataclass
class Cloud:
    """A provider, and the gateway before it."""

    provider: OpenAiServer
    gateway: Gateway

    @property
    def sent(self) -> list[str]:
        """All that has reached the provider."""
        return [text for body in self.provider.bodies for text in body["input"]]

    def usage(self) -> httpx.Response:
        """What keys have used."""
        return httpx.get(f"{self.gateway.url}/v1/admin/usage?group_by=key", headers={"x-api-key": self.gateway.key})

    def key(self, **how: Any) -> str:
        """A key of the gateway, made as its documentation says."""
        body = {"name": "embedder", "scopes": ["embeddings"], "limits": {"tpm": 1_000_000, "rpm": 1000}} | how
        answer = httpx.post(f"{self.gateway.url}/v1/admin/keys", json=body, headers={"x-api-key": self.gateway.key})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with openai_server_in_thread() as provider:
        configuration = (
            "model_list:\n"
            "  - model_name: cloud\n"
            f"    litellm_params: {{model: openai/words, api_key: sk-test, api_base: '{provider.base_url}',\n"
            "                     input_cost_per_token: 0.001}\n"
            "    model_info: {mode: embedding}\n"
        )
        with gateway(tmp_path_factory.mktemp("gateway"), 1, configuration=configuration) as running:
            yield Cloud(provider, running)


@pytest.fixture(autouse=True)
def nothing_sent(cloud: Cloud) -> None:
    cloud.provider.bodies.clear()


def settings(house: House, cloud: Cloud, key: str | None) -> RetrievalSettings:
    return house.settings.model_copy(
        update={
            "hosted_embeddings": {"cloud": CLOUD},
            "hosted_embeddings_url": cloud.gateway.url,
            "hosted_embeddings_key": None if key is None else SecretStr(key),
        }
    )


async def reopened(house: House, cloud: Cloud, key: str | None) -> AsyncIterator[House]:
    chosen = settings(house, cloud, key)
    async with open_retrieval(chosen, house.database, house.redis, house.objects) as retrieval:
        yield replace(house, settings=chosen, retrieval=retrieval)


@pytest.fixture
async def hosted(house: House, cloud: Cloud) -> AsyncIterator[House]:
    async for opened in reopened(house, cloud, cloud.key()):
        yield opened


def local(principal: Principal) -> Principal:
    return replace(principal, reach=HOME)


async def test_documents_and_questions_go_through_the_gateway_and_are_paid_for_there(
    hosted: House, cloud: Cloud
) -> None:
    key = cloud.key(name="payer")
    async for house in reopened(hosted, cloud, key):
        made = await house.retrieval.collections.create(house.principal, "c", embedding_model="cloud")
        assert (made.embedding_space, made.dimensions) == ("hosted/cloud", 32)
        async with house.worker():
            job = await house.ingest("c", a=TEXT, b="Another one.")
        assert job.documents[0].status is Status.READY
        found = await house.retrieval.searcher.search(house.principal, Query("c", "tide", 10, "dense"))
        assert {one.filename for one in found.passages} == {"a.md", "b.md"}
        assert sorted(cloud.sent) == sorted([f"read: a\n{TEXT}", "read: b\nAnother one.", "ask: tide"])
        assert {header["authorization"] for header in cloud.provider.headers} == {"Bearer sk-test"}
        for _ in range(100):
            told = await asyncio.to_thread(cloud.usage)
            used = [one for one in told.json()["data"] if one["nano_usd"]]
            if sum(one["requests"] for one in used) >= 3:
                break
            await asyncio.sleep(0.1)
        assert sum(one["nano_usd"] for one in used) > 0, told.text


async def test_what_may_not_leave_the_house_is_never_sent(hosted: House, cloud: Cloud) -> None:
    retrieval, manager = hosted.retrieval, hosted.principal
    await retrieval.collections.create(manager, "c", embedding_model="hosted/cloud")
    async with hosted.worker():
        await hosted.ingest("c", a=TEXT)
    cloud.provider.bodies.clear()
    found = await retrieval.searcher.search(local(manager), Query("c", "secret tide", 10))
    assert [one.filename for one in found.passages] == ["a.md"]
    assert "may not leave the house" in (found.degraded_reason or "")
    with pytest.raises(SpaceHosted, match="mode lexical"):
        await retrieval.searcher.search(local(manager), Query("c", "secret tide", 10, "dense"))
    with pytest.raises(InputInvalid, match="leave the house"):
        await retrieval.intake.accept(local(manager), "c", [NewFile("b.md", None, b"A secret.")])
    elsewhere = replace(manager, reach=Reach(providers=frozenset({"azure"})))  # the gateway's key may go to openai
    with pytest.raises(InputInvalid, match="leave the house"):
        await retrieval.intake.accept(elsewhere, "c", [NewFile("b.md", None, b"A secret.")])
    # A tenant that became so after its documents had been accepted.
    await retrieval.intake.accept(manager, "c", [NewFile("b.md", None, b"A secret.")])
    closed = tenants.update().where(tenants.c.id == manager.tenant_id).values(reach=HOME.row())
    await hosted.database.write(lambda connection: connection.execute(closed))
    async with hosted.worker():
        job = await hosted.ingest("c", c="Another secret.")
    assert job.documents[0].status is Status.FAILED
    assert "may not leave the house" in (job.documents[0].error or "")
    assert cloud.sent == []


async def test_a_local_only_collection_takes_no_hosted_embedder_ever(hosted: House, cloud: Cloud) -> None:
    retrieval, manager = hosted.retrieval, hosted.principal
    for caller, flag in ((manager, True), (local(manager), False)):
        for name in ("cloud", "hosted/cloud"):
            with pytest.raises(InputInvalid, match="may leave the house") as refused:
                await retrieval.collections.create(caller, "c", embedding_model=name, reach=HOME if flag else ANYWHERE)
            assert refused.value.param == "embedding_model"
            assert "there is: all-minilm-l6-v2." in str(refused.value)
    made = await retrieval.collections.create(local(manager), "c")
    assert made.reach.local_only
    await retrieval.collections.create(manager, "open")
    for caller, name in ((manager, "c"), (local(manager), "c"), (local(manager), "open")):
        with pytest.raises(InputInvalid, match="may leave the house"):
            await retrieval.reindexes.begin(caller, name, "cloud")
    assert (await retrieval.searcher.search(manager, Query("c", "tide"))).reach.local_only
    assert not (await retrieval.searcher.search(manager, Query("open", "tide"))).reach.local_only
    # While a collection moves to a hosted embedder, what may not leave the house does not come in.
    async with hosted.worker():
        await hosted.ingest("open", a=TEXT)
    await retrieval.reindexes.begin(manager, "open", "cloud")
    with pytest.raises(InputInvalid, match="leave the house"):
        await retrieval.intake.accept(local(manager), "open", [NewFile("b.md", None, b"A secret.")])
    assert cloud.sent == []


async def test_a_collection_moves_to_a_hosted_embedder_and_back(hosted: House, cloud: Cloud) -> None:
    retrieval, manager = hosted.retrieval, hosted.principal
    await retrieval.collections.create(manager, "c")
    async with hosted.worker():
        await hosted.ingest("c", a=TEXT)
        for model in ("cloud", "all-minilm-l6-v2"):
            await retrieval.reindexes.begin(manager, "c", model)
            async with asyncio.timeout(60):
                while (await retrieval.collections.get(manager, "c")).reindex is not None:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            found = await retrieval.searcher.search(manager, Query("c", "tide", 10, "dense"))
            assert [one.filename for one in found.passages] == ["a.md"]
    assert cloud.sent == [f"read: a\n{TEXT}", "ask: tide"]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("sk-stoker-" + "0" * 40, "does not know the key in STOKER_HOSTED_EMBEDDINGS_KEY"),
        ({"scopes": ["chat"]}, "may not embed"),
        ({"limits": {"usd_per_day": "0.000001"}}, "raise its limits or its budget"),
        ({"limits": {"tpm": 3}}, "raise its limits or its budget"),
    ],
)
async def test_what_the_gateway_refuses_is_told_with_what_to_do(
    house: House, cloud: Cloud, key: str | dict[str, Any], reason: str
) -> None:
    shown = key if isinstance(key, str) else cloud.key(**key)
    async for opened in reopened(house, cloud, shown):
        await opened.retrieval.collections.create(opened.principal, "c", embedding_model="cloud")
        async with opened.worker():
            job = await opened.ingest("c", a=TEXT)
        assert job.documents[0].status is Status.FAILED
        assert reason in (job.documents[0].error or "")
        assert shown not in (job.documents[0].error or "")
    assert cloud.sent == []


async def test_without_a_key_no_collection_is_made(house: House, cloud: Cloud) -> None:
    async for opened in reopened(house, cloud, None):
        with pytest.raises(InputInvalid, match="--scope embeddings, and set STOKER_HOSTED_EMBEDDINGS_KEY"):
            await opened.retrieval.collections.create(opened.principal, "c", embedding_model="cloud")


async def test_a_group_that_is_gone_from_the_gateway_or_the_settings_is_told(hosted: House, cloud: Cloud) -> None:
    retrieval, manager = hosted.retrieval, hosted.principal
    await retrieval.collections.create(manager, "c", embedding_model="cloud")
    for space, reason in (("hosted/gone", "STOKER_HOSTED_EMBEDDINGS, which has cloud"), ("hosted/cloud", "")):
        renamed = collections.update().where(collections.c.live_name == "c").values(embedding_space=space)
        await hosted.database.write(lambda connection: connection.execute(renamed))  # noqa: B023
        async with hosted.worker():
            job = await hosted.ingest("c", a=TEXT)
        assert reason in (job.documents[0].error or ""), space
    assert await generations.advance(hosted.database, SystemClock()) == 0
    assert (await fetch(hosted.database, sa.select(collections.c.generation)))[0].generation == 0
