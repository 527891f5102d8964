"""`./stoker up`: from nothing to a stack that answers."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from cli import demo, environments, follow, hub, modelfiles, ports
from cli.backups import note
from cli.choice import Choice, choose
from cli.client import Client
from cli.console import Steps, err, out, short_time
from cli.down import end_stack
from cli.errors import CliError
from cli.logfiles import LogFiles
from cli.parts import Plan
from cli.plan import detect_engine, make_plan, named_models, needed_models, needs_inference
from cli.process import ProcessId, die_with_parent, kill_all
from cli.settings import ROOT, CliSettings
from cli.state import PartState, StackState, holder, take_lock
from monitoring.metrics import clear_folder


def up(settings: CliSettings, *, detach: bool, with_demo: bool, as_json: bool = False) -> None:
    """Install, prepare, start, fill; then stay (or leave it running, when detached).

    Raises: CliError: something could not be made or started; what had been started is ended again.
    """
    steps = Steps()
    os.umask(0o077)  # what the parts keep holds texts of documents
    lock = take_lock(settings.run_dir)
    if lock is None:
        _already_running(settings, steps, wait=detach, as_json=as_json)
        return
    with _sigterm_as_interrupt():
        try:
            _sweep_up(settings)
            note.require_none(settings.data_dir)
            ports.require_free(settings.port, settings.host)
            look = hub.Look()
            plan, choice = _prepare(settings, steps, look)
            supervisor = _start_supervisor(settings, plan, lock, detach=detach)
            os.close(lock)
            ready_s = _bring_up(settings, plan, supervisor, steps, with_demo=with_demo)
            if as_json:
                _tell(settings, plan.url, plan.engine, ready_s)
            else:
                _introduce(settings, plan, ready_s, choice, with_demo=with_demo)
        except KeyboardInterrupt:
            _say_and_end(settings)
            raise  # nothing that answers was made
        except CliError:
            _end(settings)
            raise
        if detach:
            return
        try:
            _stay(settings, plan, steps)
        except KeyboardInterrupt:
            _say_and_end(settings)
        except CliError:
            _end(settings)
            raise


def _say_and_end(settings: CliSettings) -> None:
    err.print("\nending everything (Ctrl-C again: at once)")
    _end(settings)


def _prepare(settings: CliSettings, steps: Steps, look: hub.Look) -> tuple[Plan, Choice]:
    """Environments, model files, ports: all that must be there before anything starts."""
    if settings.config is not None and not settings.config.is_file():
        raise CliError(f"{settings.config} does not exist", "name an existing file with --config, or leave it out")
    engine = detect_engine(settings.engine)
    choice = choose(engine, settings.model, look.in_reach)
    if choice.note:
        steps.say(choice.note)
    settings = settings.model_copy(update={"model": choice.model})
    inference = environments.inference(engine)
    models: dict[str, modelfiles.ModelFiles] = {}
    if needs_inference(settings, engine):
        started_s = time.monotonic()
        inference.ensure()
        worker = modelfiles.Worker(inference.python, settings.models_dir, settings.logs_dir / "models.log")
        if needed := needed_models(settings, engine):
            models = worker.prepare(steps, needed)
        for kind, name in named_models(settings, engine).items():
            models[kind] = worker.pull(steps, name, if_missing=True)
        steps.say(f"environments and models are there ({short_time(time.monotonic() - started_s)})")
    clear_folder(settings.run_dir / "metrics")
    return make_plan(settings, engine, models, inference.python, choice.flags), choice


def _start_supervisor(settings: CliSettings, plan: Plan, lock: int, *, detach: bool) -> ProcessId:
    """Start the supervisor, which keeps the lock; attached, it ends in order when this process ends."""
    with LogFiles(settings.logs_dir).open("supervisor") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.supervisor"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env=plan.environment,
            start_new_session=True,
            pass_fds=(lock, *ports.reserved()),
            preexec_fn=None if detach else die_with_parent(signal.SIGTERM),
            text=True,
        )
    assert process.stdin is not None  # asked for above
    process.stdin.write(plan.to_json())
    process.stdin.close()
    found = ProcessId.of(process.pid)
    end_s = time.monotonic() + 30
    while found is not None and found.is_alive() and time.monotonic() < end_s:
        state = StackState.load(settings.run_dir)
        if state is not None and state.run_id == plan.run_id:
            return found
        time.sleep(0.02)
    raise CliError("the supervisor did not start", f"read {settings.logs_dir / 'supervisor.log'}")


def _bring_up(settings: CliSettings, plan: Plan, supervisor: ProcessId, steps: Steps, *, with_demo: bool) -> float:
    """Wait for the parts; the demo is ingested while the model is still loading. Returns: seconds it took."""
    steps.say(f"starting (supervisor {supervisor.pid}, logs in {settings.logs_dir})")
    start_s = steps.elapsed_s
    shown: dict[str, PartState] = {}
    others = [part.name for part in plan.parts if part.name != "vllm"]
    follow.until_ready(settings, plan.run_id, others, steps, shown)
    if with_demo:
        with Client(plan.url, settings.admin_key_file.read_text().strip()) as client:
            demo.fill(client, steps)
    follow.until_ready(settings, plan.run_id, None, steps, shown)
    return steps.elapsed_s - start_s


def _introduce(settings: CliSettings, plan: Plan, ready_s: float, choice: Choice, *, with_demo: bool) -> None:
    key_file = settings.admin_key_file
    out.print(f"\nStoker is ready at [bold]{plan.url}[/bold] ({ready_s:.0f} s), engine {plan.engine}")
    out.print(f"The admin key is in {key_file}")
    first = f'ask "{demo.FIRST_QUESTION}"' if with_demo else "ingest FILE --collection NAME"
    out.print(f"Try:  ./stoker {first}")
    out.print(
        f'      curl {plan.url}/v1/models -H "Authorization: Bearer $(cat {shlex.quote(str(key_file))})"', markup=False
    )
    if choice.hint:
        out.print(f"A hub is in reach: {choice.hint}", markup=False)


def _stay(settings: CliSettings, plan: Plan, steps: Steps) -> None:
    """Say what changes, until the stack is ended by another command. Raises: CliError: its supervisor was killed."""
    err.print("[dim]Ctrl-C ends everything; ./stoker up --detach leaves it running[/dim]")
    shown = {part.name: part.state for part in follow.current(settings, plan.run_id).parts}
    while True:
        time.sleep(0.5)
        if StackState.load(settings.run_dir) is None:
            err.print("ended by ./stoker down")
            return
        follow.say_changes(follow.current(settings, plan.run_id), shown, steps)


def _tell(settings: CliSettings, url: str, engine: str, ready_s: float) -> None:
    key_file = str(settings.admin_key_file)
    out.print_json(data={"url": url, "engine": engine, "admin_key_file": key_file, "ready_s": round(ready_s, 1)})


def _already_running(settings: CliSettings, steps: Steps, *, wait: bool, as_json: bool) -> None:
    state = StackState.load(settings.run_dir)
    if state is None or not state.supervisor.is_alive():
        if not wait:
            raise CliError(f"another ./stoker up is preparing {settings.data_dir}", "./stoker down ends it")
        state = _await_other(settings, steps)
    if not as_json:
        uptime = short_time(state.supervisor.uptime_s())
        out.print(f"Stoker is already running at {state.url} (supervisor {state.supervisor_pid}, for {uptime})")
        out.print("./stoker status shows its parts; ./stoker down ends it, which other settings would need")
    if wait and not state.is_ready():
        follow.until_ready(settings, state.run_id, None, steps, {})
    if as_json:
        _tell(settings, state.url, state.engine, 0.0)


def _await_other(settings: CliSettings, steps: Steps) -> StackState:
    """Wait while another `up` prepares. Raises: CliError: it ended without starting anything."""
    steps.say(f"another ./stoker up is preparing {settings.data_dir}: waiting for it")
    while holder(settings.run_dir) is not None:
        state = StackState.load(settings.run_dir)
        if state is not None and state.supervisor.is_alive():
            return state
        time.sleep(0.3)
    raise CliError("the other ./stoker up ended before the stack ran", "run the command again; it says why it fails")


def _sweep_up(settings: CliSettings) -> None:
    """End what a killed supervisor of this data folder left behind: the lock is ours, so nothing of it may run."""
    state = StackState.load(settings.run_dir)
    if state is not None:
        left = kill_all(state.processes)
        if left:
            err.print(f"ended {left} processes that an earlier run had left behind")
        StackState.forget(settings.run_dir)


def _end(settings: CliSettings) -> None:
    try:
        end_stack(settings.run_dir)
    except KeyboardInterrupt:
        state = StackState.load(settings.run_dir)
        if state is not None:
            kill_all(state.processes)
            StackState.forget(settings.run_dir)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
