"""A whole stack, started as a user starts it: `./stoker up --detach`, in a data folder of its own, on free ports."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.network import free_port

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Stack:
    """A running stack; `client` carries the admin key."""

    url: str
    admin_key: str
    data_dir: Path
    client: httpx.Client

    def cli(self, *words: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line against this stack."""
        return run_cli(*words, data_dir=self.data_dir, timeout_s=timeout_s)

    def ingest(self, collection: str, documents: list[dict[str, Any]]) -> list[str]:
        """Ingest texts and wait until their job has ended well. Returns: the documents' ids."""
        if self.client.get(f"/v1/collections/{collection}").status_code == 404:
            self.client.post("/v1/collections", json={"name": collection}).raise_for_status()
        accepted = self.client.post("/v1/ingest", json={"collection": collection, "documents": documents})
        assert accepted.status_code == 202, accepted.text
        job = self.await_job(accepted.json()["job_id"])
        assert job["status"] == "succeeded", job
        return list(accepted.json()["document_ids"])

    def await_job(self, job_id: str, timeout_s: float = 60) -> dict[str, Any]:
        """Poll a job until it has ended. Raises: TimeoutError."""
        limit = time.monotonic() + timeout_s
        while time.monotonic() < limit:
            job: dict[str, Any] = self.client.get(f"/v1/jobs/{job_id}").json()
            if job["status"] in ("succeeded", "failed", "cancelled"):
                return job
            time.sleep(0.1)
        raise TimeoutError(f"job {job_id} has not ended after {timeout_s} s: {job}")

    def content(self, collection: str, document_id: str, version: int) -> str:
        """The normalised text that spans point into."""
        answer = self.client.get(
            f"/v1/collections/{collection}/documents/{document_id}/content", params={"version": version}
        )
        assert answer.status_code == 200, answer.text
        return answer.text

    def process(self, name: str) -> dict[str, Any]:
        """What `status --json` says of one process; the command fails while a part is away, but still says it."""
        status = self.cli("status", "--json")
        found = [process for process in json.loads(status.stdout)["processes"] if process["name"] == name]
        assert len(found) == 1, status.stdout + status.stderr
        return dict(found[0])


def run_cli(
    *words: str, data_dir: Path, timeout_s: float = 120, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `./stoker WORDS` in this interpreter's environment; a variable of `env` that is empty is taken away."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    kept = {name: value for name, value in os.environ.items() if name == "STOKER_TEST_RUN"}
    # No test touches the internet.
    given = {**clean, **kept, "HF_HUB_OFFLINE": "1", "STOKER_DATA_DIR": str(data_dir), **(env or {})}
    return subprocess.run(
        [sys.executable, "-m", "cli", *words],
        cwd=ROOT,
        env={name: value for name, value in given.items() if value},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@contextmanager
def start_stack(data_dir: Path, *flags: str, env: dict[str, str] | None = None) -> Iterator[Stack]:
    """Start a stack and take it down again; what its processes logged is shown where it does not start."""
    port = free_port()
    up = run_cli(
        "up", "--detach", "--port", str(port), "--data-dir", str(data_dir), *flags,
        data_dir=data_dir, timeout_s=400, env=env,
    )  # fmt: skip
    try:
        assert up.returncode == 0, f"{up.stdout}\n{up.stderr}\n{_last_logs(data_dir)}"
        key = (data_dir / "admin.key").read_text().strip()
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120) as client:
            yield Stack(url, key, data_dir, client)
    finally:
        down = run_cli("down", "--data-dir", str(data_dir), data_dir=data_dir)
        assert down.returncode == 0, down.stdout + down.stderr


def _last_logs(data_dir: Path) -> str:
    files = sorted((data_dir / "logs").glob("*.log"))
    return "\n".join(f"--- {file.name}\n" + "\n".join(file.read_text().splitlines()[-8:]) for file in files)
