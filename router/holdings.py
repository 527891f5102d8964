"""What an engine keeps between calls, from its own metrics: how much its KV cache holds, which adapters are loaded."""

import re
from contextlib import suppress
from dataclasses import dataclass

CACHE = b"vllm:cache_config_info"
ADAPTERS = b"vllm:lora_requests_info"
NAMES = (CACHE, ADAPTERS)

_LABEL = re.compile(rb'(?<![a-z_])([a-z_]+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Holdings:
    """Attributes:
    kv_tokens: tokens that fit into its KV cache, over all engines behind one address; None: it does not say.
    adapters: LoRA adapters that its running and waiting requests use.
    """

    kv_tokens: int | None = None
    adapters: frozenset[str] = frozenset()

    @classmethod
    def of(cls, text: bytes) -> "Holdings":
        """Read Prometheus's text form; what it does not say stays unknown."""
        sizes = [_tokens(labels) for labels, _ in _series(text, CACHE)]
        # The newest series counts: an engine writes one for each set of adapters that it ever had, dated by its value.
        newest = max(_series(text, ADAPTERS), key=lambda one: one[1], default=({}, 0.0))[0]
        named = ",".join(newest.get(f"{state}_lora_adapters", "") for state in ("running", "waiting"))
        return cls(sum(sizes) or None, frozenset(filter(None, named.split(","))))


def _series(text: bytes, name: bytes) -> list[tuple[dict[str, str], float]]:
    """A metric's labels and values."""
    found, at = [], text.find(name + b"{")
    while at >= 0:
        end = text.find(b"\n", at)
        line = text[at:] if end < 0 else text[at:end]
        labels, _, value = line[len(name) :].rpartition(b"}")
        with suppress(ValueError):  # a line that is cut off, or no UTF-8
            found.append(({key.decode(): said.decode() for key, said in _LABEL.findall(labels)}, float(value)))
        at = text.find(name + b"{", at + len(name))
    return found


def _tokens(labels: dict[str, str]) -> int:
    """0: an engine that has not counted its blocks yet says None."""
    blocks, size = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
    return int(blocks) * int(size) if blocks.isdecimal() and size.isdecimal() else 0
