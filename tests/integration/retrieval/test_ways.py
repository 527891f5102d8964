"""Ways to search, on real parts: languages, reranking, diversity, and parts of a search that are away."""

from dataclasses import replace

import aiohttp
import pytest

from core.clock import SystemClock
from core.principal import Principal, Role
from retrieval.errors import CollectionNotFound, DocumentRejected, IndexRefused, InputInvalid
from retrieval.index import Place
from retrieval.intake import NewFile
from retrieval.open import open_retrieval
from retrieval.parsing import Parser
from retrieval.query import Query
from retrieval.reranker import Reranker
from retrieval.search import Searcher, SearchResult
from retrieval.status import JobStatus
from tests.integration.retrieval.conftest import House
from tests.support.network import free_port

pytestmark = pytest.mark.slow  # each test has a collection of its own in the index

PORT = {
    "pier": "Visitors moor at pier K. The fee for one night is 14 crowns.",
    "pier_again": "Visitors moor at pier K. One night there costs a fee of 14 crowns.",
    "tide": "The tide rises by four metres in spring, and boats must be moored with long lines.",
    "cook": "Boil the rice for twelve minutes, then let it rest.",
}


@pytest.fixture
async def port(house: House) -> House:
    await house.retrieval.collections.create(house.principal, "port")
    async with house.worker():
        assert (await house.ingest("port", **PORT)).status is JobStatus.SUCCEEDED
    return house


async def search(house: House, query: Query) -> SearchResult:
    return await house.retrieval.searcher.search(house.principal, query)


def names(result: SearchResult) -> list[str]:
    return [passage.filename.removesuffix(".md") for passage in result.passages]


async def test_lexical_search_follows_the_language_of_the_collection(house: House) -> None:
    collections = house.retrieval.collections
    await collections.create(house.principal, "de", language="german")
    await collections.create(house.principal, "en")
    texts = {"a": "Die Häuser am Hafen wurden verkauft.", "b": "Das Boot liegt an der Brücke."}
    async with house.worker():
        for name in ("de", "en"):
            assert (await house.ingest(name, **texts)).status is JobStatus.SUCCEEDED
    asked = "ein Haus verkaufen"
    assert names(await search(house, Query("de", asked, mode="lexical"))) == ["a"]
    assert names(await search(house, Query("en", asked, mode="lexical"))) == []
    assert (await collections.get(house.principal, "de")).language == "german"
    assert names(await search(house, Query("de", "Brucke", mode="lexical"))) == ["b"]
    with pytest.raises(InputInvalid, match="german"):
        await collections.create(house.principal, "xx", language="klingon")


async def test_a_script_without_spaces_is_found_by_a_part_of_its_sentence(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "ja", language="none")
    async with house.worker():
        job = await house.ingest("ja", a="東京都の港は朝七時に開きます。", b="京都の寺は静かです。")
    assert job.status is JobStatus.SUCCEEDED
    assert names(await search(house, Query("ja", "港は何時に開く", mode="lexical")))[0] == "a"
    assert names(await search(house, Query("ja", "寺", mode="lexical"))) == []  # one character alone is no pair
    assert names(await search(house, Query("ja", "の寺", mode="lexical"))) == ["b"]


async def test_a_collections_own_way_holds_until_a_question_asks_for_another(port: House) -> None:
    collections = port.retrieval.collections
    assert set(names(await search(port, Query("port", "pier")))) == set(PORT)  # dense search finds all
    before = await collections.get(port.principal, "port")
    changed = await collections.change(port.principal, "port", search={"mode": "lexical"})
    assert (changed.search.mode, changed.version) == ("lexical", before.version + 1)
    assert set(names(await search(port, Query("port", "pier")))) == {"pier", "pier_again"}
    assert set(names(await search(port, Query("port", "pier", mode="dense")))) == set(PORT)
    kept = await collections.change(port.principal, "port", search={"per_document": 1}, description="boats")
    assert (kept.search.mode, kept.search.per_document, kept.description) == ("lexical", 1, "boats")
    assert (await collections.change(port.principal, "port", search={})).search.mode == "hybrid"
    with pytest.raises(InputInvalid):
        await collections.change(port.principal, "port", search={"mode": "best"})
    with pytest.raises(CollectionNotFound):
        await collections.change(replace(port.principal, tenant_id="another"), "port", search={"mode": "dense"})


