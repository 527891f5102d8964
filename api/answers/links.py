"""Links in an answer lead to allowed hosts, to this machine, or to where a source itself says that it stands.

A document may have a model write any link, with what the model knows in its path: shown as an image, it is fetched
before anybody reads it. So every other link is left out, and its text stays.
"""

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_TEXT = r"\[((?:[^\[\]\\]|\\.)*)\]"
_TARGET = r"\(\s*(<[^<>\n]*>|[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)[^()]*\)"
_MARKDOWN = re.compile(rf"(!?){_TEXT}{_TARGET}", re.DOTALL)
_DEFINITION = re.compile(rf"^[ \t]*{_TEXT}:[ \t]*\S+[^\n]*$", re.MULTILINE)
_TAG = re.compile(
    r"</?(?:a|img|image|picture|source|script|style|iframe|frame|object|embed|applet|link|meta|base|svg|math|video|audio"
    r"|track|form|input|button|textarea|body|html|table|td|div|span|p|details|marquee|isindex)\b[^<>]*>?",
    re.IGNORECASE,
)
_ADDRESS = re.compile(
    r"<?(?:\b[a-z][a-z0-9+.-]{0,20}:/*[/\\]{2}|(?<![\w/:\\])[/\\]{2}(?=[\w-]+\.)|www\.(?=\w))[^\s<>\"'`|]+>?"
    r"|\b(?:javascript|vbscript|data|mailto|tel|sms|blob|intent):[^\s<>\"'`|]+",
    re.IGNORECASE,
)
_TAIL = re.compile(r"[.,;:!?)\]}*_]+\Z")
_HELD = re.compile(r"(?:\S*(?:[/\\]{2}|:|www\.)\S*|[\x21-\x7e]+|[!\[<][^\s]*)\Z")


def addresses_of(documents: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Where documents themselves stand, as far as their metadata say so."""
    return frozenset(url for metadata in documents if isinstance(url := metadata.get("url"), str))


@dataclass(frozen=True, slots=True)
class Links:
    """Which links may be shown.

    Attributes:
        hosts: names of hosts; one that begins with a dot stands for all below it, `*` for every host.
        addresses: that may be shown whole, such as where the sources stand.
    """

    hosts: Collection[str] = ()
    addresses: Collection[str] = ()

    def cleaned(self, text: str) -> str:
        """A text without the links that may not be shown; doing it again changes nothing."""
        for _ in range(_MOST_PASSES):  # what is left of two may make a third
            before = text
            text = _MARKDOWN.sub(self._markdown, text)
            if text != before:
                continue  # links within links come first
            text = _DEFINITION.sub(self._definition, text)
            text = _TAG.sub("", text)
            text = _ADDRESS.sub(self._bare, text)
            if text == before:
                return text
        return _ANY.sub("", text)

    def _markdown(self, found: re.Match[str]) -> str:
        image, text, target = found.groups()
        target = target.strip("<>")
        if not _LEADS.search(target) or self._allows(target, image=bool(image)):
            return found.group()
        return str(text)

    def _definition(self, found: re.Match[str]) -> str:
        target = found.group().partition("]:")[2].split()[0].strip("<>")
        return found.group() if self._allows(target, image=True) else ""

    def _bare(self, found: re.Match[str]) -> str:
        whole = found.group()
        tail = _TAIL.search(whole)
        end = tail.group() if tail is not None and not whole.endswith(">") else ""
        address = whole.removesuffix(end).strip("<>")
        return whole if self._allows(address, image=False) else f"{LEFT_OUT}{end}"

    def _allows(self, address: str, *, image: bool) -> bool:
        if address in self.addresses:
            return True
        try:
            parts = urlsplit(address)
            host, named = (parts.hostname or "").rstrip("."), parts.username is not None
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or not host or named or _ODD.search(address):
            return False
        if "*" in self.hosts or any(_is_of(host, allowed.casefold()) for allowed in self.hosts):
            return True
        return not image and _is_here(host)


class LinkBuffer:
    """Holds back the end of a streamed text that may become a link."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._held = ""

    def add(self, text: str) -> str:
        """Take a piece. Returns: what may be shown of it, and of what was held back."""
        text = self._held + text
        held = _HELD.search(text)
        at = len(text) if held is None else held.start()
        shown, self._held = text[:at], text[at:]
        return self._links.cleaned(shown)

    def rest(self) -> str:
        """What is left when the stream has ended."""
        held, self._held = self._held, ""
        return self._links.cleaned(held)


def _is_of(host: str, allowed: str) -> bool:
    return host == allowed or (allowed.startswith(".") and host.endswith(allowed))


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


LEFT_OUT = "(link left out)"
_MOST_PASSES = 50
_LEADS = re.compile(r"[/\\:.?#&%@]")  # without one of these it is code, such as f[0](x), or a place on the same page
_ODD = re.compile(r"[\\\s\x00-\x1f]|%(?:0[0-9a-d]|5c)", re.IGNORECASE)
_ANY = re.compile(r"\S*(?:[/\\]{2}|www\.|\]\()\S*")
