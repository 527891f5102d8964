"""`./stoker test`: environments, static checks, tests; then a look whether anything was left running."""

import itertools
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from cli import environments, longrun
from cli.console import err, short_time
from cli.errors import CliError
from cli.longrun import Step
from cli.modelfiles import MODELS_DIR
from cli.process import ProcessId, adopt_orphans, command_of, descendants, kill_all, marked, reap
from cli.settings import ROOT, Engine

_MARKER = "STOKER_TEST_RUN"
_GRACE_S = 3.0  # what was told to end may still be ending


class Extent(StrEnum):
    """How much of the suite runs."""

    FAST = "fast"
    USUAL = "usual"
    LONG = "long"

    @property
    def selection(self) -> str:
        """The tests, as pytest's markers say it."""
        return {
            Extent.FAST: "not vllm and not long and not heavy and not slow",
            Extent.USUAL: "not long and not light",
            Extent.LONG: "vllm or not vllm",
        }[self]


def run_tests(extent: Extent, arguments: Sequence[str]) -> None:
    """Run everything, stopping at the first that fails; tests of different parts run side by side.

    Raises: CliError: a step failed, or processes were left running.
    """
    _run_all(_each(_plan(extent, arguments)))


def run_long(minutes: float | None, names: Sequence[str] = ()) -> None:
    """Run everything in parts, those that passed before left out.

    Args:
        minutes: no part is begun after so many; None: all of them are run.
        names: only parts whose names hold one of these texts; none: all.

    Raises: CliError: a part failed, no part is named so, or processes were left running.
    """

    def work(run_id: str) -> None:
        python = str(environments.TEST.python)
        pytest = (python, "-m", "pytest", "--hypothesis-profile=long", "-m")
        promises = (ROOT / "docs" / "promises.toml").read_text(encoding="utf-8").count("[[promise]]")
        tests = longrun.long_tests(pytest, ROOT)
        parts = longrun.parts_of(_plan(Extent.USUAL, ()), tests, pytest, promises, python)
        if names:
            parts = [part for part in parts if any(name in part.name for name in names)]
        if not parts:
            raise CliError(f"no part's name holds {' or '.join(names)}", "names stand in docs/hardening.md")
        book = longrun.Book.open(ROOT / "docs" / "long-run.json", longrun.code_of(ROOT))
        page, most_s = ROOT / "docs" / "hardening.md", None if minutes is None else minutes * 60
        with TemporaryDirectory() as folder:
            left = longrun.go_on(parts, book, lambda steps: _run(steps, run_id), page, Path(folder), most_s)
        if left:
            err.print(f"{len(left)} parts of {len(parts)} are left: the same command goes on with {left[0]}")

    _run_all(work)


def _each(plan: Sequence[Sequence[Step]]) -> Callable[[str], None]:
    """One list of steps after the other."""

    def work(run_id: str) -> None:
        for steps in plan:
            _run(steps, run_id)

    return work


def run_promises(words: Sequence[str]) -> None:
    """Plant the defects of all promises that speak of all words, and see that each turns its tests red.

    Raises: CliError: one does not, or processes were left running.
    """
    _run_all(_each([[_promises(words)]]))


def _run_all(work: Callable[[str], None]) -> None:
    started_s = time.monotonic()
    for name in (signal.SIGTERM, signal.SIGINT):  # a `kill` ends the steps as Ctrl-C does, also of a background job
        signal.signal(name, signal.default_int_handler)
    for environment in (
        environments.TEST,
        environments.SDK,
        environments.TRACES,
        environments.AUDIT,
        environments.inference(Engine.VLLM_CPU),
    ):
        environment.ensure()
    environments.SDK_NODE.ensure()
    environments.CONSOLE_NODE.ensure()
    _fetch_programs()
    err.print(f"environments: {short_time(time.monotonic() - started_s)}")
    run_id = secrets.token_hex(8)
    adopt_orphans()
    try:
        work(run_id)
    except KeyboardInterrupt:
        raise CliError("the run was interrupted", "run it again") from None
    finally:
        left = _left_over(run_id)
    if left:
        raise CliError(
            f"{len(left)} processes were left running (and have been killed): {'; '.join(left)}",
            "the test that starts them must end them",
        )
    err.print(f"[green]all passed, nothing left running[/green] ({short_time(time.monotonic() - started_s)})")


def _fetch_programs() -> None:
    """Unpack programs of others where they are not installed; without them their tests are skipped."""
    for module, named in (
        ("tests.support.promtool", "Prometheus and Alertmanager"),
        ("tests.support.chromium", "Chromium"),
        ("tests.deploy.programs", "Caddy"),
        ("tests.support.kubectl", "kubectl"),
        ("tests.support.faketime", "libfaketime"),
    ):
        if subprocess.run([environments.TEST.python, "-m", module], cwd=ROOT, check=False).returncode != 0:
            err.print(f"{named} could not be fetched: tests with it are skipped")


# Parts of the suite that run side by side, each in a process of its own: they mostly wait for servers. More of them end
# no sooner on two cores, and what keeps time has to wait for longer.
_LANES = {
    "tests of retrieval and what is seen": (
        "tests/integration/retrieval",
        "tests/integration/storage",
        "tests/integration/monitoring",
        "tests/integration/sla",
    ),
    "tests of tenants": (
        "tests/integration/tenants",
        "tests/integration/hot",
        "tests/integration/admission",
        "tests/integration/inference",
        "tests/faults/gateway",
    ),
    "tests of routes": (
        "tests/integration/router",
        "tests/integration/batches",
        "tests/answers",
        "tests/conformance",
        "tests/integration/api",
        "tests/faults/router",
        "tests/faults/stack",  # on the stack that the tests of the API have had
    ),
}

