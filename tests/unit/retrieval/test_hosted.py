"""What a gateway may answer when texts are to be embedded, on a server that answers so."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from pydantic import SecretStr

from core.clock import SystemClock
from core.dependency import DependencyUnavailable
from core.reach import HOME
from retrieval.embedder import Embedder
from retrieval.errors import DocumentRejected, InputInvalid, SpaceHosted, SpaceMismatch, SpaceRefused
from retrieval.hosted import Hosted, HostedModel, Space

SPACE = Space("hosted/cloud", 2)


class Fake:
    """Answers what it is told, one after the other; the last again and again."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[tuple[int, Any, dict[str, str]]] = []
        self.asked: list[Any] = []

    async def embeddings(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        status, body, headers = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        return web.json_response(body, status=status, headers=headers)

    async def models(self, _: web.Request) -> web.Response:
        names = [("own", 3), ("hosted/cloud", 3)]
        return web.json_response({"data": [{"id": name, "dimensions": size} for name, size in names]})


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    served = Fake()
    app = web.Application()
    app.router.add_post("/v1/embeddings", served.embeddings)
    app.router.add_get("/v1/models", served.models)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


@pytest.fixture
async def hosted(fake: Fake) -> AsyncIterator[Hosted]:
    models = {"cloud": HostedModel(dimensions=2)}
    async with aiohttp.ClientSession() as session:
        yield Hosted(session, fake.url, SecretStr("sk"), models, 5, SystemClock())


@pytest.fixture
async def embedder(fake: Fake, hosted: Hosted) -> AsyncIterator[Embedder]:
    async with aiohttp.ClientSession() as session:
        yield Embedder(session, fake.url, 5, 10, hosted=hosted)


def vectors(*rows: list[Any]) -> tuple[int, Any, dict[str, str]]:
    return 200, {"data": [{"index": at, "embedding": row} for at, row in enumerate(rows)]}, {}


def refusal(status: int, **headers: str) -> tuple[int, Any, dict[str, str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"error": {"message": "its words"}}, named


async def test_rows_come_normalised_and_in_order(fake: Fake, hosted: Hosted) -> None:
    status, body, headers = vectors([3.0, 4.0], [0.0, 2.0])
    fake.answers = [(status, {"data": body["data"][::-1]}, headers)]
    rows = await hosted.embed(["a", "b"], SPACE, 5)
    assert rows.dtype == np.float32
    assert np.allclose(rows, [[0.6, 0.8], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (vectors([1.0, 2.0, 3.0]), SpaceRefused, "of 3 dimensions"),
        (vectors([1.0, 2.0], [1.0, 2.0]), DependencyUnavailable, "does not fit"),
        (vectors([0.0, 0.0]), DependencyUnavailable, "no direction"),
        (vectors([1e400, 1.0]), DependencyUnavailable, "no numbers"),
        (vectors(["x", "y"]), DependencyUnavailable, "is none"),
        ((200, {"data": [{"index": 0}]}, {}), DependencyUnavailable, "is none"),
        (refusal(400), DocumentRejected, "its words"),
        (refusal(401), SpaceRefused, "does not know the key"),
        (refusal(403), SpaceRefused, "--scope embeddings"),
        (refusal(404), SpaceRefused, "stoker.yaml"),
        (refusal(429, x_should_retry="false", retry_after="86400"), SpaceRefused, "its budget"),
        (refusal(429, retry_after="60"), DependencyUnavailable, "its words"),
        (refusal(429), DependencyUnavailable, "its words"),
        (refusal(503, retry_after="60"), DependencyUnavailable, "its words"),
        (refusal(500), DependencyUnavailable, "its words"),
    ],
)
async def test_every_refusal_says_what_it_is(
    fake: Fake, hosted: Hosted, answer: tuple[int, Any, dict[str, str]], error: type[Exception], words: str
) -> None:
    fake.answers = [answer]
    with pytest.raises(error, match=words):
        await hosted.embed(["a"], SPACE, 5)
    assert len(fake.asked) == 1


async def test_a_busy_gateway_is_asked_again_when_it_says(fake: Fake, hosted: Hosted) -> None:
    fake.answers = [refusal(429, retry_after="0.2"), refusal(503, retry_after="0.2"), vectors([1.0, 0.0])]
    assert (await hosted.embed(["a"], SPACE, 5)).tolist() == [[1.0, 0.0]]
    assert len(fake.asked) == 3


async def test_a_model_of_the_house_is_never_taken_for_a_hosted_one(fake: Fake, embedder: Embedder) -> None:
    """Not by its name, not for want of a setting, and not for a text that may not leave."""
    assert [space.name for space in await embedder.spaces()] == ["own"]
    assert await embedder.choose(None) == Space("own", 3)
    assert await embedder.choose("cloud") == await embedder.choose("hosted/cloud") == SPACE
    with pytest.raises(InputInvalid, match="there is: own, hosted/cloud"):
        await embedder.choose("other")
    with pytest.raises(InputInvalid, match="there is: own\\."):
        await embedder.choose("cloud", reach=HOME)
    with pytest.raises(SpaceHosted):
        await embedder.embed(["a"], SPACE, query=True, reach=HOME)
    with pytest.raises(SpaceMismatch):
        await embedder.embed(["a"], Space("cloud", 2))
    with pytest.raises(SpaceRefused, match="cloud \\(2 dimensions\\)"):
        await embedder.embed(["a"], Space("hosted/cloud", 4))
    assert fake.asked == []
