"""Sitemaps: which pages of a host may be fetched, by its sitemap and its robots.txt.

Source: https://www.sitemaps.org/protocol.html, https://www.rfc-editor.org/rfc/rfc9309
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
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
_MOST_LOOKED_AT = 100_000  # addresses of one sitemap; the protocol allows a file 50,000
_AT_ONCE = 1000  # addresses, in a thread: what robots.txt says of each may take long
_ROBOTS_BYTES = 512_000
_AGENT = re.compile(r"\s*user[- ]?agent(?=[:\s])\s*:?(?P<who>[^#]*)", re.IGNORECASE)
_WORD = re.compile(r"[a-z0-9_-]+")
_ANOTHER = "-" * 300  # longer than our own name may be


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
        delay_s = min(_LONGEST_DELAY_S, float(robots.crawl_delay(self._agent) or 0.0))
        walk = _Walk(address, lambda page: robots.can_fetch(str(page), self._agent), limit, Pages(delay_s=delay_s))
        for number in range(_MOST_FILES):
            if not walk.waiting or walk.is_full:
                break
            if number:
                await asyncio.sleep(max(self._delay_s, delay_s))
            listed = await self._file(walk.waiting.pop(0))
            walk.pages.left_out += listed.more
            for first in range(0, max(len(listed.sitemaps), len(listed.pages)), _AT_ONCE):
                part = slice(first, first + _AT_ONCE)
                await asyncio.to_thread(walk.take, listed.sitemaps[part], listed.pages[part])
        return walk.pages

    async def _robots(self, address: Address) -> Protego:
        """Where there is none, everything is allowed; where it can't be asked, nothing is, for now."""
        try:
            found = await self._fetcher.get(joined(address, "/robots.txt"))
        except FetchFailed:
            found = None
        await asyncio.sleep(self._delay_s)
        text = found.data[:_ROBOTS_BYTES].decode("utf-8", "replace") if found is not None else ""
        return await asyncio.to_thread(lambda: Protego.parse(concerning(text, self._agent)))

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


class _Walk:
    """What was found on the way from file to file.

    Attributes:
        waiting: sitemaps that are still to be read.
    """

    def __init__(self, base: Address, allowed: Callable[[Address], bool], limit: int, pages: Pages) -> None:
        self.waiting = [base]
        self.pages = pages
        self._base = base
        self._allowed = allowed
        self._limit = limit
        self._files = {str(base)}
        self._found: set[str] = set()
        self._looked_at = 0

    @property
    def is_full(self) -> bool:
        return len(self.pages.addresses) >= self._limit

    def take(self, sitemaps: Sequence[str], pages: Sequence[str]) -> None:
        """Take in some of what a file names."""
        for text in sitemaps:
            other = _of_host(self._base, text) if len(self._files) < _MOST_FILES else None
            if other is not None and str(other) not in self._files:
                self._files.add(str(other))
                self.waiting.append(other)
        for text in pages:
            self._looked_at += 1
            page = _of_host(self._base, text) if not self.is_full and self._looked_at <= _MOST_LOOKED_AT else None
            if page is None or not self._allowed(page):
                self.pages.left_out += 1
            elif str(page).rstrip("/") not in self._found:  # as names of documents they are one
                self._found.add(str(page).rstrip("/"))
                self.pages.addresses.append(page)


class _Listed:
    """What one file names, gathered from its elements; `more`: pages that are not even looked at."""

    def __init__(self) -> None:
        self.is_one = False
        self.more = 0
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
            self._keep(self.pages)
        elif self._path == ["sitemapindex", "sitemap", "loc"]:
            self._keep(self.sitemaps)
        self._path.pop()

    def _keep(self, into: list[str]) -> None:
        if len(into) < _MOST_LOOKED_AT:
            into.append(self._text.strip())
        elif into is self.pages:
            self.more += 1


def concerning(robots: str, agent: str) -> str:
    """A robots.txt without the names of others: each name that stands above a rule would take a copy of it."""
    ours = {"*", *_WORD.findall(agent.lower())}
    lines = robots.splitlines()
    for number, line in enumerate(lines):
        if found := _AGENT.match(line):
            who = found["who"].strip().lower()
            name = who if who == "*" else who.replace("*", "").partition("/")[0].strip()
            lines[number] = f"User-agent: {name if name in ours else _ANOTHER}"
    return "\n".join(lines)


def _of_host(base: Address, text: str) -> Address | None:
    try:
        found = joined(base, text)
    except AddressRefused:
        return None
    return found if (found.host, found.port) == (base.host, base.port) and len(str(found)) <= 500 else None


def _pieces(data: bytes) -> Iterable[bytes]:
    return (data[first : first + 65_536] for first in range(0, len(data), 65_536))
