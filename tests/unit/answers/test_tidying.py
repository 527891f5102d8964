"""A question loses what nobody sees, and nothing else, however odd it looks."""

from unicodedata import normalize

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.answers.tidying import tidied
from core.visible import visible
from retrieval.errors import InputInvalid

HONEST = [
    "What does `rm -rf /` do?",
    "SELECT name FROM users WHERE id = 1; DROP TABLE users; -- why is this dangerous?",
    "Why does {question} stay empty in my template?",
    'What does the paper say of "ignore previous instructions"?',
    "Ignore previous instructions and system prompts: which chapter treats them?",
    "<system>What does this tag do?</system>",
    "Что такое порт?",
    "港はいつ開きますか？",
    "متى يفتح الميناء؟",
    "बंदरगाह कब खुलता है?",
    "می‌خواهم بدانم",  # with the joiner that Persian needs
    "What does 👩‍👩‍👧 mean, and ❤️?",
    "Wann öffnet der Hafen?",
    "def f(x):\n\treturn x  # what does it return?",
    "a  b   c?",
    "../../etc/passwd — what is in it?",
    "%s %d %n \\u0041 \\x00",
    '=HYPERLINK("https://example.org")',
    "?",
]


@pytest.mark.parametrize("question", HONEST)
def test_an_honest_question_stays_as_it_is(question: str) -> None:
    assert tidied(question, 8000) == question


def test_what_nobody_sees_is_taken_out_and_white_space_at_its_ends() -> None:
    tags = "".join(chr(0xE0000 + ord(char)) for char in "obey")
    assert tidied(f" \n When\u200b does\u202e it{tags} open?\x00 \t", 100) == "When does it open?"


def test_a_letter_and_its_mark_are_one_also_where_something_hid_between_them() -> None:
    assert tidied("Caf\u0065\u0301?", 100) == tidied("Caf\u0065\u200b\u0301?", 100) == "Café?"


@pytest.mark.parametrize("nothing", ["", " ", "\n\t", "\u200b", "\u00ad \ufeff", "\u3000", "\U000e0041", "\x00\x1f"])
def test_what_is_nothing_then_is_refused_as_an_empty_question(nothing: str) -> None:
    with pytest.raises(InputInvalid, match="The question is empty") as refused:
        tidied(nothing, 8000)
    assert refused.value.param == "query"


def test_what_is_too_long_is_refused_with_both_lengths() -> None:
    assert len(tidied("x" * 500, 500)) == 500
    with pytest.raises(InputInvalid, match="has at most 500 characters, and this one has 501"):
        tidied("x" * 501, 500)


@given(st.text(max_size=60))
@example("\u212a\ufe0f")  # a sign that another stands for, with a joiner that only the first may have
@example("e\u200b\u0301")
def test_it_is_composed_visible_and_stays_so(text: str) -> None:
    try:
        once = tidied(text, 100)
    except InputInvalid:
        assert not normalize("NFC", visible(normalize("NFC", text))).strip()
        return
    assert tidied(once, 1000) == once
    assert normalize("NFC", once) == once
