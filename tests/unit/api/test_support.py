"""Which stretch is shown to the model, what counts as supported, and what is quoted instead."""

from api.answers.context import choose_excerpts
from api.answers.support import Sources
from retrieval.search import Passage

TEXT = """# Ports

The gateway listens on port 8080 of the local host. It can be moved by a flag.

The embedding server listens on port 8081.

Tea is served at four in the garden, and nobody may bring a dog."""


def passage(text: str, start: int = 100) -> Passage:
    return Passage("doc", 1, "rev", "ports.md", text, start, start + len(text), None, 1.0, {})


def sources(question: str, *texts: str, characters: int = 400) -> Sources:
    return Sources(question, choose_excerpts(question, [passage(text) for text in texts or (TEXT,)], 1, characters))


def quoted(question: str, *texts: str) -> str:
    best = sources(question, *texts).best_quote
    assert best is not None
    assert (texts or (TEXT,))[0][best.start - 100 : best.end - 100] == best.quote or len(texts) > 1
    return best.quote


QUESTION = "Which port does the gateway listen on?"


def supported(sentence: str, question: str = QUESTION) -> str | None:
    found = sources(question).find_support(sentence, 0.6)
    return None if found is None else found.quote


def test_the_quote_is_the_sentence_that_answers() -> None:
    assert quoted(QUESTION) == "The gateway listens on port 8080 of the local host."
    assert quoted("May I bring a dog?").startswith("Tea is served")


def test_a_source_that_only_repeats_the_question_is_not_quoted() -> None:
    """The README shows this very question as an example; it used to be the answer to itself."""
    example = 'Type this:\n\n./stoker ask "Which port does the gateway listen on?"'
    assert "8080" in quoted(QUESTION, example, TEXT)


def test_a_sentence_that_its_source_holds_is_supported_by_it() -> None:
    assert supported("The gateway listens on port 8080.") == "The gateway listens on port 8080 of the local host."


def test_the_marks_by_which_a_model_cites_are_no_figures() -> None:
    told = "The gateway listens on port 8080 of the local host."
    for said in ("It is port 8080 [1].", "[1]: Port 8080.", "It is port 8080[^2][3].", "Port 8080【4†source】."):
        assert supported(said) == told
    assert supported("It is port 8080 [9090].") is None
    assert supported("It is port 8080 [1] of 17.") is None


def test_a_wrong_number_is_not_supported() -> None:
    assert supported("The gateway listens on port 9090.") is None


def test_a_number_of_another_sentence_is_not_supported() -> None:
    assert supported("The gateway listens on port 8081.") is None


def test_words_that_no_source_holds_are_not_supported() -> None:
    assert supported("The gateway listens on port 8080 of your Kubernetes cluster.") is None
    assert supported("The gateway listens on port 8080 of a machine that somebody rents.") is None


def test_what_the_source_says_of_something_else_is_no_answer() -> None:
    assert supported("Tea is served at four in the garden.") is None


def test_the_question_said_again_is_no_answer() -> None:
    assert supported("The gateway listens on a port.") is None


def test_an_announcement_is_no_answer() -> None:
    assert supported("The gateway listens on the following local host port:") is None


def test_an_excerpt_stays_within_its_characters_and_its_passage() -> None:
    for characters in (20, 60, 200, 5000):
        (excerpt,) = choose_excerpts(QUESTION, [passage(TEXT)], 1, characters)
        assert len(excerpt.text) <= characters
        assert excerpt.text in TEXT
        assert TEXT[excerpt.start - 100 : excerpt.end - 100] == excerpt.text


def test_no_passages_give_no_excerpts_and_no_quote() -> None:
    assert choose_excerpts("x", [], 3, 100) == []
    assert Sources("x", []).best_quote is None
