"""What a collection comes to: uploads, leases, versions, reindexes, readers as a pure state machine, without any store.

It knows the same operations as the catalog, each as one step, and says what every reader may find. Tests drive it and
the real parts side by side. Times are seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Of a task."""

    WAITING = "waiting"
    LEASED = "leased"
    READY = "ready"
    CANCELLED = "cancelled"


@dataclass
class Task:
    """The work that one upload makes, or one change of what is said about a document.

    Attributes:
        content: of the upload; None: the visible rows are written anew.
        metadata: that of the upload; None: as the document has it.
        twin: of the visible version, for the index that is being made; it is apart from all other work on the document.
        begun: the attempt that holds the lease has written its revision down, and nobody has given it up.
        wrote: metadata and readers that the rows of this attempt hold.
        known: whether an upload of the same content will be known to be the same as what it makes.
        cut: how what it makes is cut; settled when it is leased.
    """

    document: "Document"
    content: str | None
    metadata: dict[str, Any] | None
    twin: bool = False
    state: State = State.WAITING
    fence: int = 0
    lease_until: float = 0.0
    begun: bool = False
    wrote: tuple[Any, Any] = (None, None)
    known: bool = True
    cut: str = ""

    @property
    def unfinished(self) -> bool:
        return self.state in (State.WAITING, State.LEASED)


@dataclass
class Document:
    """A document, all versions of it that anybody could see, and who may see it now.

    Attributes:
        contents: those of versions 1, 2, …
        cuts: how each of them was cut.
        own_cut: how the latest upload asks to be cut; None: as the collection is.
        latest: the content that was sent last.
        readers: users; None: everyone in the tenant.
        stale: the index's rows say something else than `metadata` and `readers`.
        wrote: metadata and readers in the index's rows.
        known: an upload of the last content would be known to be the same.
        twin: the task that has made the twin of the last version; None: it lacks one.
    """

    id: str
    name: str
    metadata: dict[str, Any]
    readers: Sequence[str] | None
    expires_at: float | None
    contents: list[str] = field(default_factory=list)
    cuts: list[str] = field(default_factory=list)
    own_cut: str | None = None
    latest: str = ""
    wrote: tuple[Any, Any] = (None, None)
    known: bool = True
    twin: Task | None = None
    deleted: bool = False
    stale: bool = False

    def lives(self, now_s: float) -> bool:
        return not self.deleted and (self.expires_at is None or self.expires_at > now_s)

    def open_to(self, user: str | None) -> bool:
        """Whether a user may read it; None: a manager, who may read all."""
        return self.readers is None or user is None or user in self.readers


Pin = Mapping[str, int]  # the version of each document that a reader saw at its start


