"""Documents that a worker fetches: pages, sitemaps, buckets."""

import asyncio
import gzip
import itertools
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
import sqlalchemy as sa
from moto.server import ThreadedMotoServer

from core.clock import SystemClock
from core.principal import Principal, Role
from monitoring import metrics
from retrieval.errors import AddressRefused, InputInvalid
from retrieval.intake import NewFile
from retrieval.jobs import Job
from retrieval.query import Query
from retrieval.rows import fetch
from retrieval.sources.lists import Asked, Origins
from retrieval.sources.open import open_origins
from retrieval.status import JobStatus, Status
from storage.schema import errands, hosts
from tests.integration.retrieval.conftest import House, until
from tests.support.site import Site, open_site

LAMP = "The lamp of the harbour is lit at dusk by Ottoline Brask. "


@dataclass
class Fetching:
    """A house whose operator has opened a site to callers."""

    house: House
    site: Site
    origins: Origins

    async def page(self, path: str, title: str | None = None, **said: Any) -> Job:
        return await self.house.ended(await self.send(path, title, **said))

    async def send(self, path: str, title: str | None = None, **said: Any) -> str:
        origin = self.origins.page(self.site.url + path)
        file = NewFile(title or origin.address, None, b"", origin=origin, **said)
        return (await self.house.retrieval.intake.accept(self.house.principal, "c", [file])).job_id

    async def walk(self, path: str = "/sitemap.xml", **asked: Any) -> Job:
        return await self.house.ended(await self.begin(path, **asked))

    async def begin(self, path: str = "/sitemap.xml", **asked: Any) -> str:
        origin = self.origins.sitemap(self.site.url + path)
        return await self.origins.accept(self.house.principal, "c", origin, Asked(asked.pop("metadata", {}), **asked))

    async def names(self) -> list[str]:
        found = await self.house.retrieval.documents.list(self.house.principal, "c", limit=100)
        return sorted(document.filename.removeprefix(self.site.url) for document in found)

    async def finds(self, query: str) -> list[str]:
        found = await self.house.retrieval.searcher.search(self.house.principal, Query("c", query))
        return [passage.text for passage in found.passages]


@asynccontextmanager
async def opened(house: House, **settings: Any) -> AsyncIterator[Fetching]:
    async with open_site() as site:
        own = {"fetch_allow": [site.entry], "fetch_delay_s": 0.0, "fetch_retry_s": 0.1, **settings}
        changed = house.settings.model_copy(update=own)
        origins = open_origins(changed, house.database, SystemClock())
        await house.retrieval.collections.create(house.principal, "c")
        yield Fetching(replace(house, settings=changed), site, origins)


@pytest.fixture
async def fetching(house: House) -> AsyncIterator[Fetching]:
    async with opened(house) as found, found.house.worker():
        yield found


def embedded() -> float:
    """How many documents were embedded by this process."""
    found = metrics.INGEST_SECONDS.labels(Status.EMBEDDING)
    return next(sample.value for sample in found._child_samples() if sample.name == "_count")


async def test_a_page_becomes_a_document_under_its_address(fetching: Fetching) -> None:
    fetching.site.pages["/lamp"] = f"<html><head><title>Lamp</title></head><body><p>{LAMP}</p></body></html>"
    fetching.site.types["/lamp"] = "text/html; charset=utf-8"
    job = await fetching.page("/lamp?a=b#part", metadata={"kind": "web"})
    assert job.status is JobStatus.SUCCEEDED, job
    house = fetching.house
    document = await house.retrieval.documents.get(house.principal, "c", job.documents[0].id)
    assert document.filename == f"{fetching.site.url}/lamp?a=b"
    assert (document.media_type, document.metadata, document.version) == ("text/html", {"kind": "web"}, 1)
    assert document.source == document.filename
    assert LAMP.strip() in (await house.retrieval.documents.content(house.principal, "c", document.id))


