"""What the classifier learns, with vectors and without."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.auto.classifier import Classifier, Example, examples
from api.auto.traits import COUNT, traits_of


@given(st.text(max_size=400))
def test_traits_of_any_text_are_bounded_numbers(text: str) -> None:
    found = traits_of(text)
    assert found.shape == (COUNT,)
    assert np.isfinite(found).all()
    assert (found >= 0).all()


@pytest.mark.parametrize(
    "piece", ["a ", "\n", "\n \n", " ", "\t\n", "=", "def ", "{", "{ ", "“", "«", '"', "```", "1.", "("]
)
def test_a_text_made_to_hold_it_up_does_not(piece: str) -> None:
    began_s = time.process_time()
    for text in (piece * 500_000, f"a{piece * 500_000}b"):
        traits_of(text)
    assert time.process_time() - began_s < 2  # a millisecond or two; minutes where a pattern looks back


def test_the_examples_hold_as_many_of_either_kind() -> None:
    learnt = examples()
    assert len(learnt) >= 200
    assert len({example.text for example in learnt}) == len(learnt)
    assert sum(example.hard for example in learnt) == len(learnt) / 2


def test_without_vectors_words_decide_and_with_them_what_is_alike() -> None:
    learnt = [Example(f"Prove that {name} is prime.", True) for name in ("p", "q", "r", "s")]
    learnt += [Example(f"Translate {name} into French.", False) for name in ("dog", "cat", "hen", "cow")]
    by_words = Classifier(learnt * 10)
    proof, translation = by_words.difficulty(["Prove that x is odd.", "Translate horse into French."])
    assert proof > 0.8
    assert translation < 0.2

    vectors = np.eye(2)[[int(example.hard) for example in learnt * 10]]
    alike = [Example("The same words", example.hard) for example in learnt * 10]
    by_vector = Classifier(alike, vectors)
    hard, easy = by_vector.difficulty(["Other words", "Other words"], np.eye(2)[[1, 0]])
    assert hard > 0.8
    assert easy < 0.2


def test_difficulty_goes_from_0_to_1() -> None:
    learnt = examples()
    found = Classifier(learnt).difficulty([example.text for example in learnt])
    assert ((found >= 0) & (found <= 1)).all()
    assert found.max() - found.min() > 0.8
