"""Terms, BM25 weights and fusion."""

import math
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from string import ascii_lowercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import bm25
from retrieval.analyzer import ENGLISH, Analyzer, analyze, analyzer
from retrieval.fusion import Ranking, fuse

_ENGLISH = analyzer(ENGLISH)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The gateways are listening", ["gateway", "listen"]),
        ("port 8080", ["port", "8080"]),
        ("STOKER_URL", ["stoker", "url", "stoker_url"]),
        ("POST /v1/search", ["post", "v1", "search", "v1/search"]),
        ("Maud's café", ["maud", "cafe"]),
        ("Straße ＡＢＣ", ["strasse", "abc"]),
        ("!!! --- ...", []),
    ],
)
def test_words_numbers_and_identifiers_become_terms(text: str, terms: list[str]) -> None:
    assert analyze(text) == terms


@given(st.text(max_size=200))
def test_any_text_can_be_analysed_and_a_question_meets_its_own_text(text: str) -> None:
    terms = analyze(text)
    assert terms == analyze(text.replace("\n", " \n "))
    weights = bm25.weigh(terms, 65.0)
    question = bm25.query_vector(terms, 10, dict.fromkeys(terms, 1))
    assert weights.keys() == question.keys()
    assert all(0 < weight < (bm25.K1 + 1) * 2 for weight in weights.values())
    assert all(0 <= index < 2**32 - 1 for index in weights)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The gateways are listening", {"gateway", "listen"}),
        ("machine-learning", {"machin", "learn"}),
        ("2024", {"2024"}),
        ("release 3.5", {"releas", "3.5"}),
        ("2024-05-01", {"2024-05-01"}),
        ("/v1/search", {"v1/search", "search"}),
        ("(3,5)", {"3", "5"}),
        ("the of", set()),
    ],
)
def test_what_a_text_names_are_words_and_numbers_as_they_stand(text: str, expected: set[str]) -> None:
    assert set(_ENGLISH.named(text)) == expected


def test_threads_do_not_mix_up_their_words() -> None:
    words = [
        f"{first}{second}ations" for first in ("nation", "rel", "configur", "document") for second in ascii_lowercase
    ]
    expected = {word: _ENGLISH.stem(word) for word in words}
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            fresh = Analyzer(ENGLISH)
            with ThreadPoolExecutor(4) as threads:
                found = [threads.submit(lambda: {word: fresh.stem(word) for word in words}) for _ in range(4)]  # noqa: B023
            assert all(one.exception() is None and one.result() == expected for one in found)
    finally:
        sys.setswitchinterval(interval_s)


@given(st.text(max_size=200))
def test_every_written_word_has_its_term(text: str) -> None:
    assert {term for _, term in _ENGLISH.written(text)} <= set(analyze(text))
    assert all(_ENGLISH.stem(word) == term for word, term in _ENGLISH.written(text))


@given(
    st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12), min_size=1, max_size=8),
    st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=5),
)
def test_the_inner_product_is_the_textbook_bm25(chunks: list[list[str]], question: list[str]) -> None:
    average = sum(map(len, chunks)) / len(chunks)
    frequencies = Counter(term for terms in chunks for term in set(terms))
    query = bm25.query_vector(question, len(chunks), frequencies)
    for terms in chunks:
        weights = bm25.weigh(terms, average)
        found = sum(weight * weights.get(index, 0.0) for index, weight in query.items())
        expected = 0.0
        for term in question:
            count = terms.count(term)
            n = frequencies[term]
            idf = math.log(1 + (len(chunks) - n + 0.5) / (n + 0.5))
            expected += idf * count * 2.5 / (count + 1.5 * (1 - 0.9 + 0.9 * len(terms) / average)) if n else 0.0
        assert found == pytest.approx(expected)


def test_unknown_terms_make_no_query() -> None:
    assert bm25.query_vector(["nowhere"], 100, {}) == {}


def test_fusion_adds_reciprocal_ranks() -> None:
    first, second = Ranking([("a", 9.0), ("b", 1.0)]), Ranking([("b", 0.3), ("c", 0.2)])
    assert fuse([first, second], "rrf") == [
        ("b", pytest.approx(1 / 62 + 1 / 61)),
        ("a", pytest.approx(1 / 61)),
        ("c", pytest.approx(1 / 62)),
    ]
    assert fuse(list[Ranking[str]]()) == []
