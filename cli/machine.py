"""What this machine has: memory, and the memory of its NVIDIA GPUs."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_MIB = 1 << 20


class GpusUnreadable(Exception):
    """nvidia-smi is here and fails; the message says how."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; `memory_bytes` is all of its memory, None where it shares the machine's and doesn't say."""

    name: str
    memory_bytes: int | None


def gpus() -> list[Gpu]:
    """The GPUs that a process started here would see (`CUDA_VISIBLE_DEVICES` counts); none without nvidia-smi.

    Raises: GpusUnreadable: nvidia-smi fails.
    """
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return []
    asked = [smi, "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout
    except (subprocess.SubprocessError, OSError) as error:
        raise GpusUnreadable(str(error)) from error
    rows = [line.split(",") for line in text.splitlines() if line.count(",") >= 2]
    visible = _visible()
    return [
        Gpu(",".join(row[1:-1]).strip(), _mebibytes(row[-1]))
        for row in rows
        if visible is None or row[0].strip() in visible
    ]


def available_memory() -> int:
    """Bytes that programs may still take, as the kernel estimates it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line)


def _visible() -> set[str] | None:
    """Numbers of the GPUs to be used; None: all, or they are named in another way than by number."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return None
    numbers = {word.strip() for word in wanted.split(",") if word.strip()}
    return numbers if all(word.lstrip("-").isdigit() for word in numbers) else None


def _mebibytes(text: str) -> int | None:
    return int(text) * _MIB if text.strip().isdigit() else None
