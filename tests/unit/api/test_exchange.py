"""One request over ASGI: who watches for a client that leaves."""

import asyncio
from types import SimpleNamespace
from typing import Any

from api.hot.exchange import Exchange
from api.hot.protocol import SCOPE_KEY


async def test_who_has_sent_its_last_piece_leaves_the_watch_to_the_next_request_of_the_connection() -> None:
    connection = SimpleNamespace(on_left=None, lost=False)
    went_on = asyncio.Event()

    async def nothing(*_: Any) -> Any: ...

    def exchange() -> Exchange:
        return Exchange({"type": "http", "headers": [], SCOPE_KEY: connection}, nothing, nothing)

    async def first() -> None:
        exchange_ = exchange()
        exchange_.watch()
        await went_on.wait()  # its last piece is sent, and its upstream still to be read to the end
        exchange_.unwatch()

    async def second() -> None:
        exchange().watch()
        went_on.set()
        await asyncio.sleep(60)

    one = asyncio.create_task(first())
    await asyncio.sleep(0)
    two = asyncio.create_task(second())
    await one
    assert connection.on_left is not None
    connection.on_left()
    await asyncio.wait([two])
    assert two.cancelled()


async def test_a_client_that_left_while_its_model_was_chosen_is_noticed_by_who_begins_to_watch() -> None:
    connection = SimpleNamespace(on_left=None, lost=True)

    async def nothing(*_: Any) -> Any: ...

    async def answer() -> None:
        exchange = Exchange({"type": "http", "headers": [], SCOPE_KEY: connection}, nothing, nothing)
        exchange.watch()
        await asyncio.sleep(60)

    answering = asyncio.create_task(answer())
    await asyncio.wait([answering], timeout=30)
    assert answering.cancelled()


async def test_a_last_piece_that_nobody_reads_ends_at_the_deadline() -> None:
    async def stuck(*_: Any) -> Any:
        await asyncio.Event().wait()

    seen: list[Exchange] = []

    async def answer() -> None:
        seen.append(Exchange({"type": "http", "headers": []}, stuck, stuck))
        seen[0].guard(0.01, TimeoutError("late"))
        await seen[0].whole(200, b"{}", [])

    answering = asyncio.create_task(answer())
    await asyncio.wait([answering], timeout=30)
    assert answering.cancelled()
    assert seen[0].expired is not None
