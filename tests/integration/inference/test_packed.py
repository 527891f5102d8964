"""The packed pass says what the library's pass says."""

import json
import os
import subprocess
from collections.abc import Callable

import pytest

from tests.support.engines import INFERENCE_PYTHON, ROOT, prepare_model


@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.99999), ("bfloat16", 0.995)])
def test_rows_and_token_vectors_are_the_librarys(dtype: str, least: float, figure: Callable[[str], None]) -> None:
    folder, _ = prepare_model("embedding")
    done = subprocess.run(
        [INFERENCE_PYTHON, "-m", "tests.support.packed_check", folder, dtype],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    figure(f"least cosine to the library's own pass in {dtype}, {found['texts']} texts: {found['rows']:.6f}")
    assert min(found["rows"], found["vectors"]) > least
