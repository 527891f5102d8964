"""What a collection tells the model in place of the built-in words: a text with places for sources and question."""

from collections.abc import Mapping
from string import Formatter

from api.errors import RequestInvalid
from core.visible import visible

MAX_CHARACTERS = 8_000
_PLACES = ("sources", "question")


def check_template(template: object, param: str) -> str:
    """Take a template. Raises: RequestInvalid: it is none; the message says what is wrong with it."""
    if not isinstance(template, str):
        raise RequestInvalid(f"{param} is a text with {{sources}} and {{question}} in it, or null", param)
    if len(template) > MAX_CHARACTERS:
        raise RequestInvalid(f"{param} has at most {MAX_CHARACTERS:,} characters, not {len(template):,}", param)
    if visible(template) != template:
        raise RequestInvalid(f"{param} holds characters that no reader sees; take them out", param)
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise RequestInvalid(f"{param} has a brace that stands alone: write {{{{ or }}}} for one", param) from error
    places = [place for _, place, _, _ in parts if place is not None]
    for _, place, form, conversion in parts:
        if place is not None and (place not in _PLACES or form or conversion):
            said = f"{place}{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}"
            raise RequestInvalid(
                f"{param} has {{{said[:50]}}} in it: only {{sources}} and {{question}} may stand in braces; "
                "write {{ or }} for a brace itself",
                param,
            )
    for place in _PLACES:
        if (count := places.count(place)) != 1:
            raise RequestInvalid(f"{param} holds {{{place}}} once, not {count or 'no'} times", param)
    return template


def filled(template: str, places: Mapping[str, str]) -> str:
    """A checked template with these texts in its places; what looks like a place inside of them is none."""
    return "".join(
        text + (places[place] if place is not None else "") for text, place, _, _ in Formatter().parse(template)
    )
