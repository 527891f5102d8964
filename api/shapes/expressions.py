"""Regular expressions and grammars of callers, which an engine makes an automaton of.

They are never run here. An expression is compiled, which shows whether it is one; `re` takes seconds to compile some
short ones (wide sets in which case is ignored, repeated), so characters beyond ASCII are one character for it.
"""

import re
import warnings

from api.shapes.bounds import (
    MAX_BRACKETS,
    MAX_EXPRESSION,
    MAX_GRAMMAR,
    MAX_GROUPS,
    MAX_REPEATED,
    Budget,
    Place,
    refusal,
)

_BEYOND = "\x80"  # stands for all that is not ASCII, so that sets stay in order
_WRITTEN = re.compile(
    r"\\[pP]\{[^{}]{1,60}\}"  # a class of Unicode's, which JavaScript and Rust have
    r"|\\u\{([0-9A-Fa-f]{1,6})\}|\\[uU]([0-9A-Fa-f]{4}(?:[0-9A-Fa-f]{4})?)|\\x([0-9A-Fa-f]{2})"
    r"|\\k<([A-Za-z_]\w{0,60})>|\\c[A-Za-z]|\\[zZ]|\\[\s\S]"
    r"|\(\?<(?![=!])|[^\x00-\x7f]"
)
_PART = re.compile(r"\\[\s\S]|\[\^?\]?(?:\\[\s\S]|[^\]\\])*\]?|\{(\d{1,9})(,?)(\d{0,9})\}|[\s\S]")
_QUOTED = re.compile(r'"(?:\\[\s\S]|[^"\\])*"?|' + r"'(?:\\[\s\S]|[^'\\])*'?|" + r"\[(?:\\[\s\S]|[^\]\\])*\]?|[(){}]")


def check_expression(value: object, place: Place, budget: Budget) -> None:
    """Raises: RequestInvalid: it is no expression, as Python or JavaScript writes them, or asks too much."""
    if not isinstance(value, str):
        raise refusal(place, "it must be a regular expression, as a text")
    if len(value) > MAX_EXPRESSION:
        raise refusal(place, f"the expression is longer than {MAX_EXPRESSION:,} characters; use a shorter one")
    if not budget.is_new(place, value):
        return
    _check_size(value, place)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sets that a later Python may read otherwise
            re.compile(_WRITTEN.sub(_pythons, value))
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        raise refusal(place, f"this is no regular expression: {error}; correct it, or leave it out") from None


def check_grammar(value: object, place: Place) -> None:
    """Raises: RequestInvalid: it is no text, is too long, or nested too deeply."""
    if not isinstance(value, str) or not value.strip():
        raise refusal(place, "it must be a grammar, as a text")
    if len(value) > MAX_GRAMMAR:
        raise refusal(place, f"the grammar is longer than {MAX_GRAMMAR:,} characters; use a shorter one")
    depth = 0
    for found in _QUOTED.finditer(value):
        sign = found.group()
        depth += (sign in "({") - (sign in ")}")
        if depth > MAX_BRACKETS:
            raise refusal(place, f"its brackets are nested deeper than {MAX_BRACKETS}; give the inner ones rules")


def _check_size(expression: str, place: Place) -> None:
    """Count its groups and, as if they were written out, its repetitions."""
    sizes, last = [0], 0
    for part in _PART.finditer(expression):
        sign = part.group()
        if sign == "(":
            sizes.append(0)
            if len(sizes) > MAX_GROUPS + 1:
                raise refusal(place, f"its groups are nested deeper than {MAX_GROUPS}; use a simpler one")
        elif sign == ")" and len(sizes) > 1:
            last = sizes.pop() + 1
            sizes[-1] += last
        elif part.group(1) is not None:
            times = int(part.group(3) or part.group(1))
            sizes[-1] += last * max(0, times - 1)
            last *= max(1, times)
        elif sign not in ("*", "+", "?"):
            last = 1
            sizes[-1] += 1
        if sizes[-1] > MAX_REPEATED:
            raise refusal(
                place, f"it stands for more than {MAX_REPEATED:,} signs when its repetitions are written out; bound it"
            )


def _pythons(found: re.Match[str]) -> str:
    """What means the same to Python, as far as it matters for whether it is an expression."""
    sign = found.group()
    point = found.group(1) or found.group(2) or found.group(3)
    if point is not None:
        code = int(point, 16)
        return re.escape(chr(code)) if code < 0x80 else _BEYOND
    if found.group(4) is not None:
        return f"(?P={found.group(4)})"
    if sign == "(?<":
        return "(?P<"
    if sign[0] != "\\":
        return _BEYOND
    if sign[1] in "pP" and len(sign) > 2:
        return "\\w"
    if sign[1] == "c" and len(sign) > 2:
        return "\\n"
    if sign[1] in "zZ":
        return "$"
    return sign if sign[1] < "\x80" else _BEYOND
