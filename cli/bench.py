"""`./stoker bench`: measurements, each in the environment of the tests and beside what it is compared with."""

import os
import subprocess
from collections.abc import Sequence

from cli import environments
from cli.errors import CliError
from cli.settings import ROOT, Engine


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
    _run(command)


def bench_engine(arguments: Sequence[str]) -> None:
    """Tokens a second through the gateway beside direct ones; `arguments` go to `tests/load/engine.py`.

    Raises: CliError: the measurement failed.
    """
    environments.TEST.ensure()
    environments.inference(Engine.VLLM_CPU).ensure()
    _run([str(environments.TEST.python), "-m", "tests.load.engine", *arguments])


def bench_embeddings(peer: str | None, arguments: Sequence[str]) -> None:
    """Texts a second of the embedding server; `arguments` go to `tests/load/embeddings.py`.

    Raises: CliError: the peer is unknown, or the measurement failed.
    """
    command = [str(environments.TEST.python), "-m", "tests.load.embeddings", *arguments]
    environments.TEST.ensure()
    environments.inference(Engine.VLLM_CPU).ensure()
    if peer is not None:
        if peer != "infinity":
            raise CliError(f"there is no peer {peer}", "--peer infinity")
        environments.INFINITY.ensure()
        command += ["--peer-python", str(environments.INFINITY.python)]
    _run(command)


def bench_search(arguments: Sequence[str]) -> None:
    """Searches while documents come in, beside searches while none do; `arguments` go to `tests/load/search.py`.

    Raises: CliError: the measurement failed.
    """
    environments.TEST.ensure()
    environments.inference(Engine.VLLM_CPU).ensure()
    _run([str(environments.TEST.python), "-m", "tests.load.search", *arguments])


def bench_savings(arguments: Sequence[str]) -> None:
    """What caching and `auto` save of a workload's price; `arguments` go to `tests/load/savings.py`.

    Raises: CliError: the measurement failed.
    """
    environments.TEST.ensure()
    environments.inference(Engine.VLLM_CPU).ensure()
    _run([str(environments.TEST.python), "-m", "tests.load.savings", *arguments])


def bench_edge(arguments: Sequence[str]) -> None:
    """Searches of an edge, and its memory; `arguments` go to `tests/load/edge.py`.

    Raises: CliError: the measurement failed.
    """
    environments.TEST.ensure()
    environments.EDGE.ensure()
    environments.inference(Engine.VLLM_CPU).ensure()
    _run([str(environments.TEST.python), "-m", "tests.load.edge", *arguments])


def bench_budget() -> None:
    """Processor time of the rooms that a model request passes. Raises: CliError: the measurement failed."""
    environments.TEST.ensure()
    _run([str(environments.TEST.python), "-m", "tests.load.budget"])


def bench_faults(arguments: Sequence[str]) -> None:
    """Right answers under every fault of an upstream; `arguments` go to `tests/load/faults.py`.

    Raises: CliError: the measurement failed.
    """
    environments.TEST.ensure()
    _run([str(environments.TEST.python), "-m", "tests.load.faults", *arguments])


def _run(command: Sequence[str]) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    process = subprocess.run(command, cwd=ROOT, env={**clean, "PYTHONPATH": str(ROOT)}, check=False)
    if process.returncode != 0:
        raise CliError("the measurement failed", "read the lines above")