async def test_an_unchanged_page_is_asked_for_by_its_mark_and_costs_no_embedding(fetching: Fetching) -> None:
    fetching.site.pages["/lamp"] = LAMP
    first = await fetching.page("/lamp", metadata={"n": 1})
    before = embedded()
    again = await fetching.page("/lamp", metadata={"n": 2})
    assert fetching.site.statuses("/lamp") == [200, 304]
    assert (again.status, again.documents[0].id) == (JobStatus.SUCCEEDED, first.documents[0].id)
    assert embedded() == before
    house = fetching.house
    document = await house.retrieval.documents.get(house.principal, "c", first.documents[0].id)
    assert document.metadata == {"n": 2}
    fetching.site.pages["/lamp"] = LAMP + "It is green."
    changed = await fetching.page("/lamp")
    assert fetching.site.statuses("/lamp") == [200, 304, 200]
    assert changed.status is JobStatus.SUCCEEDED
    assert embedded() == before + 1
    document = await house.retrieval.documents.get(house.principal, "c", first.documents[0].id)
    assert document.version == 2
    assert "green" in await house.retrieval.documents.content(house.principal, "c", document.id)


async def test_a_page_that_changed_only_its_mark_costs_no_embedding(fetching: Fetching) -> None:
    fetching.site.pages["/lamp"] = LAMP
    first = await fetching.page("/lamp")
    await fetching.house.database.write(_forget_marks)
    before = embedded()
    assert (await fetching.page("/lamp")).documents[0].id == first.documents[0].id
    assert fetching.site.statuses("/lamp") == [200, 200]
    assert embedded() == before


async def _forget_marks(connection: Any) -> None:
    await connection.execute(sa.text("UPDATE documents SET origin = NULL"))


@pytest.mark.parametrize(
    ("page", "kind", "says"),
    [
        (404, "text/plain", "answered 404"),
        (b"\x00\x00\x00\x18ftypmp42", "video/mp4", "video/mp4"),
        (503, "text/plain", "after 3 attempts"),
        (b"", "text/plain", ""),
    ],
)
async def test_what_cannot_be_had_fails_with_a_reason(fetching: Fetching, page: object, kind: str, says: str) -> None:
    fetching.site.pages["/a"], fetching.site.types["/a"] = page, kind
    job = await fetching.page("/a")
    assert job.status is JobStatus.FAILED
    assert says in (job.documents[0].error or "")
    house = fetching.house
    assert (await house.retrieval.documents.get(house.principal, "c", job.documents[0].id)).status is Status.FAILED


async def test_a_failed_refetch_leaves_the_earlier_version_and_can_be_tried_again(fetching: Fetching) -> None:
    fetching.site.pages["/lamp"] = LAMP
    await fetching.page("/lamp")
    fetching.site.pages["/lamp"] = 404
    failed = await fetching.page("/lamp")
    assert failed.status is JobStatus.FAILED
    assert await fetching.finds("who lights the lamp")
    fetching.site.pages["/lamp"] = LAMP + "Twice."
    house = fetching.house
    await house.retrieval.jobs.retry(house.principal, failed.id)
    assert (await house.ended(failed.id)).status is JobStatus.SUCCEEDED
    document = await house.retrieval.documents.get(house.principal, "c", failed.documents[0].id)
    assert document.version == 2


async def test_a_cancelled_fetch_leaves_nothing_behind(house: House) -> None:
    async with opened(house) as fetching:
        job_id = await fetching.send("/lamp")
        job = await house.retrieval.jobs.cancel(house.principal, job_id)
        assert job.status is JobStatus.CANCELLED
        rows = await fetch(house.database, sa.select(errands.c.status))
        assert [row.status for row in rows] == ["cancelled"]
        async with fetching.house.worker():
            fetching.site.pages["/other"] = LAMP
            await fetching.page("/other")
        assert fetching.site.statuses("/lamp") == []


async def test_a_newer_upload_under_the_same_name_wins_over_a_fetch(house: House) -> None:
    async with opened(house) as fetching:
        fetching.site.pages["/lamp"] = "old " + LAMP
        fetched = await fetching.send("/lamp", "lamp.txt")
        await house.retrieval.intake.accept(house.principal, "c", [NewFile("lamp.txt", None, b"new text")])
        async with fetching.house.worker():
            job = await house.ended(fetched)
            assert job.status is JobStatus.CANCELLED
            document_id = job.documents[0].id

            async def ready() -> bool | None:
                found = await house.retrieval.documents.get(house.principal, "c", document_id)
                return found.status is Status.READY or None

            await until(ready, 30)
        assert await house.retrieval.documents.content(house.principal, "c", document_id) == "new text"
        assert fetching.site.statuses("/lamp") == []