# What kills and starts servers all the time is felt by others, and often waits: what only computes goes beside it.
_KILLS = ("tests/faults/ingestion", "tests/faults/chaos", "tests/faults/soak")
_COMPUTES = ("tests/unit", "tests/simulation")
_DEPLOYED = ("tests/deploy", "tests/integration/edge", "tests/integration/sources", "tests/security")
_SHOWN = ("tests/console", "tests/clients", "tests/integration/cli")
_PACED = ("tests/integration/load",)  # what keeps time to the millisecond has the machine to itself
_PREPARE = (str(environments.inference(Engine.VLLM_CPU).python), "-m", "inference.models", "prepare")


def _plan(extent: Extent, arguments: Sequence[str]) -> list[list[Step]]:
    """Steps that run one after the other; those of one list run side by side."""
    binaries = environments.TEST.folder / "bin"
    python = str(environments.TEST.python)
    pytest = (python, "-m", "pytest", f"--hypothesis-profile={extent.value}", "-m")
    static = [
        [Step("ruff check", (str(binaries / "ruff"), "check", "."))],
        [Step("ruff format", (str(binaries / "ruff"), "format", "--check", "."))],
        [Step("import-linter", (str(binaries / "lint-imports"),))],
    ]
    types = Step("mypy", (python, "-m", "mypy"))
    if arguments:  # somebody looks at something special
        return [*static, [types], [Step("pytest", (*pytest, extent.selection, *arguments))]]
    without_model = f"({extent.selection}) and not vllm"

    def lane(name: str, folders: Sequence[str]) -> Step:
        return Step(name, (*pytest, without_model, *folders))

    computing = [lane("tests of single parts", _COMPUTES), types]
    elsewhere = (*itertools.chain(*_LANES.values()), *_KILLS, *_COMPUTES, *_DEPLOYED, *_SHOWN, *_PACED)
    lanes = [
        *(lane(name, folders) for name, folders in _LANES.items()),
        lane("all other tests", [f"--ignore={folder}" for folder in elsewhere]),
    ]
    carried = [lane("tests of what is deployed", _DEPLOYED), lane("tests of what is shown", _SHOWN)]
    paced = "tests of load", _PACED
    if extent is Extent.FAST:
        return [*static, [*lanes, *carried, *computing], [lane(*paced)]]
    # What the model server loads is made beside tests that don't need it.
    made = Step("model files", (*_PREPARE, "--models-dir", str(MODELS_DIR), "llm"))
    killed = [*carried, lane("tests of killed parts", _KILLS), *computing, made]
    # The model server takes all cores that there are: nothing runs beside it.
    with_model = [Step("tests with vLLM", (*pytest, f"({extent.selection}) and vllm"))]
    return [*static, lanes, killed, [lane(*paced)], with_model]


def _promises(words: Sequence[str]) -> Step:
    return Step("promises", (str(environments.TEST.python), "-m", "tests.promises", *words))


def _run(steps: Sequence[Step], run_id: str) -> None:
    """Run steps side by side; what the first prints is seen at once, what the others print when all have ended.

    Raises: CliError: some failed.
    """
    # Tests must see only the settings they make themselves, and Python may keep what it compiled.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("STOKER_") and name != "PYTHONDONTWRITEBYTECODE"
    } | {"PYTHONPATH": str(ROOT), _MARKER: run_id}
    with ExitStack() as files:
        outputs = [files.enter_context(TemporaryFile()) for _ in steps[1:]]
        running = [
            _Running(step, subprocess.Popen(step.command, cwd=ROOT, env=environment, stdout=output, stderr=output))
            for step, output in zip(steps, [None, *outputs], strict=True)
        ]
        err.print(f"[bold]{steps[0].name}[/bold]")
        try:
            while sum(one.look() for one in running):  # not any(): each takes its own time
                reap(but=[one.process.pid for one in running])
                time.sleep(0.02)
        except KeyboardInterrupt:
            for one in running:
                one.process.send_signal(signal.SIGINT)  # the terminal has sent it already; a `kill` has not
            for one in running:
                one.process.wait()
            raise
        running[0].tell()
        for one, output in zip(running[1:], outputs, strict=True):
            err.print(f"[bold]{one.step.name}[/bold]")
            output.seek(0)
            sys.stdout.write(output.read().decode(errors="replace"))
            sys.stdout.flush()
            one.tell()
    failed = [one.step for one in running if one.process.returncode != 0]
    if failed:
        raise CliError(
            f"{' and '.join(step.name for step in failed)} failed",
            f"mend what is named above; alone: {' '.join(failed[0].command)}",
        )


@dataclass(slots=True)
class _Running:
    """A step under way."""

    step: Step
    process: "subprocess.Popen[bytes]"
    started_s: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def look(self) -> bool:
        """Whether it still runs."""
        if self.seconds == 0.0 and self.process.poll() is not None:
            self.seconds = time.monotonic() - self.started_s
        return self.process.returncode is None

    def tell(self) -> None:
        if self.process.returncode == 0:
            err.print(f"[dim]{self.step.name}: {short_time(self.seconds)}[/dim]")
        else:
            code = self.process.returncode
            err.print(f"[red]{self.step.name} failed[/red] with code {code} after {short_time(self.seconds)}")


def _left_over(run_id: str) -> list[str]:
    """Kill what the run left behind. Returns: its command lines."""

    def find() -> list[ProcessId]:
        # By the marker, and by descent: orphans become children of this process.
        return list(dict.fromkeys([*marked(_MARKER, run_id), *descendants(os.getpid())]))

    end_s = time.monotonic() + _GRACE_S
    while (left := find()) and time.monotonic() < end_s:
        time.sleep(0.1)
    names = [f"{process.pid} {command_of(process.pid)}" for process in left]
    kill_all(find)
    return names
