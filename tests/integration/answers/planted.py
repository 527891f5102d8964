"""Documents of four formats with facts planted among other text, and what is asked and told about each fact."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

from tests.unit.retrieval.files import NUMBERING, STYLES, docx, paragraph, pdf, row

Place = Literal["paragraph", "row", "item", "heading"]

FORMATS = ("pdf", "docx", "html", "md")
NONSENSE = "Purple kangaroos dance on the moon every evening."
HEADER = ("Pier", "Fee", "Depth")
OTHER = [
    "Gulls rest upon the harbour wall when the wind turns, and nobody drives them away.",
    "The council met in the old hall, spoke about paint and ropes, and went home before it was dark.",
    "Whoever walks along the dunes sees boats that were drawn ashore and turned over for the cold months.",
    "Children collect shells there, and their grandparents tell which of them came from far away.",
    "In fog the bell is rung by hand, because the machine that did so before has rusted.",
]
_BEGINNINGS = "Al Bre Cor Dun El Fen Gar Hal Is Jor Kes Lor".split()
_ENDINGS = dict(zip(FORMATS, ("mere", "wick", "stead", "haven"), strict=True))
_PEOPLE = "Anders Bente Clara Dora Emil Frida Gustav Hedda Ivar Johanne Klara Ludvig".split()
_PLACES: tuple[Place, ...] = ("paragraph", "paragraph", "row", "item", "heading", "paragraph")


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact.

    Attributes:
        planted: as it stands in the document: a sentence, the cells of a row, or a heading and what stands below.
        value: what tells it from every other; stands in no other document.
        right: it in other words; wrong: the same with another value.
    """

    format: str
    place: Place
    planted: tuple[str, ...]
    question: str
    value: str
    right: str
    wrong: str

    def is_in(self, quote: str) -> bool:
        """Whether a quote holds it; what stands over it need not be there, nor how lines were broken."""
        squeezed = " ".join(quote.split())
        needed = self.planted[-1:] if self.place == "heading" else self.planted[:2]
        return all(part in squeezed for part in needed)


def facts(format: str) -> list[Fact]:
    """The twelve of one format."""
    return [_fact(format, _PLACES[at % len(_PLACES)], at) for at in range(12)]


def file_of(format: str, planted: Sequence[Fact]) -> tuple[str, bytes]:
    """A file's name and bytes; a PDF has a page for every four facts."""
    text = {"html": _html, "md": _markdown, "docx": _docx, "pdf": _pdf}[format](planted)
    return f"planted.{format}", text.encode() if isinstance(text, str) else text


def _fact(format: str, place: Place, at: int) -> Fact:
    name = _BEGINNINGS[at] + _ENDINGS[format]
    kind = FORMATS.index(format)
    number = 113 + 100 * kind + 7 * at
    clock, later = (f"{hour:02}:{(11 * at + 3 * kind) % 60:02}" for hour in (5 + at, 6 + at))
    if place == "row":
        question = f"What is the fee of pier {name}?"
        right, wrong = (f"The fee of pier {name} is {fee} crowns." for fee in (number, number + 1))
        return Fact(format, place, (name, f"{number} crowns", f"{3 + at} metres"), question, str(number), right, wrong)
    if place == "item":
        planted, question = f"Hostel {name} sleeps {number} guests.", f"How many guests does hostel {name} sleep?"
        right, wrong = (f"It sleeps {beds} guests." for beds in (number, number + 1))
        return Fact(format, place, (planted,), question, str(number), right, wrong)
    if place == "heading":
        planted = f"It opens on Tuesdays at {clock} and closes when the bell rings."
        question = f"When does the library of {name} open?"
        right, wrong = (f"It opens at {hour} on Tuesdays." for hour in (clock, later))
        return Fact(format, place, (f"The library of {name}", planted), question, clock, right, wrong)
    if at % len(_PLACES) == 0:
        planted = f"The ferry {name} leaves from the eastern quay at {clock}, but never on Sundays."
        right, wrong = (f"It leaves at {hour} from the eastern quay." for hour in (clock, later))
        return Fact(format, place, (planted,), f"When does the ferry {name} leave?", clock, right, wrong)
    if at % len(_PLACES) == 1:
        planted = f"In a good year {name} sells {number} barrels of herring to the cities of the south."
        question = f"How many barrels of herring does {name} sell?"
        right, wrong = (f"{name} sells {sold} barrels in a good year." for sold in (number, number + 1))
        return Fact(format, place, (planted,), question, str(number), right, wrong)
    keeper, other = f"{_PEOPLE[at]} {name}sen", f"{_PEOPLE[at - 1]} {name}sen"
    planted = f"The keeper of the lighthouse of {name} is called {keeper}."
    right, wrong = (f"{who} is its keeper." for who in (keeper, other))
    return Fact(format, place, (planted,), f"Who keeps the lighthouse of {name}?", keeper, right, wrong)


