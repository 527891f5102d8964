"""Guards for tests, as an operator would write them."""

import asyncio

from router.guards import Guard, Listener, Posted, Refused


def posted(*guards: Guard) -> list[Posted]:
    """As a configuration has them."""
    return [Posted(guard, type(guard).__name__, {}) for guard in guards]


class Alias:
    """Gives a name another one on its way to the model, and its own again on the way back."""

    def __init__(self, name: str, alias: str) -> None:
        self._name = name
        self._alias = alias

    async def asked(self, text: str) -> str:
        return text.replace(self._name, self._alias)

    def listener(self) -> Listener:
        return _Replacing(self._alias, self._name)


class _Replacing:
    """Holds back what may be the beginning of what it looks for."""

    def __init__(self, what: str, by: str) -> None:
        self._what = what
        self._by = by
        self._held = ""

    async def said(self, piece: str, *, last: bool) -> str:
        text = (self._held + piece).replace(self._what, self._by)
        ends = range(1, min(len(text), len(self._what)) + 1)
        held = 0 if last else max((at for at in ends if self._what.startswith(text[-at:])), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


class Forbids:
    """Refuses a word, in what is asked and in what is said."""

    def __init__(self, word: str) -> None:
        self._word = word

    async def asked(self, text: str) -> str:
        if self._word in text:
            raise Refused(f"{self._word!r} is not spoken of here.")
        return text

    def listener(self) -> Listener:
        return self

    async def said(self, piece: str, *, last: bool) -> str:
        return await self.asked(piece)


class Judges:
    """Lets everything be asked; breaks at one word of what is said, and refuses another."""

    def __init__(self, refused: str, broken: str = "\0") -> None:
        self._refused = refused
        self._broken = broken

    async def asked(self, text: str) -> str:
        return text

    def listener(self) -> Listener:
        return self

    async def said(self, piece: str, *, last: bool) -> str:
        if self._broken in piece:
            raise RuntimeError("the guard's own fault")
        if self._refused in piece:
            raise Refused(f"{self._refused!r} is not spoken of here.")
        return piece


class Breaks:
    """Fails at what it is told to: `asked`, `listener` or `said`; or never answers."""

    def __init__(self, at: str, *, hangs: bool = False) -> None:
        self._at = at
        self._hangs = hangs

    async def asked(self, text: str) -> str:
        return await self._pass(text, "asked")

    def listener(self) -> Listener:
        if self._at == "listener":
            raise RuntimeError("the guard's own fault")
        return self

    async def said(self, piece: str, *, last: bool) -> str:
        return await self._pass(piece, "said")

    async def _pass(self, text: str, at: str) -> str:
        if at == self._at:
            if self._hangs:
                await asyncio.Event().wait()
            raise RuntimeError("the guard's own fault")
        return text


class Hoards:
    """Tells nothing of an answer before its end."""

    async def asked(self, text: str) -> str:
        return text

    def listener(self) -> Listener:
        return _Hoarding()


class _Hoarding:
    def __init__(self) -> None:
        self._held = ""

    async def said(self, piece: str, *, last: bool) -> str:
        self._held += piece
        return self._held if last else ""
