"""What is quoted where nothing that a model wrote can be told."""

from api.answers.context import choose_excerpts
from api.answers.recipes import Said
from api.answers.support import Stretches
from retrieval.search import Passage
from tests.unit.answers.models import Play
from tests.unit.answers.test_stages import SAID, House

HARBOUR = "The harbour opens at 07:45. Dogs are kept on a leash in the harbour."
FERRY = "Before the harbour opens, ferries wait outside. The crew has tea."
PILOT = "The pilot wears a red coat. A harbour has one pilot."
TEA = "Tea is served at four."
FIRST, SECOND = "The harbour opens at 07:45.", "Before the harbour opens, ferries wait outside."
QUOTE = {"generate": "quote"}


def house(*texts: str) -> House:
    found = House(Play(["It opens at noon, says the mayor of Rome."]))
    found.texts = list(texts)
    return found


def test_the_best_stretch_of_each_passage_is_quoted_in_a_paragraph_of_its_own_and_cited() -> None:
    done = house(HARBOUR, FERRY, TEA).ask(Said(QUOTE))
    assert done.answer == f"{FIRST}\n\n{SECOND}"
    assert [citation.quote for citation in done.citations] == [FIRST, SECOND]
    assert [citation.document_id for citation in done.citations] == ["doc_0", "doc_1"]
    assert done.unsupported == ()


def test_what_a_model_said_without_support_makes_room_for_several() -> None:
    done = house(HARBOUR, FERRY).ask()
    assert done.answer == f"{FIRST}\n\n{SECOND}"
    assert "not supported" in str(done.degraded_reason)


def test_beside_words_of_a_model_one_is_quoted() -> None:
    asked = house(HARBOUR, FERRY)
    asked.router = House(Play([SAID, " It is painted blue by monks."])).router
    done = asked.ask()
    assert done.answer == SAID
    marked = house(HARBOUR, FERRY).ask(Said({"verify": "mark"}))
    assert marked.answer == "It opens at noon, says the mayor of Rome."


def test_as_many_are_quoted_as_the_recipe_has() -> None:
    texts = [f"{word} harbour opens at {hour}." for hour, word in enumerate(("North", "South", "East", "West", "Old"))]
    for quotes in (1, 2, 5):
        done = house(*texts).ask(Said({**QUOTE, "quotes": quotes}))
        assert done.answer.split("\n\n") == texts[:quotes]
    assert len(house(*texts).ask(Said(QUOTE)).citations) == 3


def test_what_holds_much_less_of_the_question_is_left_out() -> None:
    passages = [
        Passage(f"d{n}", 1, "r", "f", text, 0, len(text), None, 1.0, {}) for n, text in enumerate((FERRY, PILOT))
    ]
    question = "When does the ferry wait outside the harbour before it opens?"
    stretches = Stretches(question, choose_excerpts(question, passages, 2, 600))
    assert [stretch.quote for stretch in stretches.best_of_each(1 / 3)] == [SECOND]
    assert len(stretches.best_of_each()) == 2
    assert "harbour" in stretches.best_of_each()[1].quote


def test_nothing_is_quoted_twice() -> None:
    done = house(HARBOUR, HARBOUR, FERRY).ask(Said(QUOTE))
    assert done.answer == f"{FIRST}\n\n{SECOND}"
    assert len(done.citations) == 2
