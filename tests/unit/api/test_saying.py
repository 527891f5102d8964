"""What tells a sentence from a source whose words are alike."""

import pytest

from api.answers.saying import Said, contradiction, coverage, names_in, says
from retrieval.analyzer import ENGLISH, analyzer

SOURCE = (
    "The Heron may break ice up to 7 centimetres and the Kingfisher up to 4, but the Grebe does not sail through ice."
)
NAMES = names_in([SOURCE])


def said(text: str) -> Said:
    return Said(text, analyzer(ENGLISH), NAMES)


def against(sentence: str, source: str = SOURCE, asked: str = "") -> str | None:
    return contradiction(said(sentence), said(source), said(asked))


def test_the_same_in_another_order_of_words_is_no_contradiction() -> None:
    assert against("Ice of up to 7 centimetres may be broken by the Heron.") is None
    assert against("The Kingfisher may break 4 and the Heron 7 centimetres of ice.") is None


def test_a_figure_that_the_source_lacks_tells_them_apart() -> None:
    assert against("The Heron may break ice up to 9 centimetres.") == "the source does not hold 9"
    assert against("The Heron may break ice up to nine centimetres.") == "the source does not hold 9"


def test_a_figure_may_be_written_in_letters() -> None:
    assert against("The Heron may break ice up to seven centimetres.") is None
    assert against("It is changed every 2nd spring.", "It is changed every second spring.") is None
    assert against("It is changed every 3rd spring.", "It is changed every second spring.") is not None


def test_a_name_that_the_source_lacks_tells_them_apart() -> None:
    assert against("On the lake the Swan may break ice up to 7 centimetres.") == "the source does not name swan"


def test_what_the_question_names_need_not_stand_in_the_source() -> None:
    assert against("On Osier the Heron may break ice.", asked="What may the boats break off Osier?") is None
    assert against("On Osier the Heron may break ice.") is not None


def test_figures_that_belong_to_other_names_tell_them_apart() -> None:
    assert against("The Kingfisher may break ice up to 7 centimetres and the Heron up to 4.") is not None


@pytest.mark.parametrize("sentence", ["The Heron may not break ice.", "The Grebe does sail through ice."])
def test_what_one_of_them_denies_tells_them_apart(sentence: str) -> None:
    assert against(sentence) == "one denies what the other does not"


def test_what_both_deny_is_said() -> None:
    assert against("The Grebe never sails through ice.") is None


def test_the_share_is_of_what_the_question_did_not_bring() -> None:
    sentence, asked = said("The gateway of your house listens on port 8080."), said("Which port does the gateway use?")
    assert coverage(sentence, said("Port 8080."), said("")) == pytest.approx(2 / 5)
    assert coverage(sentence, said("Port 8080."), asked) == pytest.approx(1 / 3)


def test_headings_over_a_source_need_not_be_said_in_it() -> None:
    under = Said("Its oil is changed every 250 hours.", analyzer(ENGLISH), NAMES, around="Schedule of the Heron")
    sentence = said("The Heron gets new oil every 250 hours.")
    assert contradiction(sentence, under, said("")) is None
    assert contradiction(sentence, said(under.text), said("")) is not None


def test_the_fullest_source_decides() -> None:
    sentence = said("The lamp is green at night.")
    full, poor = said("The lamp is never green at night."), said("The lamp is bright green.")
    assert says([poor], sentence, said(""), 0.6) == 0
    assert says([poor, full], sentence, said(""), 0.6) is None
    assert says([], sentence, said(""), 0.6) is None


def test_nothing_is_said_by_a_sentence_without_words() -> None:
    assert says([said(SOURCE)], said("..."), said(""), 0.5) is None
