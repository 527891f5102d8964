"""Headers by which a model request asks for less than its caller may, and those that its answer carries."""

from collections.abc import Sequence

from api.errors import RequestInvalid
from api.fields import shown_fields
from api.hot.exchange import Headers
from api.metering import Metered
from core.priority import Priority, lower
from router.router import Answer


def priority_of(allowed: Priority, asked: str) -> Priority:
    """What a request's header asks for, as far as its caller may. Raises: RequestInvalid."""
    if not asked:
        return allowed
    try:
        return lower(allowed, Priority(asked))
    except ValueError:
        raise RequestInvalid(f"x-stoker-priority is one of {', '.join(Priority)}, not {asked[:40]!r}") from None


def rescue_of(allowed: bool, asked: str) -> bool:
    """Whether another deployment may go on with a stream, as key and header say. Raises: RequestInvalid."""
    if asked not in ("", "on", "off"):
        raise RequestInvalid(f"x-stoker-rescue is on or off, not {asked[:40]!r}")
    return allowed and asked != "off"


def answer_headers(answer: Answer, ignored: Sequence[str], metered: Metered) -> Headers:
    """What is left for the caller, who answered, and what of the request was dropped."""
    return [*rate_headers(metered, ignored), (b"x-stoker-deployment", answer.deployment.name.encode())]


def rate_headers(metered: Metered, ignored: Sequence[str]) -> Headers:
    """What is left for the caller, and what of the request was dropped."""
    headers: Headers = [(name.encode(), value.encode()) for name, value in metered.rate_headers().items()]
    if ignored:
        headers.append((b"x-stoker-ignored", shown_fields(ignored).encode()))
    return headers
