"""A whole stack in a folder, and back: taken while it works, restored into an empty one, killed on the way."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from tests.load.mock import MODEL
from tests.support.engines import Engine
from tests.support.gateway import Upstream, mock_upstream
from tests.support.network import free_port
from tests.support.postgres import Postgres, postgres_server
from tests.support.stack import ROOT, Stack, run_cli, start_stack
from tests.support.waiting import until

pytestmark = [pytest.mark.heavy, pytest.mark.slow]

_HARBOURS = ("Arden", "Brill", "Corin", "Dunmore", "Ebbing", "Farrow")
_FACTS = {
    "pilot": "The pilot station of {harbour} answers on channel {number}.",
    "crane": "The crane of {harbour} lifts {number} tonnes at most.",
    "fee": "A night at the pier of {harbour} costs {number} crowns.",
    "lamp": "The lamp of the lighthouse of {harbour} is {number} metres above the sea.",
}
_QUESTIONS = {
    "pilot": "On which channel does the pilot station of {harbour} answer?",
    "crane": "How many tonnes does the crane of {harbour} lift?",
    "fee": "What does a night at the pier of {harbour} cost?",
    "lamp": "How high is the lamp of the lighthouse of {harbour}?",
}
_ASKED = {"collection": "harbours", "model": "absent-model"}
_TOLD = ("answer", "citations", "degraded")
_LEDGER = "SELECT substr(request_id, 26), segment, tokens_in, tokens_out, nano_usd FROM ledger"


@dataclass
class Load:
    """Documents that come in and questions that are asked while a backup is made.

    Attributes:
        documents: ids of what was taken in.
        deleted: those of them that were deleted again.
        asked: ids of chats whose answers were read to the end.
        refused: answers that should not have come.
    """

    stack: Stack
    documents: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator["Load"]:
        ended = threading.Event()
        threads = [
            threading.Thread(target=self._ingest, args=(ended,)),
            threading.Thread(target=self._ask, args=(ended,)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    def _ingest(self, ended: threading.Event) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            texts = [f"Ship {number}.{each} carries {number * 7 + each} barrels of tar." for each in range(3)]
            documents = [{"title": f"ship-{number}-{at}", "content": one} for at, one in enumerate(texts)]
            with httpx.Client(base_url=self.stack.url, headers=_as(self.stack.admin_key), timeout=60) as client:
                answer = client.post("/v1/ingest", json={"collection": "ships", "documents": documents})
                if answer.status_code != 202:
                    self.refused.append(f"{answer.status_code} {answer.text}")
                    continue
                self.documents += answer.json()["document_ids"]
                if number % 4 == 0:  # what a later moment no longer needs
                    gone = self.documents[len(self.deleted)]
                    self.deleted.append(gone)
                    client.delete(f"/v1/collections/ships/documents/{gone}").raise_for_status()
            ended.wait(0.05)

    def _ask(self, ended: threading.Event) -> None:
        with httpx.Client(base_url=self.stack.url, headers=_as(self.stack.admin_key), timeout=60) as client:
            while not ended.is_set():
                query = {"query": "What do ships carry?", "collection": "ships", "model": "absent-model"}
                chat = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
                for path, body in (("/v1/query", query), ("/v1/chat/completions", chat)):
                    answer = client.post(path, json=body)
                    if answer.status_code != 200:
                        self.refused.append(f"{answer.status_code} {answer.text}")
                    elif body is chat:
                        self.asked.append(answer.headers["x-request-id"])


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@dataclass(frozen=True)
class Parts:
    """What both stacks lean on."""

    embeddings: Engine
    upstream: Upstream


@pytest.fixture
def parts(embedding_engine: Engine) -> Iterator[Parts]:
    with mock_upstream() as upstream:
        yield Parts(embedding_engine, upstream)


@dataclass(frozen=True)
class Databases:
    """Where the two stacks keep SQL."""

    first: dict[str, str]
    second: dict[str, str]


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest) -> Databases:
    if request.param == "sqlite":
        return Databases({}, {})
    server: Postgres = request.getfixturevalue("postgres")
    server.execute("CREATE DATABASE first_stack", "CREATE DATABASE second_stack")
    return Databases(*({"STOKER_DATABASE_URL": server.url(name)} for name in ("first_stack", "second_stack")))


def test_a_backup_of_a_working_stack_answers_the_same_elsewhere(
    databases: Databases, parts: Parts, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    with _stack(tmp_path / "first", parts, databases.first) as stack:
        before = _fill(stack)
        member = stack.client.post("/v1/admin/keys", json={"name": "member", "role": "member"}).json()["key"]
        stack.ingest("ships", [{"title": "first", "content": "Ship 0 carries nothing."}])
        with Load(stack).running() as load:
            until(lambda: len(load.asked) > 5 and len(load.documents) > 9, "load")
            ended_before, ready = list(load.asked), _ready(stack, "ships")
            began_s = time.monotonic()
            made = _cli(stack.data_dir, "backup", "--to", str(tmp_path / "kept"), "--json", env=databases.first)
            took_s = time.monotonic() - began_s
            asked_meanwhile = len(load.asked) - len(ended_before)
        ready -= set(load.deleted)
        assert load.refused == []
        backup = json.loads(made.stdout)
        until(lambda: _shipped(stack, databases.first, ended_before), "the ledger")
        spent = {row[0]: row for row in _rows(stack.data_dir, databases.first, _LEDGER)}
    restored = tmp_path / "second"
    began_s = time.monotonic()
    _cli(restored, "restore", backup["folder"], env=databases.second)
    restored_s = time.monotonic() - began_s
    with _stack(restored, parts, databases.second) as stack:
        after = _answers(stack)
        assert len(after) == 24
        equal = sum(before[question] == answer for question, answer in after.items())
        cited = sum(len(answer["citations"]) for answer in after.values())
        there = _settle(stack, "ships")
        until(lambda: _shipped(stack, databases.second, ended_before), "the ledger restored", 30)
        now = {row[0]: row for row in _rows(stack.data_dir, databases.second, _LEDGER)}
        spent_there = sum(now[each][-1] for each in ended_before)
        figure(
            f"{equal} of {len(after)} answers equal with {cited} citations; {backup['size_bytes'] / 1e6:.1f} MB in "
            f"{backup['files']} files, made in {took_s:.1f} s ({backup['rounds']} moments) beside {asked_meanwhile} "
            f"questions, restored in {restored_s:.1f} s; {len(there)} documents of {len(load.documents)} that came in "
            f"meanwhile, {len(ready & there)} of {len(ready)} that were ready; {len(ended_before)} ended chats at "
            f"{spent_there} nano-USD in both ledgers"
        )
        assert equal == len(after), [question for question, answer in after.items() if before[question] != answer]
        assert cited >= len(after)
        assert ready <= there
        assert spent_there > 0
        assert all(now[each] == spent[each] for each in ended_before)
        for key in (stack.admin_key, member, (tmp_path / "first/admin.key").read_text().strip()):
            assert httpx.get(f"{stack.url}/v1/models", headers=_as(key)).status_code == 200
        stack.ingest("harbours", [{"title": "new", "content": "The restored stack takes documents."}])


def test_a_restore_that_is_killed_anywhere_goes_on_or_is_undone(
    parts: Parts, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    with _stack(tmp_path / "first", parts, {}) as stack:
        before = _fill(stack)
        made = json.loads(_cli(stack.data_dir, "backup", "--to", str(tmp_path / "kept"), "--json").stdout)
    folder, target = Path(made["folder"]), tmp_path / "second"
    moments: dict[str, Callable[[], object]] = {
        "the note": lambda: (target / "restore.json").exists(),
        "some files": lambda: len(_objects(target)) > made["objects"] // 3,
        "the index": lambda: any((target / "milvus/collections").glob("col*")),
    }
    for what, come in moments.items():
        _kill_when(target, folder, come, what)
        assert not (target / "stoker.db").exists(), what
        refused = run_cli("up", "--detach", data_dir=target)
        assert refused.returncode == 1
        assert "a restore into" in refused.stderr
        assert "--undo" in refused.stderr
    _cli(target, "restore", "--undo")
    assert _objects(target) == []
    assert not (target / "restore.json").exists()
    _kill_when(target, folder, moments["some files"], "some files after undo")
    _cli(target, "restore", str(folder))
    with _stack(target, parts, {}) as stack:
        after = _answers(stack)
        assert after == before
        figure(f"killed at {len(moments) + 1} moments, undone once: {len(after)} of {len(before)} answers equal")
    again = run_cli("restore", str(folder), data_dir=target)
    assert again.returncode == 1
    assert "not empty" in again.stderr
    assert "--data-dir" in again.stderr


def _kill_when(target: Path, folder: Path, come: Callable[[], object], what: str) -> None:
    """`kill -9` a restore in the moment in which something is there."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "restore", str(folder), "--data-dir", str(target)],
        cwd=ROOT,
        env=clean,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end_s = time.monotonic() + 60
    while not come():
        assert process.poll() is None, f"the restore ended before {what}"
        assert time.monotonic() < end_s, what
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def _objects(data_dir: Path) -> list[Path]:
    return [path for path in (data_dir / "objects").rglob("*") if path.is_file() and not path.name.startswith(".")]


