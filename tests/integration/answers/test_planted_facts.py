"""Facts planted in documents of four formats: whatever a model makes of them, quotes stand and say what was planted."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.answers.planted import FORMATS, NONSENSE, Fact, facts, file_of
from tests.integration.hot.conftest import events
from tests.support.answering import Desk
from tests.support.openai_server import OpenAiServer

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

COLLECTION = "planted"
TOLD = ("right", "wrong", "nonsense")


@dataclass
class House:
    """The desk, and the facts by the names under which they are asked about."""

    desk: Desk
    facts: dict[str, Fact]

    def ask(self, name: str, told: str, *, stream: bool) -> dict[str, Any]:
        """Ask about one fact, of which the model tells so."""
        body = {"query": self.facts[name].question, "collection": COLLECTION, "model": "words", "stream": stream}
        answer = self.desk.client.post("/v1/query", json=body, headers={"x-request-id": f"{name}.{told}"})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = events(answer.text)[-1] if stream else answer.json()
        return found


@pytest.fixture(scope="module")
def house(opened: Desk, words: OpenAiServer) -> Iterator[House]:
    planted = {f"{format}-{at}": fact for format in FORMATS for at, fact in enumerate(facts(format))}

    def script(request: str, _: dict[str, Any]) -> str:
        name, _, told = request.partition(".")
        fact = planted[name]
        return {"right": fact.right, "wrong": fact.wrong, "nonsense": NONSENSE}[told]

    opened.fill(COLLECTION, [file_of(format, facts(format)) for format in FORMATS])
    words.script = script
    yield House(opened, planted)
    words.script = None


@pytest.mark.parametrize("format", FORMATS)
def test_every_quote_stands_and_those_of_right_answers_hold_the_planted_fact(
    house: House, format: str, figure: Callable[[str], None]
) -> None:
    counted: Counter[str] = Counter()
    texts: dict[str, str] = {}
    for number, (name, fact) in enumerate((name, one) for name, one in house.facts.items() if one.format == format):
        for told in TOLD:
            done = house.ask(name, told, stream=(number + TOLD.index(told)) % 2 == 0)
            for cited in done["citations"]:
                text = texts.get(cited["document_id"]) or house.desk.content(COLLECTION, cited)
                texts[cited["document_id"]] = text
                assert text[cited["start"] : cited["end"]] == cited["quote"] != ""
                counted["quotes"] += 1
            answer = " ".join(done["answer"].split())
            assert NONSENSE.split()[1] not in answer
            assert fact.wrong not in answer
            if fact.value not in answer:
                counted[f"{told}, and nothing of it"] += 1
                continue
            counted["answers that tell the fact"] += 1
            holding = [cited for cited in done["citations"] if fact.is_in(cited["quote"])]
            assert holding, (fact, done["answer"], done["citations"])
            if format == "pdf":
                assert {cited["page"] for cited in holding} == {1 + number // 4}
            own = fact.right in answer
            assert own == (not done["degraded"]) or told != "right", done
            counted[f"{told}, {'kept' if own else 'quoted instead'}"] += 1
    count = sum(one.format == format for one in house.facts.values())
    figure(f"{format}: {count} facts, each told in {len(TOLD)} ways: {dict(sorted(counted.items()))}")
    assert counted["right, kept"] == count
    assert counted["answers that tell the fact"] == len(TOLD) * count  # where the model failed, the source is quoted


def test_the_facts_are_many_and_each_value_stands_once() -> None:
    every = [fact for format in FORMATS for fact in facts(format)]
    assert {fact.place for fact in every} == {"paragraph", "row", "item", "heading"}
    for format in FORMATS:
        planted = facts(format)
        assert len(planted) == len({fact.question for fact in planted}) == 12
        assert all(sum(other.value in " ".join(fact.planted) for other in planted) == 1 for fact in planted)
    assert not any(fact.value in fact.wrong or fact.value in fact.question for fact in every)