async def test_reranking_orders_the_candidates_and_keeps_the_best(port: House) -> None:
    asked = "What does it cost to stay for one night?"
    plain = await search(port, Query("port", asked, top_k=4))
    ranked = await search(port, Query("port", asked, top_k=4, rerank_top_n=2, way={"rerank": True}))
    assert len(ranked.passages) == 2
    assert set(names(ranked)) == {"pier", "pier_again"}
    assert not ranked.degraded
    assert ranked.timings_ms["rerank"] > 0
    by_hand = await port.retrieval.reranker.scores(asked, [passage.text for passage in plain.passages])
    assert [passage.score for passage in ranked.passages] == pytest.approx(sorted(by_hand, reverse=True)[:2], abs=1e-3)
    lowest = ranked.passages[1].score
    above = await search(port, Query("port", asked, top_k=4, score_threshold=lowest + 1e-6, way={"rerank": True}))
    assert len(above.passages) == 1


async def test_without_a_reranker_the_search_answers_and_says_so(port: House) -> None:
    async with aiohttp.ClientSession() as session:
        away = Reranker(session, f"http://127.0.0.1:{free_port()}", None, 2.0)
        retrieval = port.retrieval
        searcher = Searcher(port.database, retrieval.index, retrieval.embedder, away, SystemClock())
        result = await searcher.search(port.principal, Query("port", "pier", top_k=4, way={"rerank": True}))
    plain = await search(port, Query("port", "pier", top_k=4))
    assert names(result) == names(plain)
    assert result.degraded
    assert "reranking is away" in (result.degraded_reason or "")


async def test_a_passage_that_says_the_same_again_sinks(port: House) -> None:
    asked = "visitors moor at pier K, a fee for one night"
    plain = names(await search(port, Query("port", asked, mode="dense")))
    assert set(plain[:2]) == {"pier", "pier_again"}
    diverse = names(await search(port, Query("port", asked, mode="dense", way={"mmr_lambda": 0.3})))
    assert diverse[0] == plain[0]
    assert diverse[1] not in ("pier", "pier_again")
    assert sorted(diverse) == sorted(plain)


async def test_where_vectors_cannot_be_compared_the_search_answers_and_says_so(
    port: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object) -> None:
        raise IndexRefused(RuntimeError("no vectors today"))

    monkeypatch.setattr(port.retrieval.index, "vectors", refused)
    result = await search(port, Query("port", "pier", top_k=4, way={"mmr_lambda": 0.3}))
    monkeypatch.undo()
    assert names(result) == names(await search(port, Query("port", "pier", top_k=4)))
    assert "passages that repeat others were not moved" in (result.degraded_reason or "")


async def test_a_question_that_the_embedder_does_not_take_is_searched_by_its_words(
    port: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object, **__: object) -> None:
        raise DocumentRejected("The embedding server refuses the text: it is rude")

    monkeypatch.setattr(port.retrieval.embedder, "embed", refused)
    result = await search(port, Query("port", "pier", top_k=4))
    assert names(result) == names(await search(port, Query("port", "pier", top_k=4, mode="lexical")))
    assert "it is rude" in (result.degraded_reason or "")
    with pytest.raises(DocumentRejected):
        await search(port, Query("port", "pier", mode="dense"))


async def test_of_one_document_no_more_passages_come_than_asked_for(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "port", chunking={"characters": 100})
    long = "\n\n".join(
        f"The lighthouse keeper lit lamp number {number} before the fog came in." for number in range(120)
    )
    async with house.worker():
        job = await house.ingest("port", long=long, other="A lighthouse stands on the hill.", far="Boil the rice.")
    assert job.status is JobStatus.SUCCEEDED
    every = await search(house, Query("port", "lighthouse keeper lamp fog", top_k=5))
    assert set(names(every)) == {"long"}
    for mode in ("hybrid", "dense", "lexical"):
        one = await search(
            house, Query("port", "lighthouse keeper lamp fog", top_k=5, mode=mode, way={"per_document": 1})
        )
        assert names(one)[:2] == ["long", "other"], mode
        two = await search(
            house, Query("port", "lighthouse keeper lamp fog", top_k=5, mode=mode, way={"per_document": 2})
        )
        assert names(two).count("long") == 2, mode


