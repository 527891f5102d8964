"""The thin clients: held against what the gateway says of its routes, and their examples against a real stack."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest

from api.app import create_app
from api.settings import ApiSettings
from tests.support.process import ROOT

PYTHON, TYPESCRIPT = ROOT / "clients" / "python", ROOT / "clients" / "typescript"
NODE_PACKAGES = Path(os.environ.get("STOKER_ENVS_DIR", ROOT / ".stoker" / "envs")) / "console-node" / "node_modules"
EXAMPLES = ("ingest", "follow", "search", "ask")

sys.path.insert(0, str(PYTHON))
from stoker_client import Refused, Stoker, StreamBroken, Unreachable, shapes  # noqa: E402

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
    command = [tsc, "-p", TYPESCRIPT, "--outDir", folder, "--typeRoots", NODE_PACKAGES / "@types"]
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


def fields_in_typescript(name: str) -> set[str]:
    text = (TYPESCRIPT / "stoker.ts").read_text()
    body = re.search(rf"export interface {name} \{{(.*?)\n\}}", text, re.DOTALL)
    assert body is not None, name
    return set(re.findall(r"^  (\w+)\??:", body[1], re.MULTILINE))


@pytest.mark.parametrize(
    "name", ["Collection", "Accepted", "JobDocument", "Job", "Passage", "Found", "Citation", "Answer"]
)
def test_both_clients_know_the_same_fields(name: str) -> None:
    assert set(get_type_hints(getattr(shapes, name))) == fields_in_typescript(name)


@pytest.fixture
def commands(request: pytest.FixtureRequest) -> Iterator[Callable[..., list[str]]]:
    """Gives the command of an example in the language that the test asks for."""
    if request.param == "python":
        yield lambda name, *words: [sys.executable, str(PYTHON / "examples" / f"{name}.py"), *words]
    else:
        folder: Path = request.getfixturevalue("compiled")
        yield lambda name, *words: ["node", str(folder / "examples" / f"{name}.js"), *words]
