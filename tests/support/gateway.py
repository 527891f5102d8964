"""A gateway for tests and measurements: Valkey, SQLite, keeper and a mock upstream; no Milvus, no models."""

import asyncio
import contextlib
import http.client
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.load.mock import MODEL, Spent, serving
from tests.support.database import fresh_sqlite, migrated
from tests.support.network import free_port
from tests.support.process import running
from tests.support.valkey import valkey_server


@dataclass(frozen=True)
class Gateway:
    """A running gateway; `pid` is of its first process, whose children are the workers."""

    port: int
    key: str
    pid: int
    folder: Path
    redis_url: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "gateway.log").read_text()


@dataclass
class Upstream:
    """The mock in a thread of its own."""

    port: int
    log: list[Spent] = field(default_factory=list)


@contextmanager
def mock_upstream() -> Iterator[Upstream]:
    """Serve the mock until the block ends."""
    upstream = Upstream(free_port())
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()

    async def run() -> None:
        async with serving(upstream.port, upstream.log):
            ready.set()
            await stop.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    ready.wait(10)
    try:
        yield upstream
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@contextmanager
def gateway(
    folder: Path,
    upstream_port: int,
    *,
    settings: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    module: str = "api",
    keeper: bool = True,
    prices: str = "input_cost_per_token: 0.00000015, output_cost_per_token: 0.0000006",
    configuration: str = "",
) -> Iterator[Gateway]:
    """Start a gateway whose only model is the mock.

    Args:
        settings: more environment variables.
        prefix: put before its command, such as `taskset -c 1`.
        module: what runs it.
        prices: of the mock's tokens, as in LiteLLM's form.
        configuration: text of stoker.yaml, in place of the one that names the mock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "stoker.yaml"
    config.write_text(
        configuration
        or "model_list:\n"
        f"  - model_name: {MODEL}\n"
        f"    litellm_params: {{model: hosted_vllm/{MODEL}, {prices},\n"
        f"                     api_base: 'http://127.0.0.1:{upstream_port}/v1'}}\n"
    )
    (folder / "metrics").mkdir(exist_ok=True)
    with ExitStack() as stack:
        redis_url = stack.enter_context(valkey_server(folder / "valkey"))
        env = {
            "STOKER_DATA_DIR": str(folder),
            "STOKER_CONFIG": str(config),
            "STOKER_REDIS_URL": redis_url,
            "STOKER_MILVUS_URI": f"http://127.0.0.1:{free_port()}",
            "STOKER_EMBEDDING_URL": f"http://127.0.0.1:{free_port()}",
            "STOKER_PORT": str(port),
            "STOKER_GATEWAY_URL": f"http://127.0.0.1:{port}",
            "STOKER_ANSWER_CACHE_S": "0",  # who asks the same again means to ask the model again
            "STOKER_SEARCH_CACHE_S": "0",
            "STOKER_QUESTION_CACHE_S": "0",
            "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
            **(settings or {}),
        }
        if "STOKER_DATABASE_URL" in env:
            migrated(env["STOKER_DATABASE_URL"])
        else:
            fresh_sqlite(folder / "stoker.db")
        process = stack.enter_context(
            running(
                [*prefix, sys.executable, "-m", module],
                folder / "gateway.log",
                lambda: answers(port, "/health/live"),
                env,
            )
        )
        if keeper:
            log = folder / "keeper.log"
            stack.enter_context(
                running([sys.executable, "-m", "api.keeper"], log, lambda: '"ready"' in log.read_text(), env)
            )
        yield Gateway(port, (folder / "admin.key").read_text().strip(), process.pid, folder, redis_url)


def models(*entries: str) -> str:
    """The text of a stoker.yaml with these entries."""
    return f"model_list:\n{''.join(entries)}"


def entry(name: str, base_url: str, prompt_usd: str = "0", completion_usd: str = "0") -> str:
    """A model group in stoker.yaml whose one deployment calls its model `words`; prices are those of a token."""
    return (
        f"  - model_name: {name}\n"
        f"    litellm_params: {{model: hosted_vllm/words, api_base: '{base_url}'}}\n"
        f"    model_info: {{input_cost_per_token: {prompt_usd}, output_cost_per_token: {completion_usd}}}\n"
    )


def answers(port: int, path: str) -> bool:
    """Whether a GET of the path is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def workers(pid: int) -> list[int]:
    """The worker processes of the gateway whose first process this is."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            with contextlib.suppress(OSError):
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
    return found
