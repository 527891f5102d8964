"""Sitemaps, robots.txt and packed answers that are made to take long cost their own errand, and no one else."""

import asyncio
import gzip
import time

import pytest
from protego import Protego

from retrieval.errors import FetchFailed
from retrieval.sources import sitemap
from retrieval.sources.address import Address, read_address
from retrieval.sources.fetcher import Bounds, Fetched, Fetcher, Known, Unpacking
from retrieval.sources.guard import Guard
from retrieval.sources.sitemap import Sitemaps, concerning

AGENT = "stoker/0.1"
SITEMAP = "https://docs.example/sitemap.xml"


class Site(Fetcher):
    """Has some pages; the time in which the loop stood still is `stood_s`."""

    def __init__(self, pages: dict[str, bytes]) -> None:
        super().__init__(Guard([], (443,)), Bounds(1, 1, 1, 10**7, 0), AGENT)
        self._pages = pages

    async def get(self, address: Address, *_: object, **__: object) -> Fetched | None:
        if str(address) not in self._pages:
            raise FetchFailed("It answered 404.")
        return Fetched(self._pages[str(address)], "", Known(str(address), None, None))


def reader(sitemap_file: bytes, robots: str = "") -> Sitemaps:
    site = Site({SITEMAP: sitemap_file, "https://docs.example/robots.txt": robots.encode()})
    return Sitemaps(site, AGENT, 0.0, 10**7)


def listed(*paths: str) -> bytes:
    inner = "".join(f"<url><loc>https://docs.example{path}</loc></url>" for path in paths)
    return f"<urlset>{inner}</urlset>".encode()


async def longest_pause_s(work: asyncio.Task[object]) -> float:
    longest = 0.0
    while not work.done():
        began_s = time.monotonic()
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - began_s)
    return longest


def test_gzip_of_very_many_members_is_unpacked_in_time_proportional_to_its_length() -> None:
    data = gzip.compress(b"") * 100_000 + gzip.compress(b"the end")
    began_s = time.monotonic()
    assert Unpacking(10**7).feed(data) == b"the end"
    assert time.monotonic() - began_s < 5  # bytes that are copied for each member take far longer


def test_gzip_that_holds_nothing_ends_where_what_it_may_hold_would() -> None:
    with pytest.raises(FetchFailed, match="hardly anything but its packing"):
        Unpacking(100_000).feed(gzip.compress(b"") * 50_000)
    assert len(Unpacking(100_000).feed(gzip.compress(b"a" * 100_000, 0))) == 100_000


@pytest.mark.parametrize("end", ["\n", "\r\n", "\x85", "\u2028"])
def test_names_of_others_above_rules_take_no_memory(end: str) -> None:
    many = end.join([*(f"User-agent: x{number}" for number in range(5000)), *(f"Disallow: /{n}" for n in range(5000))])
    began_s = time.monotonic()
    robots = Protego.parse(concerning(f"{many}{end}{end}User-agent: *{end}Disallow: /private", AGENT))
    assert time.monotonic() - began_s < 5
    assert robots.can_fetch("https://docs.example/17", AGENT)
    assert not robots.can_fetch("https://docs.example/private", AGENT)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("User-agent: Stoker", False),
        ("user agent stoker/7  # us", False),
        ("USERAGENT: stoker*", False),
        ("User-agent: *", False),
        ("User-agent: stokerbot", True),
        ("User-agent: x\nUser-agent: stoker", False),
        ("User-agent: stoker\nUser-agent: x", False),
    ],
)
def test_who_is_spoken_of_stays_as_it_was(name: str, allowed: bool) -> None:
    robots = Protego.parse(concerning(f"User-agent: y\nAllow: /\n{name}\nDisallow: /a\nCrawl-delay: 3", AGENT))
    assert robots.can_fetch("https://docs.example/a", AGENT) is allowed
    assert robots.crawl_delay(AGENT) == (None if allowed else 3)


async def test_the_worker_goes_on_while_a_sitemap_is_looked_through() -> None:
    robots = "User-agent: *\n" + "".join(f"Disallow: /*{number}x$\n" for number in range(1000))
    work = asyncio.create_task(
        reader(listed(*(f"/{number}" for number in range(4000))), robots).read(read_address(SITEMAP), 10_000)
    )
    assert await longest_pause_s(work) < 0.5
    assert len((await work).addresses) == 4000


async def test_of_a_sitemap_so_many_addresses_are_looked_at_and_all_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sitemap, "_MOST_LOOKED_AT", 10)
    pages = await reader(listed(*(f"/{number}" for number in range(25)))).read(read_address(SITEMAP), 100)
    assert len(pages.addresses) == 10
    assert pages.left_out == 15
