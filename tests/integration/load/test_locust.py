"""Locust's users, on the same measuring core."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.support.paced import paced_server
from tests.support.process import ROOT

pytestmark = pytest.mark.slow  # imports gevent and starts locust


@pytest.mark.parametrize("way", [{"LOAD_RATE": "15"}, {"LOAD_USERS": "8", "LOAD_THINK": "0.1"}], ids=["open", "closed"])
def test_locust_measures_the_first_token_that_the_server_planned(tmp_path: Path, way: dict[str, str]) -> None:
    with paced_server(tmp_path / "server", "--early-role", "--ttft-ms", "200", "--frame-tokens", "3") as server:
        command = [str(ROOT / ".stoker/envs/test/bin/locust"), "-f", "tests/load/locustfile.py", "--headless"]
        done = subprocess.run(
            [*command, "--host", server.url, "--stop-timeout", "20"],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "LOAD_MODEL": "mock",
                "LOAD_OUTPUT_TOKENS": "24",
                "LOAD_DURATION": "5",
                "LOAD_REPORT": str(tmp_path / "report"),
                **way,
            },
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        found = json.loads((tmp_path / "report" / "report.json").read_text())
        log = server.truth(found["whole"]["requests"])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert found["failures"] == {}
    assert found["whole"]["requests"] > 40
    assert found["whole"]["output_tokens"] == sum(one.tokens for one in log.values())
    waited = [one.left_s[0] - one.received_s for one in log.values()]
    assert found["ttft_s"]["p50"] == pytest.approx(float(np.median(waited)), rel=0.25)
