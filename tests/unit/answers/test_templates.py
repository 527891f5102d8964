"""What a template is, and that nothing inside of its places is read as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.answers.prompt import BUILT_IN, messages
from api.answers.templates import MAX_CHARACTERS, check_template, filled
from api.errors import RequestInvalid

GOOD = 'Read: {sources}\nThen answer as JSON, {{"answer": ...}}: {question}'


def test_a_template_is_filled_once() -> None:
    assert check_template(GOOD, "p") == GOOD
    said = filled(GOOD, {"sources": "{question} {{x}}", "question": "{sources}?"})
    assert said == 'Read: {question} {{x}}\nThen answer as JSON, {"answer": ...}: {sources}?'


@given(st.text(max_size=30), st.text(max_size=30))
def test_whatever_stands_in_its_places_stands_there_as_it_is(sources: str, question: str) -> None:
    assert filled("a {sources} b {question} c", {"sources": sources, "question": question}) == (
        f"a {sources} b {question} c"
    )


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{sources}", "holds {question} once, not no times"),
        ("{question}", "holds {sources} once"),
        ("{sources}{question}{question}", "not 2 times"),
        ("{sources} {question} {", "a brace that stands alone"),
        ("{sources} {question} }", "a brace that stands alone"),
        ("{sources} {question} {user}", "has {user} in it"),
        ("{sources} {question} {}", "has {} in it"),
        ("{sources} {question.__class__}", "has {question.__class__} in it"),
        ("{sources} {question!r}", "has {question!r} in it"),
        ("{sources:>10} {question}", "has {sources:>10} in it"),
        ("{sources} {question[0]}", "has {question[0]} in it"),
        ("{sources} {question}\u200b", "no reader sees"),
        ("{sources} {question}" + "x" * MAX_CHARACTERS, "has at most 8,000 characters"),
        (7, "is a text"),
        (["{sources}{question}"], "is a text"),
    ],
)
def test_what_is_no_template_is_refused_with_its_fault(template: object, says: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        check_template(template, "answers.prompt")
    assert says in str(refused.value)
    assert refused.value.param == "answers.prompt"


@given(st.text(alphabet="{}sourcequtin! :[].", max_size=40))
def test_a_template_that_is_taken_is_filled_and_any_other_is_refused(text: str) -> None:
    template = f"{{sources}}{text}{{question}}"
    try:
        check_template(template, "p")
    except RequestInvalid:
        return
    said = filled(template, {"sources": "S", "question": "Q"})
    assert said == f"S{text.replace('{{', '{').replace('}}', '}')}Q"


def test_the_built_in_words_are_a_template_and_a_systems_come_first() -> None:
    assert check_template(BUILT_IN, "p") == BUILT_IN
    said = messages("Why?", [], "Be brief.", "{sources} Tell: {question}")
    assert said == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " Tell: Why?"}]
