"""Entries in Redis, and one flight for each: of many who ask the same at once, one has it made.

Redis away, late or full is no outage: whoever asks is told to go without a cache.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from api.caching.name import Name, prefix
from api.caching.scripts import Scripts
from core.dependency import DependencyError
from core.ids import unique_hex
from monitoring import metrics
from monitoring.logs import logger
from storage.scripts import Argument, ScriptLine

_log = logger(__name__)

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.01, 0.1


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the caches.

    Attributes:
        deadline_s: for one call of Redis; a cache that takes longer is no help.
        lease_s: a flight whose worker died is given up after so long.
        patience_s: who waits for somebody else's flight longer goes alone.
        entry_bytes: of one entry's body; a longer one is not kept.
        tenant_bytes: of all entries of a tenant; beyond it those that end first go.
        longest_s: no entry lives longer, however it is asked for.
        barren_s: for so long nobody waits for a flight like one of which nothing could be kept.
    """

    deadline_s: float = 0.25
    lease_s: float = 5.0
    patience_s: float = 60.0
    entry_bytes: int = 256 * 1024
    tenant_bytes: int = 64 * 1024 * 1024
    longest_s: float = 7 * 86_400.0
    barren_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry that still holds."""

    body: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Alone:
    """Nobody's entry is to be waited for: each makes its answer by itself."""


Landed = Hit | Alone | None
"""What a flight brought those who waited for it in the same worker; None: the next one may try."""


class Flight:
    """The right to make an entry; whoever has it ends it by `keep` or `leave`, each of which comes at once."""

    def __init__(self, cache: "Cache", name: Name, token: str, marks: str) -> None:
        self._cache = cache
        self._name = name
        self._token = token
        self._marks = marks
        self._over = False
        self._renewing = asyncio.create_task(cache.renew(name, token))

    @property
    def marks(self) -> str:
        """The generations, when it began, of all that its entry carries."""
        return self._marks

    def keep(self, body: str, ttl_s: float) -> None:
        """Make this the entry for `ttl_s` seconds, as far as the bounds allow."""
        ttl_ms = self._cache.lasts_ms(body, ttl_s)
        if ttl_ms == 0:
            self.leave(barren=True)
        elif self._end():
            self._cache.start(self._cache.keep(self._name, self._token, self._marks, body, ttl_ms))

    def leave(self, *, barren: bool = False) -> None:
        """Make none; does nothing after an end.

        Args:
            barren: another try would bring none either, so for a while nobody waits for one.
        """
        if self._end():
            self._cache.start(self._cache.leave(self._name, self._token, barren=barren))

    def _end(self) -> bool:
        """Returns: whether this was the first end."""
        before, self._over = self._over, True
        self._renewing.cancel()
        return not before


