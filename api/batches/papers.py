"""The reading of a batch's file, and the writing of what came out.

Either may be interrupted at any moment: reading goes on behind the last line that is there, and files come out in the
same transaction in which the batch ends, so that there is one of each.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from api.batches.batchleases import BatchLease, BatchLeases, Outcome
from api.batches.errors import LeaseLost
from api.batches.forms import unanswered
from api.batches.lines import Bounds, Problem, read_lines
from api.batches.states import Status
from api.errors import FileNotFound
from api.files.store import NewFile, StoredFile
from api.identities import Identity
from core.principal import Principal, Role
from monitoring.logs import logger

_log = logger(__name__)

_OUTPUT_PURPOSE = "batch_output"
_MEDIA_TYPE = "application/jsonl"
KEY_GONE = Problem(
    "invalid_api_key",
    "The key of this batch, or its user, is revoked, expired or disabled; make a new batch with a live key.",
)


class Files(Protocol):
    """Where a tenant's files are."""

    async def content(self, principal: Principal, file_id: str) -> bytes:
        """Raises: FileNotFound."""
        ...

    async def lay_parts(self, principal: Principal, new: NewFile, parts: AsyncIterator[bytes]) -> StoredFile | None:
        """Keep a file's bytes, if there are any; nobody sees it until it is noted."""
        ...

    async def note(self, connection: AsyncConnection, file: StoredFile, *, private: bool) -> None:
        """Show a file with this transaction."""
        ...


class Who(Protocol):
    """Knows who somebody is now."""

    async def standing(self, key_id: str | None, user_id: str | None) -> Identity | None: ...


class Papers:
    """Does whatever is to be done with a batch as a whole, for one worker."""

    def __init__(self, leases: BatchLeases, files: Files, who: Who, bounds: Bounds) -> None:
        self._leases = leases
        self._files = files
        self._who = who
        self._bounds = bounds

    async def handle(self, batch_id: str) -> bool:
        """Read its file, or write down what came out, if nobody else does.

        Returns: whether it got on.
        Raises: DependencyError: a part is away; what is done stays, and the lease runs out by itself.
        """
        lease = await self._leases.take(batch_id)
        if lease is None:
            return False
        try:
            if lease.status is Status.VALIDATING:
                await self._read(lease)
                return True
            return await self._end(lease)
        except LeaseLost as error:
            _log.info("lease lost", batch=batch_id, reason=str(error))
            return False

    async def _read(self, lease: BatchLease) -> None:
        identity = await self._who.standing(lease.key_id, lease.user_id)
        if identity is None:
            await self._leases.refuse(lease, [KEY_GONE])
            return
        try:
            data = await self._files.content(identity.principal, lease.input_file_id)
        except FileNotFound:
            gone = "The input file is not there any more; upload it again, and make a new batch."
            await self._leases.refuse(lease, [Problem("file_not_found", gone, param="input_file_id")])
            return
        lines, problems = await asyncio.to_thread(read_lines, data, lease.endpoint, self._bounds)
        if problems:
            await self._leases.refuse(lease, problems)
            return
        await self._leases.add_lines(lease, lines)
        await self._leases.begin(lease, lines)

    async def _end(self, lease: BatchLease) -> bool:
        """End a batch of which no more lines are sent, once those are back that were under way."""
        if await self._leases.running(lease):
            await self._leases.release(lease)
            return False
        assert lease.ending is not None  # nobody gets here without knowing how it ends
        values: dict[str, Any] = {}
        made: list[StoredFile] = []
        if lease.begun:
            for kind, counted, ok in (("output", "completed", True), ("error", "failed", False)):
                lines = _Lines(self._leases, lease, lease.ending, ok=ok)
                file = await self._files.lay_parts(_maker(lease), self._paper(lease, kind), lines.parts())
                values[counted] = lines.count
                if file is not None:
                    made.append(file)
                    values[f"{kind}_file_id"] = file.id

        async def note_all(connection: AsyncConnection) -> None:
            for file in made:
                await self._files.note(connection, file, private=True)

        await self._leases.end(lease, lease.ending, values, note_all)
        _log.info("ended", batch=lease.batch_id, status=lease.ending)
        return True

    def _paper(self, lease: BatchLease, kind: str) -> NewFile:
        name = f"{lease.batch_id}_{kind}.jsonl"
        # What the owner may read may be in it, so it is the owner's alone, whoever could read the requests.
        return NewFile(name, _OUTPUT_PURPOSE, b"", _MEDIA_TYPE, None, lease.output_expires_after_s, private=True)


class _Lines:
    """Lines of a batch that ended well, or the others, read as they are written down.

    Attributes:
        count: how many there were so far.
    """

    def __init__(self, leases: BatchLeases, lease: BatchLease, ending: Status, *, ok: bool) -> None:
        self._leases = leases
        self._lease = lease
        self._ending = ending
        self._ok = ok
        self.count = 0

    async def parts(self) -> AsyncIterator[bytes]:
        after = 0
        while found := await self._leases.outcomes(self._lease, after):
            lines = [self._line(one) for one in found if one.ok == self._ok]
            self.count += len(lines)
            if lines:
                yield b"".join(lines)
            after = found[-1].number

    def _line(self, one: Outcome) -> bytes:
        answer = one.answer
        if answer is None:
            answer = unanswered(self._lease.batch_id, one.number, one.custom_id, self._ending)
        return answer.encode() + b"\n"


def _maker(lease: BatchLease) -> Principal:
    """Whoever made the batch, who may be gone by now: the files are theirs all the same."""
    team_id = lease.owner.removeprefix("team:") if lease.owner.startswith("team:") else None
    return Principal(lease.tenant_id, lease.key_id, Role.MEMBER, user_id=lease.user_id, team_id=team_id)
