"""HTML: the main content as text with Markdown's headings and lists; menus and other boilerplate are dropped."""

import contextlib
import re
import warnings
from collections.abc import Iterator

from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning
from bs4.element import NavigableString, PreformattedString, Tag
from lxml import etree  # type: ignore[import-untyped]

from retrieval.errors import DocumentRejected
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed, normalise

_DROPPED = (
    "script style noscript template svg canvas iframe object embed form button select input textarea dialog "
    "nav header footer aside menu"
).split()
_DROPPED_ROLES = {"navigation", "banner", "contentinfo", "search", "menu", "menubar", "complementary", "dialog"}
_BOILERPLATE = re.compile(
    r"(^|[-_ ])(nav|navbar|navbox|navigation|menu|sidebar|breadcrumbs?|cookie|cookies|toc|editsection|noprint|"
    r"jump-link|portlet|dropdown|pinnable|catlinks|skip|share|social|advert|ads)([-_ ]|$)",
    re.IGNORECASE,
)
_BLOCKS = frozenset(
    "address article blockquote body dd details div dl dt fieldset figcaption figure h1 h2 h3 h4 h5 h6 hr li main ol p "
    "pre section summary table tbody td tfoot th thead tr ul".split()
)
_PARAGRAPHS = frozenset(("p", "table", "pre", "blockquote", "ul", "ol", "div", "section"))
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_HIDDEN = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)\b", re.IGNORECASE)
_IN_LAYOUT = ("h1", "h2", "h3", "h4", "h5", "h6", "table", "article", "section")  # cells of data hold none of these
_WHITE = re.compile(r"\s+")
_PRESCANNED = 1024  # bytes, as browsers do
_SAYS_WIDE = re.compile(rb"<meta[^>]{0,200}charset\s{0,9}=[\"'\s]{0,9}(?:utf-?(?:16|32)|ucs-?[24])", re.IGNORECASE)
_MARK = "- "
_ENOUGH = 0.4  # share of the page's text that <main> or <article> must hold to be taken alone


def parse(data: bytes, bounds: Bounds) -> Parsed:
    """Keep headings, paragraphs, lists and table rows in reading order.

    Raises: DocumentRejected: nested deeper than `bounds.depth`.
    """
    _check_depth(data, bounds.depth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)  # XHTML is read as what browsers make of it
        # It finds the encoding from byte-order mark, <meta> and bytes; a <meta> in ASCII is in no wide one (WHATWG).
        soup = BeautifulSoup(data, "lxml", from_encoding="utf-8" if _SAYS_WIDE.search(data[:_PRESCANNED]) else None)
    title = soup.title.get_text() if soup.title else ""
    body: Tag = soup.body or soup
    _drop_boilerplate(body)
    return Parsed(
        normalise(_render(_main(body))), structured=True, title=normalise(_WHITE.sub(" ", title)).strip() or None
    )


class _Depth:
    """Counts open elements; the tree of a page that nests thousands takes time by the square of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open = 0

    def start(self, _tag: str, _attributes: object) -> None:
        self._open += 1
        if self._open > self._limit:
            raise DocumentRejected(f"The page nests elements more than {self._limit} levels deep: simplify it.")

    def end(self, _tag: str) -> None:
        self._open -= 1

    def close(self) -> None: ...


def _check_depth(data: bytes, limit: int) -> None:
    with contextlib.suppress(etree.XMLSyntaxError):  # a page without a single element
        etree.fromstring(data, etree.HTMLParser(target=_Depth(limit), no_network=True))


def _drop_boilerplate(body: Tag) -> None:
    doomed = [tag for tag in body.find_all(True) if _is_boilerplate(tag)]
    for tag in doomed:
        # An <article>'s own <header> holds its title.
        if tag.name == "header" and tag.find_parent(["article", "main"]) is not None:
            continue
        if not tag.decomposed:
            tag.decompose()


def _is_boilerplate(tag: Tag) -> bool:
    if tag.name in _DROPPED:
        return True
    if tag.name in ("body", "main", "article", "html"):
        return False
    if tag.has_attr("hidden") or tag.get("aria-hidden") == "true" or tag.get("role") in _DROPPED_ROLES:
        return True
    if _HIDDEN.search(str(tag.get("style", ""))):
        return True
    names = tag.get_attribute_list("class") + tag.get_attribute_list("id")
    return any(name and _BOILERPLATE.search(name) for name in names)


def _main(body: Tag) -> Tag:
    """The element that holds the content: one of a page's <main> and <article>, if it holds enough of it."""
    candidates = [*body.find_all(["main", "article"]), *body.find_all(role="main")]
    if not candidates:
        return body
    largest = max(candidates, key=lambda tag: len(tag.get_text()))
    return largest if len(largest.get_text()) >= _ENOUGH * len(body.get_text()) else body


