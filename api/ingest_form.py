"""What may be sent to /v1/ingest as JSON: documents, or where they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.errors import RequestInvalid
from api.multipart import from_text
from core.principal import Principal
from retrieval.intake import Also, Intake, NewFile
from retrieval.sources.errands import Origin
from retrieval.sources.lists import Asked, Origins

_WHERE = ("documents", "url", "sitemap", "s3")
_GOES_WITH = {"documents": "", "url": "title", "sitemap": "limit", "s3": "limit"}

_EXPIRES = {
    "type": "object",
    "properties": {
        "anchor": {"type": "string", "enum": ["created_at"]},
        "seconds": {"type": "integer", "minimum": 1},
    },
}
_TEXTS = {"type": "array", "items": {"type": "string"}}
_SAID = {
    "metadata": {"type": "object"},
    "acl": {"type": "object", "properties": {"users": _TEXTS, "groups": _TEXTS}},
    "expires_after": _EXPIRES,
}
_URL = {"type": "string", "format": "uri", "description": "Fetched by a worker, within STOKER_FETCH_... bounds."}
_LIMIT = {"type": "integer", "minimum": 1}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["collection"],
    "properties": {
        "collection": {"type": "string"},
        "documents": {
            "type": "array",
            "minItems": 1,
            "description": "Each with content, or with the url that it is fetched from.",
            "items": {
                "type": "object",
                "properties": {"title": {"type": "string"}, "content": {"type": "string"}, "url": _URL, **_SAID},
            },
        },
        "url": _URL,
        "title": {"type": "string", "description": "Of the document that `url` names; its address where left out."},
        "sitemap": {**_URL, "description": "A sitemap, or an index of them: each page of its host is a document."},
        "s3": {
            "type": "object",
            "required": ["bucket"],
            "properties": {"bucket": {"type": "string"}, "prefix": {"type": "string"}},
        },
        "limit": {**_LIMIT, "description": "Pages of a sitemap, or objects of a bucket, at most."},
        **_SAID,
    },
}


@dataclass(frozen=True, slots=True)
class Ingest:
    """A call in JSON: documents, or a list of them that is yet to be read."""

    collection: str
    files: tuple[NewFile, ...] = ()
    list_at: Origin | None = None
    asked: Asked | None = None

    async def accept(
        self, principal: Principal, intake: Intake, origins: Origins, also: Also | None = None
    ) -> dict[str, Any]:
        """Queue it. Raises: what `Intake.accept` and `Origins.accept` raise."""
        if self.list_at is not None and self.asked is not None:
            job_id = await origins.accept(principal, self.collection, self.list_at, self.asked, also)
            return {"job_id": job_id, "document_ids": [], "status": "queued"}
        accepted = await intake.accept(principal, self.collection, self.files, also=also)
        return {"job_id": accepted.job_id, "document_ids": list(accepted.document_ids), "status": "queued"}


async def read_ingest(body: Mapping[str, Any], principal: Principal, origins: Origins) -> Ingest:
    """Read a call. Raises: RequestInvalid, InputInvalid, AddressRefused."""
    collection = body.get("collection")
    if not isinstance(collection, str) or not collection:
        raise RequestInvalid("collection is missing", "collection")
    named = [name for name in _WHERE if body.get(name) is not None]
    if len(named) != 1:
        raise RequestInvalid("name one of documents, url, sitemap or s3", named[1] if named else "documents")
    where = named[0]
    for name in ("title", "limit"):
        if body.get(name) is not None and name != _GOES_WITH[where]:
            raise RequestInvalid(f"{name} does not go with {where}", name)
    for name in _SAID:
        if body.get(name) is not None and where == "documents":  # left out, readers would be more than was said
            raise RequestInvalid(f"{name} does not go with documents: say it of each of them", name)
    if where == "documents":
        return Ingest(collection, tuple(read_documents(body["documents"], origins)))
    if where == "url":
        return Ingest(collection, (_document(body, "", origins),))
    asked = Asked(
        metadata=metadata(body.get("metadata")),
        acl=body.get("acl"),
        expires_after_s=expires_after(body.get("expires_after"), "expires_after"),
        limit=_limit(body.get("limit")),
    )
    if where == "sitemap":
        return Ingest(collection, list_at=origins.sitemap(_text(body["sitemap"], "sitemap")), asked=asked)
    bucket, prefix = _place(body["s3"])
    return Ingest(collection, list_at=await origins.prefix(principal, bucket, prefix), asked=asked)


def read_documents(documents: object, origins: Origins, param: str = "documents") -> list[NewFile]:
    """Documents with their content, or with the address that they are fetched from. Raises: RequestInvalid, ..."""
    if not isinstance(documents, list) or not documents:
        raise RequestInvalid(f"{param} must be a list with at least one document", param)
    return [_document(document, f"{param}.{number}", origins) for number, document in enumerate(documents)]


def metadata(value: object, where: str = "") -> dict[str, Any]:
    """Metadata as JSON, or as a text that holds it. Raises: RequestInvalid."""
    param = f"{where}.metadata" if where else "metadata"
    value = from_text(value, param)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestInvalid(f"{param} must be a JSON object", param)
    return value


def expires_after(value: object, param: str) -> int | None:
    """Seconds, from the form that OpenAI has for files. Raises: RequestInvalid."""
    if value is None:
        return None
    if isinstance(value, dict) and value.keys() <= {"anchor", "seconds"}:
        seconds = value.get("seconds")
        if type(seconds) is int and value.get("anchor", "created_at") == "created_at":
            return seconds
    raise RequestInvalid(f'{param} is an object such as {{"anchor": "created_at", "seconds": 3600}}', param)


def _document(document: object, param: str, origins: Origins) -> NewFile:
    if not isinstance(document, dict):
        raise RequestInvalid(f"{param} must be an object with a text named content, or a url", param)
    within = f"{param}." if param else ""
    content, url = document.get("content"), document.get("url")
    if (content is None) == (url is None) or not isinstance(content if url is None else url, str):
        raise RequestInvalid(f"{param} must be an object with a text named content, or a url", param or "url")
    title = document.get("title")
    if title is not None and not isinstance(title, str):
        raise RequestInvalid(f"{within}title must be a text", f"{within}title")
    said: dict[str, Any] = {
        "metadata": metadata(document.get("metadata"), param),
        "acl": document.get("acl"),
        "expires_after_s": expires_after(document.get("expires_after"), f"{within}expires_after"),
    }
    if isinstance(url, str):
        origin = origins.page(url)
        return NewFile(title or origin.address, None, b"", origin=origin, **said)
    name = title or "untitled"
    return NewFile(
        name if name.endswith((".md", ".txt")) else f"{name}.txt", "text/plain", str(content).encode(), **said
    )


def _place(value: object) -> tuple[str, str]:
    if isinstance(value, dict) and value.keys() <= {"bucket", "prefix"}:
        bucket, prefix = value.get("bucket"), value.get("prefix") or ""
        if isinstance(bucket, str) and isinstance(prefix, str):
            return bucket, prefix
    raise RequestInvalid('s3 is an object such as {"bucket": "papers", "prefix": "2026/"}', "s3")


def _text(value: object, param: str) -> str:
    if not isinstance(value, str):
        raise RequestInvalid(f"{param} must be a text", param)
    return value


def _limit(value: object) -> int | None:
    if value is not None and type(value) is not int:
        raise RequestInvalid("limit must be a whole number", "limit")
    return value
