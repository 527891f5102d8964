"""The folder into which several processes count."""

import subprocess
import sys
from pathlib import Path

from tests.support.process import ROOT

COUNTING = "from monitoring import metrics; metrics.ORPHANS.labels('row').inc(3); "
READING = (
    "print(sum(one.value for one in metrics.samples_of(metrics.ORPHANS))); "
    "print(b'stoker_orphans_removed_total{kind=\"row\"} 3.0' in metrics.exposition()[0])"
)


def test_a_file_that_a_process_is_just_making_says_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "counter_1.db").touch()
    env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PATH": ""}
    run = subprocess.run(
        [sys.executable, "-c", COUNTING + READING], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert run.stdout.split() == ["3.0", "True"], run.stderr
