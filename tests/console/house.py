"""A gateway with all that the console shows: keeper, ingestion worker, index, embedding server, a model that costs."""

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from tests.support.answering import PARTS, Desk
from tests.support.gateway import gateway
from tests.support.openai_server import OpenAiServer
from tests.support.process import running

MODEL = "house-8b"
LARGE = "house-70b"

TRIED = "pilots"
"""A collection whose answers an experiment tries another way, for half of those who ask."""

_FIGURES = """# TYPE stoker_gpu_share_ratio gauge
stoker_gpu_share_ratio{host="node-7",gpu="0",UUID="GPU-7a1c",deployment="house-8b-1",model="house-8b"} 0.75
stoker_gpu_share_ratio{host="node-7",gpu="0",UUID="GPU-7a1c",deployment="house-70b-2",model="house-70b"} 0.25
stoker_gpu_share_ratio{host="node-7",gpu="1",UUID="GPU-91fe",deployment="",model=""} 1.0
# TYPE stoker_gpu_power_watts gauge
stoker_gpu_power_watts{host="node-7",gpu="0",UUID="GPU-7a1c",deployment="house-8b-1",model="house-8b"} 412.5
# TYPE stoker_gpu_active_ratio gauge
stoker_gpu_active_ratio{host="node-7",gpu="0",UUID="GPU-7a1c",deployment="house-8b-1",model="house-8b"} 0.875
# TYPE stoker_gpu_memory_used_bytes gauge
stoker_gpu_memory_used_bytes{host="node-7",gpu="0",UUID="GPU-7a1c",deployment="house-8b-1",model="house-8b"} 6.4e10
# TYPE stoker_gpu_memory_free_bytes gauge
stoker_gpu_memory_free_bytes{host="node-7",gpu="0",UUID="GPU-7a1c",deployment="house-8b-1",model="house-8b"} 1.6e10
"""
_PRICES = {MODEL: ("0.00000005", "0.0000002"), LARGE: ("0.0000004", "0.0000012")}


@contextmanager
def house(
    folder: Path,
    milvus_uri: str,
    embedding_url: str,
    server: OpenAiServer,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Desk]:
    """Open one until the block ends; both of its models are the same server."""
    parts = {
        **PARTS,
        "STOKER_MILVUS_URI": milvus_uri,
        "STOKER_EMBEDDING_URL": embedding_url,
        "STOKER_ANSWER_CACHE_S": "3600",
        **(settings or {}),
    }
    entries = [
        f"  - model_name: {name}\n"
        f"    litellm_params: {{model: hosted_vllm/{server.model}, api_base: '{server.base_url}'}}\n"
        f"    model_info: {{input_cost_per_token: {prompt}, output_cost_per_token: {completion}}}\n"
        for name, (prompt, completion) in _PRICES.items()
    ]
    experiment = f"{{collection: {TRIED}, percent: 50, answers: {{mode: lexical, passages: 2}}}}"
    configuration = f"model_list:\n{''.join(entries)}stoker:\n  experiments:\n    by-words: {experiment}\n"
    with (
        figures() as parts["STOKER_GPU_FIGURES_URL"],
        gateway(folder, 1, settings=parts, configuration=configuration) as gate,
    ):
        worker = {**parts, "STOKER_DATA_DIR": str(gate.folder), "STOKER_REDIS_URL": gate.redis_url}
        headers = {"authorization": f"Bearer {gate.key}"}
        with (
            running([sys.executable, "-m", "retrieval.worker"], folder / "worker.log", lambda: True, worker),
            httpx.Client(base_url=gate.url, headers=headers, timeout=120) as client,
        ):
            yield Desk(gate, client)


@contextmanager
def figures() -> Iterator[str]:
    """Serve what is known of GPUs, as `python -m monitoring.gpus` does. Gives the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(_FIGURES.encode())

        def log_message(self, *_: object) -> None:
            """A look is nothing to tell of."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/metrics"
        finally:
            server.shutdown()
            thread.join()