async def test_other_wordings_and_a_hypothetical_answer_find_what_the_question_does_not(port: House) -> None:
    asked = "What is to be paid?"
    lexical = Query("port", asked, mode="lexical")
    assert names(await search(port, lexical)) == []
    assert set(names(await search(port, replace(lexical, wordings=("the fee for a night",))))) == {"pier", "pier_again"}
    dense = Query("port", "the fee at the pier", mode="dense")
    imagined = replace(dense, hypothetical="Boil the rice for some minutes and let it rest.")
    assert names(await search(port, dense)).index("cook") == 3
    assert names(await search(port, imagined)).index("cook") < 3


async def test_a_misspelt_word_is_found_where_it_is_allowed_to_be_fuzzy(port: House) -> None:
    asked = Query("port", "vistiors moored at the peir", mode="lexical", top_k=4)
    assert set(names(await search(port, asked))) == {"tide"} | {"pier", "pier_again"}  # by `moored`
    exact = Query("port", "vistiors", mode="lexical")
    assert names(await search(port, exact)) == []
    found = await search(port, replace(exact, fuzzy=True))
    assert set(names(found)) == {"pier", "pier_again"}
    assert [(one.term, one.instead) for one in found.corrections] == [("vistior", ("visitors",))]
    right = await search(port, Query("port", "visitors", mode="lexical"))
    assert found.passages[0].score == pytest.approx(right.passages[0].score / 2)


async def test_facets_and_what_the_question_names_come_with_the_search(house: House) -> None:
    await house.retrieval.collections.create(house.principal, "port")
    files = [
        NewFile("a.md", None, b"The pier is open.", {"year": 2025, "place": "north pier"}),
        NewFile("b.md", None, b"The pier is closed.", {"year": 2026, "place": "south pier"}),
        NewFile("c.md", None, b"Nobody may read this but Ann.", {"year": 1999}, acl={"users": ["ann"]}),
    ]
    async with house.worker():
        assert (await house.send("port", files)).status is JobStatus.SUCCEEDED
    bob = Principal(house.principal.tenant_id, "key_b", Role.MEMBER, user_id="bob")
    asked = Query("port", "When does the south pier close in 2026?", facets=("year",))
    result = await house.retrieval.searcher.search(bob, asked)
    (years,) = result.facets
    assert [(one.value, one.documents) for one in years.values] == [(2025, 1), (2026, 1)]
    assert {(one.key, one.value) for one in result.named} == {("year", 2026), ("place", "south pier")}
    narrowed = await house.retrieval.searcher.search(bob, replace(asked, filter=result.named[0].filter))
    assert [passage.filename for passage in narrowed.passages] == ["b.md"]


async def test_what_nobody_adds_to_any_more_is_flushed_by_and_by(house: House) -> None:
    index = house.retrieval.index
    texts = {f"note{number}": f"Note {number} is about ropes and anchors." for number in range(40)}
    await house.retrieval.collections.create(house.principal, "port")
    collection = await house.retrieval.collections.get(house.principal, "port")
    async with open_retrieval(house.settings, house.database, house.redis, house.objects) as retrieval:
        parser = Parser(60, 2**30, 10**6)
        leases = house.leases()
        pipeline = replace(house, retrieval=retrieval).pipeline(leases, parser)
        files = [NewFile(f"{name}.md", None, text.encode()) for name, text in texts.items()]
        await house.retrieval.intake.accept(house.principal, "port", files)
        while (lease := await leases.acquire()) is not None:
            await pipeline.run(lease)
        assert await retrieval.index.flush_quiet(60.0, 60.0) == []
        assert await retrieval.index.flush_quiet(0.0, 60.0) == [collection.id]
        assert await retrieval.index.flush_quiet(0.0, 60.0) == []
        await parser.close()
    assert await index.count(Place(collection.id)) == 40
    assert len((await search(house, Query("port", "ropes and anchors", top_k=40))).passages) == 40
