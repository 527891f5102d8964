"""Two versions side by side, and one after the other, under load: no request is lost."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.load.client import Connection, chat
from tests.load.mock import MODEL
from tests.support.editions import earlier_version, next_version
from tests.support.gateway import answers, mock_upstream
from tests.support.network import free_port
from tests.support.process import ROOT, running
from tests.support.valkey import valkey_server

pytestmark = [pytest.mark.heavy, pytest.mark.slow]

_TOKENS = 20
_COLLECTION = (
    "INSERT INTO collections (id, tenant_id, name, live_name, description, metadata, chunking, embedding_space, "
    "dimensions, version, chunks, terms, average_terms, generation, created_at) VALUES "
    "('col_1', 'default', 'c', 'c', '', '{}', '{}', 'space', 384, 0, 0, 0, 65.0, 0, 0.0)"
)


@dataclass
class Host:
    """A data folder that gateways of both versions share."""

    folder: Path
    redis_url: str
    upstream_port: int
    parts: ExitStack

    def migrate(self, tree: Path) -> None:
        subprocess.run(self._command(tree, "storage.migrate"), check=True, capture_output=True, env=self._env(1))

    def start(self, tree: Path, name: str, workers: int = 2) -> tuple[int, subprocess.Popen[bytes]]:
        """Returns: the gateway's port, and its first process."""
        port = free_port()
        log = self.folder / f"{name}.log"
        command = self._command(tree, "api")
        started = running(
            command, log, lambda: answers(port, "/health/live"), {**self._env(workers), "STOKER_PORT": str(port)}
        )
        return port, self.parts.enter_context(started)

    @property
    def key(self) -> str:
        return (self.folder / "admin.key").read_text().strip()

    def _command(self, tree: Path, module: str) -> list[str]:
        return ["env", "-C", str(tree), f"PYTHONPATH={tree}", sys.executable, "-m", module]

    def _env(self, workers: int) -> dict[str, str]:
        config = self.folder / "stoker.yaml"
        config.write_text(
            f"model_list:\n  - model_name: {MODEL}\n    litellm_params: {{model: hosted_vllm/{MODEL}, "
            f"api_base: 'http://127.0.0.1:{self.upstream_port}/v1'}}\n"
        )
        return {
            **os.environ,
            "STOKER_DATA_DIR": str(self.folder),
            "STOKER_CONFIG": str(config),
            "STOKER_REDIS_URL": self.redis_url,
            "STOKER_MILVUS_URI": f"http://127.0.0.1:{free_port()}",
            "STOKER_EMBEDDING_URL": f"http://127.0.0.1:{free_port()}",
            "STOKER_WORKERS": str(workers),
            "STOKER_KEY_RPM": "0",
            "STOKER_KEY_TPM": "0",
            "STOKER_SQL_DEADLINE_S": "60",
            "STOKER_READER_GRACE_S": "600",
        }


@dataclass
class Load:
    """Clients behind a balancer that sends to the gateways in `live`.

    Attributes:
        whole: what was answered as it should be, by kind and the port that answered.
        lost: what was not, with how it ended.
        kept: ids of files and jobs that were accepted.
        on_their_way: requests to each port that are not answered yet, or not even sent.
    """

    key: str
    live: list[int]
    whole: Counter[tuple[str, int]] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    connecting: Counter[int] = field(default_factory=Counter)
    streaming: Counter[int] = field(default_factory=Counter)
    ended: bool = False
    turn: int = 0

    def pick(self) -> int:
        self.turn += 1
        return self.live[self.turn % len(self.live)]

    async def chats(self, *, stream: bool) -> None:
        kind = "streams" if stream else "chats"
        while not self.ended:
            port = self.pick()
            self.connecting[port] += 1
            try:
                connection = await Connection.open(port)
            except OSError as error:
                self.lost.append(f"{kind}: {error!r}")
                continue
            finally:
                self.connecting[port] -= 1
            self.streaming[port] += stream
            try:
                request = chat(port, self.key, MODEL, tokens=_TOKENS, stream=stream, pause_ms=150 if stream else 0)
                reply = await connection.ask(request)
            except ConnectionError as error:
                self.lost.append(f"{kind}: {error}")
            else:
                good = reply.status == 200 and (not stream or b"[DONE]" in reply.body)
                tokens = reply.frames if stream else _TOKENS
                if good and tokens >= _TOKENS:
                    self.whole[kind, port] += 1
                else:
                    self.lost.append(f"{kind}: {reply.status} {tokens} {reply.body[-200:]!r}")
            finally:
                self.streaming[port] -= stream
                connection.close()

    async def posts(self, kind: str, path: str, **body: object) -> None:
        headers = {"Authorization": f"Bearer {self.key}", "Connection": "close"}
        async with httpx.AsyncClient(headers=headers, timeout=60) as client:
            while not self.ended:
                port = self.pick()
                self.connecting[port] += 1  # until it is answered: a balancer waits for these, too
                try:
                    answer = await client.post(
                        f"http://127.0.0.1:{port}{path}", headers={"connection": "close"}, **body
                    )  # type: ignore[arg-type]
                except httpx.HTTPError as error:
                    self.lost.append(f"{kind}: {error!r}")
                    continue
                finally:
                    self.connecting[port] -= 1
                if answer.status_code in (200, 202):
                    self.whole[kind, port] += 1
                    told = answer.json()
                    self.kept.append(f"/v1/jobs/{told['job_id']}" if "job_id" in told else f"/v1/files/{told['id']}")
                else:
                    self.lost.append(f"{kind}: {answer.status_code} {answer.text[:200]}")

    def tasks(self) -> list["asyncio.Task[None]"]:
        document = {"collection": "c", "documents": [{"title": "t", "content": "The tide rises."}]}
        files = {"files": {"file": ("f.txt", b"The moon is seen twice.")}, "data": {"purpose": "user_data"}}
        work = [
            *(self.chats(stream=True) for _ in range(6)),
            *(self.chats(stream=False) for _ in range(2)),
            self.posts("ingestions", "/v1/ingest", json=document),
            self.posts("files", "/v1/files", **files),
        ]
        return [asyncio.create_task(each) for each in work]

    async def until(self, holds: Callable[[], bool], seconds: float = 120) -> None:
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110  # a count sets no event
                await asyncio.sleep(0.02)

    async def answered(self, port: int, more: int) -> None:
        """Until so many more requests of each kind have been answered there."""
        kinds = ("streams", "chats", "ingestions", "files")
        before = {kind: self.whole[kind, port] for kind in kinds}
        await self.until(lambda: all(self.whole[kind, port] >= before[kind] + more for kind in kinds))


