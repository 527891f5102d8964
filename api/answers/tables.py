"""Rows of tables: what a row says is said under the names of its columns."""

import re

_ROW = re.compile(r"[ \t]*\||[^\n]*\S \| ")


def head_over(text: str, at: int) -> str:
    """The first row of the table in which a place of a text stands; empty for that row itself and outside of tables."""
    found = None
    begin = own = text.rfind("\n", 0, at) + 1
    while _ROW.match(text, begin):
        found = begin
        if begin == 0:
            break
        begin = text.rfind("\n", 0, begin - 1) + 1
    if found is None or found == own:
        return ""
    return text[found : text.find("\n", found)].strip()
