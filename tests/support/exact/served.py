"""What the exact provider's own log says of a request."""

from dataclasses import dataclass, field
from typing import Any

from tests.support.exact.faults import Fault


@dataclass(slots=True)
class Served:
    """One request, as the server's own log has it.

    Attributes:
        name: of the request, from `x-request-id` or the body's `user`.
        cached_tokens: of the prompt, found in what was read before under the same `cache_salt`.
        made, sent: token ids generated; how many of them were written to the socket.
        ended: the answer was written whole.
        failed: the fault that met it.
        began_s, left_s: readings of the monotonic clock: when it arrived; when it was noticed that its client had left.
    """

    name: str
    path: str
    body: dict[str, Any]
    began_s: float
    prompt_tokens: int = 0
    cached_tokens: int = 0
    made: list[int] = field(default_factory=list)
    sent: int = 0
    ended: bool = False
    failed: Fault | None = None
    left_s: float | None = None

    @property
    def way(self) -> str:
        """How the answer was asked for: `token_ids` and `prefill` continue another."""
        if self.path == "/completions" and isinstance(self.body.get("prompt"), list):
            return "token_ids"
        return "prefill" if self.body.get("continue_final_message") else "whole"
