"""A gateway with all that the console shows: keeper, ingestion worker, index, embedding server, a model that costs."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.answering import PARTS, Desk
from tests.support.gateway import gateway
from tests.support.openai_server import OpenAiServer
from tests.support.process import running

MODEL = "house-8b"
LARGE = "house-70b"

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
    configuration = f"model_list:\n{''.join(entries)}"
    with gateway(folder, 1, settings=parts, configuration=configuration) as gate:
        worker = {**parts, "STOKER_DATA_DIR": str(gate.folder), "STOKER_REDIS_URL": gate.redis_url}
        headers = {"authorization": f"Bearer {gate.key}"}
        with (
            running([sys.executable, "-m", "retrieval.worker"], folder / "worker.log", lambda: True, worker),
            httpx.Client(base_url=gate.url, headers=headers, timeout=120) as client,
        ):
            yield Desk(gate, client)
