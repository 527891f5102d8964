"""Which addresses callers may have us reach: the public ones, and what the operator has opened. Against SSRF.

A host is looked up once, every address that it has is checked, and the connection is made to one of those and no other
(`retrieval.sources.fetcher`), so that a name which changes its mind in between gains nothing.

Source: https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html,
https://www.iana.org/assignments/iana-ipv4-special-registry, https://www.iana.org/assignments/iana-ipv6-special-registry
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from retrieval.errors import AddressRefused, FetchPostponed
from retrieval.sources.address import Address, read_address

IP = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_REMEDY = "an operator may open it by STOKER_FETCH_ALLOW"
# What no name opens, only its own network in the list: link-local with the clouds' metadata, and what is no host.
_NEVER_BY_NAME = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.0/24"),
            *("224.0.0.0/4", "240.0.0.0/4", "::/128", "fe80::/10", "ff00::/8", "fd00:ec2::/32", "fd20:ce::/32"),
        ),
    )
)
_NOT_PUBLIC = (
    *_NEVER_BY_NAME,
    *map(
        ip_network,
        (
            *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.2.0/24", "192.88.99.0/24"),
            *("192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
            # Forms that carry an IPv4 address within: 6to4, Teredo. The others lie outside of 2000::/3.
            *("2002::/16", "2001::/23", "2001:db8::/32", "3fff::/20"),
        ),
    ),
)
_UNICAST = IPv6Network("2000::/3")  # all that IANA has given out; mapped, compatible and NAT64 forms are not in it
_PORT = re.compile(r"(?P<what>\[[^\]]+\]|[^:\[\]]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Opened:
    """One entry of the operator's list; `port` None: at the usual ports."""

    what: str | Network
    port: int | None

    def opens(self, host: str, ip: IP, port: int, usual: Collection[int]) -> bool:
        if (port != self.port) if self.port is not None else (port not in usual):
            return False
        if isinstance(self.what, str):
            return host == self.what and not any(ip in network for network in _NEVER_BY_NAME)
        return ip in self.what


class Guard:
    """Lets addresses through, or not.

    Args:
        allow: hosts, addresses and networks that are open though they are not public, each with `:PORT` or without.
        ports: that may be reached everywhere.
        resolve: the addresses of a host; raises OSError.
    """

    def __init__(self, allow: Sequence[str], ports: Collection[int], resolve: Resolve | None = None) -> None:
        self._opened = [read_opened(entry) for entry in allow]
        self._ports = frozenset(ports)
        self._resolve = resolve or _look_up

    def read(self, text: str) -> Address:
        """Read an address, and refuse at once what no look-up could make good. Raises: AddressRefused."""
        address = read_address(text)
        self.check(address)
        return address

    def check(self, address: Address) -> None:
        """The same for an address that was read. Raises: AddressRefused."""
        if address.port not in self._ports and all(entry.port != address.port for entry in self._opened):
            usual = ", ".join(map(str, sorted(self._ports)))
            raise AddressRefused(f"Port {address.port} is none of those that may be reached ({usual}); {_REMEDY}.")
        if address.ip is not None:
            self._check_ip(address, address.ip)

    async def resolved(self, address: Address) -> list[str]:
        """The addresses of its host, looked up once, each of them checked.

        Raises: AddressRefused: one of them may not be reached; FetchPostponed: there is no answer.
        """
        self.check(address)
        if address.ip is not None:
            return [address.host]
        try:
            found = await self._resolve(address.host, address.port)
        except (OSError, UnicodeError):
            raise FetchPostponed(f"The host {address.host} cannot be looked up.") from None
        ips = [_read_ip(text, address) for text in found]
        for ip in ips:
            self._check_ip(address, ip)
        if not ips:
            raise FetchPostponed(f"The host {address.host} has no address.")
        return list(dict.fromkeys(map(str, ips)))

    def _check_ip(self, address: Address, ip: IP) -> None:
        if is_public(ip) and address.port in self._ports:
            return
        if not any(entry.opens(address.host, ip, address.port, self._ports) for entry in self._opened):
            raise AddressRefused(f"{address.origin} is not on the public internet; {_REMEDY}.")


def is_public(ip: IP) -> bool:
    """Whether an address is one of the public internet, in a form that carries no other address within."""
    if any(ip in network for network in _NOT_PUBLIC):
        return False
    return ip.is_global and not ip.is_multicast and (ip.version == 4 or ip in _UNICAST)


def read_opened(entry: str) -> Opened:
    """Read an entry: `wiki.example`, `wiki.example:8080`, `10.0.5.0/24`, `[fd00::/8]:443`. Raises: ValueError."""
    split = _PORT.fullmatch(entry)
    what, port = (split["what"], int(split["port"])) if split else (entry, None)
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"{entry!r} names no port")
    if what.startswith("[") and what.endswith("]"):
        what = what[1:-1]
    try:
        return Opened(ip_network(what), port)
    except ValueError:
        if any(sign in what for sign in "/:[]"):
            raise ValueError(f"{entry!r} is no host, address or network, such as wiki.example:8080") from None
    try:
        return Opened(read_address(f"http://{what}").host, port)
    except AddressRefused as error:
        raise ValueError(f"{entry!r}: {error}") from None


def _read_ip(text: str, address: Address) -> IP:
    try:
        ip = ip_address(text)
    except ValueError:
        raise AddressRefused(f"{address.origin} has an address that is none.") from None
    if isinstance(ip, IPv6Address) and ip.scope_id is not None:
        raise AddressRefused(f"{address.origin} is not on the public internet; {_REMEDY}.")
    return ip


async def _look_up(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]
