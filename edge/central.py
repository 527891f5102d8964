"""A central gateway that hard questions may go to while there is a network.

Who asks never waits for a connection that is known to be away: after one failure the central rests, and only the watch,
in the background, looks whether it is back. Text that is bound to the house goes to no gateway but the one that the
folder was exported from, which is told by the id of its collection.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from core.breaker import BreakerPolicy, BreakerState
from core.clock import Clock
from core.dependency import Dependency, DependencyError
from core.reach import ANYWHERE
from edge.errors import CentralSilent
from edge.library import ShelvedCollection
from monitoring.logs import logger

_log = logger(__name__)

LOOK_EVERY_S = 5.0
_LOOK_S = 5.0
_CONNECT_S = 2.0
_POLICY = BreakerPolicy(failures_to_open=1, probe_after_s=LOOK_EVERY_S, successes_to_close=1)
_MOST_BYTES = 4 * 2**20  # of an answer


class Central:
    """One gateway; made by `open_central`.

    Attributes:
        refused: why it may not be asked, though it answers; None: nothing is known against it.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        key: str,
        collection: ShelvedCollection,
        deadline_s: float,
        clock: Clock,
    ) -> None:
        self._session = session
        self.url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"}
        self._collection = collection
        self._dependency = Dependency("central", deadline_s, (OSError, aiohttp.ClientError, ValueError), _POLICY, clock)
        self._known = False
        self.refused: str | None = None

    @property
    def ready(self) -> bool:
        """Whether a question may go there now."""
        return self._known and self._dependency.state is BreakerState.CLOSED

    @property
    def state(self) -> str:
        """For a person: ready, away, or why it is not asked."""
        return self.refused or ("ready" if self.ready else "away")

    async def ask(self, body: Mapping[str, Any], request_id: str) -> dict[str, Any]:
        """Have it answer a question. Raises: CentralSilent."""
        if not self.ready:
            raise CentralSilent("the central gateway is away")
        asked = {**body, "stream": False}
        try:
            answer = await self._dependency.call(lambda: self._call("POST", "/v1/query", asked, request_id))
        except DependencyError as error:
            _log.warning("the central gateway is away", url=self.url, reason=str(error))
            raise CentralSilent(str(error)) from error
        if not isinstance(answer.get("answer"), str) or not isinstance(answer.get("citations"), list):
            raise CentralSilent("the central gateway sent no answer")
        return answer

    async def look(self) -> None:
        """Learn whether it is there, and whose it is."""
        path = f"/v1/collections/{quote(self._collection.name, safe='')}"
        try:
            found = await self._dependency.call(lambda: self._call("GET", path, None, ""), _LOOK_S)
        except DependencyError:
            self._known = False
            return
        except CentralSilent as error:
            self._known, self.refused = False, str(error)
            return
        bound = self._collection.reach != ANYWHERE
        foreign = bound and found.get("id") != self._collection.id
        self.refused = (
            "text of this collection is bound to its house, and this gateway is not the one it was exported from"
            if foreign
            else None
        )
        self._known = self.refused is None

    async def watch(self) -> None:
        """Look now, and again and again while it is not ready; never ends."""
        while True:
            if not self.ready:
                await self.look()
                if self.refused:
                    _log.warning("the central gateway is not asked", url=self.url, reason=self.refused)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _call(self, method: str, path: str, body: object, request_id: str) -> dict[str, Any]:
        """Raises: CentralSilent: it refuses; aiohttp.ClientError, OSError, ValueError: it is away, or no Stoker."""
        headers = {**self._headers, **({"x-request-id": request_id} if request_id else {})}
        data = None if body is None else orjson.dumps(body)
        if data is not None:
            headers["content-type"] = "application/json"
        async with self._session.request(
            method, f"{self.url}{path}", data=data, headers=headers, allow_redirects=False
        ) as response:
            if response.status >= 500:
                response.raise_for_status()
            if response.status != 200:
                raise CentralSilent(f"the central gateway refuses with status {response.status}: look at its key")
            found = orjson.loads(await _body(response))
        if not isinstance(found, dict):
            raise ValueError("no object")
        return found


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Raises: ValueError: it is longer than an answer."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > _MOST_BYTES:
            raise ValueError("more than an answer")
    return b"".join(parts)


@asynccontextmanager
async def open_central(
    url: str, key: str, collection: ShelvedCollection, deadline_s: float, clock: Clock
) -> AsyncIterator[Central]:
    """Open the way there, and watch it until the block ends; nothing is waited for."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
        central = Central(session, url, key, collection, deadline_s, clock)
        watching = asyncio.create_task(central.watch(), name="central")
        try:
            yield central
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