async def test_what_may_not_be_reached_is_refused_before_anything_is_queued(house: House) -> None:
    async with opened(house) as fetching:
        for address in ("http://169.254.169.254/latest", "file:///etc/passwd", "http://127.0.0.1:1/", "x"):
            with pytest.raises(AddressRefused):
                fetching.origins.page(address)
        off = open_origins(fetching.house.settings.model_copy(update={"fetch": False}), house.database, SystemClock())
        with pytest.raises(InputInvalid, match="STOKER_FETCH"):
            off.page(fetching.site.url)


async def test_a_name_that_leads_inside_fails_when_it_is_fetched(fetching: Fetching) -> None:
    origin = fetching.origins.page("http://localhost/secret")
    file = NewFile(origin.address, None, b"", origin=origin)
    house = fetching.house
    accepted = await house.retrieval.intake.accept(house.principal, "c", [file])
    job = await house.ended(accepted.job_id)
    assert job.status is JobStatus.FAILED
    assert "STOKER_FETCH_ALLOW" in (job.documents[0].error or "")


async def test_a_worker_that_dies_while_fetching_loses_nothing(house: House, tmp_path: Path) -> None:
    async with opened(house, lease_s=2.0, heartbeat_s=0.5) as fetching:
        site, hanging = fetching.site, asyncio.Event()
        site.pages["/lamp"], site.hangs["/lamp"] = LAMP, hanging
        job_id = await fetching.send("/lamp")
        environment = {"STOKER_FETCH_ALLOW": site.entry, "STOKER_LEASE_S": "2", "STOKER_FETCH_DELAY_S": "0"}
        process = fetching.house.worker_process(tmp_path / "worker.log", **environment)
        await asyncio.wait_for(hanging.wait(), 60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        site.hangs.clear()
        async with fetching.house.worker():
            job = await house.ended(job_id)
        assert job.status is JobStatus.SUCCEEDED
        assert len(await fetching.names()) == 1


SITEMAP = '<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{}</urlset>'
INDEX = '<?xml version="1.0"?><sitemapindex xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{}</sitemapindex>'


def sitemap(*paths: str) -> str:
    return SITEMAP.format("".join(f"<url><loc>{_full(path)}</loc></url>" for path in paths))


def index(*paths: str) -> str:
    return INDEX.format("".join(f"<sitemap><loc>{_full(path)}</loc></sitemap>" for path in paths))


def _full(path: str) -> str:
    return path if ":" in path else f"SITE{path}"


async def test_each_page_of_a_sitemap_becomes_a_document(fetching: Fetching, figure: Callable[[str], None]) -> None:
    pages = fetching.site.pages
    pages |= {f"/{name}": f"Page {name}. {LAMP}" for name in "abcd"}
    pages["/robots.txt"] = "User-agent: stoker\nDisallow: /d\n"
    pages["/sitemap.xml"] = index("/one.xml", "/two.xml.gz", "http://elsewhere.example/three.xml")
    pages["/one.xml"] = sitemap("/a", "/b", "http://elsewhere.example/x", "http://169.254.169.254/x", "/d", "/a/")
    text = sitemap("/c", "/a", "/missing").replace("SITE", fetching.site.url)
    pages["/two.xml.gz"] = gzip.compress(text.encode())
    job = await fetching.walk(metadata={"from": "map"})
    assert job.listing is not None
    figure(f"found {job.listing.found}, left out {job.listing.left_out}; asked {len(fetching.site.asked)} times")
    assert (job.listing.status, job.listing.found, job.listing.left_out) == ("done", 4, 3)
    assert await fetching.names() == ["/a", "/b", "/c", "/missing"]
    assert job.status is JobStatus.FAILED, "one page is missing"
    assert sorted(document.status for document in job.documents) == ["failed", "ready", "ready", "ready"]
    assert fetching.site.statuses("/d") == [], "robots.txt forbids it"
    assert fetching.site.statuses("/robots.txt") == [200]
    assert await fetching.finds("Page c")


async def test_a_limit_bounds_a_sitemap(fetching: Fetching) -> None:
    fetching.site.pages |= {f"/{number}": LAMP for number in range(6)}
    fetching.site.pages["/sitemap.xml"] = sitemap(*(f"/{number}" for number in range(6)))
    job = await fetching.walk(limit=2)
    assert await fetching.names() == ["/0", "/1"]
    assert job.listing is not None
    assert job.listing.left_out == 4
    with pytest.raises(InputInvalid, match="limit"):
        await fetching.begin(limit=10**6)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no xml", "no sitemap"),
        ("<html><body/></html>", "no sitemap"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><urlset>&a;</urlset>', "no sitemap"),
        (sitemap(), "names nothing"),
        (404, "answered 404"),
        (gzip.compress(bytes(30_000_000)), "unpacks to more"),
    ],
)
async def test_what_is_no_sitemap_fails_its_job_with_a_reason(house: House, text: object, says: str) -> None:
    async with opened(house, max_file_bytes=1_000_000) as fetching, fetching.house.worker():
        fetching.site.pages["/sitemap.xml"] = text
        job = await fetching.walk()
    assert (job.status, job.documents) == (JobStatus.FAILED, [])
    assert job.listing is not None
    assert says in (job.listing.error or "")


