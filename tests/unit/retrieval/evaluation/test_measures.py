"""Measures are trec_eval's: the same figures for any ranking and any judgements."""

import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from retrieval.evaluation.measures import MEASURES

_NAMES = {"ndcg@10": "ndcg_cut_10", "recall@100": "recall_100", "mrr": "recip_rank", "map": "map"}
_DOCUMENTS = [f"d{number}" for number in range(130)]


@given(
    ranked=st.lists(st.sampled_from(_DOCUMENTS), unique=True, min_size=1, max_size=100),
    grades=st.dictionaries(st.sampled_from(_DOCUMENTS), st.integers(-1, 4), min_size=1, max_size=40).filter(
        lambda grades: any(grade > 0 for grade in grades.values())
    ),
)
def test_each_measure_is_trec_evals(ranked: list[str], grades: dict[str, int]) -> None:
    run = {"q": {document: float(-rank) for rank, document in enumerate(ranked)}}
    theirs = pytrec_eval.RelevanceEvaluator({"q": grades}, set(_NAMES.values())).evaluate(run)["q"]
    for name, measure in MEASURES.items():
        assert measure(ranked, grades) == pytest.approx(theirs[_NAMES[name]], abs=1e-6), name


def test_nothing_found_and_nothing_relevant_are_worth_nothing() -> None:
    for measure in MEASURES.values():
        assert measure([], {"a": 1}) == 0
        assert measure(["a"], {"a": 0}) == 0
        assert measure(["b", "a"], {"a": 1}) > 0
