"""A gateway and its ingestion worker on real parts, before a model that says what a test has it say."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.gateway import Gateway, gateway
from tests.support.process import running

PARTS = {
    "STOKER_EMBEDDING_DEADLINE_S": "15",  # the machine may be busy with other things than this test
    "STOKER_SEARCH_DEADLINE_S": "12",
}


@dataclass(frozen=True)
class Desk:
    """A gateway where questions are asked; `client` carries the admin's key, which has no limits."""

    gate: Gateway
    client: httpx.Client

    def fill(self, collection: str, files: Sequence[tuple[str, bytes]], limit_s: float = 120, **fields: Any) -> str:
        """Upload files to a new collection, made with these fields, and wait until they are found. Returns: its id."""
        made = self.client.post("/v1/collections", json={"name": collection, **fields}).raise_for_status().json()
        sent = [("file", (name, data)) for name, data in files]
        accepted = self.client.post("/v1/ingest", files=sent, data={"collection": collection})
        assert accepted.status_code == 202, accepted.text
        self.ended(accepted.json()["job_id"], limit_s)
        return str(made["id"])

    def ended(self, job_id: str, limit_s: float = 120) -> None:
        """Wait until a job has ended well."""
        end_s = time.monotonic() + limit_s
        while (job := self.client.get(f"/v1/jobs/{job_id}").json())["status"] != "succeeded":
            assert job["status"] in ("queued", "running"), job
            assert time.monotonic() < end_s, job
            time.sleep(0.1)

    def content(self, collection: str, cited: Mapping[str, Any]) -> str:
        """The text that a citation points into."""
        path = f"/v1/collections/{collection}/documents/{cited['document_id']}/content"
        answer = self.client.get(path, params={"version": cited["document_version"]})
        assert answer.status_code == 200, answer.text
        return answer.text


@contextmanager
def desk(
    folder: Path, milvus_uri: str, embedding_url: str, settings: Mapping[str, str] | None = None, **models: str
) -> Iterator[Desk]:
    """Open one until the block ends.

    Args:
        settings: more environment variables of gateway and worker.
        models: by name of their group, addresses of servers that call their model `words`; they end in /v1.
    """
    parts = {**PARTS, "STOKER_MILVUS_URI": milvus_uri, "STOKER_EMBEDDING_URL": embedding_url, **(settings or {})}
    entries = [
        f"  - model_name: {name}\n    litellm_params: {{model: hosted_vllm/words, api_base: '{url}'}}\n"
        for name, url in models.items()
    ]
    configuration = f"model_list:\n{''.join(entries)}"
    with gateway(folder, 1, settings=parts, configuration=configuration, keeper=False) as gate:
        worker = {**parts, "STOKER_DATA_DIR": str(gate.folder), "STOKER_REDIS_URL": gate.redis_url}
        headers = {"authorization": f"Bearer {gate.key}"}
        with (
            running([sys.executable, "-m", "retrieval.worker"], folder / "worker.log", lambda: True, worker),
            httpx.Client(base_url=gate.url, headers=headers, timeout=120) as client,
        ):
            yield Desk(gate, client)
