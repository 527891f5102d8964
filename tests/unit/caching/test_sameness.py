"""Whether questions in other words ask the same: on the labelled pairs, and where the guards are."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from api.caching.sameness.form import Reader
from api.caching.sameness.judge import ask_the_same

PAIRS = Path(__file__).parents[2] / "caching" / "support"
FALSE_HITS = 0.01  # of near misses, at most


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader()


@pytest.mark.parametrize(("name", "least_hits"), [("pairs", 0.12), ("heldout", 0.05)])
def test_near_misses_are_told_from_paraphrases(
    reader: Reader, figure: Callable[[str], None], name: str, least_hits: float
) -> None:
    lines = (PAIRS / f"{name}.jsonl").read_text().splitlines()
    hits: Counter[tuple[bool, str]] = Counter()
    all_of: Counter[bool] = Counter()
    for pair in map(json.loads, lines):
        all_of[pair["same"]] += 1
        hits[pair["same"], pair["kind"]] += ask_the_same(reader, pair["one"], pair["other"])
    found, false = (sum(count for (same, _), count in hits.items() if same is wanted) for wanted in (True, False))
    kinds = {kind: count for (same, kind), count in sorted(hits.items()) if same and count}
    figure(
        f"{name}: {found} of {all_of[True]} paraphrases hit ({100 * found / all_of[True]:.1f} %: {kinds}), "
        f"{false} of {all_of[False]} near misses"
    )
    assert false <= FALSE_HITS * all_of[False]
    assert found >= least_hits * all_of[True]


@pytest.mark.parametrize(
    "other",
    [
        "when does the pier open",
        "When does the pier open, please?",
        "Could you tell me when the pier opens?",
        "At what time does the pier open?",
        "wehn does the peir open?",
    ],
)
def test_the_same_in_other_words(reader: Reader, other: str) -> None:
    assert ask_the_same(reader, "When does the pier open?", other)
    assert ask_the_same(reader, other, "When does the pier open?")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who pays for 5 km?", "Who pays for 5,000 m?"),
        ("What is the limit of 1,000 euros?", "What's the limit of €1000?"),
        ("Can I enter after 6 pm?", "May I enter after 18:00?"),
        ("What changed on 3 March 2024?", "What changed on March 3rd, 2024?"),
        ("Does the GDPR apply to notes?", "Does the General Data Protection Regulation apply to notes?"),
        ("In the hall, who signs the form?", "Who signs the form in the hall?"),
        ("Which tests does the robot run?", "Which tests are run by the robot?"),
        ("How do I turn off the alarm?", "How can I disable the alarm?"),
        ("When does the shift start?", "When does the shift begin?"),
    ],
)
def test_what_may_be_said_in_two_ways(reader: Reader, one: str, other: str) -> None:
    assert ask_the_same(reader, one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who pays for 5 km?", "Who pays for 5 m?"),
        ("Who pays for 12 kg?", "Who pays for 21 kg?"),
        ("Who pays Barlow?", "Who pays Marlow?"),
        ("who pays ferrox?", "who pays ferrax?"),
        ("Who may pay?", "Who may not pay?"),
        ("Who must pay?", "Who may pay?"),
        ("Who pays?", "Who paid?"),
        ("Who pays the driver?", "Who does the driver pay?"),
        ("From Porto to Lisbon, who drives?", "From Lisbon to Porto, who drives?"),
        ("What does the mayor tell the press?", "What does the press tell the mayor?"),
        ("Who sits on the third floor of the red house?", "Who sits on the red floor of the third house?"),
        ("How do I enable updates?", "How do I disable updates?"),
        ("Who enters before noon?", "Who enters after noon?"),
        ("Which tests does the robot run?", "Which tests run the robot?"),
        ("What did the auditor recommend?", "Did the auditor recommend?"),
        ("Is my flat free of mould?", "Is my flat free?"),
        ("How many employees are there?", "How many employers are there?"),
        ("Wann öffnet die Halle?", "Wann öffnet die Hölle?"),
        ("", "?"),
        ("Can I sue you?", "Can you sue me?"),
        ("Do I owe you money?", "Do you owe me money?"),
        ("Is the lift being repaired?", "Is the lift repaired?"),
        ("Is the shop closing?", "Is the shop closed?"),
        ("Who has John hired?", "Who is John hiring?"),
        ("Who is the operator?", "Who is the operation?"),
        ("Is it possible to lift 2 t?", "Is it allowed to lift 2 t?"),
        ("Well depth in metres", "Depth in metres"),
        ("Did the dog bite the man in red?", "Did the dog in red bite the man?"),
        ("Which clerks in Berlin report managers?", "Which clerks report managers in Berlin?"),
        ("Who owns the house behind the shop with the door?", "Who owns the house with the door behind the shop?"),
        ("Who sells red wine and beer?", "Who sells red beer and wine?"),
        ("Can I pay in May?", "Can I pay in March?"),
    ],
)
def test_what_is_another_question(reader: Reader, one: str, other: str) -> None:
    assert not ask_the_same(reader, one, other)
    assert not ask_the_same(reader, other, one)
