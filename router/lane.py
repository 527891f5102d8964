"""What a way to an upstream must offer, so that the router treats both alike."""

from dataclasses import dataclass
from typing import Protocol

from router.call import Call
from router.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer in one piece: OpenAI's JSON."""

    body: bytes
    media_type: str = "application/json"


class ByteStream(Protocol):
    """An answer in pieces: server-sent events in OpenAI's form, cut anywhere."""

    async def read(self, limit_s: float) -> bytes:
        """The next bytes; empty at the end. Raises: RouterError; TimeoutError: none came within `limit_s`."""
        ...

    def wake(self) -> None:
        """Have a `read` that waits raise TimeoutError now."""
        ...

    async def aclose(self) -> None:
        """Cancel the upstream at once; may be called twice."""
        ...


class Lane(Protocol):
    """A way to upstreams. The caller sets the deadline around each call; cancelling it cancels the upstream."""

    async def whole(self, deployment: Deployment, call: Call) -> Whole:
        """Ask for an answer in one piece. Raises: RouterError."""
        ...

    async def stream(self, deployment: Deployment, call: Call) -> ByteStream:
        """Ask for a stream; returns once the upstream has accepted the request. Raises: RouterError."""
        ...

    async def aclose(self) -> None:
        """Close what the lane holds open."""
        ...