def _render(root: Tag) -> str:
    page = _Page()
    for event, node in _walk(root):
        if isinstance(node, NavigableString):
            page.text(str(node))
        elif event == "start":
            page.start(node)
        else:
            page.end(node)
    page.end_line()
    return "\n".join(page.lines)


class _Page:
    """Collects a page's lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._line: list[str] = []
        self._code: list[str] | None = None  # of an open <pre>
        self._rows: list[bool] = []  # for each open cell: whether it is part of a row, not of the page's layout
        self._items = 0  # open <li>

    def text(self, text: str) -> None:
        (self._line if self._code is None else self._code).append(text)

    def start(self, tag: Tag) -> None:
        if tag.name == "br":
            self.text("\n")
            if self._code is None and not self._in_row():
                self.end_line()
        elif tag.name == "pre" and self._code is None:
            self.end_line()
            self._code = []
        elif tag.name in ("td", "th"):
            if not self._in_row():
                is_row = tag.find(_IN_LAYOUT) is None
                self._rows.append(is_row)
                if not is_row:
                    self.end_line()
            else:
                self._rows.append(True)
        elif tag.name in _BLOCKS:
            self._break(tag.name)
            if not self._in_row():
                self._line.append(_HEADINGS.get(tag.name, _MARK if tag.name == "li" else ""))
        self._items += tag.name == "li"

    def end(self, tag: Tag) -> None:
        if tag.name == "pre" and self._code is not None:
            self._end_code("".join(self._code))
        elif tag.name in ("td", "th"):
            is_row = self._rows.pop()
            if not is_row:
                self.end_line()
            elif not self._in_row():
                self._line.append(" | ")  # one row stays one line
        elif tag.name in _BLOCKS:
            self._break(tag.name)
        self._items -= tag.name == "li"

    def end_line(self) -> None:
        """Begin another line, if there is anything on this one."""
        text = _WHITE.sub(" ", "".join(self._line)).strip()
        self._line.clear()
        if text not in ("", "-", "|"):
            self.lines.append(text.removesuffix(" |"))

    def _break(self, name: str) -> None:
        if self._in_row():
            self._line.append(" ")
            return
        self.end_line()
        if name in _HEADINGS or (name in _PARAGRAPHS and not self._items):
            self.lines.append("")

    def _end_code(self, code: str) -> None:
        self._code = None
        if not code.strip():
            return
        if self._in_row():
            self._line.append(code)
            return
        # Fenced: a comment in a program is no heading.
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
        self.lines += ["", fence, *code.strip("\n").split("\n"), fence, ""]

    def _in_row(self) -> bool:
        return any(self._rows)


def _walk(root: Tag) -> Iterator[tuple[str, Tag | NavigableString]]:
    """Visit tags (start and end) and strings in order, without recursion: pages can nest deeper than Python's stack."""
    stack: list[tuple[str, Tag | NavigableString]] = [("start", root)]
    while stack:
        event, node = stack.pop()
        if isinstance(node, PreformattedString):  # comments, doctypes
            continue
        yield event, node
        if event == "start" and isinstance(node, Tag):
            stack.append(("end", node))
            stack.extend(
                ("start", child) for child in reversed(node.contents) if isinstance(child, Tag | NavigableString)
            )
