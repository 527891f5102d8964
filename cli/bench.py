"""`./stoker bench`: measurements, each in the environment of the tests and beside what it is compared with."""

import os
import subprocess
from collections.abc import Mapping, Sequence

from cli import environments
from cli.client import server_of, sound_key
from cli.errors import CliError
from cli.settings import ROOT, CliSettings, Engine
from cli.state import StackState


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


def bench_load(settings: CliSettings, url: str | None, mock: bool, arguments: Sequence[str]) -> None:
    """What a server does under a load; `arguments` go to `tests/load/load.py`.

    The key goes by the environment, where other users of the machine cannot read it, and the local admin key goes to
    no address that was given by hand.

    Raises: CliError: there is no server, or no key; the plan is refused; the figures are not to be believed.
    """
    environments.TEST.ensure()
    command = [str(environments.TEST.python), "-m", "tests.load.load", *arguments]
    if mock:
        _run([*command, "--mock"])
    elif url is not None:
        said = settings.api_key
        key = "none" if said is None else sound_key(said.get_secret_value(), "STOKER_API_KEY")
        _run(command, {"LOAD_URL": url, "LOAD_API_KEY": key})
    else:
        server, key = server_of(settings)
        engines = [word for each in _engines(settings) for word in ("--engine-metrics", each)]
        _run([*command, *engines], {"LOAD_URL": server, "LOAD_API_KEY": key})


def _engines(settings: CliSettings) -> list[str]:
    """Where the engines of the local stack tell their counters; none, where another server is asked."""
    state = None if settings.url is not None else StackState.load(settings.run_dir)
    parts = state.parts if state is not None else []
    return [f"http://127.0.0.1:{part.port}/metrics" for part in parts if part.name == "vllm" and part.port]


def _run(command: Sequence[str], more: Mapping[str, str] | None = None) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    process = subprocess.run(command, cwd=ROOT, env={**clean, "PYTHONPATH": str(ROOT), **(more or {})}, check=False)
    if process.returncode != 0:
        raise CliError("the measurement failed", "read the lines above")
