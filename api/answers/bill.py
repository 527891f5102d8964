"""What the models of one answer may use, and what they have used: a reservation for each that is asked."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from api.answers.events import Done, Event, Retrieved
from api.metering import Metered
from core.usage import Usage


class Bill:
    """Of one answer.

    Args:
        admit: reserves the most that a model (its name, and the name of the call) may use.
        ended: told when what was reserved last is not needed any more.
    """

    def __init__(self, admit: Callable[[str, str], Awaitable[Metered]], ended: Callable[[], None]) -> None:
        self._admit = admit
        self._ended = ended
        self._opened: list[Metered] = []
        self._runs = False

    @property
    def metered(self) -> Metered | None:
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
