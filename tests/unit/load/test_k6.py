"""The script for k6 is JavaScript; k6 itself is not here, so nothing is run."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "load" / "k6.js"


@pytest.mark.skipif(shutil.which("node") is None, reason="node, which reads the script of k6, is not here")
def test_the_script_for_k6_can_be_read(tmp_path: Path) -> None:
    module = tmp_path / "k6.mjs"
    module.write_text(SCRIPT.read_text())
    read = subprocess.run(["node", "--check", str(module)], capture_output=True, text=True, timeout=120, check=False)
    assert read.returncode == 0, read.stderr
    module.write_text(SCRIPT.read_text().replace("export default function chat() {", "export default function chat( {"))
    assert subprocess.run(["node", "--check", str(module)], capture_output=True, timeout=120, check=False).returncode
