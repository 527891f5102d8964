"""The only way in which an address that a caller names is reached: guarded, bounded in time and bytes, no proxy."""

import asyncio
import re
import socket
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from retrieval.errors import AddressRefused, FetchFailed, FetchPostponed
from retrieval.sources.address import Address, joined
from retrieval.sources.guard import Guard

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LATER = frozenset({408, 425, 429})
_LONGEST_WAIT_S = 3600.0
_PIECE = 65_536
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,100}/[a-z0-9!#$&^_.+-]{1,100}")
_UNPACKED_AT_ONCE = 16_384  # bytes: what stands behind the end of a member is copied for each of them


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one fetch may take, in seconds, bytes after unpacking, and redirects."""

    connect_s: float
    read_s: float
    total_s: float
    bytes: int
    redirects: int


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a page since it was fetched last; it is sent to `address` alone.

    Attributes:
        address: that answered then, after all redirects.
    """

    address: str
    etag: str | None
    modified: str | None


@dataclass(frozen=True, slots=True)
class Fetched:
    """A page; `media_type` without parameters, in lower case, empty where the server says nothing."""

    data: bytes
    media_type: str
    known: Known


class Fetcher:
    """Gets pages, and posts to webhooks.

    Args:
        agent: as which it makes itself known.
    """

    def __init__(self, guard: Guard, bounds: Bounds, agent: str) -> None:
        self._guard = guard
        self._bounds = bounds
        self._agent = agent

    async def get(
        self,
        address: Address,
        known: Known | None = None,
        takes: Callable[[str], bool] = lambda _: True,
        follow: Callable[[Address], bool] = lambda _: True,
    ) -> Fetched | None:
        """Get a page. Returns: None: it is as it was known.

        Args:
            takes: whether a media type is wanted.
            follow: whether a redirect to this address is followed.

        Raises:
            AddressRefused: it, or where it leads on to, may not be reached.
            FetchFailed: asking again would not help; FetchPostponed: it may help later.
        """
        try:
            async with asyncio.timeout(self._bounds.total_s):
                for _ in range(self._bounds.redirects + 1):
                    found = await self._hop(address, known, takes)
                    if not isinstance(found, Address):
                        return found
                    if not follow(found):
                        raise FetchFailed(f"{address} leads on to another host, {found.host}.")
                    address = found
        except TimeoutError:
            raise FetchPostponed(f"{address.origin} took longer than {self._bounds.total_s:g} s.") from None
        raise FetchFailed(f"{address.origin} leads on more than {self._bounds.redirects} times.")

    async def post(self, address: Address, body: bytes, headers: Mapping[str, str]) -> int:
        """Post; where the answer leads on it is not followed. Returns: the status.

        Raises: AddressRefused; FetchPostponed: there was no answer.
        """
        try:
            async with (
                asyncio.timeout(self._bounds.total_s),
                self._opened("POST", address, headers, body) as answer,
            ):
                return answer.status
        except TimeoutError:
            raise FetchPostponed(f"{address.origin} took longer than {self._bounds.total_s:g} s.") from None

    async def _hop(
        self, address: Address, known: Known | None, takes: Callable[[str], bool]
    ) -> Fetched | Address | None:
        headers = {"accept": "*/*", "accept-encoding": "gzip"}
        asked = known is not None and known.address == str(address)
        if known is not None and asked:
            headers |= {"if-none-match": known.etag} if known.etag else {}
            headers |= {"if-modified-since": known.modified} if known.modified else {}
        async with self._opened("GET", address, headers) as answer:
            if answer.status in _REDIRECTS:
                return joined(address, answer.headers.get("location", ""))
            if answer.status == 304 and asked:
                return None
            _check_status(address, answer)
            media_type = _media_type(answer.headers.get("content-type", ""))
            if not takes(media_type):
                raise FetchFailed(f"{address.origin} sends {media_type or 'no type'}, which can't be read here.")
            data = await self._body(address, answer)
            etag, modified = (answer.headers.get(name) for name in ("etag", "last-modified"))
            return Fetched(data, media_type, Known(str(address), _short(etag), _short(modified)))

    async def _body(self, address: Address, answer: aiohttp.ClientResponse) -> bytes:
        encoding = answer.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise FetchFailed(f"{address.origin} packs its answer in a way that was not asked for.")
        too_large = FetchFailed(f"{address.origin} sends more than {self._bounds.bytes:,} bytes.")
        if encoding == "identity" and (answer.content_length or 0) > self._bounds.bytes:
            raise too_large
        unpacking = Unpacking(self._bounds.bytes) if encoding != "identity" else None
        data = bytearray()
        async for piece in answer.content.iter_chunked(_PIECE):
            data += piece if unpacking is None else unpacking.feed(piece)
            if len(data) > self._bounds.bytes:
                raise too_large
        if unpacking is not None and not unpacking.whole:
            raise FetchPostponed(f"{address.origin} broke off.")
        return bytes(data)

    @asynccontextmanager
    async def _opened(
        self, method: str, address: Address, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        ips = await self._guard.resolved(address)
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(ips), use_dns_cache=False, force_close=True, socket_factory=_only(address, ips)
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._bounds.connect_s, sock_read=self._bounds.read_s)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    timeout=timeout,
                    trust_env=False,
                    auto_decompress=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"user-agent": self._agent},
                ) as session,
                session.request(
                    method, URL(str(address), encoded=True), headers=headers, data=body, allow_redirects=False
                ) as answer,
            ):
                yield answer
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError):
                raise  # the deadline of the whole
            raise FetchPostponed(f"{address.origin} does not answer: {_told(error)}.") from error


