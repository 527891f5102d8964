"""HTML: the main content as text with Markdown's headings and lists; menus and other boilerplate are dropped."""

import re
from collections import Counter
from collections.abc import Iterator

from bs4 import BeautifulSoup
from bs4.element import NavigableString, PreformattedString, Tag

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
_WHITE = re.compile(r"\s+")
_ENOUGH = 0.4  # share of the page's text that <main> or <article> must hold to be taken alone


def parse(data: bytes) -> Parsed:
    """Keep headings, paragraphs, lists and table rows in reading order."""
    soup = BeautifulSoup(data, "lxml")  # it finds the encoding from byte-order mark, <meta> and bytes
    title = soup.title.get_text() if soup.title else ""
    body: Tag = soup.body or soup
    _drop_boilerplate(body)
    return Parsed(
        normalise(_render(_main(body))), structured=True, title=normalise(_WHITE.sub(" ", title)).strip() or None
    )


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
    lines: list[str] = []
    line: list[str] = []
    inside: Counter[str] = Counter()  # open tags by name: asking each node for its ancestors is quadratic in depth

    def end_line() -> None:
        text = _WHITE.sub(" ", "".join(line)).strip()
        line.clear()
        if text not in ("", "-", "|"):
            lines.append(text)

    for event, node in _walk(root):
        if isinstance(node, NavigableString):
            if inside["pre"]:
                end_line()
                lines.extend(str(node).rstrip().split("\n"))
            else:
                line.append(str(node))
            continue
        inside[node.name] += 1 if event == "start" else -1
        if node.name == "br":
            end_line()
        elif node.name in ("td", "th"):
            line.append(" | " if event == "end" else "")  # one row stays one line
        elif node.name in _BLOCKS and not inside["td"] and not inside["th"]:
            end_line()
            if node.name in _HEADINGS or (node.name in _PARAGRAPHS and not inside["li"]):
                lines.append("")
            if event == "start":
                line.append(_HEADINGS.get(node.name, "- " if node.name == "li" else ""))
    end_line()
    return "\n".join(text.removesuffix(" |") for text in lines)


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
