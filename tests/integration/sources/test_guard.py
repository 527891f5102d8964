"""No spelling, redirect or look-up leads inside; what the operator opens is opened, and nothing beside it."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import pytest
from aiohttp import web

from retrieval.errors import AddressRefused, FetchFailed, FetchPostponed
from retrieval.sources.fetcher import Bounds, Fetcher, Known
from retrieval.sources.guard import Guard, is_public, read_opened
from tests.support.canary import OPENED, spellings
from tests.support.process import ROOT

OWN_NETWORK = ("unshare", "--user", "--map-root-user", "--net")
BOUNDS = Bounds(connect_s=2, read_s=0.5, total_s=3, bytes=1000, redirects=3)


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What the canaries tell of all attempts, made in a network of their own."""
    if not shutil.which("unshare") or subprocess.run([*OWN_NETWORK, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a network of his own: unshare --user --map-root-user --net")
    ended = subprocess.run(
        [*OWN_NETWORK, sys.executable, "-m", "tests.support.canary"],
        cwd=ROOT,
        capture_output=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, ended.stderr.decode()
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_no_spelling_reaches_what_is_inside(told: dict[str, Any], figure: Callable[[str], None]) -> None:
    figure(f"{told['spellings']} spellings: {told['outcomes']}, connections {sum(told['at_once'].values())}")
    assert told["spellings"] > 500
    assert told["at_once"] == {}
    assert set(told["outcomes"]) <= {"AddressRefused", "FetchPostponed"}


def test_no_redirect_and_no_look_up_leads_inside(told: dict[str, Any], figure: Callable[[str], None]) -> None:
    figure(f"as redirects: {told['led']}, connections inside {told['inside']}, outside {told['public']}")
    assert told["rebound"] == ["the page", "AddressRefused", "AddressRefused"], "the second look-up leads inside"
    assert told["inside"] == 0
    assert "a secret" not in told["led"]
    assert told["public"] >= told["spellings"], "each was led there by a page from outside"


def test_what_is_opened_is_opened_and_nothing_else(told: dict[str, Any]) -> None:
    assert told["opened"].keys() == OPENED.keys()
    for entry, (first, *others) in told["opened"].items():
        assert first in ("a secret", "the page"), entry
        assert others == ["AddressRefused"] * 3, entry


@pytest.mark.parametrize(
    ("text", "public"),
    [
        *((text, True) for text in ("93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")),
        *((text, False) for text in ("168.63.129.16", "192.88.99.1", "100.100.100.200", "198.18.0.1", "240.0.0.1")),
        *(
            (text, False)
            for text in ("2002:7f00:1::1", "64:ff9b::7f00:1", "64:ff9b:1::a00:5", "::ffff:8.8.8.8", "::7f00:1")
        ),
        *(
            (text, False)
            for text in ("2001:0:7f00:1::", "2001:db8::1", "3fff::1", "fec0::1", "ff0e::1", "5f00::1", "::")
        ),
    ],
)
def test_what_is_public(text: str, public: bool) -> None:
    assert is_public(ip_address(text)) is public


@asynccontextmanager
async def serving(handler: Callable[[web.Request], Any]) -> AsyncIterator[tuple[str, int]]:
    """A server on loopback. Gives: its address and port."""
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}", port
    finally:
        await runner.cleanup()


def opened(port: int) -> tuple[Guard, Fetcher]:
    guard = Guard([f"127.0.0.1:{port}"], [80, 443])
    return guard, Fetcher(guard, BOUNDS, "stoker-test")


async def test_loopback_sees_no_connection_without_the_list() -> None:
    """The same without a network of its own, so that it is tested everywhere."""
    arrived = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal arrived
        arrived += 1
        return web.Response(text="a secret")

    async with serving(answer) as (_, port):
        guard = Guard([], [80, 443, port])
        fetcher = Fetcher(guard, BOUNDS, "test")
        tried = [address for address in spellings() if "127.0.0.1" in address or "localhost" in address]
        for address in tried:
            with pytest.raises((AddressRefused, FetchPostponed)):
                await fetcher.get(guard.read(address.replace("/", f":{port}/").replace(f":{port}/:{port}/", "//", 1)))
        guard, fetcher = opened(port)
        found = await fetcher.get(guard.read(f"http://127.0.0.1:{port}/"))
    assert len(tried) > 50
    assert arrived == 1, "the one that the list opened"
    assert found is not None
    assert found.data == b"a secret"


async def test_what_was_fetched_is_asked_for_only_if_it_changed() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.headers["user-agent"] == "stoker-test"
        if request.headers.get("if-none-match") == '"one"':
            return web.Response(status=304)
        return web.Response(text="text", headers={"etag": '"one"'})

    async with serving(answer) as (url, port):
        guard, fetcher = opened(port)
        first = await fetcher.get(guard.read(url))
        assert first is not None
        assert first.known == Known(f"{url}/", '"one"', None)
        assert await fetcher.get(guard.read(url), first.known) is None
        other = Known("http://elsewhere.example/", '"one"', None)
        assert await fetcher.get(guard.read(url), other) is not None, "another address's mark says nothing of this one"


@pytest.mark.parametrize("members", [1, 3])
async def test_what_unpacks_to_more_than_it_may_is_refused_and_never_held(members: int) -> None:
    packing = zlib.compressobj(wbits=31)
    bomb = packing.compress(bytes(50_000_000)) + packing.flush()

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=bomb * members, headers={"content-encoding": "gzip", "content-type": "text/plain"})

    async with serving(answer) as (url, port):
        guard, fetcher = opened(port)
        with pytest.raises(FetchFailed, match="more than 1,000 bytes"):
            await fetcher.get(guard.read(url))


async def test_gzip_of_several_members_is_read_to_its_end() -> None:
    pieces = []
    for text in (b"one ", b"two"):
        packing = zlib.compressobj(wbits=31)
        pieces.append(packing.compress(text) + packing.flush())

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=b"".join(pieces), headers={"content-encoding": "gzip", "content-type": "text/plain"})

    async with serving(answer) as (url, port):
        guard, fetcher = opened(port)
        found = await fetcher.get(guard.read(url))
    assert found is not None
    assert found.data == b"one two"