def _blocks(planted: Sequence[Fact]) -> list[tuple[Place, list[tuple[str, ...]]]]:
    """What stands in a document, in order: rows and items of lists together, other text before and after each."""
    blocks: list[tuple[Place, list[tuple[str, ...]]]] = []
    other = (OTHER[number % len(OTHER)] for number in count())
    for fact in planted:
        if fact.place in ("row", "item"):
            others = [("Stone", "no fee", "dry at low tide")] if fact.place == "row" else [(next(other),)]
            blocks.append((fact.place, [*others, fact.planted]))
        elif fact.place == "heading":
            blocks.append(("heading", [fact.planted]))
        else:
            blocks.append(("paragraph", [(" ".join((next(other), *fact.planted, next(other))),)]))
        blocks.append(("paragraph", [(next(other),)]))
    return blocks


def _markdown(planted: Sequence[Fact]) -> str:
    lines = ["# Around the sound", ""]
    for place, parts in _blocks(planted):
        match place:
            case "row":
                table = [HEADER, ("---",) * len(HEADER), *parts]
                lines += ["| " + " | ".join(cells) + " |" for cells in table]
            case "item":
                lines += [f"- {text}" for (text,) in parts]
            case "heading":
                lines += [f"## {parts[0][0]}", "", parts[0][1]]
            case "paragraph":
                lines += textwrap.wrap(parts[0][0], 78)
        lines.append("")
    return "\n".join(lines)


def _html(planted: Sequence[Fact]) -> str:
    body = ["<nav><a href='/'>Home</a> <a href='/map'>Map</a></nav><main><h1>Around the sound</h1>"]
    for place, parts in _blocks(planted):
        match place:
            case "row":
                rows = [f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for cells in parts]
                head = "".join(f"<th>{cell}</th>" for cell in HEADER)
                body.append(f"<table><tr>{head}</tr>{''.join(rows)}</table>")
            case "item":
                body.append(f"<ul>{''.join(f'<li>{text}</li>' for (text,) in parts)}</ul>")
            case "heading":
                body.append(f"<h2>{parts[0][0]}</h2><p>{parts[0][1]}</p>")
            case "paragraph":
                body.append(f"<p>{parts[0][0]}</p>")
    return f"<!doctype html><html><head><title>Sound</title></head><body>{''.join(body)}</main></body></html>"


def _docx(planted: Sequence[Fact]) -> bytes:
    body = [paragraph("Around the sound", '<w:pStyle w:val="Heading1"/>')]
    for place, parts in _blocks(planted):
        match place:
            case "row":
                rows = [row(*(paragraph(cell) for cell in cells)) for cells in (HEADER, *parts)]
                body.append(f"<w:tbl>{''.join(rows)}</w:tbl>")
            case "item":
                mark = '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="2"/></w:numPr>'
                body += [paragraph(text, mark) for (text,) in parts]
            case "heading":
                body += [paragraph(parts[0][0], '<w:pStyle w:val="Kopf2"/>'), paragraph(parts[0][1])]
            case "paragraph":
                body.append(paragraph(parts[0][0]))
    return docx("".join(body), styles=STYLES, numbering=NUMBERING)


def _pdf(planted: Sequence[Fact]) -> bytes:
    return pdf([_page(planted[first : first + 4]) for first in range(0, len(planted), 4)])


def _page(planted: Sequence[Fact]) -> list[tuple[float, float, str]]:
    lines: list[list[tuple[int, str]]] = [[(50, "Around the sound")], []]
    for place, parts in _blocks(planted):
        match place:
            case "row":
                # In a PDF nothing tells a row from the next line: what the first one denies would be denied of all.
                lines += [list(zip((50, 250, 450), cells, strict=True)) for cells in (HEADER, *parts[1:])]
            case "item":
                lines += [[(50, f"- {text}")] for (text,) in parts]
            case "heading":
                lines += [[(50, parts[0][0])], [], [(50, parts[0][1])]]
            case "paragraph":
                lines += [[(50, line)] for line in textwrap.wrap(parts[0][0], 90)]
        lines.append([])
    return [(x, 790 - 13 * at, text) for at, line in enumerate(lines) for x, text in line]
