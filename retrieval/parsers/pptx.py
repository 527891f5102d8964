"""PPTX: each slide a page below its title, its shapes in reading order, then its notes.

Source: ECMA-376, part 1 (PresentationML, DrawingML)
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from retrieval.errors import DocumentRejected
from retrieval.parsers import ooxml, xml
from retrieval.parsers.archive import Archive
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.ooxml import Relation
from retrieval.parsers.paging import Pages
from retrieval.parsers.parsed import Parsed, unmarked

_TITLES = frozenset(("title", "ctrTitle"))
_DROPPED_PLACES = frozenset(("dt", "ftr", "sldNum", "hdr"))
_SAME_ROW = 228_600  # a quarter of an inch, in EMU: shapes that begin so close stand side by side
_DEEPEST_LIST = 8
_OFF = frozenset(("0", "false"))

Place = tuple[int, int]  # top and left, in EMU


def parse(data: bytes, bounds: Bounds) -> Parsed:
    """Keep text, tables, charts' figures, diagrams' words and notes; hidden slides are called so.

    Raises: DocumentRejected: cut off, damaged, encrypted, too large unpacked, too many slides, or another kind of file.
    """
    archive = Archive(data, bounds)
    main = ooxml.main_part(archive, "ppt/presentation.xml", bounds)
    relations = ooxml.relations(archive, main, bounds)
    show = _Show()
    xml.read(archive.pieces(main), show, bounds.depth)
    slides = [relations[key].target for key in show.slides if key in relations]
    if len(slides) > bounds.pages:
        raise DocumentRejected(f"The file has {len(slides):,} slides; the limit is {bounds.pages:,}. Split it.")
    pages = Pages(bounds.characters)
    layouts: dict[str, Mapping[tuple[str, str], Place]] = {}
    for number, part in enumerate(slides, start=1):
        pages.add(number, "\n".join(_slide(archive, part, number, bounds, layouts)))
    return pages.parsed(ooxml.title(archive, bounds))


def _slide(
    archive: Archive,
    part: str,
    number: int,
    bounds: Bounds,
    layouts: dict[str, Mapping[tuple[str, str], Place]],
) -> list[str]:
    relations = ooxml.relations(archive, part, bounds)
    slide = _Shapes()
    xml.read(archive.pieces(part), slide, bounds.depth)
    layout = _of_kind(relations, "slideLayout")
    if layout is not None and layout not in layouts:
        drawn = _Shapes()
        xml.read(archive.pieces(layout), drawn, bounds.depth)
        layouts[layout] = {shape.holder: shape.place for shape in drawn.root.walk() if shape.holder and shape.place}
    places = layouts[layout] if layout is not None else {}
    titles = [shape for shape in slide.root.walk() if shape.is_title and shape.lines]
    body = [line for shape in _in_order(slide.root, places) for line in _shown(shape, archive, relations, bounds)]
    notes: list[str] = []
    notes_part = _of_kind(relations, "notesSlide")
    if notes_part is not None:
        written = _Shapes()
        xml.read(archive.pieces(notes_part), written, bounds.depth)
        notes = [line for shape in written.root.walk() if shape.holder[0] == "body" for line in shape.lines]
    if not (titles or body or notes):
        return []
    title = " ".join(" ".join(line for shape in titles for line in shape.lines).split()) or f"Slide {number}"
    lines = [f"# {title}{' (hidden slide)' if slide.is_hidden else ''}", "", *body]
    return [*lines, "## Notes", "", *notes] if notes else lines


def _of_kind(relations: Mapping[str, Relation], kind: str) -> str | None:
    return next((each.target for each in relations.values() if each.kind == kind), None)


def _shown(shape: "_Shape", archive: Archive, relations: Mapping[str, Relation], bounds: Bounds) -> list[str]:
    """A shape's lines, and those of the part that it shows."""
    lines = list(shape.lines)
    relation = relations.get(shape.shows)
    if relation is not None and relation.kind == "chart":
        chart = _Chart()
        xml.read(archive.pieces(relation.target), chart, bounds.depth)
        lines += chart.lines()
    elif relation is not None and relation.kind == "diagramData":
        diagram = _Shapes()
        xml.read(archive.pieces(relation.target), diagram, bounds.depth)
        lines += diagram.root.lines
    return [*lines, ""] if lines else []


def _in_order(group: "_Shape", places: Mapping[tuple[str, str], Place]) -> Iterator["_Shape"]:
    """Shapes row by row, those of a row from left to right; a group is one of them. What has no place comes first."""
    placed = [(shape.place or places.get(shape.holder, (-1, -1)), shape) for shape in group.shapes]
    placed.sort(key=lambda each: each[0])
    row: list[tuple[Place, _Shape]] = []
    for place, shape in [*placed, ((2**63, 0), group)]:
        if row and place[0] > row[0][0][0] + _SAME_ROW:
            for _, each in sorted(row, key=lambda one: one[0][1]):
                if not each.is_title:
                    yield each
                    yield from _in_order(each, places)
            row = []
        row.append((place, shape))


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _number(text: str) -> int:
    return int(text) if text.lstrip("-").isdigit() and text.isascii() and len(text) < 16 else 0


class _Show:
    """The ids of slides in their order."""

    def __init__(self) -> None:
        self.slides: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if _local(name) == "sldId":
            self.slides += [value for each, value in attributes.items() if each.endswith("relationships id")]

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


