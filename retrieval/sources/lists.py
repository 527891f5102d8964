"""Sitemaps and buckets as jobs: accepted here, walked by the ingestion worker, page by page into the same job."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.principal import Principal
from retrieval import lifecycle
from retrieval.access import check_acl, check_expiry
from retrieval.called import CollectionId
from retrieval.errors import AddressRefused, DocumentTaken, InputInvalid
from retrieval.intake import Also, Intake, NewFile, new_job, stays_in_the_house
from retrieval.rows import fetch
from retrieval.settings import RetrievalSettings
from retrieval.sources.address import read_address
from retrieval.sources.buckets import Buckets
from retrieval.sources.errands import Errand, Errands, ErrandStatus, Kind, Origin, asker, send_out
from retrieval.sources.guard import Guard
from retrieval.values import check_metadata
from storage.schema import tenants
from storage.sql import Database

_AT_ONCE = 50
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LONGEST_PREFIX = 400
OFF = "Fetching is switched off here: send the documents themselves, or have the operator set STOKER_FETCH to true."


@dataclass(frozen=True, slots=True)
class Asked:
    """What is said of all documents of a list, as `NewFile` takes it; `limit` None: as many as may be."""

    metadata: Mapping[str, Any]
    acl: object = None
    expires_after_s: int | None = None
    limit: int | None = None


class Origins:
    """Reads where documents are to be fetched, and accepts lists of them."""

    def __init__(
        self, database: Database, guard: Guard, buckets: Buckets, clock: Clock, settings: RetrievalSettings
    ) -> None:
        self._database = database
        self._guard = guard
        self._buckets = buckets
        self._clock = clock
        self._settings = settings

    def page(self, url: str) -> Origin:
        """Where one document is. Raises: AddressRefused; InputInvalid: nothing is fetched here."""
        return self._web(Kind.URL, url)

    def sitemap(self, url: str) -> Origin:
        """Where a sitemap is. Raises: the same."""
        return self._web(Kind.SITEMAP, url)

    async def prefix(self, principal: Principal, bucket: str, prefix: str) -> Origin:
        """Where objects are. Raises: InputInvalid: the tenant may not take any from there."""
        if not _BUCKET.fullmatch(bucket) or len(prefix) > _LONGEST_PREFIX or not prefix.isprintable():
            raise InputInvalid("s3", 's3 is an object such as {"bucket": "papers", "prefix": "2026/"}.')
        origin = Origin(Kind.PREFIX, f"s3://{bucket}/{prefix}")
        await self.check_bucket(principal.tenant_id, origin.address)
        return origin

    async def check_bucket(self, tenant_id: str, address: str) -> None:
        """Raises: InputInvalid: the tenant may not take anything from there."""
        rows = await fetch(self._database, sa.select(tenants.c.name).where(tenants.c.id == tenant_id))
        self._buckets.check(tenant_id, rows[0].name if rows else "", address)

    async def accept(
        self, principal: Principal, collection_name: str, origin: Origin, asked: Asked, also: Also | None = None
    ) -> str:
        """Queue a list. Returns: its job's id.

        Args:
            also: as `Intake.accept` takes it.

        Raises: CollectionNotFound, CollectionExpired, InputInvalid; DependencyError: SQL is away.
        """
        most = self._settings.sitemap_limit
        if asked.limit is not None and not 1 <= asked.limit <= most:
            raise InputInvalid("limit", f"limit is a whole number from 1 to {most:,}.")
        plan: dict[str, Any] = {
            "metadata": check_metadata(asked.metadata),
            "acl": check_acl(asked.acl),
            "expires_after_s": check_expiry(asked.expires_after_s),
            "limit": asked.limit or most,
        }

        async def queue(connection: AsyncConnection) -> str:
            now_s = self._clock.time()
            collection = await lifecycle.lock_collection(connection, principal.tenant_id, collection_name, now_s)
            await stays_in_the_house(connection, principal, collection)
            job_id = await new_job(connection, principal, collection.id, now_s)
            its = {**plan, "collection_id": collection.id}
            await send_out(connection, principal, job_id, origin, now_s, plan=its)
            if also is not None:
                await also(connection, job_id)
            return job_id

        return await self._database.write(queue)

    def _web(self, kind: Kind, url: str) -> Origin:
        if not self._settings.fetch:
            raise InputInvalid("url", OFF)
        address = self._guard.read(url)
        if len(str(address)) > 500:
            raise AddressRefused("An address that becomes a document's name has at most 500 characters.")
        return Origin(kind, str(address), address.host)


class Placing:
    """Takes what a list held into its job, some at a time; killed in between, it goes on where it was."""

    def __init__(self, intake: Intake, errands: Errands, at_once: int = _AT_ONCE) -> None:
        """Args: at_once: files that `Intake.accept` takes in one call."""
        self._intake = intake
        self._errands = errands
        self._at_once = min(_AT_ONCE, at_once)

    async def place(self, errand: Errand, addresses: list[str], left_out: int, delay_s: float) -> None:
        """Take the rest of a list in, and end its errand.

        Raises: ErrandLost; what `Intake.accept` raises but `DocumentTaken`: such a page is left out.
        """
        at = errand.placed
        while at < len(addresses):
            part = addresses[at : at + self._at_once]
            try:
                await self._take(errand, part, at, left_out, delay_s)
            except DocumentTaken:
                for number, address in enumerate(part, start=at):
                    try:
                        await self._take(errand, [address], number, left_out, delay_s)
                    except DocumentTaken:
                        left_out += 1
                        await self._errands.write(errand, {"placed": number + 1, "left_out": left_out})
            at += len(part)
        await self._errands.write(
            errand, {"status": ErrandStatus.DONE, "worker": None, "lease_until": None, "error": None}
        )

    async def _take(self, errand: Errand, addresses: list[str], at: int, left_out: int, delay_s: float) -> None:
        plan = errand.plan

        async def note(connection: AsyncConnection, _job_id: str) -> None:
            await self._errands.hold(connection, errand, {"placed": at + len(addresses), "left_out": left_out})

        files = [
            NewFile(
                filename=address,
                media_type=None,
                data=b"",
                metadata=plan["metadata"],
                acl=plan["acl"],
                expires_after_s=plan["expires_after_s"],
                origin=_origin(errand.kind, address, (at + number) * delay_s),
            )
            for number, address in enumerate(addresses)
        ]
        collection = CollectionId(plan["collection_id"])
        await self._intake.accept(asker(plan), collection, files, errand.job_id, note)


def _origin(kind: Kind, address: str, after_s: float) -> Origin:
    if kind is Kind.PREFIX:
        return Origin(Kind.OBJECT, address)
    return Origin(Kind.PAGE, address, read_address(address).host, after_s)
