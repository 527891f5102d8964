"""How often the check of sentences is right, on 240 labelled ones; the half of even passages is held out."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.answers.saying import Said, names_in, says
from api.answers.sentences import spans
from api.settings import ApiSettings
from retrieval.analyzer import ENGLISH, analyzer

FOLDER = Path(__file__).parent
LINES = [json.loads(line) for line in (FOLDER / "support" / "sentences.jsonl").read_text().splitlines()]
HANDBOOK = FOLDER.parent / "retrieval_quality" / "handbook" / "corpus.jsonl"
PASSAGES = {line["_id"]: line for line in map(json.loads, HANDBOOK.read_text().splitlines())}
MIN_COVERAGE: float = ApiSettings.model_fields["answer_min_coverage"].default


def is_held_out(line: dict[str, Any]) -> bool:
    return int(line["passage"][1:]) % 2 == 0


def is_said(line: dict[str, Any]) -> bool:
    passage, of = PASSAGES[line["passage"]], analyzer(ENGLISH)
    text, title = passage["text"], passage["title"]
    names = names_in([text, title])
    sources = [Said(text[start:end], of, names, title) for start, end in spans(text)]
    return says(sources, Said(line["sentence"], of, names), Said("", of), MIN_COVERAGE) is not None


@pytest.mark.parametrize("held_out", [False, True], ids=["tuning", "heldout"])
def test_most_of_what_counts_as_supported_is(held_out: bool, figure: Callable[[str], None]) -> None:
    lines = [line for line in LINES if is_held_out(line) == held_out]
    found = [line for line in lines if is_said(line)]
    right = sum(line["supported"] for line in found)
    precision, recall = right / len(found), right / sum(line["supported"] for line in lines)
    wrongly = Counter(line["kind"] for line in found if not line["supported"])
    figure(
        f"{len(lines)} sentences: precision {precision:.3f}, recall {recall:.3f}; "
        f"{right} found, {len(found) - right} wrongly: {dict(wrongly)}"
    )
    assert precision > 0.7  # half of them are supported: a guess is right half the time
    assert recall > 0.5


def test_the_halves_are_alike_and_every_sentence_has_its_passage() -> None:
    assert len(LINES) == len({line["sentence"] for line in LINES}) == 240
    for half in (False, True):
        lines = [line for line in LINES if is_held_out(line) == half]
        assert Counter(line["supported"] for line in lines) == {True: 60, False: 60}
    assert {line["passage"] for line in LINES} <= PASSAGES.keys()
