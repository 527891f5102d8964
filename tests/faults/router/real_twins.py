"""Two real engines behind one gateway."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.engines import Engine, start_vllm
from tests.support.gateway import Gateway, gateway

READY_S = 600.0  # a start takes 50 s, and minutes beside another engine under load


@dataclass
class Twins:
    """Two engines behind one gateway; a killed one is started again on the same port."""

    folder: Path
    stacks: list[ExitStack] = field(default_factory=list)
    engines: list[Engine] = field(default_factory=list)

    def start(self, at: int, port: int | None = None) -> None:
        stack = ExitStack()
        engine = stack.enter_context(start_vllm(self.folder, at % (os.cpu_count() or 1), port, READY_S))
        if at == len(self.engines):
            self.stacks.append(stack)
            self.engines.append(engine)
        else:
            self.stacks[at], self.engines[at] = stack, engine

    def start_again(self, at: int) -> None:
        port = int(self.engines[at].url.rpartition(":")[2])
        with contextlib.suppress(ProcessLookupError):
            self.stacks[at].close()
        self.start(at, port)

    def close(self) -> None:
        for stack in self.stacks:
            with contextlib.suppress(ProcessLookupError):
                stack.close()


@contextmanager
def real_twins(folder: Path) -> Iterator[Twins]:
    """Start two engines, each on a core of its own."""
    twins = Twins(folder)
    try:
        twins.start(0)
        twins.start(1)
        yield twins
    finally:
        twins.close()


@contextmanager
def gateway_before(twins: Twins, folder: Path, settings: str = "") -> Iterator[Gateway]:
    """A gateway whose model `g` both serve; `settings` are lines of the section `stoker:`."""
    entries = "".join(
        f"  - model_name: g\n    litellm_params: {{model: hosted_vllm/{engine.model}, api_base: '{engine.url}/v1',\n"
        "                     input_cost_per_token: 0.00000015, output_cost_per_token: 0.0000006}\n"
        "    model_info: {engine: vllm-cpu}\n"
        for engine in twins.engines
    )
    with gateway(folder, 1, configuration=f"model_list:\n{entries}{settings}") as one:
        yield one
