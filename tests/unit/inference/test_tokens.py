"""Texts to token ids, with a real tokenizer of a few words."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from inference.tokens import Cut, TextTooLong, Tokeniser, TokenUnknown

_WORDS = ["[CLS]", "[SEP]", "[UNK]", "query", ":", *(f"w{number}" for number in range(20))]
_CLS, _SEP = 0, 1


def tokeniser(most: int = 6) -> Tokeniser:
    backend = Tokenizer(WordLevel({word: at for at, word in enumerate(_WORDS)}, "[UNK]"))
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    return Tokeniser(backend, most)


def ids(*words: str) -> list[int]:
    return [_WORDS.index(word) for word in words]


def test_a_text_stands_between_the_special_tokens_behind_its_prompt() -> None:
    (row,) = tokeniser().texts(["w1 w2"], "query: ")
    assert row.ids == ids("[CLS]", "query", ":", "w1", "w2", "[SEP]")
    assert not row.truncated


def test_a_text_that_is_too_long_is_refused_by_its_place() -> None:
    with pytest.raises(TextTooLong) as caught:
        tokeniser().texts(["w1", "w1 w2 w3 w4 w5"], first=64)
    assert (caught.value.index, caught.value.tokens, caught.value.most) == (65, 7, 6)


@pytest.mark.parametrize(
    ("cut", "kept"), [(Cut.END, ["query", ":", "w1", "w2"]), (Cut.START, ["query", ":", "w4", "w5"])]
)
def test_a_cut_leaves_prompt_and_special_tokens_whole(cut: Cut, kept: Sequence[str]) -> None:
    (row,) = tokeniser().texts(["w1 w2 w3 w4 w5"], "query: ", cut)
    assert row.ids == ids("[CLS]", *kept, "[SEP]")
    assert row.truncated


@given(st.lists(st.integers(0, 19), max_size=12), st.sampled_from([Cut.START, Cut.END]), st.integers(3, 9))
def test_cut_texts_are_as_long_as_may_be_and_their_ids_are_those_of_the_text(
    numbers: list[int], cut: Cut, most: int
) -> None:
    words = [f"w{number}" for number in numbers]
    (row,) = tokeniser(most).texts([" ".join(words)], cut=cut)
    room = most - 2
    expected = words[:room] if cut is Cut.END else words[max(0, len(words) - room) :]
    assert row.ids == ids("[CLS]", *expected, "[SEP]")
    assert row.truncated is (len(words) > room)
    (again,) = tokeniser(most).ids([ids(*words)], cut)
    assert again == row


def test_token_ids_get_special_tokens_where_they_have_none() -> None:
    inner = ids("w1", "w2")
    bare, whole = tokeniser().ids([inner, [_CLS, *inner, _SEP]])
    assert bare.ids == whole.ids == [_CLS, *inner, _SEP]


@pytest.mark.parametrize("token", [-1, 25, 10**12])
def test_a_token_id_that_the_model_has_not_is_refused(token: int) -> None:
    with pytest.raises(TokenUnknown) as caught:
        tokeniser().ids([[5], [5, token]])
    assert (caught.value.index, caught.value.token, caught.value.vocabulary) == (1, token, 25)


def test_a_pair_knows_its_halves_and_only_the_document_is_cut() -> None:
    whole, start, end = (
        tokeniser(7).pairs("w1", [document], cut)[0]
        for document, cut in (("w2 w3", Cut.NONE), ("w2 w3 w4 w5 w6", Cut.START), ("w2 w3 w4 w5 w6", Cut.END))
    )
    assert whole.ids == ids("[CLS]", "w1", "[SEP]", "w2", "w3", "[SEP]")
    assert whole.types == [0, 0, 0, 1, 1, 1]
    assert start.ids == ids("[CLS]", "w1", "[SEP]", "w4", "w5", "w6", "[SEP]")
    assert end.ids == ids("[CLS]", "w1", "[SEP]", "w2", "w3", "w4", "[SEP]")
    assert start.types == end.types == [0, 0, 0, 1, 1, 1, 1]


def test_a_query_that_leaves_no_room_for_a_document_is_refused_even_where_documents_are_cut() -> None:
    with pytest.raises(TextTooLong):
        tokeniser(5).pairs("w1 w2 w3", ["w4 w5"], Cut.END)
