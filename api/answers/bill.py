"""What the models of one answer may use, and what they have used: a reservation for each that is asked."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Protocol

from api.answers.events import Done, Event, Retrieved
from api.ledger.line import Outcome
from core.usage import Usage
from router.deployment import Deployment


class Account(Protocol):
    """What one call of a model uses; `api.metering.Metered` says what each means."""

    @property
    def nano_usd(self) -> int: ...

    def rate_headers(self) -> Mapping[str, str]: ...

    def opened(self, deployment: Deployment) -> None: ...

    def switched(self, usage: Usage, deployment: Deployment, outcome: Outcome = "rescued") -> None: ...

    def count(self, tokens_out: int) -> None: ...

    def finish(self, usage: Usage, outcome: Outcome, status: int = 200) -> None: ...

    def close(self, usage: Usage, *, left: bool) -> None: ...


class Bill:
    """Of one answer.

    Args:
        admit: reserves the most that a model (its name, and the name of the call) may use.
        ended: told when what was reserved last is not needed any more.
    """

    def __init__(self, admit: Callable[[str, str], Awaitable[Account]], ended: Callable[[], None]) -> None:
        self._admit = admit
        self._ended = ended
        self._opened: list[Account] = []
        self._runs = False

    @property
    def metered(self) -> Account | None:
        """Of the model that is being asked; None: none was to be asked."""
        return self._opened[-1] if self._opened else None

    async def open(self, model: str, request_id: str) -> None:
        """Reserve for a model; the one before it has ended. Raises: as `Metering.admit`."""
        self.close()
        self._opened.append(await self._admit(model, request_id))
        self._runs = True

    def told(self, event: Event) -> Event:
        """The event with what limits leave, or what all models cost."""
        if self._opened:
            match event:
                case Retrieved():
                    return replace(event, left=self._opened[-1].rate_headers())
                case Done():
                    return replace(event, nano_usd=sum(metered.nano_usd for metered in self._opened))
        return event

    def close(self) -> None:
        """Give back what was not used; does nothing the second time."""
        if self._runs:
            self._runs = False
            self._opened[-1].close(Usage(), left=True)
            self._ended()
