"""Cells of tables in DOCX, PPTX and XLSX: asked for by row and column, each is cited by a quote that holds it."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.answering import Desk
from tests.support.openai_server import OpenAiServer
from tests.unit.retrieval import samples
from tests.unit.retrieval.samples import Rows

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

TABLES: tuple[Rows, ...] = (
    (
        ("Harbour", "Depth", "Master", "Berths"),
        ("Alnwick", "7.4 m", "Ines Vautrin", 31),
        ("Brixham", "9.1 m", "Tomas Reke", 58),
        ("Corryvale", "5.8 m", "Maud Ellery", 17),
        ("Dunmore", "12.6 m", "Piet Haan", 92),
    ),
    (
        ("Instrument", "Maker", "Price", "Delivered"),
        ("barometer", "Osk & Sons", "418 crowns", "in March"),
        ("sextant", "Lindqvist", "733 crowns", "in May"),
        ("theodolite", "Brandt", "1269 crowns", "in July"),
        ("anemometer", "Fuess", "287 crowns", "in October"),
    ),
    (
        ("Ship", "Cargo", "Captain", "Tonnage"),
        ("Kittiwake", "barley", "Olga Brennan", 640),
        ("Petrel", "slate", "Hugh Marlow", 1150),
        ("Guillemot", "cork", "Sefa Aydin", 385),
        ("Fulmar", "resin", "Jon Ekdahl", 2210),
    ),
)
FORMATS = {"docx": samples.word, "pptx": samples.slides, "xlsx": samples.workbook}
NONSENSE = "Quixotic marmalade seldom whistles on Thursdays."
QUESTIONS_OF_A_TABLE = 10


@dataclass(frozen=True)
class Cell:
    """One cell, and how it is asked for."""

    row: str
    column: str
    value: str

    @property
    def question(self) -> str:
        return f"What is the {self.column} of {self.row}?"

    @property
    def right(self) -> str:
        return f"The {self.column} of {self.row} is {self.value}."


def cells() -> list[Cell]:
    """Ten of each table, by turns of its columns."""
    found = []
    for header, *rows in TABLES:
        every = [
            Cell(str(row[0]), str(header[column]), str(row[column])) for column in range(1, len(header)) for row in rows
        ]
        found += every[:QUESTIONS_OF_A_TABLE]
    return found


@pytest.fixture(scope="module")
def asked(opened: Desk, words: OpenAiServer) -> Iterator[Desk]:
    """The three files, each in a collection of its own; the model says what is right, or nonsense."""
    every = cells()

    def script(request: str, _: dict[str, Any]) -> str:
        number, _, told = request.partition(".")
        return every[int(number)].right if told == "right" else NONSENSE

    for form, make in FORMATS.items():
        opened.fill(f"cells-{form}", [(f"tables.{form}", make(*TABLES))])
    words.script = script
    yield opened
    words.script = None


@pytest.mark.parametrize("form", FORMATS)
def test_a_cell_that_is_asked_for_is_cited_by_a_quote_that_holds_it(
    asked: Desk, form: str, figure: Callable[[str], None]
) -> None:
    counted: Counter[str] = Counter()
    failed: list[str] = []
    for number, cell in enumerate(cells()):
        for told in ("right", "nonsense"):
            body = {"query": cell.question, "collection": f"cells-{form}", "model": "words", "use_cache": False}
            response = asked.client.post("/v1/query", json=body, headers={"x-request-id": f"{number}.{told}"})
            assert response.status_code == 200, response.text
            done = response.json()
            for cited in done["citations"]:
                text = asked.content(f"cells-{form}", cited)
                assert text[cited["start"] : cited["end"]] == cited["quote"] != ""
                counted["quotes that stand in the text"] += 1
                if form == "pptx":
                    assert cited["page"] == 1 + number // QUESTIONS_OF_A_TABLE
            held = any(cell.value in cited["quote"] and cell.row in cited["quote"] for cited in done["citations"])
            counted[f"{told}: {'cell cited with its row' if held else 'not cited'}"] += 1
            counted[f"{told}: answer told"] += told == "right" and cell.value in done["answer"]
            if not held:
                failed.append(f"{told}: {cell.question} {done['answer']!r} {[c['quote'] for c in done['citations']]}")
    told_of = f"{len(cells())} cells of {len(TABLES)} tables, told right and as nonsense"
    figure(f"{form}: {told_of}: {dict(sorted(counted.items()))}")
    assert not failed
    assert counted["right: answer told"] == len(cells())
