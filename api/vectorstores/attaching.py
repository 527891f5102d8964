"""Attaching files to vector stores: each is copied into a document, which the same door takes in as any upload."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from api.files.store import Files, StoredFile
from core.clock import Clock
from core.principal import Principal
from retrieval.intake import Accepted, Intake, NewFile


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that is to be attached.

    Attributes:
        attributes: the document's metadata.
        chunking: as `retrieval.cutting.check_own` takes it; None: the store's.
    """

    file_id: str
    attributes: dict[str, Any]
    chunking: dict[str, int] | None


class Attaching:
    """Attaches files that the caller may read."""

    def __init__(self, files: Files, intake: Intake, clock: Clock, at_once: int) -> None:
        self._files = files
        self._intake = intake
        self._clock = clock
        self._at_once = at_once  # so many in one transaction, which others wait for

    async def check(self, principal: Principal, wanted: Sequence[Attachment]) -> list[StoredFile]:
        """The files that are to be attached. Raises: FileNotFound; DependencyError: SQL is away."""
        return await self._files.get_all(principal, [one.file_id for one in wanted])

    async def attach(self, principal: Principal, collection: str, wanted: Sequence[Attachment]) -> Accepted:
        """Queue files, all in one job, each with the readers and the end that it has itself.

        Raises: FileNotFound; what `Intake.accept` raises: of many files the first may have been taken by then.
        """
        stored = await self.check(principal, wanted)
        new = [self._as_new(principal, file, one) for file, one in zip(stored, wanted, strict=True)]
        accepted = await self._intake.accept(principal, collection, new[: self._at_once])
        ids = list(accepted.document_ids)
        for first in range(self._at_once, len(new), self._at_once):
            part = new[first : first + self._at_once]
            ids += (await self._intake.accept(principal, collection, part, accepted.job_id)).document_ids
        return Accepted(accepted.job_id, ids)

    def _as_new(self, principal: Principal, file: StoredFile, wanted: Attachment) -> NewFile:
        left_s = None if file.expires_at is None else max(1, int(file.expires_at - self._clock.time()))
        return NewFile(
            filename=file.filename,
            media_type=file.media_type,
            data=self._reading(principal, file.id),
            metadata=wanted.attributes,
            acl=file.acl,
            expires_after_s=left_s,
            file_id=file.id,
            chunking=wanted.chunking,
        )

    def _reading(self, principal: Principal, file_id: str) -> Callable[[], Awaitable[bytes]]:
        return lambda: self._files.content(principal, file_id)
