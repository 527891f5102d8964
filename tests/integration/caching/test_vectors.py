"""Vectors of questions on a real Valkey: each is made once, for its own tenant, and nobody waits long for another."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from api.caching.cache import Bounds
from api.caching.name import ALL, of_key
from api.caching.vectors import QuestionVectors
from core.dependency import DependencyUnavailable
from core.principal import Principal, Role
from core.reach import HOME
from retrieval.hosted import Space
from retrieval.questions import Vectors
from tests.integration.caching.conftest import House
from tests.integration.caching.test_answers import frozen
from tests.integration.caching.test_cache import opened
from tests.integration.caching.test_searches import search
from tests.support.valkey import valkey_server

CALLER = Principal("ten_a", "key_a", Role.MEMBER)
SPACE = Space("model", 3)
pytestmark = pytest.mark.usefixtures("redis")

QUICK = Bounds(deadline_s=5, patience_s=0.5)


@dataclass
class Embedder:
    """Counts what it is asked; a text's vector is made of its letters."""

    seen: list[str] = field(default_factory=list)
    fails: bool = False
    takes_s: float = 0.0

    async def __call__(self, texts: Sequence[str]) -> Vectors:
        self.seen += texts
        await asyncio.sleep(self.takes_s)
        if self.fails:
            raise DependencyUnavailable("embeddings", "away", 1.0)
        return np.array([[len(text), ord(text[0]), 1] for text in texts], np.float32)


async def test_each_text_is_embedded_once_and_comes_back_as_it_was(url: str) -> None:
    embed = Embedder()
    async with opened(url, QUICK) as here, opened(url, QUICK) as there:
        first = await QuestionVectors(here, 60).embedded(CALLER, ["ab", "c", "ab"], SPACE, embed)
        assert embed.seen == ["ab", "c"]
        assert first.tolist() == [[2, 97, 1], [1, 99, 1], [2, 97, 1]]
        await here.close()
        again = await QuestionVectors(there, 60).embedded(CALLER, ["c", "new", "ab"], SPACE, embed)
        assert embed.seen == ["ab", "c", "new"]
        assert again.tolist() == [[1, 99, 1], [3, 110, 1], [2, 97, 1]]
        assert (again.dtype, again.shape) == (np.float32, (3, 3))


async def test_another_tenant_space_or_policy_shares_none(url: str) -> None:
    embed = Embedder()
    async with opened(url, QUICK) as cache:
        vectors = QuestionVectors(cache, 60)
        others = [
            (CALLER, SPACE),
            (replace(CALLER, tenant_id="ten_b"), SPACE),
            (replace(CALLER, reach=HOME), SPACE),
            (CALLER, Space("other", 3)),
        ]
        for caller, space in others:
            await vectors.embedded(caller, ["ab"], space, embed)
        assert len(embed.seen) == len(others)
        await vectors.embedded(replace(CALLER, key_id="key_b"), ["ab"], SPACE, embed)
        assert len(embed.seen) == len(others)


@pytest.mark.parametrize("carried", [ALL, of_key("key_a")])
async def test_what_is_purged_is_made_anew(url: str, carried: str) -> None:
    embed = Embedder()
    async with opened(url, QUICK) as cache:
        vectors = QuestionVectors(cache, 60)
        for _ in range(2):
            await vectors.embedded(CALLER, ["ab"], SPACE, embed)
        assert len(embed.seen) == 1
        await cache.purge("ten_a", carried)
        await vectors.embedded(CALLER, ["ab"], SPACE, embed)
        assert len(embed.seen) == 2


async def test_many_at_once_have_one_made_and_nobody_waits_long(url: str) -> None:
    embed = Embedder(takes_s=0.1)
    async with opened(url, QUICK) as here, opened(url, QUICK) as there:
        both = [QuestionVectors(cache, 60) for cache in (here, there)]
        found = await asyncio.gather(*(both[at % 2].embedded(CALLER, ["ab"], SPACE, embed) for at in range(50)))
        assert len(embed.seen) == 1
        assert all(one.tolist() == [[2, 97, 1]] for one in found)

        slow = asyncio.create_task(both[0].embedded(CALLER, ["slow"], SPACE, Embedder(takes_s=30)))
        await asyncio.sleep(0.2)
        async with asyncio.timeout(10):
            assert (await both[1].embedded(CALLER, ["slow"], SPACE, embed)).tolist() == [[4, 115, 1]]
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        await both[0].embedded(CALLER, ["slow"], SPACE, embed)


async def test_a_question_that_is_given_up_holds_nobody_up(url: str) -> None:
    embed = Embedder()
    async with opened(url, replace(QUICK, patience_s=20)) as here, opened(url, replace(QUICK, patience_s=20)) as there:
        both = [QuestionVectors(cache, 60) for cache in (here, there)]
        slow = asyncio.create_task(both[0].embedded(CALLER, ["b"], SPACE, Embedder(takes_s=30)))
        await asyncio.sleep(0.2)
        left = asyncio.create_task(both[1].embedded(CALLER, ["a", "b"], SPACE, embed))  # it has a, and waits for b
        await asyncio.sleep(0.2)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        async with asyncio.timeout(10):
            await both[0].embedded(CALLER, ["a"], SPACE, embed)
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)


async def test_a_failure_is_told_and_not_kept(url: str) -> None:
    embed = Embedder(fails=True)
    async with opened(url, QUICK) as cache:
        vectors = QuestionVectors(cache, 60)
        with pytest.raises(DependencyUnavailable):
            await vectors.embedded(CALLER, ["ab"], SPACE, embed)
        embed.fails = False
        assert (await vectors.embedded(CALLER, ["ab"], SPACE, embed)).tolist() == [[2, 97, 1]]


async def test_without_redis_everything_is_embedded(tmp_path_factory: pytest.TempPathFactory) -> None:
    embed = Embedder()
    with valkey_server(tmp_path_factory.mktemp("frozen")) as url:
        async with opened(url, Bounds(deadline_s=0.2, patience_s=0.5)) as cache:
            vectors = QuestionVectors(cache, 60)
            await vectors.embedded(CALLER, ["ab"], SPACE, embed)
            await cache.close()
            with frozen(url):
                assert (await vectors.embedded(CALLER, ["ab"], SPACE, embed)).tolist() == [[2, 97, 1]]
    assert len(embed.seen) == 2


@pytest.mark.slow  # a gateway, an ingestion worker and an index are started
def test_a_search_in_another_version_embeds_nothing_anew(house: House) -> None:
    tenant = house.tenant()
    tenant.keep("a", "The pier opens at 06:15. It has two berths.")
    caller = tenant.caller()
    query = "When may ships come to the pier?"
    assert search(caller, query)[0] == "miss"
    tenant.keep("b", "Something else altogether stands here.")
    hits = _hits(house)
    assert search(caller, query)[0] == "miss"
    assert _hits(house) == hits + 1
    search(caller, query, use_cache=False)
    assert _hits(house) == hits + 1
    with frozen(house.gate.redis_url):
        assert search(caller, query)[1]


def _hits(house: House) -> float:
    """Vectors that were found, over all workers."""
    shown = house.admin.get("/metrics").text.splitlines()
    found = [line for line in shown if line.startswith("stoker_cache_lookups_total") and 'kind="vector"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in found if 'outcome="hit"' in line)