class Unpacking:
    """Unpacks gzip, of several members too, and never more than it may.

    Args:
        most: bytes, packed and unpacked; one more is given, so that its caller sees that there are more.
    """

    def __init__(self, most: int) -> None:
        self._left = most + 1
        self._left_packed = most + most // 100 + 1024  # what can't be packed becomes a little longer
        self._stream = zlib.decompressobj(31)

    @property
    def whole(self) -> bool:
        """Whether it ended where a member ends."""
        return self._stream.eof

    def feed(self, piece: bytes) -> bytes:
        """Raises: FetchFailed: it is no gzip, or larger than what it holds may be."""
        out = b"".join(
            self._unpacked(piece[first : first + _UNPACKED_AT_ONCE])
            for first in range(0, len(piece), _UNPACKED_AT_ONCE)
        )
        self._left_packed -= len(piece)
        if self._left_packed < 0 and self._left > 0:
            raise FetchFailed("What was sent is called gzip, and holds hardly anything but its packing.")
        return out

    def _unpacked(self, piece: bytes) -> bytes:
        out = bytearray()
        while piece and self._left > 0:
            if self._stream.eof:
                self._stream = zlib.decompressobj(31)
            try:
                got = self._stream.decompress(piece, self._left)
            except zlib.error:
                raise FetchFailed("What was sent is called gzip, and is damaged.") from None
            self._left -= len(got)
            out += got
            piece = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        return bytes(out)


class _Pinned(AbstractResolver):
    """Knows what was looked up and checked, and asks nobody."""

    def __init__(self, ips: Sequence[str]) -> None:
        self._ips = ips

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002  # each address has its own
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=ip,
                port=port,
                family=socket.AF_INET6 if ":" in ip else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for ip in self._ips
        ]

    async def close(self) -> None:
        return None


def _only(address: Address, ips: Sequence[str]) -> Callable[[aiohttp.AddrInfoType], socket.socket]:
    """Makes sockets to the checked addresses alone, whatever came between."""

    def make(found: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, to = found
        if to[0] not in ips or to[1] != address.port:
            raise AddressRefused(f"{address.origin} is not where it was looked up.")
        return socket.socket(family, kind, protocol)

    return make


def _check_status(address: Address, answer: aiohttp.ClientResponse) -> None:
    if answer.status in _LATER or answer.status >= 500:
        wait = answer.headers.get("retry-after", "")
        seconds = min(_LONGEST_WAIT_S, float(wait)) if wait.isascii() and wait.isdigit() else None
        raise FetchPostponed(f"{address.origin} answered {answer.status}.", seconds)
    if answer.status != 200:
        raise FetchFailed(f"{address.origin} answered {answer.status}: check the address, or send the document itself.")


def _media_type(header: str) -> str:
    """What a header says, if it is one: it is kept, and told."""
    found = header.partition(";")[0].strip().lower()
    return found if _MEDIA_TYPE.fullmatch(found) else ""


def _short(value: str | None) -> str | None:
    """A header that is kept and sent again; a longer one is not worth it, and one that is no text can't be."""
    return value if value and len(value) <= 500 and value.isascii() and value.isprintable() else None


def _told(error: Exception) -> str:
    """The kind of what went wrong: texts of errors name addresses inside."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return "its certificate is not good"
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, aiohttp.ClientConnectorError | ConnectionError):
        return "no connection"
    return type(error).__name__
