"""The official `openai` package, given only `base_url` and the key."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import ROOT, Stack

pytestmark = pytest.mark.vllm

SDK_PYTHON = Path(os.environ.get("STOKER_ENVS_DIR", ROOT / ".stoker" / "envs")) / "sdk" / "bin" / "python"


@pytest.fixture(scope="module")
def seen(stack: Stack) -> dict[str, Any]:
    assert SDK_PYTHON.exists(), "the SDKs' environment is missing: run ./stoker test once"
    script = Path(__file__).with_name("openai_client.py")
    ran = subprocess.run(
        [SDK_PYTHON, script, f"{stack.url}/v1", stack.admin_key],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout))


def test_it_lists_the_models(seen: dict[str, Any], figure: Callable[[str], None]) -> None:
    assert seen["models"] == ["all-minilm-l6-v2", "smollm2-135m"]
    figure(f"openai {seen['sdk']}")


def test_it_chats_whole_and_streamed_to_the_same_end(seen: dict[str, Any]) -> None:
    assert "Paris" in seen["chat"]
    assert "Paris" in seen["streamed"]
    assert seen["chat_tokens"] > 0
    assert seen["streamed_tokens"] > 0


def test_usage_is_streamed_only_to_those_who_ask(seen: dict[str, Any]) -> None:
    assert seen["usage_unasked"] is False


def test_it_embeds(seen: dict[str, Any]) -> None:
    assert seen["dimensions"] == [384, 384, 384]
    assert seen["nearer"]


def test_each_error_class_is_raised_where_it_should_be(seen: dict[str, Any]) -> None:
    assert seen["unknown_model"] == "NotFoundError"
    assert seen["bad_request"] == "BadRequestError"
    assert seen["wrong_key"] == "AuthenticationError"
