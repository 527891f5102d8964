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
# What has been read is never given back: else a target that does not end is read anew from each of its characters.
_TARGET = r"\(\s*+(<[^<>\n]*+>|[^\s()]*+(?:\([^\s()]*+\)[^\s()]*+)*+)[^()]*+\)"
_MARKDOWN = re.compile(rf"(!?){_TEXT}{_TARGET}", re.DOTALL)
_DEFINITION = re.compile(rf"^[ \t]*{_TEXT}:[ \t]*(\S+)[^\n]*$", re.MULTILINE)
_TAG_BEGUN = (
    r"</?(?:a|img|image|picture|source|script|style|iframe|frame|object|embed|applet|link|meta|base|svg|math|video|audio"
    r"|track|form|input|button|textarea|body|html|table|td|div|span|p|details|marquee|isindex)\b[^<>]*"
)
_TAG = re.compile(_TAG_BEGUN + ">?", re.IGNORECASE)
_ADDRESS = re.compile(
    r"<?(?:[a-z][a-z0-9+.-]{0,20}:/*[/\\]{2}|(?<![\w/:\\])[/\\]{2}(?=[\w-]+\.)|www\.(?=\w))[^\s<>\"'`|]+>?"
    r"|(?<![a-z0-9_])(?:javascript|vbscript|data|mailto|tel|sms|blob|intent):[^\s<>\"'`|]+",
    re.IGNORECASE,
)
_TAIL = ".,;:!?)]}*_"


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
        target = found.group(2).strip("<>")
        leads = _LEADS.search(target.rstrip(_TAIL))  # else it is text behind a mark, such as "[1]: the fare"
        return found.group() if not leads or self._allows(target, image=True) else ""

    def _bare(self, found: re.Match[str]) -> str:
        whole = found.group()
        end = whole[len(whole.rstrip(_TAIL)) :]
        address = whole.removesuffix(end).strip("<>")
        return whole if self._allows(address, image=False) else f"{LEFT_OUT}{end}"

    def _allows(self, address: str, *, image: bool) -> bool:
        if address in self.addresses:
            return True
        try:
            parts = urlsplit(address)
            host, named = (parts.hostname or "").rstrip("."), parts.username is not None
            _ = parts.port  # which raises where it is none
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or not host or named or _ODD.search(address):
            return False
        within = _WITHIN.search(address, len(parts.scheme) + 3)
        if within is not None and not self._allows(within.group(), image=image):
            return False  # who reads it may take it for two
        if "*" in self.hosts or any(_is_of(host, allowed.casefold()) for allowed in self.hosts):
            return True
        return not image and _is_here(host)


class LinkBuffer:
    """Holds back the end of a streamed text that may become a link.

    The text is taken apart where the text before that place allows it, and each part is cleaned alone: so what is shown
    does not depend on how the stream is cut.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._held = ""
        self._line_begins = True  # what is held stands at the beginning of its line

    def add(self, text: str) -> str:
        """Take a piece. Returns: what may be shown of it, and of what was held back."""
        seen, start, shown = len(self._held), 0, list[str]()
        text = self._held + text
        for found in _PLACE.finditer(text, seen):
            part = text[start : found.end()]
            if self._may_end(part):
                shown.append(self._cleaned(part))
                start = found.end()
        self._held = text[start:]
        return "".join(shown)

    def rest(self) -> str:
        """What is left when the stream has ended."""
        held, self._held = self._held, ""
        shown = self._cleaned(held)
        self._line_begins = True
        return shown

    def _may_end(self, part: str) -> bool:
        """Whether no link has begun in a part that goes on behind its last character."""
        if not _RISKY.search(part):
            return True
        if not part[-1].isspace() and _ADDRESS_BEGUN.search(part):
            return False
        return len(part) > _LONGEST_HELD or not self._is_open(part)

    def _is_open(self, part: str) -> bool:
        bare = _ESCAPED.sub("", part)
        if _PARAGRAPH_ENDS.search(part):
            return False
        if bare.count("[") > bare.count("]") or bare.count("【") > bare.count("】") or _OPEN_TAG.search(bare):
            return True
        _, leads, target = bare.rpartition("](")
        if leads and target.count(")") <= target.count("("):
            return True
        return self._line_begins and not part.endswith("\n") and _DEFINES.match(part) is not None

    def _cleaned(self, part: str) -> str:
        shown = part
        if _RISKY.search(part):
            # In the middle of a line nothing is defined.
            shown = self._links.cleaned(part) if self._line_begins else self._links.cleaned(f"x {part}")[2:]
            if part[-1].isspace() and not shown.endswith(part[-1]):
                shown += part[-1]  # or what stands before and behind a tag would be one address
        _, newline, line = part.rpartition("\n")
        self._line_begins = (self._line_begins or newline != "") and not line.strip(" \t")
        return shown


def _is_of(host: str, allowed: str) -> bool:
    return host == allowed or (allowed.startswith(".") and host.endswith(allowed))


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


LEFT_OUT = "(link left out)"
_MOST_PASSES = 50
_LONGEST_HELD = 300  # characters, but for an address, which is held as long as it goes on
_PLACE = re.compile(r"\s|[^\x00-\x7f]")
_RISKY = re.compile(r"[\[\]<>/\\:【]|www\.", re.IGNORECASE)
_ADDRESS_BEGUN = re.compile(r"[/\\]{2}|:|www\.", re.IGNORECASE)
_OPEN_TAG = re.compile(_TAG_BEGUN + r"\Z", re.IGNORECASE)
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_PARAGRAPH_ENDS = re.compile(r"\n[ \t]*\n\Z")
_DEFINES = re.compile(rf"[ \t]*{_TEXT}:", re.DOTALL)
_LEADS = re.compile(r"[/\\:.?#&%@]")  # without one of these it is code, such as f[0](x), or a place on the same page
_ODD = re.compile(r"[\\\s\x00-\x1f]|%(?:0[0-9a-d]|5c)", re.IGNORECASE)
_WITHIN = re.compile(r"(?<![a-z])[a-z]+:[/\\]{2}.*", re.IGNORECASE)
_ANY = re.compile(r"(?<!\S)\S*(?:[/\\]{2}|www\.|\]\()\S*")
