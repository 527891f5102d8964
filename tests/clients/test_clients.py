"""The thin clients: held against what the gateway says of its routes, and their examples against a real stack."""

import json
import os
import re
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import httpx
import pytest

from api.app import create_app
from api.settings import ApiSettings
from tests.support.process import ROOT

PYTHON, TYPESCRIPT = ROOT / "clients" / "python", ROOT / "clients" / "typescript"
NODE_PACKAGES = Path(os.environ.get("STOKER_ENVS_DIR", ROOT / ".stoker" / "envs")) / "console-node" / "node_modules"
SHAPES = ("Collection", "Accepted", "JobDocument", "Job", "Passage", "Found", "Citation", "Answer")
EXAMPLES = ("ingest", "follow", "search", "ask")

sys.path.insert(0, str(PYTHON))
from stoker_client import Refused, Stoker, StreamBroken, Token, Unreachable, shapes  # noqa: E402

Call = tuple[str, str, Any]

_ANSWERS: dict[tuple[str, str], Any] = {
    ("GET", "/v1/collections"): {"data": [], "has_more": False, "last_id": None},
    ("GET", "/v1/jobs/job_1"): {"id": "job_1", "status": "queued", "documents": []},
}
_EVENTS = {
    "/v1/jobs/job_1/events": b'event: job\ndata: {"id": "job_1", "status": "succeeded", "documents": []}\n\n',
    "/v1/query": b'event: token\ndata: {"text": "a"}\n\nevent: done\ndata: {"answer": "a"}\n\n',
}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return dict(create_app(ApiSettings()).openapi())


def described(schema: Mapping[str, Any], method: str, path: str) -> dict[str, Any] | None:
    """What the gateway says of the route of a path."""
    for template, about in schema["paths"].items():
        pattern = re.sub(r"\{[^}]*\}", "[^/]+", template)
        if re.fullmatch(pattern, path) and method.lower() in about:
            return dict(about[method.lower()])
    return None