class Model:
    """One collection. Every method is one atomic step; `now_s` never goes back."""

    def __init__(self, lease_s: float, hold_s: float = 60.0, few: int = 20) -> None:
        self.lease_s = lease_s
        self.hold_s = hold_s
        self.few = few
        self.cut = ""
        self.next_cut: str | None = None  # of the index that is being made
        self.held_until = 0.0
        self.documents: dict[str, Document] = {}
        self.tasks: list[Task] = []

    def named(self, name: str, now_s: float) -> Document | None:
        """The document of this name that an upload would become a version of."""
        return next((one for one in self.documents.values() if one.name == name and one.lives(now_s)), None)

    def put(
        self,
        now_s: float,
        new_id: str,
        name: str,
        content: str,
        metadata: dict[str, Any],
        readers: Sequence[str] | None,
        life_s: float | None,
        own_cut: str | None = None,
    ) -> Task:
        """An upload; `new_id` is the document's if it is a new one. `readers` None: as they were.

        Args:
            name: of a copy of a file something that no document without a file is called.
        """
        for each in self.documents.values():
            if each.name == name and not each.deleted and not each.lives(now_s):
                self._hide(each)
        expires_at = None if life_s is None else now_s + life_s
        found = self.named(name, now_s)
        if found is None:
            found = self.documents[new_id] = Document(new_id, name, metadata, readers, expires_at, latest=content)
            found.own_cut = own_cut
            return self._queue(Task(found, content, metadata))
        self._cancel(found)
        found.expires_at, found.latest, found.own_cut = expires_at, content, own_cut
        unchanged = bool(found.contents) and self._is_as_asked(found) and found.known
        before = (found.metadata, found.readers)
        if readers is not None:
            found.readers = readers
        if unchanged:
            found.metadata = metadata
        if found.contents and before != (found.metadata, found.readers):
            found.stale = True
        return self._queue(Task(found, content, metadata, state=State.READY if unchanged else State.WAITING))

    def change(self, document: Document, **said: Any) -> None:
        """Say other things about a document: `metadata`, `readers`."""
        if "metadata" in said:
            document.metadata = said["metadata"]
            for task in self._unfinished(document):
                if task.content is not None:
                    task.metadata = said["metadata"]
        if "readers" in said:
            document.readers = said["readers"]
        if document.contents and said:
            document.stale = True

    def delete(self, document: Document) -> None:
        self._hide(document)

    def end_expired(self, now_s: float) -> None:
        for each in self.documents.values():
            if not each.deleted and not each.lives(now_s):
                self._hide(each)

    def queue_refreshes(self) -> list[Task]:
        """Tasks for what is stale and nobody works at."""
        stale = [one for one in self.documents.values() if one.stale and not one.deleted]
        return [self._queue(Task(one, None, None)) for one in stale if not self._unfinished(one)]

    def acquire(self, task: Task, now_s: float) -> int:
        """Lease a waiting task. Returns: the fence."""
        if task.state is not State.WAITING:
            raise ValueError(f"a task that is {task.state} is not to be had")
        if task not in self.to_be_had(now_s):
            raise ValueError("it waits until the reindex is over")
        task.state, task.fence, task.lease_until = State.LEASED, task.fence + 1, now_s + self.lease_s
        document = task.document
        said = document.metadata if task.metadata is None else task.metadata
        task.wrote = (said, document.readers)
        task.cut = document.own_cut or (self.next_cut if task.twin and self.next_cut else self.cut)
        if task.content is None:
            task.known = document.known and (not task.twin or self._is_as_asked(document))
            task.cut = task.cut if task.twin else document.cuts[-1]
        return task.fence

    def holds(self, task: Task, fence: int) -> bool:
        """Whether whoever leased it with this fence may go on."""
        return task.state is State.LEASED and task.fence == fence

    def renew(self, task: Task, fence: int, now_s: float) -> bool:
        """Returns: whether the lease still held."""
        if not self.holds(task, fence):
            return False
        task.lease_until = now_s + self.lease_s
        return True

    def start(self, task: Task, fence: int, now_s: float) -> bool:
        """An attempt writes its revision down. Returns: whether it may go on."""
        task.begun = self.renew(task, fence, now_s) or task.begun
        return self.holds(task, fence)

    def publish(self, task: Task, fence: int) -> bool:
        """Show what the attempt has written, in place of the version before. Returns: whether it was shown."""
        document = task.document
        if not self.holds(task, fence) or not task.begun or document.deleted:
            return False
        if task.twin:
            document.twin, task.state = task, State.READY
            return True
        document.contents.append(document.contents[-1] if task.content is None else task.content)
        document.cuts.append(task.cut)
        document.wrote, document.known = task.wrote, task.known
        if task.content is not None:
            document.twin = None
        self._begin_anew([one for one in self._twins() if one.document is document])
        if task.metadata is not None:
            document.metadata = task.metadata
        document.stale = task.wrote != (document.metadata, document.readers)
        task.state = State.READY
        return True

    def to_be_had(self, now_s: float) -> list[Task]:
        """Tasks that wait for a worker: for a while uploads are held back, so that a reindex comes to its end."""
        held = self.next_cut is not None and self.held_until > now_s
        return [task for task in self.tasks if task.state is State.WAITING and (task.twin or not held)]

    def begin_reindex(self, now_s: float, cut: str) -> list[Task]:
        """Cut all that is visible anew. Returns: the tasks that this makes; an empty collection needs none."""
        if self.next_cut is not None:
            raise ValueError("one is under way")
        self.next_cut, self.held_until = cut, 0.0
        return self.advance(now_s)[0]

    def cancel_reindex(self) -> None:
        for task in self._twins():
            task.state, task.begun, task.fence = State.CANCELLED, False, task.fence + 1
        self._end_reindex()

    def advance(self, now_s: float) -> tuple[list[Task], bool]:
        """Queue the twins that are lacking, or switch. Returns: new tasks, and whether the new index answers."""
        if self.next_cut is None or self._twins():
            return [], False
        visible = [one for one in self.documents.values() if one.contents and not one.deleted]
        lacking = [one for one in visible if one.twin is None]
        if lacking:
            if len(lacking) <= self.few:
                self.held_until = now_s + self.hold_s
            return [self._queue(Task(one, None, None, twin=True)) for one in lacking], False
        for one in visible:
            assert one.twin is not None
            one.contents.append(one.contents[-1])
            one.cuts.append(one.twin.cut)
            one.stale = one.stale or one.twin.wrote != one.wrote
            one.wrote, one.known = one.twin.wrote, one.twin.known
        self.cut = self.next_cut
        self._begin_anew([task for task in self.tasks if task.state is State.LEASED])
        self._end_reindex()
        return [], True

    def expire(self, now_s: float) -> list[Task]:
        """Take tasks back whose lease has run out."""
        over = [task for task in self.tasks if task.state is State.LEASED and task.lease_until <= now_s]
        for task in over:
            task.state, task.begun, task.fence = State.WAITING, False, task.fence + 1
        return over

    def pin(self) -> Pin:
        """What a reader that begins now may come to see."""
        return {one.id: len(one.contents) for one in self.documents.values() if one.contents and not one.deleted}

    def seen(self, pinned: Pin, user: str | None, now_s: float) -> dict[str, tuple[int, str, dict[str, Any]]]:
        """Of what a reader pinned, what it may be shown now: version, content, metadata by document."""
        found = {}
        for document_id, number in pinned.items():
            document = self.documents[document_id]
            if document.lives(now_s) and document.open_to(user):
                found[document_id] = (number, document.contents[number - 1], document.metadata)
        return found

    def _is_as_asked(self, document: Document) -> bool:
        """Whether what is visible has the content that was sent last, cut as that asks for."""
        return (document.latest, document.own_cut or self.cut) == (document.contents[-1], document.cuts[-1])

    def _queue(self, task: Task) -> Task:
        self.tasks.append(task)
        return task

    def _unfinished(self, document: Document) -> list[Task]:
        return [task for task in self.tasks if task.document is document and task.unfinished and not task.twin]

    def _twins(self) -> list[Task]:
        return [task for task in self.tasks if task.twin and task.unfinished]

    def _begin_anew(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            task.state, task.begun, task.fence = State.WAITING, False, task.fence + 1

    def _end_reindex(self) -> None:
        self.next_cut, self.held_until = None, 0.0
        for document in self.documents.values():
            document.twin = None

    def _cancel(self, document: Document, *, twins: bool = False) -> None:
        theirs = [task for task in self._twins() if task.document is document] if twins else []
        for task in self._unfinished(document) + theirs:
            task.state, task.begun, task.fence = State.CANCELLED, False, task.fence + 1

    def _hide(self, document: Document) -> None:
        document.deleted, document.twin = True, None
        self._cancel(document, twins=True)
