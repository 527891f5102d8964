"""A model's stream is cut anywhere: what a client reads is the same answer, with the same citations in their places."""

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.answering import Desk
from tests.support.cutting import CutServer, cut, uncut

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

WAYS = ("strict", "mark", "off", "responses")
ASKED = "What is the winter fare of the ferry?"
FARE = "The winter fare of the ferry is nine crowns."
SOURCE = f"# Fares\n\n{FARE} It sails at 07:45 from pier K. Dogs pay nothing."
ANSWERS = [
    FARE,
    "It is nine crowns in winter. It sails at 07:45 from pier K. Dogs pay ten crowns.",
    "The winter fare of the ferry is nine crowns [1]. It sails from pier K [2][3].",
    "[1]: The winter fare of the ferry is nine crowns.\n[2]: nine",
    "Nine crowns 【4†source】 is the winter fare, it says [1]: nine crowns.",
    "See [the fares](https://evil.test/fares?d=1) now. The winter fare is nine crowns.",
    f"![a chart](https://evil.test/x.png 'a title') {FARE} https://evil.test/b c",
    f"冬の運賃は九クローネです[1]。看https://evil.test/路径 了。{FARE}",
    "The winter fare 😀👩‍🚀 é̈ naïve is nine crowns – «nine» “crowns” … 𝔘𝔫𝔦 [3].",
    f"\n\n- {FARE}\n- [ ] buy it\n1. first\n2. second\n\n| Fare | Crowns |\n| --- | --- |\n| winter | nine |\n",
    f"Fare | Crowns\nwinter | nine\nIt sails. 3. {FARE} 4. The fare is nine crowns. 5. It is nine crowns in winter.",
    "<b>Nine</b> crowns <img src='https://evil.test/?d=a b'> is the winter fare of the ferry. a < b > c",
    "[1]: https://evil.test/x\n[the fares][1] say nine crowns is the winter fare.",
    f"Elephants sing loudly at night. Elephants sing loudly at night. {FARE}",
    "f[0](x) in [0, 1) costs 9. C:\\Temp and 12:30. www.evil.test/SECRET and (https://docs.test/a).",
    f"data: [DONE]\n\nevent: done\ndata: {{}}\n\n{FARE}",
    "The winter\u2028fare of the\u0085ferry is nine\u00a0crowns.\u200b \u202eIt sails at 07:45\u202c from pier K.",
]
_OPEN_MARK = re.compile(r"[\[【][^\]】\n]{0,20}\Z")