class Cache:
    """The entries of all tenants, in one Redis; one for each worker.

    Args:
        shelf: each has bounds of its own, and what is on one never has to go for what is on another.
    """

    def __init__(self, line: ScriptLine, bounds: Bounds, shelf: str = "", scripts: Scripts | None = None) -> None:
        self.bounds = bounds
        self._line = line
        self._shelf = shelf
        self._scripts = scripts or Scripts.load()
        self._here: dict[str, asyncio.Future[Landed]] = {}  # of flights that somebody here makes or waits for
        self._tasks: set[asyncio.Task[None]] = set()

    async def look(self, name: Name) -> Hit | Flight | None:
        """Find an entry, or be the one who makes it; waits while somebody else does.

        Returns: None: go without, and keep nothing.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self.bounds.patience_s
        found: Hit | Flight | Alone | None = None
        while found is None and loop.time() < until_s:
            other = self._here.get(name.key)
            found = await (self._board(name, until_s) if other is None else _wait(other, until_s))
        outcome = "hit" if isinstance(found, Hit) else "miss" if isinstance(found, Flight) else "bypass"
        metrics.CACHE_LOOKUPS.labels(name.kind, outcome).inc()
        return None if isinstance(found, Alone) else found

    async def find(self, name: Name) -> Hit | None:
        """Find an entry that `put` has written; None also where Redis is away."""
        found: Any = []
        try:
            found = await self._line.run(
                self._scripts.find, name.key, [_generations(name.tenant_id)], self.bounds.deadline_s
            )
        except DependencyError as error:
            _log.debug("the cache is away", reason=str(error))
        metrics.CACHE_LOOKUPS.labels(name.kind, "hit" if found else "miss").inc()
        return Hit(found[0], found[1] / 1000) if found else None

    def put(self, name: Name, marks: str, body: str, ttl_s: float) -> None:
        """Make this an entry, in place of one that may be there, as far as the bounds allow; it comes at once.

        Args:
            marks: of the flight that made it.
        """
        ttl_ms = self.lasts_ms(body, ttl_s)
        if ttl_ms:
            self.start(self.keep(name, "", marks, body, ttl_ms))

    def lasts_ms(self, body: str, ttl_s: float) -> int:
        """For how long an entry may be kept; 0: not at all."""
        bounds = self.bounds
        if ttl_s < 1 or len(body) > bounds.entry_bytes or len(body.encode()) > bounds.entry_bytes:
            return 0
        return int(min(ttl_s, bounds.longest_s) * 1000)

    async def purge(self, tenant_id: str, carried: str) -> None:
        """Make void whatever carries a name: `ALL`, `of_key(...)`, `of_collection(...)`.

        Raises: DependencyError: Redis is away, and what it holds may be found again when it is back.
        """
        remembered_ms = int(2 * self.bounds.longest_s * 1000)
        await self._line.run(
            self._scripts.purge, _generations(tenant_id), [carried, remembered_ms], self.bounds.deadline_s
        )

    async def close(self) -> None:
        """Wait for what is being kept; the connection is the caller's to close."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _board(self, name: Name, until_s: float) -> Hit | Flight | Alone | None:
        """Ask Redis for oneself and for all who come to this worker meanwhile."""
        loop = asyncio.get_running_loop()
        self._here[name.key] = loop.create_future()
        found: Hit | Flight | Alone | None = None
        wait_s = _FIRST_WAIT_S
        try:
            while (found := await self._ask(name)) is None and loop.time() < until_s:
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        except DependencyError as error:
            _log.debug("the cache is away", reason=str(error))
            found = Alone()
        finally:
            if not isinstance(found, Flight):
                self._land(name, found)
        return found

    async def _ask(self, name: Name) -> Hit | Flight | Alone | None:
        """Returns: None: another worker makes it."""
        token = unique_hex()
        generations, flight = _generations(name.tenant_id), _flight(name)
        args: list[Argument] = [generations, flight, token, int(self.bounds.lease_s * 1000), *name.carried]
        found = await self._line.run(self._scripts.look, name.key, args, self.bounds.deadline_s)
        match found:
            case ["hit", body, age_ms]:
                return Hit(body, age_ms / 1000)
            case ["lead", marks]:
                return Flight(self, name, token, marks)
            case ["alone"]:
                return Alone()
            case _:
                return None

    async def keep(self, name: Name, token: str, marks: str, body: str, ttl_ms: int) -> None:
        """Write an entry, then let those who wait here for its flight have it."""
        landed: Landed = Hit(body, 0.0)
        index = f"{prefix(name.tenant_id)}{self._shelf}index"
        args: list[Argument] = [_generations(name.tenant_id), _flight(name), token, index]
        args += [self.bounds.tenant_bytes, ttl_ms, marks, body]
        try:
            gone = await self._line.run(self._scripts.keep, name.key, args, self.bounds.deadline_s)
            if gone < 0:
                landed = None  # purged meanwhile
            elif gone:
                metrics.CACHE_EVICTIONS.inc(gone)
        except DependencyError as error:
            _log.debug("an entry was not kept", reason=str(error))
        finally:
            self._land(name, landed)

    async def leave(self, name: Name, token: str, *, barren: bool) -> None:
        """For a flight: give it up."""
        barren_ms = int(self.bounds.barren_s * 1000) if barren else 0
        try:
            await self._line.run(self._scripts.leave, _flight(name), [token, barren_ms], self.bounds.deadline_s)
        except DependencyError as error:
            _log.debug("a flight was not given up", reason=str(error))  # its lease ends by itself
        finally:
            self._land(name, Alone() if barren else None)

    async def renew(self, name: Name, token: str) -> None:
        """For a flight: hold its lease until cancelled."""
        lease_s = self.bounds.lease_s
        while True:
            await asyncio.sleep(lease_s / 3)
            try:
                lease: list[Argument] = [token, int(lease_s * 1000)]
                await self._line.run(self._scripts.renew, _flight(name), lease, self.bounds.deadline_s)
            except DependencyError as error:
                _log.debug("a flight was not renewed", reason=str(error))  # at worst another one begins too

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """For a flight: do this, whatever becomes of the request."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _land(self, name: Name, landed: Landed) -> None:
        future = self._here.pop(name.key, None)
        if future is not None and not future.done():
            future.set_result(landed)


async def _wait(other: "asyncio.Future[Landed]", until_s: float) -> Landed:
    """Returns: None also where the time is over."""
    left_s = until_s - asyncio.get_running_loop().time()
    done, _ = await asyncio.wait([other], timeout=max(0.0, left_s))
    return other.result() if done else None


def _generations(tenant_id: str) -> str:
    return f"{prefix(tenant_id)}generations"


def _flight(name: Name) -> str:
    return f"{name.key}:flight"
