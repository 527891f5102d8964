"""The handbook: a judged collection of the project's own, whole and able to tell good retrieval from bad."""

import json
import re
from collections import Counter
from itertools import pairwise
from statistics import fmean
from typing import Any

import pytest

from retrieval import bm25
from retrieval.analyzer import STOP_WORDS, analyze
from retrieval.evaluation.measures import ndcg
from tests.support.collections import OWN_FOLDER, OWN_NAME, is_held_out, load_own

FOLDER = OWN_FOLDER / OWN_NAME
HANDBOOK = load_own()
KINDS = {"paraphrase": 18, "identifier": 16, "inflected": 18, "rare_word": 16, "mixed": 16, "misspelt": 16}
DEPARTMENTS = {"maintenance", "operations", "safety", "sales", "it", "administration"}
_WORD = re.compile(r"[^\W_]+")
_IDENTIFIER = re.compile(r"[\w/{}-]*[\d_/][\w/{}-]*")
_NAME = re.compile(r"(?<!^)\b[A-Z]\w+")
_TERMS = {one: analyze(text) for one, text in HANDBOOK.documents.items()}
_FREQUENCIES = Counter(term for terms in _TERMS.values() for term in set(terms))


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def judgements() -> list[list[str]]:
    return [line.split("\t") for line in (FOLDER / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()]


def of_kind(kind: str) -> list[str]:
    return [query for query, its in HANDBOOK.kinds.items() if its == kind]


def best(query: str) -> str:
    """The passage with the highest grade."""
    grades = HANDBOOK.relevant[query]
    return max(grades, key=lambda one: grades[one])


def words(text: str) -> set[str]:
    """The words as they are written, without the ones that stand everywhere."""
    return set(_WORD.findall(text.lower())) - STOP_WORDS


def lexical_quality(kind: str) -> float:
    """Mean nDCG@10 of a kind's queries over both halves, searched with BM25 in memory."""
    average = fmean(len(terms) for terms in _TERMS.values())
    weights = {one: bm25.weigh(terms, average) for one, terms in _TERMS.items()}

    def quality(query: str) -> float:
        asked = bm25.query_vector(analyze(HANDBOOK.queries[query]), len(_TERMS), _FREQUENCIES)
        scores = {one: sum(w * asked.get(term, 0.0) for term, w in vector.items()) for one, vector in weights.items()}
        found = [one for one in scores if scores[one] > 0]
        return ndcg(sorted(found, key=lambda one: -scores[one]), HANDBOOK.relevant[query])

    return fmean(quality(query) for query in of_kind(kind))


def test_passages_have_the_layout_and_the_metadata_that_the_readme_tells_of() -> None:
    passages = rows("corpus.jsonl")
    assert [row["_id"] for row in passages] == [f"p{number:03}" for number in range(1, 121)]
    assert all(row.keys() == {"_id", "title", "text", "metadata"} for row in passages)
    metadata = [row["metadata"] for row in passages]
    assert Counter(each["department"] for each in metadata) == dict.fromkeys(DEPARTMENTS, 20)
    assert {each["year"] for each in metadata} == set(range(2021, 2027))
    assert {each["kind"] for each in metadata} == {"rule", "guide", "notice", "report"}


def test_passages_are_of_middling_length_and_none_stands_twice() -> None:
    passages = rows("corpus.jsonl")
    assert {row["_id"]: length for row in passages if not 40 <= (length := len(row["text"].split())) <= 110} == {}
    assert len({row["text"] for row in passages}) == len({row["title"] for row in passages}) == len(passages)


def test_queries_have_the_layout_and_a_kind_and_none_is_asked_twice() -> None:
    queries = rows("queries.jsonl")
    assert [row["_id"] for row in queries] == [f"q{number:03}" for number in range(1, 101)]
    assert all(row.keys() == {"_id", "text", "metadata"} and row["metadata"].keys() == {"kind"} for row in queries)
    assert Counter(row["metadata"]["kind"] for row in queries) == KINDS
    assert len({row["text"].lower() for row in queries}) == len(queries)


def test_both_halves_hold_as_many_queries_of_each_kind() -> None:
    held_out = Counter(kind for query, kind in HANDBOOK.kinds.items() if is_held_out(query))
    assert held_out == {kind: count // 2 for kind, count in KINDS.items()}


def test_every_query_is_judged_and_every_judgement_names_what_is_there() -> None:
    header, *judged = judgements()
    assert header == ["query-id", "corpus-id", "score"]
    queries = [row["_id"] for row in rows("queries.jsonl")]
    assert list(dict.fromkeys(query for query, _, _ in judged)) == queries
    assert {document for _, document, _ in judged} <= HANDBOOK.documents.keys()
    assert {grade for _, _, grade in judged} == {"1", "2", "3"}
    assert len({(query, document) for query, document, _ in judged}) == len(judged)


def test_every_query_has_one_passage_that_answers_it_fully() -> None:
    """So that `best` has no choice, and a near neighbour in its place costs."""
    for query, grades in HANDBOOK.relevant.items():
        assert list(grades.values()).count(3) == 1, query
        assert all(high >= low for high, low in pairwise(grades.values())), query


@pytest.mark.parametrize("query", of_kind("paraphrase"))
def test_a_paraphrase_has_no_word_of_its_passage_in_any_form(query: str) -> None:
    assert set(analyze(HANDBOOK.queries[query])) & set(_TERMS[best(query)]) == set()


@pytest.mark.parametrize("query", of_kind("identifier"))
def test_an_identifier_stands_literally_in_its_passage(query: str) -> None:
    identifiers = _IDENTIFIER.findall(HANDBOOK.queries[query])
    assert identifiers
    assert [one for one in identifiers if one not in HANDBOOK.documents[best(query)]] == []


@pytest.mark.parametrize("query", of_kind("inflected"))
def test_an_inflected_querys_passage_has_its_words_in_other_forms_alone(query: str) -> None:
    text = HANDBOOK.queries[query]
    others = [passage for one, passage in HANDBOOK.documents.items() if one != best(query)]
    assert words(text) & words(HANDBOOK.documents[best(query)]) == set()
    assert set(analyze(text)) <= set(_TERMS[best(query)])
    assert words(text) <= set().union(*map(words, others)), "a form that stands nowhere tempts nobody"


@pytest.mark.parametrize("query", of_kind("rare_word"))
def test_a_rare_word_stands_in_one_passage_and_the_frequent_ones_in_others(query: str) -> None:
    asked = set(analyze(HANDBOOK.queries[query]))
    assert [_FREQUENCIES[term] for term in asked if term in _TERMS[best(query)]].count(1) == 1
    assert [term for term in asked if _FREQUENCIES[term] == 1 and term not in _TERMS[best(query)]] == []
    assert max(len(asked & set(terms)) for terms in _TERMS.values()) > len(asked & set(_TERMS[best(query)]))


@pytest.mark.parametrize("query", of_kind("mixed"))
def test_a_mixed_query_shares_a_name_with_its_passage_and_says_the_rest_otherwise(query: str) -> None:
    text, passage = HANDBOOK.queries[query], HANDBOOK.documents[best(query)]
    assert any(name in passage for name in [*_NAME.findall(text), *_IDENTIFIER.findall(text)])
    assert len(set(analyze(text)) - set(analyze(passage))) >= 2


@pytest.mark.parametrize("query", of_kind("misspelt"))
def test_a_misspelt_query_has_a_word_that_stands_nowhere(query: str) -> None:
    everywhere = set().union(*map(words, HANDBOOK.documents.values()))
    assert words(HANDBOOK.queries[query]) - everywhere


def test_other_forms_of_a_word_are_found() -> None:
    assert lexical_quality("inflected") > 0.9


def test_a_rare_word_counts_for_more_than_frequent_ones_together() -> None:
    assert lexical_quality("rare_word") > 0.8


def test_an_identifier_is_told_from_its_neighbours() -> None:
    assert lexical_quality("identifier") > 0.9
