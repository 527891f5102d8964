"""Request bodies whose numbers keep every digit: fractions are read as decimals, not as binary floats."""

import json
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class ExactRequest(Request):
    """A request whose `json()` gives `Decimal` for every number with a fraction or exponent."""

    async def json(self) -> Any:
        """Raises: json.JSONDecodeError; NaN and Infinity are no JSON."""
        return json.loads(await self.body(), parse_float=Decimal, parse_constant=_refuse)


class ExactRoute(APIRoute):
    """A route that reads its body exactly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_exactly(request: Request) -> Response:
            return await handle(ExactRequest(request.scope, request.receive))

        return handle_exactly


def _refuse(word: str) -> None:
    raise json.JSONDecodeError(f"{word} is no JSON number", word, 0)
