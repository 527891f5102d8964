"""Rows of tables are read under the names of their columns, and each row for itself."""

import pytest

from api.answers.context import choose_excerpts
from api.answers.support import Sources
from api.answers.tables import head_over
from retrieval.search import Passage

BARS = "Fees of this year:\n\n| Pier | Fee |\n| --- | --- |\n| Kestrel | no fee |\n| Heron | 14 crowns |\n\nPay early."
PLAIN = "Fees of this year:\n\nPier | Fee\nKestrel | no fee\nHeron | 14 crowns\n\nPay early."
ASKED = "What is the fee of pier Heron?"


def sources(text: str, question: str = ASKED) -> Sources:
    passage = Passage("doc", 1, "rev", "fees.md", text, 50, 50 + len(text), None, 1.0, {})
    return Sources(question, choose_excerpts(question, [passage], 1, 400))


@pytest.mark.parametrize(("text", "head"), [(BARS, "| Pier | Fee |"), (PLAIN, "Pier | Fee")])
def test_the_first_row_stands_over_the_others(text: str, head: str) -> None:
    assert head_over(text, text.index("Heron")) == head
    assert head_over(text, text.index("14")) == head
    assert [head_over(text, text.index(word)) for word in ("Pier", "Fees", "Pay")] == ["", "", ""]
    assert head_over("K | 1\nL | 2", 7) == "K | 1"


@pytest.mark.parametrize("text", [BARS, PLAIN])
def test_a_row_answers_with_the_words_of_its_columns(text: str) -> None:
    found = sources(text)
    best = found.best_quote
    assert best is not None
    assert "Heron" in best.quote
    assert "14 crowns" in best.quote
    support = found.find_support("The fee of pier Heron is 14 crowns.", 0.75)
    assert support is not None
    assert "14 crowns" in support.quote


@pytest.mark.parametrize("text", [BARS, PLAIN])
def test_a_row_neither_lends_its_words_to_another_nor_denies_them(text: str) -> None:
    """What one row of a table denied was denied of all that followed it."""
    assert sources(text).find_support("There is no fee for it.", 0.75) is None
    assert sources(text).find_support("The fee of pier Heron is 15 crowns.", 0.75) is None
    free = sources(text, "What is the fee of pier Kestrel?").find_support("It is 14 crowns.", 0.75)
    assert free is None or "Kestrel" not in free.quote
