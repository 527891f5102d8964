"""What a part of the stack is, as the supervisor needs to know it: how it starts, when it is ready, how it ends."""

import json
import signal
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Probe:
    """How to learn whether a part answers.

    Attributes:
        kind: `redis` (PING), `grpc` (an HTTP/2 SETTINGS frame), `http` (status 200), `log` (`text` in what the
            process has logged since its start), `exit` (a task: ended with 0).
        port, host: where it listens; all but the gateway on 127.0.0.1.
        path: of an HTTP probe.
        body: JSON to POST; none: GET.
        text: what a log probe looks for.
        password: of Redis.
        timeout_s: for one try.
    """

    kind: Literal["redis", "grpc", "http", "log", "exit"]
    port: int = 0
    host: str = "127.0.0.1"
    path: str = "/"
    body: dict[str, Any] | None = None
    text: str = ""
    password: str = ""
    timeout_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack.

    Attributes:
        environment: set on top of the stack's own.
        needs: names of parts that must be ready (or, for a task, done) before this one starts.
        stop_signal: what asks it to end in order.
        stop_s: seconds it gets for that before its whole group is killed.
        ready_s: seconds in which it must become ready; one that does not is started again.
        optional: the stack counts as ready without it, however often it fails.
    """

    name: str
    command: list[str]
    probe: Probe
    environment: dict[str, str] = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)
    port: int | None = None
    stop_signal: int = signal.SIGTERM
    stop_s: float = 10.0
    ready_s: float = 60.0
    optional: bool = False

    @property
    def is_task(self) -> bool:
        """A task runs once, to its end, before what needs it starts."""
        return self.probe.kind == "exit"


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a supervisor is told; it travels through a pipe, since it holds passwords.

    Attributes:
        run_id: marks every process of this run.
        environment: whole environment of every part.
        folder: working folder of every part.
    """

    run_id: str
    url: str
    engine: str
    data_dir: str
    folder: str
    environment: dict[str, str]
    parts: list[Part]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        raw: dict[str, Any] = json.loads(text)
        parts = [Part(**{**part, "probe": Probe(**part["probe"])}) for part in raw.pop("parts")]
        return cls(**raw, parts=parts)