@contextmanager
def _stack(data_dir: Path, parts: Parts, env: dict[str, str]) -> Iterator[Stack]:
    config = data_dir.parent / "stoker.yaml"
    config.write_text(
        "model_list:\n"
        "  - model_name: absent-model\n"
        f"    litellm_params: {{model: hosted_vllm/absent-model, api_base: 'http://127.0.0.1:{free_port()}/v1'}}\n"
        f"  - model_name: {MODEL}\n"
        f"    litellm_params: {{model: hosted_vllm/{MODEL}, api_base: 'http://127.0.0.1:{parts.upstream.port}/v1',\n"
        "                     input_cost_per_token: 0.000001, output_cost_per_token: 0.000002}\n"
    )
    settings = {**env, "STOKER_EMBEDDING_URL": parts.embeddings.url, "STOKER_ANSWER_CACHE_S": "0"}
    settings |= {"STOKER_KEY_RPM": "0", "STOKER_KEY_TPM": "0"}
    # Whoever shares the machine may make everything slow: that is no refusal of the backup's.
    settings |= {"STOKER_SQL_DEADLINE_S": "60", "STOKER_REDIS_DEADLINE_S": "10", "STOKER_READER_GRACE_S": "600"}
    settings |= {"STOKER_SEARCH_DEADLINE_S": "30", "STOKER_EMBEDDING_DEADLINE_S": "60"}
    flags = ("--engine", "none", "--no-demo", "--config", str(config))
    with start_stack(data_dir, *flags, env=settings) as stack:
        yield stack