@dataclass(slots=True, eq=False)
class _Shape:
    """A shape, a table, or a group of them.

    Attributes:
        holder: type and index of the layout's place that it fills.
        shows: id of the relation to a chart or a diagram.
    """

    lines: list[str] = field(default_factory=list)
    place: Place | None = None
    holder: tuple[str, str] = ("", "")
    is_title: bool = False
    is_dropped: bool = False
    shows: str = ""
    shapes: list["_Shape"] = field(default_factory=list)

    def walk(self) -> Iterator["_Shape"]:
        """This one and all within, without recursion."""
        stack = [self]
        while stack:
            shape = stack.pop()
            yield shape
            stack.extend(reversed(shape.shapes))


class _Shapes:
    """Reads a slide, a layout or notes into shapes; also the words of a diagram, which belong to the root."""

    def __init__(self) -> None:
        self.root = _Shape()
        self.is_hidden = False
        self._open = [self.root]
        self._dropping = 0
        self._paragraph: list[str] | None = None
        self._in_text = False
        self._mark = ""
        self._rows: list[list[list[str]]] | None = None  # rows, cells, lines of the table that is open

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = _local(name)
        if self._dropping or local == "Fallback":
            self._dropping += 1
            return
        shape = self._open[-1]
        match local:
            case "sld":
                self.is_hidden = attributes.get("show", "1") in _OFF
            case "sp" | "grpSp" | "graphicFrame" | "pic" | "cxnSp":
                inner = _Shape()
                shape.shapes.append(inner)
                self._open.append(inner)
            case "ph":
                kind = attributes.get("type", "")
                shape.holder = (kind, attributes.get("idx", ""))
                shape.is_title = kind in _TITLES
                shape.is_dropped = kind in _DROPPED_PLACES
            case "off" if shape.place is None:
                shape.place = (_number(attributes.get("y", "")), _number(attributes.get("x", "")))
            case "chart" | "relIds":
                keys = ("relationships id", "relationships dm")
                shape.shows = next((value for each, value in attributes.items() if each.endswith(keys)), shape.shows)
            case _:
                self._start_text(local, attributes)

    def _start_text(self, local: str, attributes: dict[str, str]) -> None:
        match local:
            case "tbl":
                self._rows = []
            case "tr" if self._rows is not None:
                self._rows.append([])
            case "tc" if self._rows:
                self._rows[-1].append([])
            case "p":
                self._paragraph, self._mark = [], ""
            case "pPr":
                level = min(_number(attributes.get("lvl", "")), _DEEPEST_LIST)
                self._mark = "  " * level + "- " if level > 0 else ""
            case "buChar" | "buAutoNum" if not self._mark:
                self._mark = "- "
            case "t":
                self._in_text = True
            case "br" if self._paragraph is not None:
                self._paragraph.append("\n")
            case "tab" if self._paragraph is not None and "pos" not in attributes:
                self._paragraph.append("\t")

    def end(self, name: str) -> None:
        if self._dropping:
            self._dropping -= 1
            return
        match _local(name):
            case "sp" | "grpSp" | "graphicFrame" | "pic" | "cxnSp" if len(self._open) > 1:
                self._open.pop()
            case "t":
                self._in_text = False
            case "p" if self._paragraph is not None:
                text, self._paragraph = "".join(self._paragraph).strip(), None
                if text:
                    self._add(self._mark, text)
            case "tbl" if self._rows is not None:
                rows, self._rows = self._rows, None
                shown = [" ".join(" | ".join(" ".join(cell) for cell in row).split()) for row in rows if any(row)]
                self._open[-1].lines += ["", *map(unmarked, shown), ""]

    def text(self, text: str) -> None:
        if self._in_text and self._paragraph is not None and not self._dropping:
            self._paragraph.append(text)

    def _add(self, mark: str, text: str) -> None:
        if self._rows is not None:
            if self._rows and self._rows[-1]:
                self._rows[-1][-1].append(text)
        elif not self._open[-1].is_dropped:
            self._open[-1].lines += [unmarked(mark + line) for line in text.split("\n")]


class _Chart:
    """The figures of a chart: a row for each category, a column for each series."""

    def __init__(self) -> None:
        self._title: list[str] = []
        self._series: list[dict[str, dict[int, str]]] = []
        self._role = ""
        self._index = 0
        self._in_value = self._in_title = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        match _local(name):
            case "ser":
                self._series.append({"tx": {}, "cat": {}, "val": {}})
            case "tx" | "cat" | "val" as role if self._series:
                self._role = role
            case "xVal":
                self._role = "cat"
            case "yVal":
                self._role = "val"
            case "pt":
                self._index = _number(attributes.get("idx", ""))
            case "v":
                self._in_value = bool(self._series and self._role)
            case "t":
                self._in_title = not self._series

    def end(self, name: str) -> None:
        match _local(name):
            case "tx" | "cat" | "val" | "xVal" | "yVal" | "ser":
                self._role, self._index = "", 0
            case "v":
                self._in_value = False
            case "t":
                self._in_title = False

    def text(self, text: str) -> None:
        if self._in_title:
            self._title.append(text)
        elif self._in_value:
            values = self._series[-1][self._role]
            values[self._index] = values.get(self._index, "") + text

    def lines(self) -> list[str]:
        """The chart's title, and a table."""
        categories: dict[int, str] = {}
        for series in self._series:
            categories.update(series["cat"])
        indexes = sorted({index for series in self._series for index in series["val"]} | set(categories))
        names = [" ".join(series["tx"].values()) or f"Series {n}" for n, series in enumerate(self._series, start=1)]
        rows = [["Category", *names]] if indexes else []
        for index in indexes:
            values = (series["val"].get(index, "") for series in self._series)
            rows.append([categories.get(index, str(index + 1)), *values])
        title = " ".join("".join(self._title).split())
        table = [unmarked(" ".join(" | ".join(row).split())) for row in rows]
        return ["", *([unmarked(f"Chart: {title}"), ""] if title else []), *table, ""]
