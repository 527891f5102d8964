"""Thousands of requests that Schemathesis makes from our own description: every check, and chains of calls.

`SCHEMATHESIS_SEED` names a run. The parts of a long run differ by their seed.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.faults.chaos.plain import Plain
from tests.support.process import ROOT

pytestmark = pytest.mark.heavy  # every part is started

SEED = int(os.environ.get("SCHEMATHESIS_SEED", "1"))
_NEEDED = {"some": 300, "all": 5_000}
_FLAGS = {
    "some": ("--phases", "fuzzing,stateful", "--max-examples", "3"),
    "all": ("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "25"),
}


@pytest.mark.parametrize("extent", ["some", pytest.param("all", marks=pytest.mark.long)])
def test_the_gateway_does_what_its_description_says(
    house: Plain, tmp_path: Path, extent: str, figure: Callable[[str], None]
) -> None:
    headers = {"x-api-key": house.gate.key}
    keys = httpx.get(f"{house.gate.url}/v1/admin/keys", headers=headers, params={"limit": 100}).json()["data"]
    tenants = httpx.get(f"{house.gate.url}/v1/admin/tenants", headers=headers).json()["data"]
    own = [one["id"] for one in (*keys, *tenants)] + [one["name"] for one in tenants]
    report = tmp_path / "report.json"
    command = [
        *(str(Path(sys.executable).with_name("st")), "--no-color", "--config-file"),
        str(Path(__file__).with_name("schemathesis.toml")),
        *("run", f"{house.gate.url}/openapi.json", "--checks", "all", "--seed", str(SEED), "--continue-on-failure"),
        *("--report", "json", "--report-json-path", str(report), "--generation-database", "none", *_FLAGS[extent]),
    ]
    environment = {**os.environ, "STOKER_API_KEY": house.gate.key, "STOKER_PROTECTED": ",".join(own)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, _complaints(done.stdout) + done.stderr[-2000:]
    told = json.loads(report.read_text())
    cases, tested = told["test_cases"]["generated"], told["operations"]["tested"]
    figure(
        f"seed {SEED}: {cases} cases on {tested} operations in {told['running_time']:.0f} s, "
        f"{told['test_cases']['with_failures']} of them failed"
    )
    assert told["failures"] == told["errors"] == []
    assert cases >= _NEEDED[extent]
    assert tested == told["operations"]["total"]


def _complaints(said: str) -> str:
    """From the list of failures on, and no more than a screen or two."""
    return said[max(0, said.find("= FAILURES =") - 40) :][:12_000]