@contextmanager
def _host(folder: Path) -> Iterator[Host]:
    folder.mkdir(parents=True)
    with mock_upstream() as upstream, valkey_server(folder / "valkey") as redis_url, ExitStack() as parts:
        yield Host(folder, redis_url, upstream.port, parts)


async def _drained(load: Load, port: int, process: "subprocess.Popen[bytes]") -> int:
    """Take a gateway away as a balancer does: send no more, then SIGTERM while streams run. Returns: how many ran."""
    while True:
        await load.until(lambda: load.streaming[port] > 2)
        load.live.remove(port)
        await load.until(lambda: load.connecting[port] == 0)
        if running_ := load.streaming[port]:
            break
        load.live.append(port)  # all of them ended while the last request was being sent
    process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(process.wait, 90)
    return running_


@pytest.mark.parametrize("which", [pytest.param("this and the next", marks=pytest.mark.long), "an earlier and this"])
async def test_an_upgrade_under_load_loses_no_request(
    tmp_path: Path, which: str, figure: Callable[[str], None]
) -> None:
    if which == "this and the next":
        old, new = ROOT, next_version(tmp_path / "new")
    else:
        earlier = earlier_version(tmp_path / "old", migrations=2)
        if earlier is None:
            pytest.skip("this clone's history does not reach back two migrations: fetch more of it")
        old, new = earlier, ROOT
    with _host(tmp_path / "host") as host:
        await asyncio.to_thread(host.migrate, old)
        old_port, old_process = await asyncio.to_thread(host.start, old, "old")
        _execute(host, _COLLECTION)
        load = Load(host.key, [old_port])
        tasks = load.tasks()
        await load.answered(old_port, 2)
        schema = _execute(host, "SELECT version_num FROM alembic_version")
        await asyncio.to_thread(host.migrate, new)
        migrated = _execute(host, "SELECT version_num FROM alembic_version")
        assert migrated > schema
        await load.answered(old_port, 3)  # the old version works on the new schema
        new_port, _ = await asyncio.to_thread(host.start, new, "new")
        load.live.append(new_port)
        await load.answered(new_port, 2)
        await load.answered(old_port, 2)
        streams = await _drained(load, old_port, old_process)
        await load.answered(new_port, 3)
        load.ended = True
        await asyncio.gather(*tasks)
        seen = await _seen(host.key, new_port, load.kept)
        counts = {kind: sum(count for (each, _), count in load.whole.items() if each == kind) for kind, _ in load.whole}
        figure(
            f"{which}, schema {schema} to {migrated}: {json.dumps(counts)}, {streams} streams ran when the old one was "
            f"told to end, {len(load.lost)} requests lost; {seen} of {len(load.kept)} files and jobs are there"
        )
        assert load.lost == []
        assert seen == len(load.kept)
        assert streams > 0
        told = await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{new_port}/health")
        assert told.json()["version"] == ("9.0.0" if which == "this and the next" else "0.1.0")


@pytest.mark.long
async def test_a_rolling_restart_of_many_workers_cuts_no_stream(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """Each of two gateways with three workers is replaced in turn, as a rolling update does."""
    with _host(tmp_path / "host") as host:
        await asyncio.to_thread(host.migrate, ROOT)
        there = [await asyncio.to_thread(host.start, ROOT, f"first-{at}", 3) for at in range(2)]
        _execute(host, _COLLECTION)
        load = Load(host.key, [port for port, _ in there])
        tasks = load.tasks()
        cut = 0
        for at, (port, process) in enumerate(there):
            await load.answered(port, 2)
            cut += await _drained(load, port, process)
            fresh, _ = await asyncio.to_thread(host.start, ROOT, f"second-{at}", 3)
            load.live.append(fresh)
            await load.answered(fresh, 2)
        load.ended = True
        await asyncio.gather(*tasks)
        total = sum(load.whole.values())
        figure(
            f"2 gateways of 3 workers restarted: {total} requests whole, {cut} streams ran at SIGTERM, "
            f"{len(load.lost)} lost"
        )
        assert load.lost == []
        assert cut > 0


def _execute(host: Host, statement: str) -> str:
    with sqlite3.connect(host.folder / "stoker.db", timeout=60) as connection:
        row = connection.execute(statement).fetchone()
    connection.close()
    return "" if row is None else str(row[0])


async def _seen(key: str, port: int, paths: Sequence[str]) -> int:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        return sum([(await client.get(f"http://127.0.0.1:{port}{path}")).status_code == 200 for path in paths])