async def test_a_server_that_trickles_or_is_silent_is_left() -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        if request.path == "/silent":
            await asyncio.sleep(60)
        for _ in range(1000):
            await response.write(b".")
            await asyncio.sleep(0.1)
        return response

    async with serving(trickle) as (url, port):
        guard, fetcher = opened(port)
        for path in ("/silent", "/slow"):
            with pytest.raises(FetchPostponed):
                await fetcher.get(guard.read(url + path))


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (404, {}, FetchFailed),
        (401, {}, FetchFailed),
        (204, {}, FetchFailed),
        (304, {}, FetchFailed),
        (200, {"content-encoding": "br"}, FetchFailed),
        (200, {"content-encoding": "gzip"}, FetchFailed),
        (302, {"location": "/again"}, FetchFailed),
        (302, {}, FetchFailed),
        (302, {"location": "file:///etc/passwd"}, AddressRefused),
        (500, {}, FetchPostponed),
        (429, {"retry-after": "7"}, FetchPostponed),
    ],
)
async def test_what_answers_mean(status: int, headers: dict[str, str], error: type[Exception]) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, body=b"body" if status == 200 else None)

    async with serving(answer) as (url, port):
        guard, fetcher = opened(port)
        with pytest.raises(error) as raised:
            await fetcher.get(guard.read(url))
    if headers.get("retry-after"):
        assert getattr(raised.value, "retry_after_s") == 7  # noqa: B009


async def test_a_type_that_nobody_wants_is_refused_before_its_body_is_read() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "Video/MP4; x=y"})
        await response.prepare(request)
        await asyncio.sleep(60)
        return response

    async with serving(answer) as (url, port):
        guard, fetcher = opened(port)
        with pytest.raises(FetchFailed, match="video/mp4"):
            await fetcher.get(guard.read(url), takes=lambda kind: kind.startswith("text/"))


async def test_headers_that_are_no_text_are_neither_told_nor_kept() -> None:
    """No database takes them, and what can't be written down ended the worker."""
    head = (
        b'HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-type: image/\xff\r\netag: "\xff"\r\nlast-modified: \xe9\r\n'
    )

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head + b"\r\ntext")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    async with server:
        guard, fetcher = opened(port)
        found = await fetcher.get(guard.read(f"http://127.0.0.1:{port}/"))
        assert found is not None
        assert found.media_type == ""
        assert found.known == Known(f"http://127.0.0.1:{port}/", None, None)
        with pytest.raises(FetchFailed, match="sends no type"):
            await fetcher.get(guard.read(f"http://127.0.0.1:{port}/"), takes=lambda kind: kind.startswith("text/"))


@pytest.mark.parametrize(
    "entry", ["", "a b", "10.0.0.0/99", "10.0.0.1/8", "x:0", "x:99999", "[::1", "*", "a/b", "0x7f.1"]
)
def test_an_entry_that_opens_nothing_known_is_refused(entry: str) -> None:
    with pytest.raises(ValueError):
        read_opened(entry)
