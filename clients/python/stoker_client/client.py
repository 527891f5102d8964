"""The client: one method for each thing that one does with documents."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NotRequired, TypedDict, cast
from urllib.parse import quote

import httpx

from stoker_client.errors import Refused, StreamBroken, Unreachable
from stoker_client.shapes import (
    Accepted,
    Answer,
    Citation,
    Cited,
    Collection,
    Done,
    Event,
    Found,
    Job,
    Retrieved,
    Token,
)

_CONNECT_S = 5.0
_UPLOAD = httpx.Timeout(600.0, connect=_CONNECT_S)
_KEY = re.compile(r"[\x21-\x7e]+")  # what a header may hold, but spaces
_LINE_END = re.compile(r"\r\n|\n|\r(?!\Z)")  # whether a last \r ends one or begins two signs, the next part says
_MOST = 100  # items of one page

Mode = Literal["hybrid", "dense", "lexical"]
Grounding = Literal["strict", "mark", "off"]
Filter = Mapping[str, Any]


class Document(TypedDict):
    """A text to be ingested; `acl` is `{"users": [...], "groups": [...]}`."""

    content: str
    title: NotRequired[str]
    metadata: NotRequired[Mapping[str, Any]]
    acl: NotRequired[Mapping[str, Sequence[str]]]


class Stoker:
    """Talks to one gateway; used as a context manager, or closed. Safe for several threads.

    Args:
        url: of the gateway, without `/v1`.
        read_s: seconds without a byte after which an answer is given up.
        transport: in place of the network.

    Raises: ValueError: the key is empty, or more than a key.
    Raises everywhere: Refused, Unreachable.
    """

    def __init__(
        self, url: str, key: str, *, read_s: float = 120.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"authorization": f"Bearer {_sound(key)}"},
            timeout=httpx.Timeout(read_s, connect=_CONNECT_S),
            transport=transport,
        )

    def __enter__(self) -> "Stoker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def create_collection(
        self,
        name: str,
        *,
        description: str = "",
        metadata: Mapping[str, Any] | None = None,
        language: str = "english",
        local_only: bool = False,
    ) -> Collection:
        """Make an empty collection. Refused with status 409 where the name is taken."""
        body: dict[str, Any] = {"name": name, "description": description, "language": language}
        body |= {"metadata": dict(metadata or {})} | ({"local_only": True} if local_only else {})
        return cast(Collection, self._json("POST", "/v1/collections", json=body))

    def collections(self) -> Iterator[Collection]:
        """All collections, fetched page by page."""
        query: dict[str, str | int] = {"limit": _MOST}
        while True:
            page = self._json("GET", "/v1/collections", params=query)
            yield from page["data"]
            if not page["has_more"]:
                return
            query["after"] = page["last_id"]

    def collection(self, name: str) -> Collection:
        """One collection."""
        return cast(Collection, self._json("GET", f"/v1/collections/{_part(name)}"))

    def delete_collection(self, name: str) -> None:
        """Delete a collection with all its documents."""
        self._json("DELETE", f"/v1/collections/{_part(name)}")

    def ingest(self, collection: str, *files: Path | str, metadata: Mapping[str, Any] | None = None) -> Accepted:
        """Send files; `follow` or `wait` for the job. A file of a known name becomes its next version."""
        fields = {"collection": collection} | ({"metadata": json.dumps(dict(metadata))} if metadata else {})
        parts = [("file", (Path(file).name, Path(file).read_bytes())) for file in files]
        return cast(Accepted, self._json("POST", "/v1/ingest", data=fields, files=parts, timeout=_UPLOAD))

    def ingest_texts(self, collection: str, documents: Sequence[Document]) -> Accepted:
        """Send texts."""
        body = {"collection": collection, "documents": list(documents)}
        return cast(Accepted, self._json("POST", "/v1/ingest", json=body))

    def job(self, job_id: str) -> Job:
        """How far a job is."""
        return cast(Job, self._json("GET", f"/v1/jobs/{_part(job_id)}"))

    def follow(self, job_id: str) -> Iterator[Job]:
        """How far a job is, whenever a document of it gets on; the last one has ended.

        Raises: StreamBroken.
        """
        job = self.job(job_id)
        known = {document["id"]: document for document in job["documents"]}
        for name, data in self._events("GET", f"/v1/jobs/{_part(job_id)}/events"):
            if name == "job":
                yield cast(Job, data)
                return
            if name == "document":
                known[data["id"]] = data
                yield {**job, "status": "running", "documents": list(known.values())}
        raise StreamBroken(f"the events of {job_id} ended before the job did; follow it again")

    def wait(self, job_id: str) -> Job:
        """The job when it has ended. Raises: StreamBroken."""
        for job in self.follow(job_id):
            last = job
        return last

    def search(
        self,
        query: str,
        collection: str,
        *,
        top_k: int = 10,
        mode: Mode | None = None,
        filter: Filter | None = None,
        rerank: bool | None = None,
        facets: Sequence[str] = (),
    ) -> Found:
        """Find the passages nearest to a question. `filter` is a tree such as `{"type": "eq", "key", "value"}`."""
        body = {"query": query, "collection": collection, "top_k": top_k, "mode": mode, "filter": filter}
        body |= {"rerank": rerank, "facets": list(facets)}
        return cast(Found, self._json("POST", "/v1/search", json=_said(body)))

    def ask(
        self,
        query: str,
        collection: str,
        *,
        model: str | None = None,
        top_k: int = 10,
        filter: Filter | None = None,
        grounding: Grounding | None = None,
        conversation_id: str | None = None,
        max_tokens: int | None = None,
    ) -> Answer:
        """Answer a question from documents; every citation's quote stands in its document as it says."""
        body = _question(query, collection, model, top_k, filter, grounding, conversation_id, max_tokens)
        return cast(Answer, self._json("POST", "/v1/query", json=body))

    def stream(
        self,
        query: str,
        collection: str,
        *,
        model: str | None = None,
        top_k: int = 10,
        filter: Filter | None = None,
        grounding: Grounding | None = None,
        conversation_id: str | None = None,
        max_tokens: int | None = None,
    ) -> Iterator[Event]:
        """The same as it is made: `Retrieved`, then `Token` and `Cited`, at the end `Done`. Raises: StreamBroken."""
        body = _question(query, collection, model, top_k, filter, grounding, conversation_id, max_tokens)
        for name, data in self._events("POST", "/v1/query", json={**body, "stream": True}):
            match name:
                case "retrieval":
                    yield Retrieved(data["data"])
                case "token":
                    yield Token(data["text"], data.get("supported", True))
                case "citation":
                    yield Cited(cast(Citation, data))
                case "done":
                    yield Done(cast(Answer, data))
                    return
        raise StreamBroken("the answer broke off; ask again")

    def content(self, collection: str, document_id: str, version: int | None = None) -> str:
        """The normalised text that spans of passages and citations point into."""
        path = f"/v1/collections/{_part(collection)}/documents/{_part(document_id)}/content"
        with self._translated():
            answer = self._http.get(path, params={} if version is None else {"version": version})
        return _checked(answer).text

    def _json(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        with self._translated():
            answer = self._http.request(method, path, **how)
        found = _read_object(_checked(answer))
        if found is None:
            raise Unreachable(f"what answers at {self._http.base_url} is no Stoker; check the address")
        return found

    def _events(self, method: str, path: str, **how: Any) -> Iterator[tuple[str, Any]]:
        headers = {"accept": "text/event-stream"}
        with self._translated(), self._http.stream(method, path, headers=headers, **how) as answer:
            if answer.is_error:
                answer.read()
            _checked(answer)
            try:
                for name, data in _read_events(_lines(answer.iter_text())):
                    if name == "error":
                        raise _refused(answer, data)
                    yield name, data
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
                raise StreamBroken(f"the connection ended in the middle ({reason}); ask again") from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.LocalProtocolError as error:  # its text may hold a header, and so the key
            raise Unreachable(f"{self._http.base_url} was not asked: the request is none that can be sent") from error
        except httpx.TransportError as error:
            raise Unreachable(f"{self._http.base_url} did not answer: {str(error) or type(error).__name__}") from error


def _question(
    query: str,
    collection: str,
    model: str | None,
    top_k: int,
    filter: Filter | None,
    grounding: Grounding | None,
    conversation_id: str | None,
    max_tokens: int | None,
) -> dict[str, Any]:
    body = {"query": query, "collection": collection, "model": model, "top_k": top_k, "filter": filter}
    return _said(body | {"grounding": grounding, "conversation_id": conversation_id, "max_tokens": max_tokens})


def _said(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that were said; the others are as the gateway has them."""
    return {name: value for name, value in body.items() if value is not None and value != []}


def _sound(key: str) -> str:
    """A key as a header can carry it; the text itself is in no message."""
    key = key.strip()
    if not _KEY.fullmatch(key):
        raise ValueError("the key is empty, or holds a line break or a space: it is to be the key alone, one line")
    return key


def _part(text: str) -> str:
    return quote(text, safe="")


def _lines(parts: Iterator[str]) -> Iterator[str]:
    """Lines as the standard has them: httpx also cuts at U+2028 and its like, which JSON holds as they are."""
    begun: list[str] = []
    for part in parts:
        begun.append(part)
        if "\n" in part or "\r" in part or begun[-2:-1] == ["\r"]:
            *lines, rest = _LINE_END.split("".join(begun))
            yield from lines
            begun = [rest.removesuffix("\r"), "\r"] if rest.endswith("\r") else [rest]


def _read_events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Source: WHATWG HTML, section "Server-sent events", event stream interpretation."""
    name, data = "", list[str]()
    for line in lines:
        if not line:
            if data:
                yield name or "message", json.loads("\n".join(data))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        if field == "event":
            name = value.removeprefix(" ")
        elif field == "data":
            data.append(value.removeprefix(" "))


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise _refused(answer, _read_object(answer))
    return answer


def _read_object(answer: httpx.Response) -> dict[str, Any] | None:
    """The object that an answer holds; None: it holds none."""
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _refused(answer: httpx.Response, body: Any) -> Refused:
    said = body.get("error") if isinstance(body, dict) else None
    error = said if isinstance(said, dict) else {}
    waits = answer.headers.get("retry-after", "")
    return Refused(
        answer.status_code,
        error.get("message") or f"HTTP {answer.status_code}",
        error.get("code") or "",
        error.get("param") or "",
        answer.headers.get("x-request-id", ""),
        float(waits) if waits.isdecimal() else None,
    )