def fields_of(schema: Mapping[str, Any], route: Mapping[str, Any], kind: str) -> set[str]:
    body = route["requestBody"]["content"][kind]["schema"]
    if "$ref" in body:
        body = schema["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    return set(body["properties"])


def held(schema: Mapping[str, Any], calls: list[Call]) -> None:
    """Every call goes to a route that there is, with parameters and fields that it knows."""
    for method, address, body in calls:
        path, _, query = address.partition("?")
        route = described(schema, method, path)
        assert route is not None, (method, path)
        known = {one["name"] for one in route.get("parameters", []) if one["in"] == "query"}
        assert {pair.partition("=")[0] for pair in query.split("&") if pair} <= known, address
        if isinstance(body, list):  # names of a form's fields
            assert set(body) <= fields_of(schema, route, "multipart/form-data"), path
        elif body is not None:
            assert set(body) <= fields_of(schema, route, "application/json"), (path, body)


def python_calls(tmp_path: Path) -> list[Call]:
    calls: list[Call] = []

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        kind = request.headers.get("content-type", "")
        content = request.read()
        body: Any = json.loads(content) if kind == "application/json" else None
        if kind.startswith("multipart"):
            body = re.findall(r'form-data; name="(\w+)"', content.decode())
        calls.append((request.method, request.url.raw_path.decode(), body))
        assert request.headers["authorization"] == "Bearer k"
        if request.headers["accept"] == "text/event-stream":
            return httpx.Response(200, content=_EVENTS[path])
        return httpx.Response(200, json=_ANSWERS.get((request.method, path), {}))

    file = tmp_path / "a.txt"
    file.write_text("text")
    wanted = {"type": "eq", "key": "year", "value": 2024}
    with Stoker("http://gate", "k", transport=httpx.MockTransport(answer)) as stoker:
        stoker.create_collection("a", description="d", metadata={"x": 1}, local_only=True)
        assert list(stoker.collections()) == []
        stoker.collection("a b/c")
        stoker.delete_collection("a")
        stoker.ingest("a", file, metadata={"x": 1})
        stoker.ingest_texts("a", [{"content": "c", "title": "t", "metadata": {}, "acl": {"users": []}}])
        stoker.job("job_1")
        assert stoker.wait("job_1")["status"] == "succeeded"
        stoker.search("q", "a", top_k=3, mode="hybrid", filter=wanted, rerank=True, facets=["year"])
        about: dict[str, Any] = {"model": "m", "filter": wanted, "grounding": "mark"}
        stoker.ask("q", "a", **about, conversation_id="c", max_tokens=5)
        assert len(list(stoker.stream("q", "a", **about, top_k=2))) == 2
        stoker.content("a", "doc_1", 2)
    return calls


def test_the_python_client_calls_what_the_gateway_describes(schema: dict[str, Any], tmp_path: Path) -> None:
    calls = python_calls(tmp_path)
    public = {name for name in vars(Stoker) if not name.startswith("_")} - {"close", "follow"}
    assert len(calls) >= len(public)
    assert ("GET", "/v1/collections/a%20b%2Fc", None) in [call for call in calls if call[0] == "GET"]
    held(schema, [call for call in calls if "%" not in call[1]])


def test_the_python_client_says_what_went_wrong() -> None:
    error = {"error": {"message": "wait a little", "code": "rate_limit_exceeded", "param": None}}

    def refuse(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/query":
            return httpx.Response(200, content=b'event: token\ndata: {"text": "a"}\n\n')
        if request.url.path == "/v1/jobs/gone":
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(429, json=error, headers={"retry-after": "7", "x-request-id": "req_1"})

    with Stoker("http://gate", "k", transport=httpx.MockTransport(refuse)) as stoker:
        with pytest.raises(Refused, match="wait a little") as refused:
            stoker.search("q", "a")
        found = refused.value
        assert (found.status, found.code, found.request_id, found.retry_after_s) == (
            429,
            "rate_limit_exceeded",
            "req_1",
            7,
        )
        with pytest.raises(StreamBroken):
            list(stoker.stream("q", "a"))
        with pytest.raises(Unreachable, match="gate"):
            stoker.job("gone")


def served(*parts: bytes | Exception, status: int = 200) -> Stoker:
    """A client whose every answer comes in these parts; an error among them is what the connection does then."""

    class Body(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for part in parts:
                if isinstance(part, Exception):
                    raise part
                yield part

    return Stoker("http://gate", "k", transport=httpx.MockTransport(lambda _: httpx.Response(status, stream=Body())))


def test_the_python_client_reads_lines_as_the_standard_has_them() -> None:
    """U+2028 and its like stand in JSON as they are; they ended a line, and the client failed."""
    text = "one\u2028two\x85three\u2029\U0001f6a2"
    told = (
        "event: token\r\ndata: " + json.dumps({"text": text}, ensure_ascii=False) + "\r\n\r\nevent: done\ndata: {}\n\n"
    )
    raw = told.encode()
    for cut in range(1, len(raw)):
        with served(raw[:cut], raw[cut:]) as stoker:
            found = list(stoker.stream("q", "a"))
        assert isinstance(found[0], Token)
        assert found[0].text == text
        assert len(found) == 2


def test_the_python_client_tells_a_broken_stream_from_a_gateway_that_is_away() -> None:
    token = b'event: token\ndata: {"text": "a"}\n\n'
    for error in (httpx.RemoteProtocolError("peer closed"), httpx.ReadTimeout("slow"), httpx.ReadError("reset")):
        with served(token, error) as stoker, pytest.raises(StreamBroken, match="ask again"):
            list(stoker.stream("q", "a"))
        with served(error) as stoker, pytest.raises(Unreachable):
            stoker.job("job_1")


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (302, b""), (200, b"[1]")])
def test_the_python_client_says_where_no_stoker_answers(status: int, body: bytes) -> None:
    with served(body, status=status) as stoker, pytest.raises(Unreachable, match="is no Stoker; check the address"):
        stoker.collection("a")


@pytest.mark.parametrize("body", [b'{"error": "bad gateway"}', b"null", b'{"error": {"message": null}}'])
def test_the_python_client_takes_any_refusal(body: bytes) -> None:
    with served(body, status=502) as stoker, pytest.raises(Refused, match="HTTP 502"):
        stoker.collection("a")


@pytest.mark.parametrize("key", ["", "sk-secret\nid key_1", "sk-secret sk-secret", "sk-secretä"])
def test_the_python_client_takes_nothing_but_a_key_and_shows_none(key: str) -> None:
    with pytest.raises(ValueError, match="the key alone, one line") as caught:
        Stoker("http://gate", key)
    assert "sk-secret" not in str(caught.value)


def test_what_a_library_says_of_a_header_reaches_no_reader_of_the_python_client() -> None:
    told = httpx.LocalProtocolError("Illegal header value b'Bearer sk-secret'")
    with served(told) as stoker, pytest.raises(Unreachable) as caught:
        stoker.job("job_1")
    assert "sk-secret" not in str(caught.value)


def test_waiting_for_a_job_keeps_its_last_state_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It kept each state with all its documents: 10,000 documents took gigabytes."""
    kept: list[weakref.ref[dict[str, Any]]] = []

    class State(dict[str, Any]):
        pass

    def follow(_: Stoker, __: str) -> Iterator[Any]:
        for number in range(5):
            state = State(status=number)
            kept.append(weakref.ref(state))
            yield state
            del state
            assert sum(ref() is not None for ref in kept) <= 1 + 1

    monkeypatch.setattr(Stoker, "follow", follow)
    with served() as stoker:
        assert dict(stoker.wait("job_1")) == {"status": 4}


def test_an_upload_waits_for_a_connection_no_longer_than_other_calls(tmp_path: Path) -> None:
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.extensions["timeout"])
        return httpx.Response(202, json={"job_id": "job_1"})

    (tmp_path / "a.txt").write_text("text")
    with Stoker("http://gate", "k", transport=httpx.MockTransport(answer)) as stoker:
        stoker.ingest("a", tmp_path / "a.txt")
    assert (asked[0]["connect"], asked[0]["read"]) == (5.0, 600.0)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_short(name: str) -> None:
    for file in (PYTHON / "examples" / f"{name}.py", TYPESCRIPT / "examples" / f"{name}.ts"):
        assert len(file.read_text().splitlines()) < 15, file


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TypeScript client and its examples, as tsc makes them in its strictest form."""
    tsc = NODE_PACKAGES / ".bin" / "tsc"
    if shutil.which("node") is None or not tsc.exists():
        pytest.skip("node, or its packages, are not here: install Node with npm and run ./stoker test again")
    folder = tmp_path_factory.mktemp("typescript")
    words = [tsc, "-p", TYPESCRIPT, "--outDir", folder, "--typeRoots", NODE_PACKAGES / "@types"]
    command = [str(word) for word in words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


_TYPESCRIPT_CALLS = """
import { Stoker } from "./stoker.js";
const [answers, events] = JSON.parse(process.argv[2]);
const calls = [];
const fetch = async (address, { method, headers, body }) => {
  const path = address.replace("http://gate", "");
  if (headers.authorization !== "Bearer k") throw new Error("no key");
  const sent = body instanceof FormData ? [...body.keys()] : body === undefined ? null : JSON.parse(body);
  calls.push([method, path, sent]);
  const streamed = (path.endsWith("/events") || (body && String(body).includes('"stream":true'))) && events[path];
  return streamed ? new Response(streamed) : Response.json(answers[`${method} ${path.split("?")[0]}`] ?? {});
};
const stoker = new Stoker("http://gate/", "k", { fetch });
const filter = { type: "eq", key: "year", value: 2024 };
await stoker.createCollection("a", { description: "d", metadata: {}, language: "none", local_only: true });
for await (const _ of stoker.collections()) throw new Error("there is none");
await stoker.collection("a");
await stoker.deleteCollection("a");
await stoker.ingest("a", [{ name: "a.txt", data: new Blob(["text"]) }], { x: 1 });
await stoker.ingestTexts("a", [{ content: "c", title: "t", metadata: {}, acl: { users: [] } }]);
await stoker.job("job_1");
if ((await stoker.wait("job_1")).status !== "succeeded") throw new Error("the last event is the job");
await stoker.search("q", "a", { top_k: 3, mode: "hybrid", filter, rerank: true, facets: ["year"] });
await stoker.ask("q", "a", { model: "m", top_k: 3, filter, grounding: "mark", conversation_id: "c", max_tokens: 5 });
const kinds = [];
for await (const event of stoker.stream("q", "a", { model: "m" })) kinds.push(event.kind);
if (kinds.join() !== "token,done") throw new Error(kinds.join());
await stoker.content("a", "doc_1", 2);
console.log(JSON.stringify(calls));
"""


def test_the_typescript_client_calls_what_the_gateway_describes(schema: dict[str, Any], compiled: Path) -> None:
    (compiled / "calls.mjs").write_text(_TYPESCRIPT_CALLS)
    answers = {f"{method} {path}": body for (method, path), body in _ANSWERS.items()}
    told = json.dumps([answers, {path: text.decode() for path, text in _EVENTS.items()}])
    command = ["node", str(compiled / "calls.mjs"), told]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    calls: list[Call] = [tuple(call) for call in json.loads(done.stdout)]
    assert len(calls) >= 13
    held(schema, calls)


def test_the_typescript_client_meets_what_goes_wrong(compiled: Path) -> None:
    shutil.copy(Path(__file__).with_name("faults.mjs"), compiled)
    done = subprocess.run(
        ["node", str(compiled / "faults.mjs")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def fields_in_typescript(name: str) -> set[str]:
    text = (TYPESCRIPT / "stoker.ts").read_text()
    body = re.search(rf"export interface {name} \{{(.*?)\n\}}", text, re.DOTALL)
    assert body is not None, name
    return set(re.findall(r"^  (\w+)\??:", body[1], re.MULTILINE))


@pytest.mark.parametrize("name", SHAPES)
def test_both_clients_know_the_same_fields(name: str) -> None:
    assert set(get_type_hints(getattr(shapes, name))) == fields_in_typescript(name)


def kinds_described(schema: Mapping[str, Any], one: Mapping[str, Any]) -> set[str]:
    """The JSON types that a described field may have; values of an enumeration stand for themselves."""
    if "$ref" in one:
        return kinds_described(schema, schema["components"]["schemas"][one["$ref"].rpartition("/")[2]])
    if "anyOf" in one:
        return {kind for each in one["anyOf"] for kind in kinds_described(schema, each)}
    return set(one.get("enum") or [one["const"]] if "enum" in one or "const" in one else [one["type"]])


def kinds_expected(hint: Any) -> set[str]:
    """The same of a client's annotation."""
    simple = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object", list: "array"}
    if get_origin(hint) in (NotRequired, Required):
        return kinds_expected(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        return {kind for each in get_args(hint) for kind in kinds_expected(each)}
    if hint is type(None):
        return {"null"}
    return {simple.get(get_origin(hint) or hint, "object")}


@pytest.mark.parametrize("name", SHAPES)
def test_clients_expect_what_the_gateway_describes(schema: dict[str, Any], name: str) -> None:
    shape, about = getattr(shapes, name), schema["components"]["schemas"][name]
    assert shape.__required_keys__ <= set(about["required"])
    for field, hint in get_type_hints(shape, include_extras=True).items():
        sent, expected = kinds_described(schema, about["properties"][field]), kinds_expected(hint)
        words = sent - {"string", "integer", "number", "boolean", "object", "array", "null"}
        allowed = expected | ({"integer"} if "number" in expected else set())
        assert sent <= allowed | (words if "string" in expected else set()), (name, field, sent, expected)


@pytest.fixture
def commands(request: pytest.FixtureRequest) -> Iterator[Callable[..., list[str]]]:
    """Gives the command of an example in the language that the test asks for."""
    if request.param == "python":
        yield lambda name, *words: [sys.executable, str(PYTHON / "examples" / f"{name}.py"), *words]
    else:
        folder: Path = request.getfixturevalue("compiled")
        yield lambda name, *words: ["node", str(folder / "examples" / f"{name}.js"), *words]
