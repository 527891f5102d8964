"""`python -m tests.support.canary`, in a network of its own: servers where nothing may ever arrive, and what tries to.

The loopback of that network holds a public address, too, so that a page from outside may lead inside. Prints counts.
"""

import asyncio
import ipaddress
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import unquote

from retrieval.errors import AddressRefused, FetchFailed, FetchPostponed
from retrieval.sources.fetcher import Bounds, Fetcher
from retrieval.sources.guard import Guard

PUBLIC = "93.184.215.14"
INSIDE = ("127.0.0.1", "127.8.9.10", "169.254.169.254", "10.0.0.5", "192.168.1.1", "172.31.0.9", "100.64.0.1")
INSIDE_6 = ("::1", "fd00:ec2::254", "fc00::1")
_BOUNDS = Bounds(connect_s=2, read_s=2, total_s=5, bytes=10_000, redirects=3)


def spellings() -> list[str]:
    """Addresses that lead inside when somebody reads them kindly."""
    return list(dict.fromkeys(itertools.chain(*map(_of_v4, (*INSIDE, "0.0.0.0")), _of_v6(), _odd())))


def _of_v4(text: str) -> Iterator[str]:
    ip = ipaddress.IPv4Address(text)
    a, b, c, d = ip.packed
    n = int(ip)
    hosts = [
        *(text, f"{text}.", f"{text}..", str(n), hex(n), hex(n).upper(), oct(n).replace("0o", "0"), f"0{oct(n)}"),
        *(
            f"{a}.{n & 0xFFFFFF}",
            f"{a}.{b}.{n & 0xFFFF}",
            f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
            f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        ),
        *(f"{a:#x}.{b}.0{c:o}.{d}", f"{a:03}.{b:03}.{c:03}.{d:03}", f"00{a:o}.{b}.{c}.{d}", f"{a + 256}.{b}.{c}.{d}"),
        *(
            text.replace(".", "%2e"),
            "".join(f"%{ord(char):02x}" for char in text),
            f"{n + 2**32}",
            f"{a}.{b}.{c}.{d:#x}",
        ),
        *(text.replace(".", mark) for mark in "\u3002\uff0e\uff61"),
        text.translate({ord(str(digit)): 0xFF10 + digit for digit in range(10)}),
        text.translate({ord(str(digit)): 0x2460 + digit - 1 if digit else 0x24EA for digit in range(10)}),
        *(f"[::ffff:{text}]", f"[::{text}]", f"[64:ff9b::{text}]", f"[64:ff9b:1::{text}]", f"[::ffff:0:{text}]"),
        *(
            f"[2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1]",
            f"[fe80::5efe:{text}]",
            f"[::ffff:{a:02x}{b:02x}:{c:02x}{d:02x}]",
        ),
        f"[2001:0:{a:02x}{b:02x}:{c:02x}{d:02x}::{0xFFFF:x}]",
        f"[2001::{(n ^ 0xFFFFFFFF) >> 16:x}:{(n ^ 0xFFFFFFFF) & 0xFFFF:x}]",
        *(f"[0:0:0:0:0:ffff:{text}]", f"[{text}]", f"user@{text}", f"user:pass@{text}", f"{PUBLIC}@{text}"),
        *(f"{text}\\@{PUBLIC}", f"{PUBLIC}\\@{text}", f"{text}%00.example.com", f"{text}%20", f"{text}\t", f" {text}"),
        *(f"{text}#@{PUBLIC}", f"{text}?@{PUBLIC}", f"{text};@{PUBLIC}", f"{text}:80@{PUBLIC}:99", f"{text}\u00ad"),
        *(
            f"{PUBLIC}:80\r\n@{text}",
            f"{text}:00080",
            f"{text}:0",
            f"{text}:",
            f"{text}:22",
            f"{text}:6379",
            f"{text}:+80",
        ),
    ]
    yield from (f"http://{host}/" for host in hosts)
    yield from (
        f"{start}{text}/" for start in ("http:", "http:/", "http:///", "//", "", "http:\\\\", "HTTP://", "hTTps://")
    )
    yield from (
        f"{scheme}://{text}/x" for scheme in ("ftp", "file", "gopher", "dict", "ldap", "ws", "jar:http", "tftp")
    )


def _of_v6() -> Iterator[str]:
    for text in (*INSIDE_6, "fe80::1", "::", "ff02::1", "2001:db8::1", "fec0::1", "100::1", "5f00::1"):
        ip = ipaddress.IPv6Address(text)
        for form in {text, ip.exploded, text.upper(), ip.exploded.upper(), f"{text}%25lo", f"{text}%lo", f"{text}%1"}:
            yield f"http://[{form}]/"
            yield f"http://[{form}]:80/"
        yield f"http://{text}/"


def _odd() -> Iterator[str]:
    for name in (
        "localhost",
        "LOCALHOST",
        "localhost.",
        "localhost..",
        "\uff4cocalhost",
        "l\u00adocalhost",
        "loca\u017fhost",
    ):
        yield f"http://{name}/"
    for name in ("inside.example", "INSIDE.example.", "mixed.example", "metadata.example", "mapped.example"):
        yield from (f"http://{name}/", f"https://{name}/", f"http://{name}:80/")
    yield from (
        "http://0/",
        "http://0x/",
        "http://0x7f.1/",
        "http://127.1/",
        "http://1.0x/",
        "http://.127.0.0.1/",
        "http://",
    )
    yield from (
        "data:text/plain,x",
        "javascript:1",
        "file:///etc/passwd",
        "about:blank",
        "http://[::1/",
        "http://::1]/",
    )


