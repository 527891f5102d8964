"""Sitemaps: which pages of a host may be fetched, by its sitemap and its robots.txt.

Source: https://www.sitemaps.org/protocol.html, https://www.rfc-editor.org/rfc/rfc9309
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from protego import Protego

from retrieval.errors import AddressRefused, DocumentRejected, FetchFailed
from retrieval.parsers import xml
from retrieval.sources.address import Address, joined
from retrieval.sources.fetcher import Fetched, Fetcher, Unpacking

_MOST_FILES = 50
_DEPTH = 20
_LONGEST_DELAY_S = 60.0
_GZIP = b"\x1f\x8b"


@dataclass
class Pages:
    """What a sitemap lists.

    Attributes:
        addresses: each once, in its order.
        left_out: pages of other hosts, of addresses that can't be read, that robots.txt forbids, or beyond the limit.
        delay_s: between two pages, as robots.txt wishes; 0: it does not say.
    """

    addresses: list[Address] = field(default_factory=list)
    left_out: int = 0
    delay_s: float = 0.0


class Sitemaps:
    """Reads sitemaps and indexes of them.

    Args:
        agent: as which robots.txt may speak of us.
        delay_s: between two files.
        most_bytes: of one file after unpacking.
    """

    def __init__(self, fetcher: Fetcher, agent: str, delay_s: float, most_bytes: int) -> None:
        self._fetcher = fetcher
        self._agent = agent
        self._delay_s = delay_s
        self._most_bytes = most_bytes

    async def read(self, address: Address, limit: int) -> Pages:
        """Read a sitemap, and those that it names, up to `limit` pages.

        Raises: AddressRefused, FetchFailed, FetchPostponed: of the sitemap itself, or of any that it names.
        """
        robots = await self._robots(address)
        pages = Pages(delay_s=min(_LONGEST_DELAY_S, float(robots.crawl_delay(self._agent) or 0.0)))
        waiting, seen, found = [address], {str(address)}, set[str]()
        for number in range(_MOST_FILES):
            if not waiting or len(pages.addresses) >= limit:
                break
            if number:
                await asyncio.sleep(max(self._delay_s, pages.delay_s))
            listed = await self._file(waiting.pop(0))
            for text in listed.sitemaps:
                other = _of_host(address, text)
                if other is not None and str(other) not in seen:
                    seen.add(str(other))
                    waiting.append(other)
            for text in listed.pages:
                page = _of_host(address, text)
                if page is None or not robots.can_fetch(str(page), self._agent) or len(pages.addresses) >= limit:
                    pages.left_out += 1
                elif str(page).rstrip("/") not in found:  # as names of documents they are one
                    found.add(str(page).rstrip("/"))
                    pages.addresses.append(page)
        return pages

    async def _robots(self, address: Address) -> Protego:
        """Where there is none, everything is allowed; where it can't be asked, nothing is, for now."""
        try:
            found = await self._fetcher.get(joined(address, "/robots.txt"))
        except FetchFailed:
            found = None
        await asyncio.sleep(self._delay_s)
        return Protego.parse(found.data[:512_000].decode("utf-8", "replace") if found is not None else "")

    async def _file(self, address: Address) -> "_Listed":
        found = await self._fetcher.get(address, follow=lambda to: to.host == address.host)
        if found is None:
            raise FetchFailed(f"{address} is not there.")
        return await asyncio.to_thread(self._listed, address, found)

    def _listed(self, address: Address, found: Fetched) -> "_Listed":
        data = found.data
        if data.startswith(_GZIP):
            unpacking = Unpacking(self._most_bytes)
            data = unpacking.feed(data)
            if len(data) > self._most_bytes or not unpacking.whole:
                raise FetchFailed(f"{address} unpacks to more than {self._most_bytes:,} bytes, or is cut off.")
        listed = _Listed()
        try:
            xml.read(_pieces(data), listed, _DEPTH)
        except DocumentRejected:
            raise FetchFailed(f"{address} is no sitemap: it is no XML, or declares entities.") from None
        if not listed.is_one:
            raise FetchFailed(f"{address} is no sitemap: it holds neither a urlset nor a sitemapindex.")
        return listed


class _Listed:
    """What one file names, gathered from its elements."""

    def __init__(self) -> None:
        self.is_one = False
        self.pages: list[str] = []
        self.sitemaps: list[str] = []
        self._path: list[str] = []
        self._text = ""

    def start(self, name: str, attributes: dict[str, str], /) -> None:  # noqa: ARG002
        self._path.append(name.rpartition(" ")[2])
        self.is_one |= self._path[:1] in (["urlset"], ["sitemapindex"])
        self._text = ""

    def text(self, text: str, /) -> None:
        if self._path[-1:] == ["loc"] and len(self._text) < 5000:
            self._text += text

    def end(self, name: str, /) -> None:  # noqa: ARG002
        if self._path == ["urlset", "url", "loc"]:
            self.pages.append(self._text.strip())
        elif self._path == ["sitemapindex", "sitemap", "loc"]:
            self.sitemaps.append(self._text.strip())
        self._path.pop()


def _of_host(base: Address, text: str) -> Address | None:
    try:
        found = joined(base, text)
    except AddressRefused:
        return None
    return found if (found.host, found.port) == (base.host, base.port) and len(str(found)) <= 500 else None


def _pieces(data: bytes) -> Iterable[bytes]:
    return (data[first : first + 65_536] for first in range(0, len(data), 65_536))
