"""Keeps a worker's router true to its configuration: the file, and what administrators changed since.

The file is looked at every `STOKER_CONFIG_POLL_S`, and read once it has stood still for one look, so that half of a
file that is being written is no configuration. One that can't be used changes nothing: it is logged and shown.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from api.deployments.book import DeploymentBook, Kept
from api.mark import HostMark
from api.settings import ApiSettings
from core.clock import Clock
from core.dependency import DependencyError
from monitoring.logs import logger
from monitoring.metrics import CONFIGURATION_READS, UPSTREAM_RUNNING
from monitoring.names import Names
from router.config import Changes, RouterConfig, assembled, written
from router.errors import ConfigInvalid
from router.router import Router, open_router
from router.yamlfile import Document
from storage.redis import RedisClient

_log = logger(__name__)

_ROWS_EVERY_S = 2.0  # for workers on other hosts, who don't see this one's mark move

_Signature = tuple[int, int, int]


class Following:
    """Of one worker; `open_following` makes it.

    Attributes:
        config: by which the router works.
        kept: what administrators changed, as of the last look.
        read_at: when the configuration was last put to use, in seconds since the epoch.
        error: why the file as it stands now is not used; None: it is.

    Raises: ConfigInvalid: the file can't be read.
    """

    def __init__(
        self,
        settings: ApiSettings,
        book: DeploymentBook,
        mark: HostMark,
        clock: Clock,
        check: Callable[[RouterConfig], None] = lambda _: None,
    ) -> None:
        self._check = check
        self._path = settings.config
        self._local = settings.local_deployments
        self._book = book
        self._mark = mark
        self._clock = clock
        self._lock = asyncio.Lock()
        self._seen = self._used = _signature(self._path)
        self._document = written(self._path)
        self._marked = mark.read()
        self._rows_s = clock.monotonic()
        self._router: Router | None = None
        self._running: dict[str, int] = {}
        self.kept = Kept()
        self.config = RouterConfig()
        self.read_at = clock.time()
        self.error: str | None = None

    async def start(self) -> None:
        """Read what was changed before. Where that does not fit the file, it is left out, and logged.

        Raises: ConfigInvalid: the file can't be used.
        """
        try:
            self.kept = await self._book.kept()
        except DependencyError as error:
            _log.warning("what administrators changed of the deployments is not known yet", reason=str(error))
        try:
            self.config = self.tried(self.kept)
        except ConfigInvalid as error:
            self.config = self._assembled(self._document, Changes())
            self.error = str(error)
            _log.error("what administrators changed of the deployments is left out", reason=str(error))

    def guide(self, router: Router) -> None:
        """Have this router follow from now on."""
        self._router = router

    def tried(self, kept: Kept) -> RouterConfig:
        """The configuration with these changes. Raises: ConfigInvalid."""
        return self._assembled(self._document, kept.changes())

    def _assembled(self, document: Document, changes: Changes) -> RouterConfig:
        config = assembled(document, self._local, changes, self.config.guards)
        self._check(config)
        return config

    async def look(self) -> None:
        """Follow what has changed since the last look. Raises: DependencyError: SQL is away."""
        self._count_running()
        async with self._lock:
            file = _signature(self._path)
            settled, self._seen = file == self._seen, file
            if settled and file != self._used:
                with suppress(ConfigInvalid):
                    await self._read(file)
            marked, now_s = self._mark.read(), self._clock.monotonic()
            if marked != self._marked or now_s >= self._rows_s + _ROWS_EVERY_S:
                self._marked, self._rows_s = marked, now_s
                await self._follow_kept()

    def names(self) -> Names:
        """The names there are that stand in labels of metrics; also of what was removed, and still has calls."""
        assert self._router is not None
        deployments, groups = self._router.present()
        experiments = {experiment.name for experiment in self.config.experiments}
        return {"deployment": deployments, "model_group": groups, "experiment": experiments}

    async def reload(self) -> None:
        """Read the file now. Raises: ConfigInvalid: nothing has changed."""
        async with self._lock:
            await self._read(_signature(self._path))

    async def follow_kept(self) -> None:
        """Follow what administrators changed, now. Raises: DependencyError: SQL is away."""
        async with self._lock:
            await self._follow_kept()

    async def _read(self, file: _Signature | None) -> None:
        self._seen = self._used = file
        try:
            document = await asyncio.to_thread(written, self._path)
            # In a thread, too: a new guard reads what it needs.
            config = await asyncio.to_thread(self._assembled, document, self.kept.changes())
            self._document = document
            await self._use(config)
        except ConfigInvalid as error:
            self.error = str(error)
            CONFIGURATION_READS.labels("refused").inc()
            _log.error("the configuration is not used, the last one stays", reason=self.error)
            raise
        self.error = None

    async def _follow_kept(self) -> None:
        kept = await self._book.kept()
        if kept == self.kept:
            return
        try:
            await self._use(self.tried(kept))
        except ConfigInvalid as error:
            _log.error("what administrators changed of the deployments is left out", reason=str(error))
        self.kept = kept  # last: what was not put to use for another reason is tried again with the next look

    async def _use(self, config: RouterConfig) -> None:
        assert self._router is not None
        await self._router.follow(config)
        self.config, self.read_at = config, self._clock.time()
        CONFIGURATION_READS.labels("used").inc()
        _log.info(
            "configuration used",
            deployments=len(config.deployments),
            disabled=len(config.disabled),
            removed=len(config.removed),
        )

    def _count_running(self) -> None:
        """Tell the metrics, which add up the workers, how many calls each deployment has."""
        assert self._router is not None
        running = self._router.running()
        for name in {*running, *self._running}:
            count = running.get(name, 0)
            if count != self._running.get(name):
                UPSTREAM_RUNNING.labels(name).set(count)
        self._running = running


@asynccontextmanager
async def open_following(
    settings: ApiSettings,
    book: DeploymentBook,
    mark: HostMark,
    clock: Clock,
    redis: RedisClient,
    check: Callable[[RouterConfig], None],
) -> AsyncIterator[tuple[Router, Following]]:
    """Open the worker's router; `looking` has it follow its configuration.

    Args:
        check: raises ConfigInvalid where the configuration says what only others than the router can read.

    Raises: ConfigInvalid: the file can't be used.
    """
    following = Following(settings, book, mark, clock, check)
    await following.start()
    workers = settings.workers * settings.hosts
    async with open_router(following.config, workers=workers, patience_s=settings.queue_s, redis=redis) as router:
        following.guide(router)
        yield router, following


@asynccontextmanager
async def looking(look: Callable[[], Awaitable[None]], every_s: float) -> AsyncIterator[None]:
    """Look every so many seconds until the block ends."""

    async def look_for_ever() -> None:
        while True:
            await asyncio.sleep(every_s)
            try:
                await look()
            except DependencyError:
                pass  # it is asked again, and its breaker tells of it
            except Exception:
                _log.exception("the configuration could not be looked at")

    task = asyncio.create_task(look_for_ever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def _signature(path: Path | None) -> _Signature | None:
    """What changes when a file does; None: there is none."""
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
