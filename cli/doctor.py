"""`./stoker doctor`: what could keep the stack from running here, and what to do about it."""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from rich.markup import escape

from cli import hub, ports
from cli.choice import SMOLLM2, smallest_memory
from cli.console import out, short_bytes
from cli.environments import SDK, SDK_NODE, TEST, Environment, NodeEnvironment, inference
from cli.errors import CliError
from cli.machine import GpusUnreadable, available_memory, gpus
from cli.plan import detect_engine
from cli.settings import CliSettings, Engine
from cli.sizing import Sized, sizes
from cli.state import StackState

_MIN_DISK = 8e9
_MIN_MEMORY = 6e9


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    INFO = "info"  # not there, and nobody needs it who does not know that he does
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line; `remedy` is empty for `ok`, and may be for `info`."""

    verdict: Verdict
    about: str
    text: str
    remedy: str = ""


def doctor(settings: CliSettings, *, as_json: bool = False) -> bool:
    """Print all findings. Returns: whether nothing failed."""
    colours = {Verdict.OK: "green", Verdict.INFO: "dim", Verdict.WARN: "yellow", Verdict.FAIL: "red"}
    findings = list(examine(settings))
    if as_json:
        out.print_json(data=[asdict(finding) for finding in findings])
    for finding in [] if as_json else findings:
        out.print(f"[{colours[finding.verdict]}]{finding.verdict.value:4}[/]  {finding.about}: {finding.text}")
        if finding.remedy:
            out.print(f"      what to do: {finding.remedy}", markup=False)
    return all(finding.verdict is not Verdict.FAIL for finding in findings)


def examine(settings: CliSettings) -> Iterator[Finding]:
    """Make every check."""
    engine = detect_engine(settings.engine)
    look = hub.Look()
    yield _python()
    yield _system()
    yield _environment(inference(engine), "up")
    for environment in (TEST, SDK, SDK_NODE):
        yield _environment(environment, "test", for_developers=True)
    yield _gateway_port(settings)
    yield _folder(settings.data_dir)
    yield _memory()
    yield _cpu(engine)
    yield _gpu(engine)
    yield from _models(settings, engine, look)


def _python() -> Finding:
    version = platform.python_version()
    if version.startswith("3.11."):
        return Finding(Verdict.OK, "python", version)
    return Finding(
        Verdict.WARN, "python", f"{version} is untested", "install Python 3.11, remove .stoker/envs, run again"
    )


def _system() -> Finding:
    name = f"{platform.system()} {platform.machine()}"
    if platform.system() != "Linux":
        return Finding(Verdict.FAIL, "system", name, "Stoker supervises its processes by /proc: use Linux")
    if platform.machine() != "x86_64":
        remedy = "if a package has no build for it, run that part elsewhere and name it (STOKER_REDIS_URL and so on)"
        return Finding(Verdict.WARN, "system", f"{name} is untested", remedy)
    return Finding(Verdict.OK, "system", name)


def _environment(environment: Environment | NodeEnvironment, command: str, *, for_developers: bool = False) -> Finding:
    about = f"environment {environment.name}"
    if environment.is_current():
        return Finding(Verdict.OK, about, "installed and current")
    state = "made from other lock files, or not finished" if environment.folder.exists() else "not installed"
    if for_developers:
        return Finding(
            Verdict.INFO, about, f"{state}; only who changes Stoker needs it (./stoker {command} installs it)"
        )
    return Finding(Verdict.WARN, about, state, f"./stoker {command} installs it: {environment.about}")


def _gateway_port(settings: CliSettings) -> Finding:
    about = f"port {settings.port}"
    state = StackState.load(settings.run_dir)
    if state is not None and state.supervisor.is_alive():
        return Finding(Verdict.OK, about, f"this stack is running at {state.url}")
    if ports.is_free(settings.port):
        return Finding(Verdict.OK, about, "free")
    found = ports.holder(settings.port)
    who = f"held by process {found.pid} ({found.command})" if found else "held by a process of another user"
    return Finding(Verdict.FAIL, about, who, f"end it, or ./stoker up --port {settings.port + 1}")


def _folder(folder: Path) -> Finding:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if not os.access(existing, os.W_OK):
        return Finding(
            Verdict.FAIL, "data folder", f"{existing} is not writable", "mend that, or name another: --data-dir"
        )
    if free < _MIN_DISK:
        remedy = f"make room: the environments take about {short_bytes(5e9)} (NVIDIA: {short_bytes(11e9)})"
        return Finding(Verdict.WARN, "disk", f"{short_bytes(free)} free at {existing}", remedy)
    return Finding(Verdict.OK, "disk", f"{short_bytes(free)} free at {existing}")


def _memory() -> Finding:
    available = available_memory()
    if available < _MIN_MEMORY:
        remedy = "end other programs; the CPU engine takes about 4 GB, --engine none does without it"
        return Finding(Verdict.WARN, "memory", f"{short_bytes(available)} available", remedy)
    return Finding(Verdict.OK, "memory", f"{short_bytes(available)} available")


def _cpu(engine: Engine) -> Finding:
    info = Path("/proc/cpuinfo").read_text()
    flags = set(
        next(
            (line.partition(":")[2] for line in info.splitlines() if line.startswith(("flags", "Features"))), ""
        ).split()
    )
    seen = [name for name, flag in (("AVX2", "avx2"), ("AVX-512", "avx512f"), ("AMX", "amx_bf16")) if flag in flags]
    text = f"{os.cpu_count()} cores, {', '.join(seen) or 'no AVX'}"
    if engine is Engine.VLLM_CPU and platform.machine() == "x86_64" and "avx2" not in flags:
        return Finding(
            Verdict.FAIL, "cpu", text, "vLLM's CPU build needs AVX2: use --engine none with deployments elsewhere"
        )
    if engine is Engine.VLLM_CPU and "avx512f" not in flags:
        return Finding(Verdict.WARN, "cpu", text, "without AVX-512 the CPU engine is slow; it is a demonstration")
    return Finding(Verdict.OK, "cpu", text)


def _gpu(engine: Engine) -> Finding:
    try:
        found = gpus()
    except GpusUnreadable as error:
        return Finding(Verdict.FAIL, "gpu", f"nvidia-smi fails: {error}", "mend the driver, or --engine vllm-cpu")
    if found:
        told = (
            f"{gpu.name}, {short_bytes(gpu.memory_bytes) if gpu.memory_bytes else 'memory unknown'}" for gpu in found
        )
        return Finding(Verdict.OK, "gpu", "; ".join(told))
    if engine is Engine.VLLM:
        return Finding(Verdict.FAIL, "gpu", "none seen", "install NVIDIA's driver, or use --engine vllm-cpu")
    return Finding(Verdict.OK, "gpu", f"none seen; engine {engine.value}")


def _models(settings: CliSettings, engine: Engine, look: hub.Look) -> Iterator[Finding]:
    """Whether the model fits that would be served, with the arithmetic; and which one is chosen when none is named."""
    if engine is Engine.NONE:
        return
    memory = _memory_for_models(engine)
    if memory is None:
        yield Finding(Verdict.OK, "model", "the GPUs don't say how much memory they have, so nothing is said of models")
        return
    named = settings.model or (SMOLLM2 if engine is Engine.VLLM_CPU else None)
    try:
        found = sizes(*memory, named)
    except CliError as error:
        yield Finding(Verdict.WARN, "model", error.message, error.remedy)
        return
    if found.model is not None:
        yield _fit(found.model, "model", hopeless=Verdict.FAIL if settings.model else Verdict.WARN)
    if settings.model is not None:
        return
    in_reach = look.in_reach()
    yield _hub(in_reach)
    if engine is Engine.VLLM_CPU and not in_reach:
        return
    about = "model to try"
    if engine is Engine.VLLM:
        about = "model chosen by up" if in_reach else "model that a hub would give"
    if found.default is not None:
        yield _fit(found.default, about, hopeless=Verdict.WARN)
    elif engine is Engine.VLLM:
        yield Finding(Verdict.OK, about, "none of the table fits these GPUs: up serves SmolLM2-135M")


def _hub(in_reach: bool) -> Finding:
    if in_reach:
        return Finding(Verdict.OK, "hub", f"{hub.endpoint()} is in reach")
    remedy = "to fetch models, set HF_ENDPOINT or HTTPS_PROXY; without it, the default model and those in folders work"
    return Finding(Verdict.INFO, "hub", f"{hub.endpoint()} is not in reach, or switched off", remedy)


def _memory_for_models(engine: Engine) -> tuple[int, int] | None:
    """Bytes and number of GPUs; 0 GPUs: bytes available to a CPU."""
    if engine is Engine.VLLM_CPU:
        return available_memory(), 0
    try:
        return smallest_memory(gpus())
    except GpusUnreadable:
        return None  # said already


def _fit(model: Sized, about: str, hopeless: Verdict) -> Finding:
    if model.unknown:
        return Finding(Verdict.OK, about, f"{escape(model.name)}: {escape(model.unknown)}")
    shared = f", shared by {model.tensor_parallel} GPUs" if model.tensor_parallel > 1 else ""
    told = [f"{escape(model.name)} {model.verdict}{shared}"]
    if model.fits:
        told[0] += f": window {model.window:,} tokens, {model.sequences:g} such sequences at once"
    text = "\n      ".join([*told, *(escape(line) for line in model.arithmetic)])
    if not model.remedy or model.settings.get("max_model_len") == "auto":  # as up would set it
        return Finding(Verdict.OK, about, text)
    return Finding(Verdict.WARN if model.fits else hopeless, about, text, model.remedy)
