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
    rows = [line.split(",") for line in _told("index,name,memory.total") if line.count(",") >= 2]
    visible = _visible()
    return [
        Gpu(",".join(row[1:-1]).strip(), _mebibytes(row[-1]))
        for row in rows
        if visible is None or row[0].strip() in visible
    ]


def uuids() -> list[str]:
    """UUIDs of those GPUs, in the order in which a process takes them; none where that can't be told."""
    try:
        rows = [line.split(",") for line in _told("index,uuid") if line.count(",") == 1]
    except GpusUnreadable:
        return []
    there = {index.strip(): uuid.strip() for index, uuid in rows}
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return list(there.values())
    found: list[str] = []
    for word in (word.strip() for word in wanted.split(",")):
        its = [uuid for index, uuid in there.items() if word == index or (word[:4] == "GPU-" and uuid.startswith(word))]
        if len(its) != 1:  # as CUDA does, which sees none of those behind one that it doesn't know
            break
        found += its
    return found


def available_memory() -> int:
    """Bytes that programs may still take, as the kernel estimates it."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line)


def _told(fields: str) -> list[str]:
    """A line for each GPU; none without nvidia-smi. Raises: GpusUnreadable: it fails."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return []
    asked = [smi, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()
    except (subprocess.SubprocessError, OSError) as error:
        raise GpusUnreadable(str(error)) from error


def _visible() -> set[str] | None:
    """Numbers of the GPUs to be used; None: all, or they are named in another way than by number."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return None
    numbers = {word.strip() for word in wanted.split(",") if word.strip()}
    return numbers if all(word.lstrip("-").isdigit() for word in numbers) else None


def _mebibytes(text: str) -> int | None:
    return int(text) * _MIB if text.strip().isdigit() else None
