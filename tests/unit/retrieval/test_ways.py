"""How a collection is to be searched: what can be said, fusion, and diversity."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import diversity
from retrieval.errors import InputInvalid
from retrieval.fusion import Fusion, Ranking, fuse
from retrieval.query import Query, Way

_WAYS = st.builds(
    Way,
    mode=st.sampled_from(["hybrid", "dense", "lexical"]),
    fusion=st.builds(Fusion, st.sampled_from(["rrf", "relative"]), st.floats(0, 1)),
    rerank=st.booleans(),
    mmr_lambda=st.none() | st.floats(0, 1),
    per_document=st.none() | st.integers(1, 100),
)


@given(_WAYS)
def test_a_way_is_read_as_it_was_written(way: Way) -> None:
    assert Way.read(json.loads(json.dumps(way.as_json())), "search") == way


def test_what_is_not_said_stays_as_it_is() -> None:
    base = Way("lexical", Fusion("relative", 0.3), rerank=True, per_document=2)
    assert Way.read({}, "search", base) == base
    assert Way.read({"rerank": False}, "search", base) == Way("lexical", Fusion("relative", 0.3), per_document=2)


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ("hybrid", "search"),
        ({"modus": "hybrid"}, "search"),
        ({"mode": "fast"}, "search.mode"),
        ({"mode": ["hybrid"]}, "search.mode"),
        ({"fusion": "rrf"}, "search.fusion"),
        ({"fusion": {"method": "sum"}}, "search.fusion.method"),
        ({"fusion": {"dense_weight": 1.5}}, "search.fusion.dense_weight"),
        ({"fusion": {"dense_weight": True}}, "search.fusion.dense_weight"),
        ({"fusion": {"dense_weight": float("nan")}}, "search.fusion.dense_weight"),
        ({"rerank": 1}, "search.rerank"),
        ({"mmr_lambda": -0.1}, "search.mmr_lambda"),
        ({"per_document": 0}, "search.per_document"),
        ({"per_document": 1.0}, "search.per_document"),
    ],
)
def test_what_is_no_way_is_refused_by_its_name(raw: Any, param: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        Way.read(raw, "search")
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("query", "param"),
    [
        (Query("c", " "), "query"),
        (Query("c", "x" * 20_001), "query"),
        (Query("c", "x", wordings=("y" * 20_001,)), "query"),
        (Query("c", "x", top_k=101), "top_k"),
        (Query("c", "x", rerank_top_n=0), "rerank_top_n"),
        (Query("c", "x", wordings=("y",) * 5), "wordings"),
        (Query("c", "x", mode="sparse"), "mode"),  # type: ignore[arg-type]
    ],
)
def test_a_question_out_of_bounds_is_refused_by_the_name_of_the_field(query: Query, param: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        query.check()
    assert caught.value.param == param


_RANKINGS = st.lists(
    st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8).map(
        lambda items: Ranking([(item, 9.0 - rank) for rank, item in enumerate(items)])
    ),
    min_size=1,
    max_size=3,
)


@given(_RANKINGS, st.sampled_from(["rrf", "relative"]))
def test_fusion_keeps_every_item_once_and_a_lone_rankings_order(rankings: list[Ranking[str]], method: Any) -> None:
    fused = fuse(rankings, method)
    assert sorted(item for item, _ in fused) == sorted({item for one in rankings for item, _ in one.items})
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)
    alone = rankings[0]
    assert [item for item, _ in fuse([alone], method)] == [item for item, _ in alone.items]


@pytest.mark.parametrize("method", ["rrf", "relative"])
def test_an_item_that_both_rank_well_comes_before_one_that_only_one_does(method: Any) -> None:
    first = Ranking([("a", 0.9), ("b", 0.8), ("c", 0.1)])
    second = Ranking([("b", 20.0), ("d", 9.0), ("a", 1.0)])
    assert fuse([first, second], method)[0][0] == "b"
    heavy = [Ranking(first.items, 0.95), Ranking(second.items, 0.05)]
    assert [item for item, _ in fuse(heavy, method)][:2] == ["a", "b"]


def test_ranks_alone_count_for_rrf_and_distances_for_relative() -> None:
    far = Ranking([("a", 100.0), ("b", 1.0), ("c", 0.0)])
    near = Ranking([("b", 1.0), ("c", 0.99), ("a", 0.98)])
    assert fuse([far, near], "rrf")[0][0] == "b"
    assert fuse([far, near], "relative")[0][0] in ("a", "b")
    assert dict(fuse([far, near], "relative"))["a"] == pytest.approx(1.0)


def test_a_passage_that_repeats_the_best_one_sinks_below_a_different_one() -> None:
    same, other = np.eye(2, dtype=np.float32)
    vectors = np.stack([same, same, other])
    assert diversity.order([1.0, 0.99, 0.5], vectors, 0.5, 3) == [0, 2, 1]
    assert diversity.order([1.0, 0.99, 0.5], vectors, 1.0, 3) == [0, 1, 2]
    assert diversity.order([1.0, 0.99, 0.5], vectors, 0.5, 2) == [0, 2]
    assert diversity.order([], np.empty((0, 2), np.float32), 0.5, 2) == []


@given(st.integers(1, 12), st.floats(0, 1), st.integers(1, 12))
def test_diversity_chooses_each_passage_once(count: int, share: float, most: int) -> None:
    vectors = np.random.default_rng(count).normal(size=(count, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen = diversity.order(np.linspace(1, 0, count).tolist(), vectors, share, most)
    assert len(chosen) == len(set(chosen)) == min(count, most)
    assert chosen[0] == 0
