"""Opens what fetches, out of settings; nothing is reached before the first call."""

from core.clock import Clock
from retrieval.intake import Intake
from retrieval.settings import RetrievalSettings
from retrieval.sources.arrival import Arrivals
from retrieval.sources.buckets import Buckets
from retrieval.sources.courier import Courier
from retrieval.sources.errands import Errands
from retrieval.sources.fetcher import Bounds, Fetcher
from retrieval.sources.guard import Guard
from retrieval.sources.lists import Origins, Placing
from retrieval.sources.sitemap import Sitemaps
from storage.objects import ObjectStore
from storage.open import open_source
from storage.redis import RedisClient
from storage.sql import Database


def open_guard(settings: RetrievalSettings) -> Guard:
    """The one guard of a process."""
    return Guard(settings.fetch_allow, settings.fetch_ports)


def open_fetcher(settings: RetrievalSettings, guard: Guard) -> Fetcher:
    """What reaches addresses that callers name."""
    bounds = Bounds(
        connect_s=settings.fetch_connect_s,
        read_s=settings.fetch_read_s,
        total_s=settings.fetch_total_s,
        bytes=settings.max_file_bytes,
        redirects=settings.fetch_redirects,
    )
    return Fetcher(guard, bounds, settings.fetch_agent)


def open_origins(settings: RetrievalSettings, database: Database, clock: Clock) -> Origins:
    """What reads where documents are."""
    return Origins(database, open_guard(settings), _buckets(settings), clock, settings)


def open_courier(
    settings: RetrievalSettings,
    database: Database,
    redis: RedisClient,
    objects: ObjectStore,
    intake: Intake,
    clock: Clock,
    worker: str,
) -> Courier:
    """What goes on errands."""
    guard = open_guard(settings)
    fetcher = open_fetcher(settings, guard)
    buckets = _buckets(settings)
    errands = Errands(
        database,
        clock,
        worker,
        lease_s=settings.lease_s,
        max_attempts=settings.max_attempts,
        delay_s=settings.fetch_delay_s,
        retry_s=settings.fetch_retry_s,
    )
    return Courier(
        settings,
        errands,
        Arrivals(settings, database, redis, objects, clock, errands),
        Placing(intake, errands, settings.max_batch_files),
        Origins(database, guard, buckets, clock, settings),
        guard,
        fetcher,
        Sitemaps(fetcher, settings.fetch_agent, settings.fetch_delay_s, settings.max_file_bytes),
        buckets,
        clock,
    )


def _buckets(settings: RetrievalSettings) -> Buckets:
    source = open_source(settings.object_deadline_s, settings.s3_endpoint_url) if settings.s3_sources else None
    return Buckets(source, settings.s3_sources, settings.max_file_bytes)
