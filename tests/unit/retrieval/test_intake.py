"""What was stored for an upload is deleted where nobody can refer to it, and nowhere else."""

import asyncio
from typing import Any, cast

import pytest

from core.clock import SystemClock
from core.principal import Principal, Role
from retrieval.errors import DocumentTaken
from retrieval.intake import Intake, NewFile
from retrieval.settings import RetrievalSettings


class Database:
    """Finds the collection; commits, and is then left in this way."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def read(self, work: Any, *_: Any) -> list[str]:
        return ["a row"]

    async def write(self, work: Any, *_: Any) -> None:
        raise self._error


class Objects:
    def __init__(self) -> None:
        self.keys: set[str] = set()

    async def put(self, key: str, data: bytes) -> None:
        self.keys.add(key)

    async def delete(self, key: str) -> None:
        self.keys.remove(key)


@pytest.mark.parametrize(("error", "kept"), [(asyncio.CancelledError(), 1), (DocumentTaken("a.md"), 0)])
async def test_a_cancel_that_comes_after_the_commit_costs_no_bytes(error: BaseException, kept: int) -> None:
    objects = Objects()
    intake: Intake = cast(Any, Intake)(Database(error), None, objects, SystemClock(), RetrievalSettings())
    with pytest.raises(type(error)):
        await intake.accept(Principal("t", None, Role.MANAGER), "c", [NewFile("a.md", None, b"a")])
    assert len(objects.keys) == kept
