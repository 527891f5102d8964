"""Corrections: by the textbook's distance, by the rules for short terms and numbers, and of real mistakes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import fuzzy
from retrieval.analyzer import ENGLISH, analyze, analyzer
from retrieval.fuzzy import Correction, nearest, spellings

_ENGLISH = analyzer(ENGLISH)

ROOT = Path(__file__).parents[3]
MISTAKES = """
accomodate accommodate, acheive achieve, agressive aggressive, apparant apparent, arguement argument, basicly
basically, begining beginning, beleive believe, buisness business, calender calendar, cemetary cemetery, collegue
colleague, comming coming, commitee committee, completly completely, concious conscious, curiousity curiosity,
definately definitely, dilemna dilemma, dissapear disappear, dissapoint disappoint, embarass embarrass, enviroment
environment, existance existence, familar familiar, finaly finally, foriegn foreign, forseeable foreseeable, freind
friend, gaurd guard, goverment government, grammer grammar, happend happened, harrass harass, humourous humorous,
immediatly immediately, incidently incidentally, independant independent, interupt interrupt, knowlege knowledge,
liason liaison, libary library, lisence license, maintainance maintenance, millenium millennium, mispell misspell,
neccessary necessary, noticable noticeable, ocassion occasion, occured occurred, occurence occurrence, persistant
persistent, politican politician, posession possession, prefered preferred, propoganda propaganda, publically
publicly, recieve receive, refered referred, religous religious, rember remember, resistence resistance, responce
response, seperate separate, succesful successful, supercede supersede, suprise surprise, tendancy tendency,
threshhold threshold, tommorow tomorrow, tounge tongue, truely truly, unforseen unforeseen, unfortunatly
unfortunately, wierd weird, writting writing, authenticaton authentication, configuraton configuration, configration
configuration, retreival retrieval, documant document, embeding embedding, gatway gateway, databse database, tokne
token, sevrer server, qurey query, recomendation recommendation, developement development, implementaion
implementation, refrence reference, paramter parameter, fucntion function, lenght length, performace performance,
availible available, compatability compatibility, dependancy dependency, priviledge privilege, repositry repository,
enviromental environmental, mesurement measurement, temprature temperature, aproximately approximately, pressur
pressure, velocty velocity, turbulance turbulence, boundry boundary, suply supply, replicaton replication,
authorizaton authorization, deploymant deployment, availabilty availability, transformaton transformation
"""
WORDS = st.text("abcde", min_size=1, max_size=8)


def by_hand(a: str, b: str) -> int:
    """Optimal string alignment, row by row."""
    rows = [list(range(len(b) + 1))]
    for i in range(1, len(a) + 1):
        row = [i]
        for j in range(1, len(b) + 1):
            best = min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                best = min(best, rows[i - 2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


def found(term: str, **vocabulary: int) -> list[Correction]:
    return nearest([term], vocabulary)


def replacements(term: str, **vocabulary: int) -> tuple[str, ...]:
    return tuple(word for one in found(term, **vocabulary) for word in one.replaced_by)


@given(st.text("abcde", min_size=4, max_size=6), st.dictionaries(WORDS, st.integers(1, 5), min_size=1, max_size=12))
def test_the_best_three_are_those_of_a_search_by_hand(term: str, vocabulary: dict[str, int]) -> None:
    most = 1 if len(term) < 6 else 2
    near = sorted((by_hand(term, word), -chunks, word) for word, chunks in vocabulary.items())
    near = [one for one in near if one[0] <= most][:3]
    expected = []
    if near and near[0][0] > 0:
        words, chunks = tuple(one[2] for one in near), tuple(-one[1] for one in near)
        expected = [Correction(term, words, near[0][0], chunks)]
    assert found(term, **vocabulary) == expected


def test_it_makes_no_difference_in_how_many_parts_a_vocabulary_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = {f"wor{a}{b}": 1 for a in "abcdefg" for b in "abcdefg"}
    terms = ["worxa", "wordd", "wrogg"]
    whole = nearest(terms, vocabulary)
    assert [one.term for one in whole] == ["worxa", "wrogg"]
    monkeypatch.setattr(fuzzy, "_COMPARED_AT_ONCE", 7)
    assert nearest(terms, vocabulary) == whole


def test_short_terms_numbers_and_compounds_are_exact_or_nothing() -> None:
    for term in ("cat", "20244", "v1search", "harbour_fee", "stoker-url", "v1/serch"):
        assert fuzzy._most_mistakes(term) == 0, term
    assert replacements("harbor", harbour=1, harb0r=9, harbo_r=9) == ("harbour",)
    assert replacements("tides", tide=2, ties=1, trees=9) == ("tide", "ties")
    assert replacements("harbour", harbour=1, harbout=9) == (), "what is known is not put right"
    assert replacements("tdies", tides=1) == ("tides",), "two letters that changed places are one mistake"
    assert replacements("harbuor", harbour=1, harbour_fee=3) == ("harbour",)


def test_a_mistake_in_an_ending_hides_no_stem() -> None:
    assert _ENGLISH.stem("configuraton") == "configuraton"
    assert _ENGLISH.stem("configuration") == "configur"
    assert found("configuraton", configur=3, configure=1) == [
        Correction("configuraton", ("configur", "configure"), 1, (3, 1))
    ]


def test_most_real_mistakes_are_put_right(figure: Callable[[str], None]) -> None:
    pages = [page.read_text(encoding="utf-8") for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]]
    pairs = [tuple(pair.split()) for pair in MISTAKES.replace("\n", " ").split(",")]
    vocabulary = dict.fromkeys([term for page in pages for term in analyze(page)], 1)
    vocabulary |= dict.fromkeys([_ENGLISH.stem(right) for _, right in pairs], 1)
    missed, first, asked = [], 0, 0
    for wrong, right in pairs:
        if _ENGLISH.stem(wrong) in vocabulary:  # it is found as it is
            continue
        asked += 1
        made = nearest([_ENGLISH.stem(wrong)], vocabulary)
        if not made or _ENGLISH.stem(right) not in made[0].replaced_by:
            missed.append((wrong, _ENGLISH.stem(wrong), _ENGLISH.stem(right), made))
        else:
            first += made[0].replaced_by[0] == _ENGLISH.stem(right)
    figure(f"{asked - len(missed)} of {asked} mistakes put right, {first} with the first word")
    assert len(missed) <= 0.1 * asked, missed


def test_terms_are_shown_as_texts_write_them() -> None:
    texts = ["The Configuration of a gateway; configurations, CONFIGURATION.", "STOKER_GATEWAYS and gateways' gateways"]
    assert spellings({"configur", "gateway", "absent"}, texts) == {
        "configur": "configuration",
        "gateway": "gateways",
    }
    assert spellings({"configur"}, []) == {}
