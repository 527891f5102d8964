"""Addresses of the web as callers write them, read so strictly that nobody after us can read them otherwise."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import quote, urljoin, urlsplit

import idna

from retrieval.errors import AddressRefused

_LONGEST = 2000
_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # as the last label: WHATWG's parser takes the whole for an IPv4 address
_SAFE = "/%:@!$&'()*+,;=~-._"


@dataclass(frozen=True, slots=True)
class Address:
    """A page's address.

    Attributes:
        host: a name in lower case and ASCII without a stop at its end, or an IP address in its one usual form.
        target: path and query.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def ip(self) -> IPv4Address | IPv6Address | None:
        """Where the host is no name."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")

    def __str__(self) -> str:
        return self.origin + self.target


def read_address(text: str) -> Address:
    """Read an address; a fragment is left out.

    Raises: AddressRefused: it is none, or could be read in more than one way.
    """
    if len(text) > _LONGEST:
        raise AddressRefused(f"The address is longer than {_LONGEST} characters.")
    if any(ord(char) <= 32 or ord(char) == 127 or char == "\\" for char in text):
        raise AddressRefused("The address holds white space, control characters or a backslash: percent-encode them.")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise AddressRefused("The address cannot be read: write it as https://HOST/PATH.") from None
    if parts.scheme not in _PORTS:
        raise AddressRefused("The address must begin with http:// or https://.")
    if "@" in parts.netloc:
        raise AddressRefused("The address holds a user or password: send the document itself instead.")
    if not parts.netloc or port == 0 or parts.netloc.endswith(":"):
        raise AddressRefused("The address names no host, or an odd port: write it as https://HOST/PATH.")
    target = quote(parts.path or "/", safe=_SAFE) + ("?" + quote(parts.query, safe=_SAFE + "?") if parts.query else "")
    return Address(parts.scheme, _host(parts.netloc, port), port or _PORTS[parts.scheme], target)


def joined(base: Address, reference: str) -> Address:
    """Where a reference on a page leads, such as that of a redirect. Raises: AddressRefused."""
    try:
        return read_address(urljoin(str(base), reference))
    except ValueError:
        raise AddressRefused("The address leads on to one that cannot be read.") from None


def _host(netloc: str, port: int | None) -> str:
    host = netloc if port is None else netloc.rpartition(":")[0]
    if host.startswith("["):
        return _ipv6(host)
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True, std3_rules=True).decode()
        except (idna.IDNAError, UnicodeError):
            raise AddressRefused("The address's host is no name that can be looked up.") from None
    host = host.lower().removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise AddressRefused("Write an IPv4 address as four decimal numbers, without leading zeros.") from None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressRefused("The address's host is no name that can be looked up.")
    return host


def _ipv6(host: str) -> str:
    try:
        found = IPv6Address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise AddressRefused("The address's host is no IPv6 address.") from None
    if found.scope_id is not None or not host.endswith("]"):
        raise AddressRefused("An IPv6 address with a zone is of one machine only.")
    return str(found)
