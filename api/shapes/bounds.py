"""How much may be asked of an engine by what shapes one answer, and what is said where it is too much or none."""

from api.errors import RequestInvalid

MAX_VALUES = 20_000  # of all JSON in a request's schemas
MAX_DEPTH = 64  # of a schema's objects and lists; a level of a nested object takes two
MAX_CHARACTERS = 120_000  # of names of properties and allowed values, as with OpenAI
MAX_COUNT = 2**31 - 1  # of minLength, maxItems and their like, which engines keep in 32 bits
MAX_EXPRESSION = 1000  # characters of one expression
MAX_EXPRESSIONS = 10_000  # characters of all different ones in a request
MAX_REPEATED = 20_000  # signs of an expression whose repetitions are written out
MAX_GROUPS = 32  # of an expression, one in the other
MAX_GRAMMAR = 50_000  # characters of a grammar, or of JSON in a text
MAX_BRACKETS = 64  # of a grammar, one in the other
_SHOWN = 200  # characters of a place

Place = tuple["Place", str] | None
"""Where something stands: what it stands in, and its name there."""


def named(place: Place) -> str:
    """As a request would write it: `tools[0].function.parameters`."""
    parts: list[str] = []
    while place is not None:
        place, name = place
        parts.append(name if name.startswith("[") else f".{name}")
    whole = "".join(reversed(parts)).removeprefix(".").encode(errors="replace").decode()
    return whole if len(whole) <= _SHOWN else f"{whole[:_SHOWN]}..."


def refusal(place: Place, what: str) -> RequestInvalid:
    """The error that says what is wrong where, and what to do."""
    where = named(place)
    return RequestInvalid(f"{where}: {what}", where)


class Budget:
    """What one request has left; made for each."""

    def __init__(self) -> None:
        self._values = MAX_VALUES
        self._characters = MAX_CHARACTERS
        self._expressions = MAX_EXPRESSIONS
        self._seen: set[str] = set()

    def value(self, place: Place, depth: int, count: int = 1) -> None:
        """There are so many more values, so deep. Raises: RequestInvalid."""
        self._values -= count
        if self._values < 0:
            raise refusal(place, f"the request's schemas hold more than {MAX_VALUES:,} values; ask for less at once")
        if depth > MAX_DEPTH:
            raise refusal(
                place, f"it is nested too deep, beyond {MAX_DEPTH} levels; name parts in $defs and refer to them"
            )

    def text(self, place: Place, text: str) -> None:
        """A property has this name, or this is an allowed value. Raises: RequestInvalid."""
        self._characters -= len(text)
        if self._characters < 0:
            raise refusal(
                place, f"names of properties and allowed values have more than {MAX_CHARACTERS:,} characters together"
            )

    def is_new(self, place: Place, expression: str) -> bool:
        """Whether the expression has not been looked at in this request. Raises: RequestInvalid: there are too many."""
        if expression in self._seen:
            return False
        self._seen.add(expression)
        self._expressions -= len(expression)
        if self._expressions < 0:
            raise refusal(
                place, f"the request's expressions have more than {MAX_EXPRESSIONS:,} characters together; use fewer"
            )
        return True
