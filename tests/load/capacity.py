"""From people to pods: `python -m tests.load.capacity` prints the table of docs/deploy/sizing.md.

Costs of the gateway are measured (docs/performance.md); those of a GPU, of Redis and of SQL are assumptions, and said.
"""

import math
from dataclasses import dataclass

from tests.load.queueing import servers_for

PEOPLE = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)


@dataclass(frozen=True)
class Assumed:
    """What one person does in the busiest hour, and what things cost.

    Attributes:
        asked_per_hour: questions of one person.
        rush: the busiest minute beside the busiest hour's mean.
        answer_tokens: of one answer, each a frame.
        tokens_per_s: of one stream.
        request_cpu_s: of a gateway's core, without frames; frame_cpu_s: of each frame that comes by itself. Measured.
        busy: share of a core that may be used, so that nobody waits for it.
        pod_cores: workers of one gateway's pod.
        slots: streams at once in one engine, each at `tokens_per_s`. Assumed: measure yours.
        wait_s: which at most `waiting` of all callers may wait longer for a slot.
        scripts: calls of Redis for one request; redis_per_s: those that one primary takes. Assumed.
        cell_per_s: requests a second of one cell, which has its own SQL, Redis and Milvus. Assumed.
    """

    asked_per_hour: float = 10
    rush: float = 2
    answer_tokens: int = 300
    tokens_per_s: float = 40
    request_cpu_s: float = 0.000_260
    frame_cpu_s: float = 0.000_073
    busy: float = 0.7
    pod_cores: int = 2
    slots: int = 64
    wait_s: float = 2
    waiting: float = 0.01
    scripts: int = 2
    redis_per_s: float = 20_000
    cell_per_s: float = 2_000


@dataclass(frozen=True)
class Plan:
    """What so many people need.

    Attributes:
        streams: at once, on average in the busiest minute.
        pods: of the gateway, one of which may be away.
        engines: of one GPU each; one of them may be away.
    """

    people: int
    per_s: float
    streams: float
    cores: float
    pods: int
    engines: int
    scripts_per_s: float
    redis: int
    cells: int


def plan(people: int, assumed: Assumed | None = None) -> Plan:
    """What so many people in the busiest hour need."""
    given = assumed or Assumed()
    per_s = people * given.asked_per_hour / 3600 * given.rush
    service_s = given.answer_tokens / given.tokens_per_s
    cores = per_s * (given.request_cpu_s + given.answer_tokens * given.frame_cpu_s)
    pods = max(2, math.ceil(cores / given.busy / given.pod_cores) + 1)
    slots = servers_for(per_s, service_s, given.wait_s, given.waiting)
    scripts = per_s * given.scripts
    cells = max(1, math.ceil(per_s / given.cell_per_s))
    return Plan(
        people,
        per_s,
        per_s * service_s,
        cores,
        pods,
        max(2, math.ceil(slots / given.slots) + 1),
        scripts,
        max(cells, math.ceil(scripts / (given.redis_per_s * given.busy))),
        cells,
    )


def table() -> str:
    """As Markdown."""
    head = "people | requests/s | streams at once | cores of gateways | gateway pods | GPUs | Redis scripts/s | "
    head += "Redis primaries | cells"
    lines = [f"| {head} |", "| " + " | ".join("---" for _ in head.split("|")) + " |"]
    for people in PEOPLE:
        made = plan(people)
        cells = (
            f"{made.people:,}",
            f"{made.per_s:,.1f}",
            f"{made.streams:,.0f}",
            f"{made.cores:,.1f}",
            f"{made.pods:,}",
            f"{made.engines:,}",
            f"{made.scripts_per_s:,.0f}",
            f"{made.redis:,}",
            f"{made.cells:,}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
