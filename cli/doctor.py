"""`./stoker doctor`: what could keep the stack from running here, and what to do about it."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cli import ports
from cli.console import out, short_bytes
from cli.environments import SDK, SDK_NODE, TEST, Environment, NodeEnvironment, inference
from cli.plan import detect_engine
from cli.settings import CliSettings, Engine
from cli.state import StackState

_MIN_DISK = 8e9
_MIN_MEMORY = 6e9


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line; `remedy` is empty for `ok`."""

    verdict: Verdict
    about: str
    text: str
    remedy: str = ""


def doctor(settings: CliSettings) -> bool:
    """Print all findings. Returns: whether nothing failed."""
    colours = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}
    findings = list(examine(settings))
    for finding in findings:
        out.print(f"[{colours[finding.verdict]}]{finding.verdict.value:4}[/]  {finding.about}: {finding.text}")
        if finding.remedy:
            out.print(f"      what to do: {finding.remedy}", markup=False)
    return all(finding.verdict is not Verdict.FAIL for finding in findings)


def examine(settings: CliSettings) -> Iterator[Finding]:
    """Make every check."""
    engine = detect_engine(settings.engine)
    yield _python()
    yield _system()
    for environment, command in ((inference(engine), "up"), (TEST, "test"), (SDK, "test"), (SDK_NODE, "test")):
        yield _environment(environment, command)
    yield _gateway_port(settings)
    yield _folder(settings.data_dir)
    yield _memory()
    yield _cpu(engine)
    yield _gpu(engine)


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


def _environment(environment: Environment | NodeEnvironment, command: str) -> Finding:
    about = f"environment {environment.name}"
    if environment.is_current():
        return Finding(Verdict.OK, about, "installed and current")
    state = "made from other lock files, or not finished" if environment.folder.exists() else "not installed"
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
    available = next(
        int(line.split()[1]) * 1024 for line in Path("/proc/meminfo").read_text().splitlines() if "MemAvailable" in line
    )
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
    smi = shutil.which("nvidia-smi")
    names = ""
    if smi is not None:
        asked = [smi, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        try:
            names = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
        except (subprocess.SubprocessError, OSError) as error:
            return Finding(Verdict.FAIL, "gpu", f"nvidia-smi fails: {error}", "mend the driver, or --engine vllm-cpu")
    if names:
        return Finding(Verdict.OK, "gpu", names.replace("\n", "; "))
    if engine is Engine.VLLM:
        return Finding(Verdict.FAIL, "gpu", "none seen", "install NVIDIA's driver, or use --engine vllm-cpu")
    return Finding(Verdict.OK, "gpu", f"none seen; engine {engine.value}")