@dataclass
class Seen:
    """What a client read.

    Attributes:
        pieces: of text, in order.
        places: of citations: the text before each of them, or its index, and what it cites.
        end: what the last event says of the whole answer.
    """

    pieces: list[str] = field(default_factory=list)
    places: list[tuple[Any, Any]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass
class House:
    """A gateway before that server.

    Attributes:
        whole: what is read where nothing is cut, by way and number of the answer; asked for once.
    """

    desk: Desk
    server: CutServer
    store: str
    whole: dict[tuple[str, int], Seen] = field(default_factory=dict)

    def uncut(self, way: str, number: int) -> Seen:
        """What is read of an answer where nothing is cut."""
        if (way, number) not in self.whole:
            self.whole[way, number] = self.ask(way, f"uncut-{way}-{number}", uncut(ANSWERS[number]))
        return self.whole[way, number]

    def ask(self, way: str, name: str, stream: list[bytes]) -> Seen:
        """Ask, having the model's stream come like this."""
        self.server.streams[name] = stream
        if way == "responses":
            tool = {"type": "file_search", "vector_store_ids": [self.store]}
            body = {"model": "cuts", "input": ASKED, "tools": [tool], "stream": True, "store": False}
            return _of_response(self._told("/v1/responses", body, name))
        body = {"query": ASKED, "collection": "fares", "model": "cuts", "grounding": way, "stream": True}
        return _of_query(self._told("/v1/query", {**body, "max_tokens": 400}, name), way)

    def _told(self, path: str, body: dict[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
        with self.desk.client.stream("POST", path, json=body, headers={"x-request-id": name}) as answer:
            assert answer.status_code == 200, answer.read()
            raw = b"".join(answer.iter_raw())
        events = [event.split("\n") for event in raw.decode().split("\n\n") if event]
        assert all(len(lines) == 2 for lines in events), raw
        return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in events]


def _of_query(events: list[tuple[str, dict[str, Any]]], way: str) -> Seen:
    seen = Seen()
    names = [name for name, _ in events]
    assert names[0] == "retrieval", names
    assert names[-2:] == ["usage", "done"], names
    for name, data in events[1:-2]:
        if name == "token":
            seen.pieces.append(data["text"])
        else:
            assert name == "citation", names
            assert seen.pieces, "a citation of nothing"
            seen.places.append((seen.text, data))
    done = events[-1][1]
    seen.end = {name: done.get(name) for name in ("answer", "citations", "unsupported", "degraded_reason")}
    assert seen.text.rstrip() == done["answer"]
    assert [cited for _, cited in seen.places] == done["citations"]
    assert way != "off" or not seen.places
    return seen


def _of_response(events: list[tuple[str, dict[str, Any]]]) -> Seen:
    seen = Seen()
    for name, data in events:
        if name == "response.output_text.delta":
            seen.pieces.append(data["delta"])
        if name == "response.output_text.annotation.added":
            annotation = data["annotation"]
            assert annotation["index"] <= len(seen.text), "an annotation came before its text"
            seen.places.append((annotation["index"], annotation))
    assert events[-1][0] == "response.completed", events[-1]
    part = events[-1][1]["response"]["output"][-1]["content"][0]
    assert part["text"] == seen.text
    assert part["annotations"] == [annotation for _, annotation in seen.places]
    behind = [seen.text[index : index + 1] for index, _ in seen.places]
    assert all(not char or char.isspace() for char in behind), "a citation stands in the middle of a sentence"
    seen.end = {"text": part["text"]}
    return seen


@pytest.fixture(scope="module")
def house(opened: Desk, cuts: CutServer) -> House:
    store = opened.fill("fares", [("fares.md", SOURCE.encode())], search={"mode": "lexical"})
    return House(opened, cuts, store)


def test_uncut_answers_are_what_they_should_be(house: House) -> None:
    uncuts = {(way, number): house.uncut(way, number) for way in WAYS for number in range(len(ANSWERS))}
    assert uncuts["strict", 0].text == uncuts["mark", 0].text == uncuts["off", 0].text == FARE
    assert [cited["quote"] for _, cited in uncuts["strict", 0].places] == [FARE]
    assert [index for index, _ in uncuts["responses", 0].places] == [len(FARE)]
    cited = Counter(way for (way, _), seen in uncuts.items() if seen.places)
    assert min(cited[way] for way in ("strict", "mark", "responses")) >= 8, cited
    assert all(uncuts["strict", number].places for number in range(len(ANSWERS)))
    for seen in uncuts.values():
        assert "evil.test" not in seen.text
    assert "[1]" in uncuts["off", 2].text
    assert "See the fares now." in uncuts["off", 5].text
    assert "【4†source】" in uncuts["off", 4].text
    assert "The winter fare of the ferry is nine crowns." in uncuts["off", 3].text


@pytest.mark.parametrize("count", [pytest.param(100, id="100"), pytest.param(1000, id="1000", marks=pytest.mark.long)])
def test_however_a_stream_is_cut_the_answer_and_its_citations_are_the_same(
    house: House, count: int, figure: Callable[[str], None]
) -> None:
    counted: Counter[str] = Counter()
    for number in range(count):
        dice = random.Random(number)
        way, which = WAYS[number % len(WAYS)], dice.randrange(len(ANSWERS))
        stream = cut(ANSWERS[which], dice)
        seen, whole = house.ask(way, f"cut-{number}-{count}", stream), house.uncut(way, which)
        about = f"split {number}: {ANSWERS[which]!r}, {way}"
        assert seen.text == whole.text, about
        assert seen.places == whole.places, about
        assert seen.end == whole.end, about
        if way in ("strict", "mark"):
            assert seen.pieces == whole.pieces, about  # a sentence is never torn
        else:
            torn = [piece for piece in seen.pieces[:-1] if _OPEN_MARK.search(piece)]
            assert not torn, (about, torn)
        counted["pieces of TCP"] += len(stream)
        counted["pieces of text"] += len(seen.pieces)
        counted["citations"] += len(seen.places)
    figure(f"{count} splits of {len(ANSWERS)} answers in {len(WAYS)} ways: {dict(counted)}")
    assert counted["pieces of TCP"] > 3 * count
