"""`./stoker bench`: measurements, each in the environment of the tests and beside what it is compared with."""

import os
import subprocess
from collections.abc import Sequence

from cli import environments
from cli.errors import CliError
from cli.settings import ROOT


def bench_gateway(peer: str | None, arguments: Sequence[str]) -> None:
    """What a request costs in the gateway; `arguments` go to `tests/load/gateway.py`.

    Raises: CliError: the peer is unknown, or the measurement failed.
    """
    command = [str(environments.TEST.python), "-m", "tests.load.gateway", *arguments]
    environments.TEST.ensure()
    if peer is not None:
        if peer != "litellm":
            raise CliError(f"there is no peer {peer}", "--peer litellm")
        environments.LITELLM.ensure()
        command += ["--peer-python", str(environments.LITELLM.python)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    process = subprocess.run(command, cwd=ROOT, env={**clean, "PYTHONPATH": str(ROOT)}, check=False)
    if process.returncode != 0:
        raise CliError("the measurement failed", "read the lines above")
