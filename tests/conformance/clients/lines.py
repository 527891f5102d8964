"""What the clients for Python share: orders come as lines of JSON, and what was seen goes back as lines of JSON.

An order is {"do", "url", "key", "retries"?, "timeout_s"?, "origin"?} and what `do` takes. The answer is what `do`
returned, or {"error"}; both with `seconds`.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

Order = dict[str, Any]


def obey(actions: Mapping[str, Callable[[Order], Order]]) -> None:
    """Carry out orders until stdin ends."""
    for line in sys.stdin:
        order = json.loads(line)
        started_s = time.monotonic()
        try:
            seen = actions[order["do"]](order)
        except Exception as error:  # whatever a user of the SDK would meet
            seen = {"error": told(error)}
        print(json.dumps({**seen, "seconds": time.monotonic() - started_s}), flush=True)


def partly(text: list[str], error: Exception) -> Order:
    """What was seen of a stream that broke."""
    return {"text": "".join(text), "error": told(error)}


def told(error: Exception) -> Order:
    """What a user sees of an error."""
    kind = type(error)
    response = getattr(error, "response", None)
    return {
        "class": kind.__name__
        if kind.__module__.split(".")[0] in ("openai", "anthropic")
        else f"foreign {kind.__name__}",
        "message": str(error),
        "status": getattr(error, "status_code", None),
        "type": getattr(error, "type", None),
        "code": getattr(error, "code", None) or getattr(error, "error_code", None),
        "param": getattr(error, "param", None),
        "request_id": getattr(error, "request_id", None),
        "retry_after": response.headers.get("retry-after") if response is not None else None,
    }