NAMES: dict[str, list[list[str]]] = {
    "inside.example": [["10.0.0.5"]],
    "mixed.example": [[PUBLIC, "127.0.0.1"]],
    "metadata.example": [["169.254.169.254"]],
    "mapped.example": [["::ffff:127.0.0.1"]],
    "out.example": [[PUBLIC]],
    "rebinds.example": [[PUBLIC], ["127.0.0.1"], ["169.254.169.254"]],
}


class Names:
    """Looks names up, each time otherwise where it has several answers."""

    def __init__(self) -> None:
        self.asked = Counter[str]()

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        answers = NAMES.get(host)
        if answers is None:
            found = await asyncio.get_running_loop().getaddrinfo(host, port)
            return [str(entry[4][0]) for entry in found]
        self.asked[host] += 1
        return answers[min(self.asked[host], len(answers)) - 1]


@asynccontextmanager
async def _listening(arrived: Counter[str]) -> AsyncIterator[None]:
    """Servers at port 80 of each address; that which is public leads on where its path says."""

    async def serve(ip: str) -> asyncio.Server:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived[ip] += 1
            path = (await reader.readline()).split(b" ")[1].decode() if ip == PUBLIC else "/"
            text = "the page" if ip == PUBLIC else "a secret"
            head = "HTTP/1.1 200 OK\r\n"
            if path.startswith("/to/"):
                head = f"HTTP/1.1 302 Found\r\nlocation: {unquote(path[4:])}\r\n"
            if "\n" not in head.removesuffix("\r\n").replace("\r\n", ""):
                writer.write(
                    f"{head}content-type: text/plain\r\ncontent-length: 8\r\n\r\n{text}".encode("utf-8", "replace")
                )
            writer.close()

        return await asyncio.start_server(answer, ip, 80)

    async with AsyncExitStack() as stack:
        for ip in (*INSIDE, *INSIDE_6, PUBLIC):
            await stack.enter_async_context(await serve(ip))
        yield


async def _tried(fetcher: Fetcher, guard: Guard, address: str) -> str:
    try:
        found = await fetcher.get(guard.read(address))
    except (AddressRefused, FetchFailed, FetchPostponed) as error:
        return type(error).__name__
    return "nothing" if found is None else found.data.decode()


async def _main() -> None:
    arrived, outcomes, led = Counter[str](), Counter[str](), Counter[str]()
    guard = Guard([], [80, 443], Names())
    fetcher = Fetcher(guard, _BOUNDS, "test")
    async with _listening(arrived):
        for address in spellings():
            outcomes[await _tried(fetcher, guard, address)] += 1
        at_once = dict(arrived)
        for address in spellings():
            led[await _tried(fetcher, guard, f"http://out.example/to/{_quoted(address)}")] += 1
        rebound = [await _tried(fetcher, guard, "http://rebinds.example/") for _ in range(3)]
        inside = sum(count for ip, count in arrived.items() if ip != PUBLIC)
        opened = {}
        for entry, addresses in OPENED.items():
            allowing = Guard([entry], [80, 443], Names())
            through = Fetcher(allowing, _BOUNDS, "test")
            opened[entry] = [await _tried(through, allowing, address) for address in addresses]
    told = {
        "spellings": len(spellings()),
        "outcomes": outcomes,
        "at_once": at_once,
        "led": led,
        "rebound": rebound,
        "inside": inside,
        "public": arrived[PUBLIC],
        "opened": opened,
    }
    print(json.dumps(told))


# What the operator opens, and then: what is asked for. The first is opened, the others are not.
OPENED = {
    "127.8.9.10": ["http://127.8.9.10/", "http://127.0.0.1/", "http://169.254.169.254/", "http://10.0.0.5/"],
    "10.0.0.0/24": [
        "http://inside.example/",
        "http://192.168.1.1/",
        "http://[::ffff:10.0.0.5]/",
        "http://mixed.example/",
    ],
    "inside.example": ["http://inside.example/", "http://10.0.0.5/", "http://metadata.example/", "http://localhost/"],
    "[::1]:80": ["http://[::1]/", "http://127.0.0.1/", "http://[fd00:ec2::254]/", "http://[::1]:22/"],
    "169.254.169.254:80": ["http://metadata.example/", "http://127.0.0.1/", "http://10.0.0.5/", "http://[fc00::1]/"],
    "metadata.example": ["http://out.example/", "http://metadata.example/", "http://127.0.0.1/", "http://10.0.0.5/"],
}


def _quoted(address: str) -> str:
    return "".join(f"%{byte:02x}" for byte in address.encode("utf-8", "replace"))


def _furnish() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for ip in (*INSIDE[2:], *INSIDE_6[1:], PUBLIC):
        bits = 128 if ":" in ip else 32
        subprocess.run(["ip", "addr", "add", f"{ip}/{bits}", "dev", "lo"], check=True)


if __name__ == "__main__":
    _furnish()
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        os.environ[variable] = "http://127.0.0.1:80"  # which would be asked for everything
    asyncio.run(_main())
    sys.exit(0)