async def test_a_host_is_left_in_peace_between_two_pages(house: House, figure: Callable[[str], None]) -> None:
    async with opened(house, fetch_delay_s=0.4) as fetching, fetching.house.worker():
        fetching.site.pages |= {f"/{number}": LAMP for number in range(4)}
        fetching.site.pages["/sitemap.xml"] = sitemap(*(f"/{number}" for number in range(4)))
        assert (await fetching.walk()).status is JobStatus.SUCCEEDED
    moments = [when for _, _, when in fetching.site.asked]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    figure(f"{len(moments)} calls, the smallest gap {min(gaps):.2f} s of 0.4 s")
    assert min(gaps) > 0.3
    assert len(await fetch(house.database, sa.select(hosts.c.host))) == 1


async def test_a_list_is_its_askers_to_follow_and_to_cancel(house: House) -> None:
    async with opened(house) as fetching:
        fetching.site.pages["/sitemap.xml"] = sitemap("/a")
        job_id = await fetching.begin()
        other = Principal(house.principal.tenant_id, "key_other", Role.MEMBER)
        stranger = await house.tenant()
        for somebody in (other, stranger):
            with pytest.raises(Exception, match="There is no job"):
                await house.retrieval.jobs.get(somebody, job_id)
        with pytest.raises(Exception, match="There is no job"):
            await house.retrieval.jobs.cancel(stranger, job_id)
        job = await house.retrieval.jobs.cancel(house.principal, job_id)
        assert job.status is JobStatus.CANCELLED
        retried = await house.retrieval.jobs.retry(house.principal, job_id)
        assert retried.status is JobStatus.QUEUED


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A server that speaks S3: moto's, for the wire alone."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


async def test_the_objects_of_a_prefix_become_documents(house: House, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket="papers")
    for key, data in (("in/a.txt", b"Alpha. "), ("in/b.md", b"# Beta"), ("in/sub/", b""), ("inside/c.txt", b"Gamma")):
        client.put_object(Bucket="papers", Key=key, Body=data + LAMP.encode() if data else b"")
    name = house.principal.tenant_id
    async with opened(house, s3_endpoint_url=s3, s3_sources={name: ["papers/in", "gone"]}) as fetching:
        settings = fetching.house.settings
        async with fetching.house.worker():
            origins = open_origins(settings, house.database, SystemClock())

            async def take(bucket: str, prefix: str) -> Job:
                origin = await origins.prefix(house.principal, bucket, prefix)
                return await house.ended(await origins.accept(house.principal, "c", origin, Asked({})))

            job = await take("papers", "in/")
            assert job.status is JobStatus.SUCCEEDED, job
            assert await fetching.names() == ["s3://papers/in/a.txt", "s3://papers/in/b.md"]
            before = embedded()
            assert (await take("papers", "in/")).status is JobStatus.SUCCEEDED
            assert embedded() == before, "what is unchanged costs no embedding"
            gone = await take("gone", "")
            assert gone.listing is not None
            assert "NoSuchBucket" in (gone.listing.error or "")
        for bucket, prefix in (("papers", "inside/"), ("papers", ""), ("papers", "in"), ("other", "in/"), ("..", "")):
            with pytest.raises(InputInvalid):
                await origins.prefix(house.principal, bucket, prefix)
        with pytest.raises(InputInvalid, match="STOKER_S3_SOURCES"):
            await origins.prefix(await house.tenant(), "papers", "in/")
