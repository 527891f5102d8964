"""A small client for the gateway's routes: deadlines, error envelopes, server-sent events."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO

import httpx

from cli.errors import ApiRefused, ApiUnreachable, CliError
from cli.settings import CliSettings
from cli.state import StackState

_CONNECT_S = 5.0
_READ_S = 60.0
_STREAM_READ_S = 120.0  # the slowest first token of a CPU engine, and the answer's own deadline
_UPLOAD_S = 600.0
_KEY = re.compile(r"[\x21-\x7e]+")  # what a header may hold, but spaces
_LINE_END = re.compile(r"\r\n|\n|\r(?!\Z)")  # whether a last \r ends one or begins two signs, the next part says


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event; `data` is decoded JSON."""

    name: str
    data: Any


class Client:
    """Talks to one gateway; used as a context manager."""

    def __init__(self, url: str, key: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self._place = re.sub(r"//.*@", "//", self.url)  # for a person: without a password in it
        try:
            self._http = httpx.Client(
                base_url=self.url,
                headers={"authorization": f"Bearer {key}"},
                timeout=httpx.Timeout(_READ_S, connect=_CONNECT_S),
                transport=transport,
                trust_env=not self.url.startswith("http://127.0.0.1"),  # a proxy has no business on the own machine
            )
        except httpx.InvalidURL as error:
            raise CliError(f"{self._place} is no address", "set STOKER_URL to one such as http://host:8080") from error

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        return self._call("GET", path, params=query)

    def post(self, path: str, body: dict[str, Any] | None = None, read_s: float = _READ_S) -> dict[str, Any]:
        return self._call("POST", path, json=body, timeout=httpx.Timeout(read_s, connect=_CONNECT_S))

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call("PUT", path, json=body)

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> dict[str, Any]:
        return self._call("DELETE", path)

    def pages(self, path: str, **query: str | int) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page."""
        query["limit"] = 100
        while True:
            page = self.get(path, **query)
            yield from page["data"]
            if not page.get("has_more"):
                return
            query["after"] = page["last_id"]

    def upload(
        self, path: str, fields: Mapping[str, str], files: Iterable[tuple[str, BinaryIO, str | None]]
    ) -> dict[str, Any]:
        """POST files as multipart/form-data, each in a field `file`; `files` are (name, open file, media type)."""
        parts = [("file", (name, file) if kind is None else (name, file, kind)) for name, file, kind in files]
        return self._call("POST", path, data=fields, files=parts, timeout=httpx.Timeout(_UPLOAD_S, connect=_CONNECT_S))

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[Event]:
        """POST and yield the answer's events as they come."""
        timeout = httpx.Timeout(_STREAM_READ_S, connect=_CONNECT_S)
        with (
            self._translated(),
            self._http.stream(
                "POST", path, json=body, headers={"accept": "text/event-stream"}, timeout=timeout
            ) as answer,
        ):
            if answer.is_error:
                answer.read()
                raise _refused(answer)
            yield from parse_events(split_lines(answer.iter_text()))

    def lines(self, path: str) -> Iterator[str]:
        """GET what comes line by line, and is too long to be kept."""
        timeout = httpx.Timeout(_UPLOAD_S, connect=_CONNECT_S)
        with self._translated(), self._http.stream("GET", path, timeout=timeout) as answer:
            if answer.is_error:
                answer.read()
                raise _refused(answer)
            yield from split_lines(answer.iter_text())

    def bytes_of(self, path: str) -> bytes:
        """GET what is no JSON."""
        return self._answer("GET", path, timeout=httpx.Timeout(_UPLOAD_S, connect=_CONNECT_S)).content

    def _answer(self, method: str, path: str, **how: Any) -> httpx.Response:
        with self._translated():
            answer = self._http.request(method, path, **how)
        if answer.is_error:
            raise _refused(answer)
        return answer

    def _call(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        answer = self._answer(method, path, **how)
        try:
            result = answer.json()
        except ValueError:
            result = None
        if not isinstance(result, dict):
            raise ApiUnreachable(f"what answers at {self._place} is no Stoker", "check STOKER_URL")
        return result

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """httpx's failures become ours."""
        try:
            yield
        except httpx.TimeoutException as error:
            raise ApiUnreachable(
                f"{self._place} did not answer in time", "./stoker status shows what is slow"
            ) from error
        except httpx.LocalProtocolError as error:  # its text may hold a header, and so the key: nobody is shown it
            raise ApiUnreachable(
                f"cannot talk to {self._place}: the request is none that can be sent",
                "check STOKER_API_KEY and STOKER_URL",
            ) from error
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise ApiUnreachable(
                f"cannot talk to {self._place}: {reason}", "start the stack with ./stoker up, or set STOKER_URL"
            ) from error


def split_lines(parts: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in parts. httpx, as `str.splitlines`, cuts at signs that JSON holds as they are.

    Source: WHATWG HTML, section "Server-sent events", parsing an event stream.
    """
    begun: list[str] = []  # of the line whose end has not come
    for part in parts:
        begun.append(part)
        if "\n" in part or "\r" in part or begun[-2:-1] == ["\r"]:
            *lines, rest = _LINE_END.split("".join(begun))
            yield from lines
            begun = [rest.removesuffix("\r"), "\r"] if rest.endswith("\r") else [rest]
    if rest := "".join(begun):
        yield rest.removesuffix("\r")


def parse_events(lines: Iterable[str]) -> Iterator[Event]:
    """Read server-sent events; comments and unknown fields are skipped, several data lines are joined.

    Source: WHATWG HTML, section "Server-sent events", event stream interpretation.
    """
    name, data = "", list[str]()
    for line in lines:
        if not line:
            if data:
                yield Event(name or "message", _decoded("\n".join(data)))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)


def open_client(settings: CliSettings) -> Client:
    """The client for STOKER_URL with STOKER_API_KEY, by default the local stack with its admin key.

    Raises: CliError: there is no local stack, or no key.
    """
    return Client(*server_of(settings))


def server_of(settings: CliSettings) -> tuple[str, str]:
    """The address and the key that commands use.

    Raises: CliError: there is no local stack, or no key.
    """
    url = settings.url or _local_url(settings)
    if settings.api_key is not None:
        return url, sound_key(settings.api_key.get_secret_value(), "STOKER_API_KEY")
    try:
        return url, sound_key(settings.admin_key_file.read_text(), str(settings.admin_key_file))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CliError(
            f"no key: STOKER_API_KEY is not set and {settings.admin_key_file} cannot be read ({reason})",
            "set STOKER_API_KEY, or run ./stoker up, which makes the local admin key",
        ) from error


def sound_key(text: str, source: str) -> str:
    """A key as a header can carry it, without white space around it.

    Args:
        source: the variable or file that it was read from, which is named in its stead.

    Raises: CliError: it is empty, or more than a key; the text itself is in no message.
    """
    key = text.strip()
    if not key:
        raise CliError(f"{source} is empty", "it is to be the key alone, one line")
    if not _KEY.fullmatch(key):
        wrong = "a line break or a space" if any(sign.isspace() for sign in key) else "signs that no key has"
        raise CliError(f"{source} holds {wrong}", "it is to be the key alone, one line")
    return key


def _local_url(settings: CliSettings) -> str:
    state = StackState.load(settings.run_dir)
    if state is None or not state.supervisor.is_alive():
        raise CliError(
            f"no stack is running on {settings.data_dir}",
            "start it with ./stoker up, name its folder with --data-dir, or set STOKER_URL",
        )
    return state.url


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


_REMEDIES = {
    401: "set STOKER_API_KEY to a live key (./stoker keys create NAME makes one)",
    403: "use a key with the role that this needs, such as the admin key",
    404: "check the name",
    409: "choose another name, or wait until what the message names has ended",
    413: "send smaller files",
    429: "wait a little and run it again",
    503: "./stoker status shows which part is away",
}

_REMEDIES_BY_CODE = {
    "collection_not_found": "`./stoker collections list` shows them",
    "key_not_found": "give the id, from `./stoker keys list`",
    "model_not_found": "`./stoker status` shows the models",
}


def _refused(answer: httpx.Response) -> ApiRefused:
    try:
        error = answer.json()["error"]
        message, code = str(error["message"]), error.get("code")
    except (ValueError, KeyError, TypeError):
        message, code = f"HTTP {answer.status_code}: {answer.text[:200]}", None
    return ApiRefused(answer.status_code, message, code, remedy_of(code) or _remedy_of_status(answer.status_code))


def remedy_of(code: object) -> str:
    """What to do about an error of this `code`; empty: that goes by its status."""
    return _REMEDIES_BY_CODE.get(code, "") if isinstance(code, str) else ""


def _remedy_of_status(status: int) -> str:
    if status >= 500:
        return _REMEDIES.get(status, "./stoker logs gateway may say more")
    return _REMEDIES.get(status, "mend what the message names; --help says what the command takes")