def _fill(stack: Stack) -> dict[str, Any]:
    """Six harbours with four facts each. Returns: what is answered to each question."""
    for place in ("dedicated", "pooled"):
        stack.client.post("/v1/collections", json={"name": f"empty-{place}", "placement": place}).raise_for_status()
    documents = [
        {"title": harbour, "content": "\n\n".join(_said(harbour, at)), "metadata": {"at": at}}
        for at, harbour in enumerate(_HARBOURS)
    ]
    stack.client.post("/v1/collections", json={"name": "harbours", "placement": "pooled"}).raise_for_status()
    stack.ingest("harbours", documents)
    stack.ingest("others", documents[:2])
    return _answers(stack)


def _said(harbour: str, at: int) -> list[str]:
    return [said.format(harbour=harbour, number=17 * at + 3 * each + 5) for each, said in enumerate(_FACTS.values())]


def _answers(stack: Stack) -> dict[str, Any]:
    found = {}
    for harbour in _HARBOURS:
        for asked in _QUESTIONS.values():
            question = asked.format(harbour=harbour)
            answer = stack.client.post("/v1/query", json={**_ASKED, "query": question})
            assert answer.status_code == 200, answer.text
            found[question] = {name: answer.json()[name] for name in _TOLD}
    return found


def _settle(stack: Stack, collection: str) -> set[str]:
    """Wait until all of a collection's documents are ready: what was under way goes on. Returns: them, each whole."""
    until(lambda: all(one["status"] == "ready" for one in _documents(stack, collection)), "all ready", 120)
    there = _documents(stack, collection)
    for one in there:
        where = f"/v1/collections/{collection}/documents/{one['id']}"
        assert stack.client.get(f"{where}/source").status_code == 200
        written = stack.client.get(f"{where}/content").text
        asked = {"query": written, "collection": collection, "top_k": 1, "mode": "lexical"}
        (found,) = stack.client.post("/v1/search", json=asked).json()["data"]
        assert (found["document_id"], found["text"]) == (one["id"], written.strip())
    return {one["id"] for one in there}


def _ready(stack: Stack, collection: str) -> set[str]:
    return {one["id"] for one in _documents(stack, collection) if one["status"] == "ready"}


def _documents(stack: Stack, collection: str) -> list[dict[str, Any]]:
    where, found, after = f"/v1/collections/{collection}/documents", [], None
    while True:
        page = stack.client.get(where, params={"limit": 100, **({"after": after} if after else {})}).json()
        found += page["data"]
        if not page["has_more"]:
            return found
        after = page["last_id"]


def _shipped(stack: Stack, env: dict[str, str], wanted: list[str]) -> bool:
    return set(wanted) <= {row[0] for row in _rows(stack.data_dir, env, _LEDGER)}


def _rows(data_dir: Path, env: dict[str, str], statement: str) -> list[tuple[Any, ...]]:
    async def ask() -> list[tuple[Any, ...]]:
        url = env.get("STOKER_DATABASE_URL", f"sqlite+aiosqlite:///{data_dir / 'stoker.db'}")
        engine = create_async_engine(url, poolclass=NullPool)
        async with engine.connect() as connection:
            rows = [tuple(row) for row in await connection.execute(text(statement))]
        await engine.dispose()
        return rows

    return asyncio.run(ask())


def _cli(data_dir: Path, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = run_cli(*words, data_dir=data_dir, env=env, timeout_s=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def _as(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
