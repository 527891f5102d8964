"""The model of versions keeps its own promises, whatever happens in whatever order."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.versions import Document, Model, Pin, Task

USERS = (None, "ann", "bob")
METADATA = st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 2), max_size=2)
READERS = st.none() | st.lists(st.sampled_from(["ann", "bob"]), unique=True)


class Versions(RuleBasedStateMachine):
    """Uploads, workers, zombies and readers."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(lease_s=30)
        self.now_s = 1000.0
        self.leases: list[tuple[Task, int]] = []  # also those that have been lost
        self.readers: list[tuple[str | None, Pin, dict[str, tuple[int, str, Any]]]] = []

    @rule(
        name=st.sampled_from("xy"),
        content=st.sampled_from(["one", "two", "three"]),
        metadata=METADATA,
        readers=READERS,
        life_s=st.sampled_from([None, None, 20.0]),
        own_cut=st.sampled_from([None, None, "own"]),
    )
    def put(self, **sent: Any) -> None:
        before = self.model.named(sent["name"], self.now_s)
        task = self.model.put(self.now_s, f"doc_{len(self.model.documents)}", **sent)
        assert before is None or task.document is before
        theirs = [one for one in self.model.tasks if one.document is task.document and one.unfinished and not one.twin]
        assert theirs in ([], [task])

    @precondition(lambda self: self.model.next_cut is None)
    @rule(cut=st.sampled_from(["fine", "coarse"]))
    def begin_reindex(self, cut: str) -> None:
        self.model.begin_reindex(self.now_s, cut)

    @precondition(lambda self: self.model.next_cut is not None)
    @rule()
    def cancel_reindex(self) -> None:
        self.model.cancel_reindex()

    @rule()
    def advance(self) -> None:
        next_cut = self.model.next_cut
        made, switched = self.model.advance(self.now_s)
        assert not (made and switched)
        assert not switched or self.model.cut == next_cut

    @precondition(lambda self: self.model.to_be_had(self.now_s))
    @rule(data=st.data())
    def acquire(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.model.to_be_had(self.now_s)))
        self.leases.append((task, self.model.acquire(task, self.now_s)))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), act=st.sampled_from(["renew", "start", "publish", "publish"]))
    def work(self, data: st.DataObject, act: str) -> None:
        task, fence = data.draw(st.sampled_from(self.leases))
        held, begun = self.model.holds(task, fence), task.begun
        count = len(task.document.contents)
        if act == "publish":
            shown = self.model.publish(task, fence)
            assert shown == (held and begun)
            assert len(task.document.contents) == count + (shown and not task.twin)
            assert not shown or task.content in (None, task.document.contents[-1])
        elif act == "start":
            assert self.model.start(task, fence, self.now_s) == held
        else:
            assert self.model.renew(task, fence, self.now_s) == held

    @rule(user=st.sampled_from(USERS))
    def begin_to_read(self, user: str | None) -> None:
        pinned = self.model.pin()
        self.readers.append((user, pinned, self.model.seen(pinned, user, self.now_s)))

    @precondition(lambda self: self.model.documents)
    @rule(data=st.data(), what=st.sampled_from(["delete", "metadata", "readers"]))
    def change(self, data: st.DataObject, what: str) -> None:
        document: Document = data.draw(st.sampled_from(list(self.model.documents.values())))
        if not document.lives(self.now_s):
            return
        if what == "delete":
            self.model.delete(document)
        else:
            self.model.change(document, **{what: data.draw(METADATA if what == "metadata" else READERS)})

    @rule(seconds=st.sampled_from([1.0, 10.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.model.expire(self.now_s)
        self.model.end_expired(self.now_s)
        for task in self.model.queue_refreshes():
            assert task.document.contents

    @invariant()
    def a_reader_sees_what_it_pinned_or_nothing(self) -> None:
        for user, pinned, before in self.readers:
            for document_id, (number, content, _) in self.model.seen(pinned, user, self.now_s).items():
                assert number == pinned[document_id]
                assert document_id not in before or before[document_id][:2] == (number, content)

    @invariant()
    def who_begins_now_sees_each_name_once_and_its_last_version(self) -> None:
        seen = self.model.seen(self.model.pin(), None, self.now_s)
        names = [self.model.documents[document_id].name for document_id in seen]
        assert len(names) == len(set(names))
        for document_id, (number, content, _) in seen.items():
            document = self.model.documents[document_id]
            assert (number, content) == (len(document.contents), document.contents[-1])

    @invariant()
    def whatever_is_visible_is_cut_in_one_way(self) -> None:
        visible = [one for one in self.model.documents.values() if one.contents and not one.deleted]
        assert {one.cuts[-1] for one in visible} <= {self.model.cut, "own"}
        assert all(len(one.cuts) == len(one.contents) for one in visible)

    @invariant()
    def nobody_works_at_what_is_gone(self) -> None:
        assert not [task for task in self.model.tasks if task.unfinished and task.document.deleted]


Versions.TestCase.settings = settings(stateful_step_count=40, deadline=None)
TestVersions = Versions.TestCase
