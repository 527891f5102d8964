"""Nothing is shown twice, and what stands together is shown together."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from api.answers.context import Excerpt
from api.answers.merging import distinct, fitted, in_document_order, merged, shortened, size_of
from retrieval.search import Passage

DOCUMENT = "".join(f"Sentence {number} says it in wörds, 文字 and 🙂. " for number in range(60))
OTHER = "Another document. It says other things. " * 20
TEXTS = {"doc": DOCUMENT, "other": OTHER}


def passage(start: int, end: int, document: str = "doc", page: int | None = None) -> Passage:
    text = TEXTS[document][start:end]
    return Passage(document, 1, "rev", "a.md", text, start, start + len(text), page, 1.0, {})


def whole(*passages: Passage) -> list[Excerpt]:
    return [Excerpt(one, one.start, one.end) for one in passages]


@st.composite
def found(draw: Any) -> list[Passage]:
    """Passages of two documents, as a search finds them, by chance one within another."""
    spans = st.tuples(st.sampled_from(sorted(TEXTS)), st.integers(0, 700), st.integers(1, 400))
    return [passage(start, start + length, name) for name, start, length in draw(st.lists(spans, max_size=8))]


def check(excerpts: Sequence[Excerpt]) -> None:
    for excerpt in excerpts:
        assert TEXTS[excerpt.passage.document_id][excerpt.start : excerpt.end] == excerpt.text
    for first, second in pairwise(in_document_order(excerpts)):
        if first.passage.document_id == second.passage.document_id:
            assert first.end < second.start, "they would be one"
    texts = [excerpt.text for excerpt in excerpts]
    assert len(set(texts)) == len(texts)


@given(found())
def test_of_distinct_passages_none_holds_another_and_each_that_was_found_is_held(passages: list[Passage]) -> None:
    kept = distinct(passages)
    for one in kept:
        for other in kept:
            if one is not other:
                assert one.text != other.text
                same = one.document_id == other.document_id
                assert not (same and other.start <= one.start and one.end <= other.end)
    for one in passages:
        assert any(one.text in other.text for other in kept)


def test_what_holds_another_stands_where_the_better_of_them_stood() -> None:
    small, large, far = passage(100, 150), passage(50, 300), passage(600, 700)
    assert distinct([small, far, large]) == [large, far]
    assert distinct([far, small, small]) == [far, small]


def test_the_same_text_of_two_documents_is_shown_once() -> None:
    twin = Passage("copy", 1, "rev", "b.md", DOCUMENT[0:90], 0, 90, None, 1.0, {})
    assert distinct([passage(0, 90), twin]) == [passage(0, 90)]


@given(found(), st.integers(0, 3000))
def test_what_is_fitted_and_merged_is_of_its_document_within_its_bytes_and_never_twice(
    passages: list[Passage], most: int
) -> None:
    excerpts = merged(fitted(whole(*distinct(passages)), most))
    assert size_of(excerpts) <= most
    check(excerpts)


@given(found())
def test_where_there_is_room_nothing_is_lost(passages: list[Passage]) -> None:
    excerpts = merged(fitted(whole(*distinct(passages)), 10**6))
    check(excerpts)
    for one in passages:
        assert not one.text.strip() or any(one.text in excerpt.text for excerpt in excerpts)


def test_neighbours_that_touch_or_overlap_are_one_and_others_are_not() -> None:
    one, touching, overlapping, far = passage(0, 100), passage(100, 200), passage(180, 260), passage(261, 300)
    excerpts = merged(whole(far, overlapping, one, touching))
    assert [(excerpt.start, excerpt.end) for excerpt in excerpts] == [(261, 300), (0, 260)]
    assert [excerpt.start for excerpt in in_document_order(excerpts)] == [0, 261]
    check(excerpts)


def test_versions_of_a_document_are_never_one() -> None:
    old = Passage("doc", 2, "rev2", "a.md", DOCUMENT[100:200], 100, 200, None, 1.0, {})
    assert len(merged(whole(passage(0, 150), old))) == 2


def test_a_merged_excerpt_knows_the_page_of_each_of_its_parts() -> None:
    (excerpt,) = merged(whole(passage(100, 200, page=2), passage(0, 100, page=1)))
    assert [excerpt.page_at(at) for at in (0, 99, 100, 199)] == [1, 1, 2, 2]


def test_documents_come_in_the_order_of_their_best_excerpt_and_each_in_its_own() -> None:
    order = in_document_order(
        whole(passage(500, 600), passage(300, 400, "other"), passage(0, 50), passage(0, 90, "other"))
    )
    assert [(one.passage.document_id, one.start) for one in order] == [
        ("doc", 0), ("doc", 500), ("other", 0), ("other", 300),
    ]  # fmt: skip


@given(st.integers(-5, 500))
def test_a_shortened_excerpt_is_a_beginning_within_its_bytes(most: int) -> None:
    excerpt = Excerpt(passage(37, 400), 37, 400)
    short = shortened(excerpt, most)
    if short is None:
        assert most < 10
        return
    assert short.start == 37
    assert excerpt.text.startswith(short.text)
    assert len(short.text.encode()) <= most or short == excerpt


def test_a_shortened_excerpt_ends_where_a_sentence_or_a_word_does() -> None:
    excerpt = Excerpt(passage(0, 300), 0, 300)
    sentence = shortened(excerpt, 70)
    assert sentence is not None
    assert sentence.text.endswith("🙂.")
    word = shortened(excerpt, 30)
    assert word is not None
    assert DOCUMENT[word.end] == " "
