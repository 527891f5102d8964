"""The examples of docs/clients.md run as they stand there, but for address and model; tests/clients has our own."""

import re
import shutil
import subprocess

import pytest

from tests.conformance.conftest import Order
from tests.support.process import ROOT
from tests.support.sdk import node_with_sdks, python_with_sdks

pytestmark = pytest.mark.heavy

PAGE = (ROOT / "docs" / "clients.md").read_text()
BLOCKS = re.findall(r"```(bash|python|js)\n(.*?)```", PAGE.partition("## Thin clients")[0], re.DOTALL)


def test_every_kind_of_client_has_its_example() -> None:
    assert [language for language, _ in BLOCKS] == ["bash", "python", "js", "python", "js"]


@pytest.mark.parametrize(
    ("language", "code"), BLOCKS, ids=["curl", "openai-python", "openai-node", "anthropic-python", "anthropic-node"]
)
def test_an_example_prints_an_answer(whoever: Order, language: str, code: str) -> None:
    code = code.replace("http://127.0.0.1:8080", whoever["url"]).replace("smollm2-135m", whoever["model"])
    folder = ROOT
    if language == "bash":
        if shutil.which("curl") is None:
            pytest.skip("curl is not here: install it, to test the example of docs/clients.md")
        command = ["bash", "-c", code]
    elif language == "python":
        command = [str(python_with_sdks()), "-c", code]
    else:
        node, folder = node_with_sdks()
        command = [node, "--input-type=module", "--eval", code]
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "KEY": whoever["key"]}
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "What is the capital of France?" in ran.stdout  # the server's answer is the question's words
