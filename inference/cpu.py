"""What this machine's processor can do. Nothing but the standard library."""

from pathlib import Path


def flags() -> frozenset[str]:
    """As /proc/cpuinfo names them; empty where the kernel doesn't tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def dtype(flags: frozenset[str]) -> str:
    """bfloat16 where the processor computes in it; elsewhere it is emulated, and several times slower than float32."""
    return "bfloat16" if flags & {"amx_bf16", "avx512_bf16"} else "float32"
