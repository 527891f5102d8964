"""A client's end of `WS /v1/query/ws`."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.integration.doors.conftest import ASKED, OF_2024, name
from tests.integration.querywork.test_gateway import House

Said = dict[str, Any]


_LIMIT_S = 12


class Line:
    """A client's end of a socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def say(self, kind: str, **fields: Any) -> None:
        self.connection.send(json.dumps({"type": kind, **fields}))

    def ask(self, **fields: Any) -> str:
        """Ask; the model says `house.says["said"]`. Returns: the question's id."""
        body = {"id": name(), "query": ASKED, "collection": "fares", "filter": OF_2024, "max_tokens": 64, **fields}
        self.say("query", **body)
        return str(body["id"])

    def hear(self) -> Said:
        try:
            said: Said = json.loads(self.connection.recv(timeout=_LIMIT_S))
        except TimeoutError:
            raise AssertionError(f"nothing was said for {_LIMIT_S} s") from None
        return said

    def refusal(self) -> tuple[int, str] | str:
        """Status and code of the error that is heard next; of anything else its event."""
        said = self.hear()
        error = said["data"].get("error")
        return said["event"] if error is None else (said["data"]["status"], error["code"])

    def until(self, *events: str) -> list[Said]:
        """All that is heard up to one of these events."""
        heard = [self.hear()]
        while heard[-1]["event"] not in events:
            heard.append(self.hear())
        return heard

    def closed(self) -> int:
        """The code with which the gateway closes it, whatever it says before."""
        try:
            while True:
                self.connection.recv(timeout=_LIMIT_S)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 0
        except TimeoutError:
            raise AssertionError(f"it is open after {_LIMIT_S} s") from None


@contextmanager
def line(house: House, path: str = "/v1/query/ws", **how: Any) -> Iterator[Line]:
    address = house.gate.url.replace("http://", "ws://") + path
    with connect(address, proxy=None, open_timeout=20, **how) as connection:
        yield Line(connection)


@contextmanager
def known(house: House, key: str | None = None) -> Iterator[Line]:
    """A line on which somebody has said who is there."""
    with line(house) as one:
        one.say("auth", key=key or house.gate.key)
        assert one.hear() == {"event": "ready", "data": {}}
        yield one


def awaited(holds: Callable[[], bool], what: str, limit_s: float = 10) -> None:
    end_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)
