"""E-mail: subject, people and date, the best of its texts, and attachments below their names.

Source: RFC 5322, RFC 2045 to 2049
"""

import email
import email.policy
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.message import EmailMessage, Message
from email.utils import parsedate_to_datetime
from typing import Any

from retrieval import media
from retrieval.errors import DocumentRejected
from retrieval.parsers import html
from retrieval.parsers.bounds import Bounds
from retrieval.parsers.parsed import Parsed, normalise, unmarked
from retrieval.parsers.text import decode

Read = Callable[[bytes, str, Bounds, str], Parsed]  # bytes, media type, bounds, file name

_PEOPLE = ("From", "To", "Cc")
_TITLES = ("Subject", "From", "Date", "Message-ID", "MIME-Version")  # an e-mail has one of them
_DEMOTED = 2  # levels that an attachment's headings stand below the subject
_DEEPEST_HEADING = 6
_NAME = 200  # characters of an attachment's name
_TOLD = 500  # characters that are kept for each name, and for why an attachment was not read
_UNSAID = frozenset(("image", "audio", "video"))  # logos and the like, where no name says that they are more


class _Forgiving(email.policy.EmailPolicy):
    """Keeps headers on which Python's own parser fails: of what a part is its first word, others as they stand."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        try:
            return super().header_fetch_parse(name, value)
        except Exception:  # IndexError, AttributeError, RecursionError and more: nobody names them all
            text = " ".join(value.encode("utf-8", "surrogateescape").decode("utf-8", "replace").split())
            if name.lower() in ("content-type", "content-disposition"):
                return self.header_factory(name, text.partition(";")[0])
            return self.header_factory("X-Unread", text)


_POLICY = _Forgiving()


def parse(data: bytes, bounds: Bounds, read: Read) -> Parsed:
    """Read a message. An attachment that can't be read is named with the reason, and costs the message nothing.

    Args:
        read: reads an attachment.

    Raises: DocumentRejected: no e-mail, or encrypted.
    """
    message = email.message_from_bytes(data, policy=_POLICY)
    if not isinstance(message, EmailMessage) or not any(message.get(name) for name in _TITLES):
        raise DocumentRejected("The file is no e-mail, whatever its name says: save the message anew as EML.")
    if message.get_content_type() in ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"):
        raise DocumentRejected("The e-mail is encrypted: save its text or attachments without encryption.")
    subject = _header(message, "Subject")
    lines = [f"# {subject}", ""] if subject else []
    lines += [f"{name}: {value}" for name in _PEOPLE if (value := _header(message, name))]
    lines += [f"Date: {date}" for date in [_date(message)] if date]
    lines += ["", *_body(message, bounds), ""]
    found = normalise("\n".join(lines))
    attachments = list(_attachments(message, bounds))
    left = bounds.characters - len(found) - _TOLD * min(len(attachments), bounds.attachments)
    for number, part in enumerate(attachments, start=1):
        if number > bounds.attachments:
            lines += [f"({len(attachments) - bounds.attachments} more attachments were not read)", ""]
            break
        share = replace(
            bounds,
            characters=max(1, left),
            unpacked_bytes=max(1, bounds.unpacked_bytes // min(len(attachments), bounds.attachments)),
            messages=bounds.messages - 1,
        )
        read_lines = _attachment(part, share, read)
        left -= sum(map(len, read_lines))
        lines += [*read_lines, ""]
    return Parsed(normalise("\n".join(lines)), structured=True, title=subject or None)


def _header(message: EmailMessage, name: str) -> str:
    return normalise(" ".join(str(message.get(name, "")).split())).strip()


def _date(message: EmailMessage) -> str:
    raw = _header(message, "Date")
    try:
        return parsedate_to_datetime(raw).isoformat(sep=" ") if raw else ""
    except (ValueError, OverflowError):
        return raw


def _body(message: EmailMessage, bounds: Bounds) -> list[str]:
    """Plain text where there is some, else HTML's."""
    for kind in ("plain", "html"):
        part = message.get_body((kind,))
        data = _bytes(part) if isinstance(part, EmailMessage) else b""
        if not data.strip():
            continue
        if kind == "html":
            return html.parse(data, bounds).text.split("\n")
        return [unmarked(line) for line in normalise(_text(part, data)).split("\n")]
    return []


def _text(part: object, data: bytes) -> str:
    """In the encoding that the part names, if it is right."""
    charset = part.get_content_charset() if isinstance(part, EmailMessage) else None
    try:
        return data.decode(charset or "utf-8")
    except (LookupError, UnicodeError, ValueError):
        return decode(data)


def _bytes(part: EmailMessage) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _attachments(message: EmailMessage, bounds: Bounds) -> Iterator[EmailMessage]:
    """All parts that are not the body, without looking into messages that are attached; a message may be one itself."""
    bodies = [message.get_body((kind,)) for kind in ("plain", "html")]
    stack: list[tuple[EmailMessage, int]] = [(message, 0)]
    while stack:
        part, depth = stack.pop()
        if depth > bounds.depth:
            raise DocumentRejected(f"The e-mail nests parts more than {bounds.depth} levels deep: save its text alone.")
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            inner = [each for each in part.iter_parts() if isinstance(each, EmailMessage)]
            stack.extend((each, depth + 1) for each in reversed(inner))
        elif any(part is body for body in bodies):
            continue
        elif part.get_filename() or part.is_attachment() or part.get_content_maintype() not in _UNSAID:
            yield part


def _attachment(part: EmailMessage, bounds: Bounds, read: Read) -> list[str]:
    """A heading with the attachment's name, and its text."""
    is_message = part.get_content_type() == media.EML
    is_text = part.get_content_maintype() in ("text", "multipart")  # the latter: nobody can tell where its parts begin
    unnamed = "message.eml" if is_message else "part.txt" if is_text else "part"
    name = normalise(" ".join((part.get_filename() or unnamed).split()))[-_NAME:]
    if is_message:
        inner = part.get_payload()
        first = inner[0] if isinstance(inner, list) and inner else None
        data = _written(first) if isinstance(first, Message) else b""
    else:
        data = _bytes(part)
    kind = media.EML if is_message else media.detect(name, part.get_content_type(), data)
    try:
        if kind == media.EML and bounds.messages < 0:
            raise DocumentRejected("It is nested too deeply: send it as a file of its own.")
        parsed = read(data, kind, bounds, name)
    except DocumentRejected as rejection:
        return [f"## Attachment: {name}", "", f"(not read: {rejection.reason})"]
    return [f"## Attachment: {name}", "", *_demoted(parsed)]


def _written(message: "Message[str, str]") -> bytes:
    """An attached message as a file of its own, its headers as they came: folding them anew may fail."""
    try:
        return message.as_bytes(policy=email.policy.compat32)
    except UnicodeEncodeError:  # a boundary that is no ASCII
        return message.as_string(policy=email.policy.compat32).encode("utf-8", "surrogateescape")


def _demoted(parsed: Parsed) -> Iterator[str]:
    """Lines below a heading of the second level; `#` is one only where it was one."""
    for line in parsed.text.split("\n"):
        marks = len(line) - len(line.lstrip("#"))
        if not parsed.structured or not 0 < marks <= _DEEPEST_HEADING or line[marks : marks + 1] not in (" ", "\t"):
            yield unmarked(line)
        else:
            yield "#" * min(marks + _DEMOTED, _DEEPEST_HEADING) + line[marks:]
