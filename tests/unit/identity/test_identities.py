"""What a worker remembers of keys, against a source that can change, be counted, and fall silent."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from api.errors import NotAuthenticated, SessionEnded
from api.identities import Change, Found, Identities, Identity, Session
from api.jwt import Claims
from api.keytext import KEY_START, digest_of
from api.login.secret import name_of, new_secret
from core.clock import ManualClock
from core.dependency import DependencyUnavailable
from core.limits import Limits, Subject, SubjectKind
from core.principal import Principal, Role


@dataclass
class FakeSource:
    """SQL, as `api/lookup.py` is it.

    Attributes:
        asked: the hashes of each query for keys.
        silent: every call raises.
        gate: while it is not set, calls wait.
    """

    live: dict[str, Found] = field(default_factory=dict)
    changes: set[Change] = field(default_factory=set)
    asked: list[list[str]] = field(default_factory=list)
    silent: bool = False
    gate: asyncio.Event | None = None

    async def keys(self, digests: Sequence[str]) -> Mapping[str, Found]:
        self.asked.append(list(digests))
        found = {digest: self.live[digest] for digest in digests if digest in self.live}
        await self._answer()
        return found

    async def sessions(self, names: Sequence[str]) -> Mapping[str, Found]:
        return await self.keys(names)

    async def user(self, claims: Claims) -> Found | None:
        await self._answer()
        return Found(Identity(Principal("t", None, Role.MEMBER, user_id=claims.external_id)), None)

    async def changed(self, since: float) -> frozenset[Change]:
        await self._answer()
        return frozenset(change for change in self.changes if change.changed_at > since)

    async def _answer(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.silent:
            raise DependencyUnavailable("sql", "sql is away")


class FakeTokens:
    async def verify(self, token: str) -> Claims:
        return Claims(token, "t", "n", None, Role.MEMBER, None, expires_at=2_000_000.0)


@dataclass
class FakeMark:
    value: int = 0

    def read(self) -> int:
        return self.value


@dataclass
class Worker:
    """A worker with everything around it."""

    source: FakeSource
    mark: FakeMark
    clock: ManualClock
    identities: Identities

    def add(self, name: str, ends_at: float | None = None, **fields: str) -> str:
        """A live key of this name. Returns: its text."""
        text = KEY_START + name
        principal = replace(Principal("tenant", name, Role.MEMBER), **fields)
        self.source.live[digest_of(text)] = Found(Identity(principal, digest=digest_of(text)), ends_at)
        return text

    def sign_in(self, ends_at: float | None = None) -> str:
        """A live session of a key. Returns: its secret."""
        secret = new_secret()
        principal = Principal("tenant", "k", Role.MEMBER)
        identity = Identity(principal, digest=name_of(secret), session=Session("k", "", ends_at or 2_000_000.0))
        self.source.live[name_of(secret)] = Found(identity, ends_at)
        return secret

    def change(self, kind: str, id_: str) -> None:
        self.source.changes.add(Change(kind, id_, self.clock.time()))


@pytest.fixture
def worker() -> Worker:
    source, mark, clock = FakeSource(), FakeMark(), ManualClock()
    return Worker(source, mark, clock, Identities(source, FakeTokens(), mark, clock, size=3))


async def test_a_known_key_asks_sql_nothing(worker: Worker) -> None:
    text = worker.add("a")
    assert worker.identities.cached(text) is None
    identity = await worker.identities.identify(text)
    for _ in range(100):
        assert worker.identities.cached(text) is identity
        assert await worker.identities.identify(text) is identity
    assert len(worker.source.asked) == 1


async def test_the_longest_unused_key_is_forgotten_first(worker: Worker) -> None:
    texts = [worker.add(name) for name in "abcd"]
    for text in texts[:3]:
        await worker.identities.identify(text)
    worker.identities.cached(texts[0])
    await worker.identities.identify(texts[3])
    assert [worker.identities.cached(text) is not None for text in texts] == [True, False, True, True]


async def test_a_key_ends_at_its_time(worker: Worker) -> None:
    text = worker.add("a", ends_at=worker.clock.time() + 10)
    await worker.identities.identify(text)
    worker.clock.advance(9.9)
    assert worker.identities.cached(text) is not None
    worker.clock.advance(0.1)
    assert worker.identities.cached(text) is None


@pytest.mark.parametrize(
    ("change", "dropped"),
    [
        (("key", "a"), True),
        (("user", "u"), True),
        (("team", "m"), True),
        (("tenant", "tenant"), True),
        (("key", "b"), False),
        (("user", "a"), False),
        (("tenant", "a"), False),
    ],
)
async def test_a_poll_drops_what_changed_and_nothing_else(
    worker: Worker, change: tuple[str, str], dropped: bool
) -> None:
    text = worker.add("a", user_id="u", team_id="m")
    await worker.identities.identify(text)
    worker.change(*change)
    await worker.identities.poll()
    assert (worker.identities.cached(text) is None) is dropped


async def test_a_change_is_dropped_once_though_every_poll_of_the_overlap_sees_it(worker: Worker) -> None:
    text = worker.add("a")
    worker.change("key", "a")
    await worker.identities.poll()
    await worker.identities.identify(text)
    worker.clock.advance(1)
    await worker.identities.poll()
    assert worker.identities.cached(text) is not None


async def test_a_change_that_was_committed_late_is_seen(worker: Worker) -> None:
    """It carries the time of its transaction's start."""
    text = worker.add("a")
    await worker.identities.identify(text)
    started = worker.clock.time()
    for _ in range(5):
        worker.clock.advance(1)
        await worker.identities.poll()
    worker.source.changes.add(Change("key", "a", started))
    await worker.identities.poll()
    assert worker.identities.cached(text) is None


async def test_a_change_during_an_outage_is_seen_after_it(worker: Worker) -> None:
    text = worker.add("a")
    await worker.identities.identify(text)
    worker.source.silent = True
    worker.change("key", "a")
    for _ in range(50):
        worker.clock.advance(1)
        await worker.identities.poll()
    assert worker.identities.cached(text) is not None
    worker.source.silent = False
    await worker.identities.poll()
    assert worker.identities.cached(text) is None


async def test_while_sql_is_silent_a_known_key_lives_a_minute_and_is_never_wrong(worker: Worker) -> None:
    text = worker.add("a")
    await worker.identities.identify(text)
    worker.clock.advance(500)
    await worker.identities.poll()
    worker.source.silent = True
    worker.clock.advance(60)
    await worker.identities.poll()
    assert await worker.identities.identify(text)
    worker.clock.advance(0.1)
    assert worker.identities.cached(text) is None
    with pytest.raises(DependencyUnavailable):
        await worker.identities.identify(text)
    worker.source.silent = False
    assert await worker.identities.identify(text)


async def test_while_sql_is_silent_an_unknown_key_is_away_and_not_wrong(worker: Worker) -> None:
    worker.source.silent = True
    for _ in range(3):
        with pytest.raises(DependencyUnavailable):
            await worker.identities.identify(KEY_START + "new")


async def test_a_wrong_key_costs_one_query_a_second(worker: Worker) -> None:
    for _ in range(50):
        with pytest.raises(NotAuthenticated):
            await worker.identities.identify(KEY_START + "wrong")
    assert len(worker.source.asked) == 1
    worker.clock.advance(1)
    with pytest.raises(NotAuthenticated):
        await worker.identities.identify(KEY_START + "wrong")
    assert len(worker.source.asked) == 2


async def test_a_flood_of_wrong_keys_costs_few_queries_and_little_memory(worker: Worker) -> None:
    flood = [worker.identities.identify(f"{KEY_START}{number}") for number in range(1000)]
    answers = await asyncio.gather(*flood, return_exceptions=True)
    assert {type(answer) for answer in answers} == {NotAuthenticated}
    assert len(worker.source.asked) <= 6
    assert len(worker.identities._unknown) <= 3


@pytest.mark.parametrize("text", ["", "x", "sk-other", KEY_START + "a" * 500, "ey.", "ey.a.b.c", "ß" * 300])
async def test_what_has_no_keys_form_is_refused_without_a_query(worker: Worker, text: str) -> None:
    with pytest.raises(NotAuthenticated):
        await worker.identities.identify(text)
    assert worker.source.asked == []


async def test_a_key_that_comes_alive_is_known_with_the_change(worker: Worker) -> None:
    with pytest.raises(NotAuthenticated):
        await worker.identities.identify(KEY_START + "a")
    text = worker.add("a")
    worker.change("user", "u")
    worker.mark.value += 1
    assert await worker.identities.identify(text)


async def test_a_moved_mark_makes_the_next_request_ask_first(worker: Worker) -> None:
    text = worker.add("a")
    await worker.identities.identify(text)
    worker.source.live.clear()
    worker.change("key", "a")
    worker.mark.value = 7
    assert worker.identities.cached(text) is None
    with pytest.raises(NotAuthenticated):
        await worker.identities.identify(text)


async def test_a_moved_mark_that_concerns_others_costs_one_poll(worker: Worker) -> None:
    text = worker.add("a")
    identity = await worker.identities.identify(text)
    worker.change("key", "other")
    worker.mark.value = 7
    assert await worker.identities.identify(text) is identity
    assert worker.identities.cached(text) is identity
    assert len(worker.source.asked) == 1


async def test_an_answer_from_before_a_change_is_not_kept(worker: Worker) -> None:
    """The query's snapshot is older than the change, its answer younger than the poll that saw it."""
    text = worker.add("a")
    worker.source.gate = asyncio.Event()
    asking = asyncio.create_task(worker.identities.identify(text))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert worker.source.asked
    worker.identities.refresh("a")
    worker.source.gate.set()
    await asking
    assert worker.identities.cached(text) is None


async def test_who_asks_after_a_change_does_not_get_the_answer_from_before(worker: Worker) -> None:
    text = worker.add("a")
    worker.source.gate = asyncio.Event()
    first = asyncio.create_task(worker.identities.identify(text))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    worker.source.live.clear()  # revoked, after the first query's snapshot
    second = asyncio.create_task(worker.identities.identify(text))
    await asyncio.sleep(0)
    worker.source.gate.set()
    await first
    with pytest.raises(NotAuthenticated):
        await second


async def test_many_who_ask_at_once_share_a_query_and_one_who_leaves_harms_no_other(worker: Worker) -> None:
    text = worker.add("a")
    worker.source.gate = asyncio.Event()
    asking = [asyncio.create_task(worker.identities.identify(text)) for _ in range(10)]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.sleep(0)
    worker.source.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(answer, Identity) for answer in answers[1:])
    assert len(worker.source.asked) <= 2


async def test_renewing_reads_the_key_anew(worker: Worker) -> None:
    text = worker.add("a")
    old = await worker.identities.identify(text)
    worker.source.live[digest_of(text)] = Found(replace(old, generation=1), None)
    new = await worker.identities.renew(old)
    assert new.generation == 1
    assert worker.identities.cached(text) is new
    worker.source.live.clear()
    with pytest.raises(NotAuthenticated):
        await worker.identities.renew(new)
    assert worker.identities.cached(text) is None


async def test_an_identity_is_read_anew_after_ten_minutes_whatever_the_clocks_hid(worker: Worker) -> None:
    text = worker.add("a")
    await worker.identities.identify(text)
    worker.source.live.clear()  # a change that no poll sees
    for _ in range(11):
        worker.clock.advance(60)
        await worker.identities.poll()
    assert worker.identities.cached(text) is None


async def test_reading_anew_keeps_what_still_holds_also_when_sql_stops_then(worker: Worker) -> None:
    text = worker.add("a")
    await worker.identities.identify(text)
    worker.clock.advance(601)
    await worker.identities.poll()
    worker.source.silent = True
    assert worker.identities.cached(text) is not None
    assert len(worker.source.asked) == 2


async def test_a_token_is_remembered_for_a_minute(worker: Worker) -> None:
    token = "eyA.eyB.c"
    await worker.identities.identify(token)
    worker.clock.advance(59)
    assert worker.identities.cached(token) is not None
    worker.clock.advance(1)
    assert worker.identities.cached(token) is None


async def test_a_known_session_asks_sql_nothing_and_ends_at_its_time(worker: Worker) -> None:
    secret = worker.sign_in(ends_at=worker.clock.time() + 10)
    identity = await worker.identities.session(secret)
    assert worker.identities.cached_session(secret) is identity
    assert len(worker.source.asked) == 1
    worker.clock.advance(10)
    assert worker.identities.cached_session(secret) is None


@pytest.mark.parametrize("change", ["session", "key", "tenant"])
async def test_a_poll_drops_a_session_that_ended_or_whose_key_changed(worker: Worker, change: str) -> None:
    secret, other = worker.sign_in(), worker.add("other", tenant_id="another")
    await worker.identities.session(secret)
    await worker.identities.identify(other)
    worker.change(change, {"session": name_of(secret), "key": "k", "tenant": "tenant"}[change])
    await worker.identities.poll()
    assert worker.identities.cached_session(secret) is None
    assert worker.identities.cached(other) is not None


async def test_a_sessions_secret_is_no_key_and_a_key_is_no_session(worker: Worker) -> None:
    secret, key = worker.sign_in(), worker.add("a")
    await worker.identities.session(secret)
    await worker.identities.identify(key)
    for shown in (secret, name_of(secret)):
        assert worker.identities.cached(shown) is None
        with pytest.raises(NotAuthenticated):
            await worker.identities.identify(shown)
    assert worker.identities.cached_session(key) is None
    with pytest.raises(SessionEnded):
        await worker.identities.session(key)


async def test_while_sql_is_silent_a_known_session_lives_a_minute_and_is_never_wrong(worker: Worker) -> None:
    known, unseen = worker.sign_in(), worker.sign_in()
    await worker.identities.session(known)
    worker.source.silent = True
    worker.clock.advance(60)
    assert await worker.identities.session(known)
    worker.clock.advance(0.1)
    for secret in (known, unseen):
        with pytest.raises(DependencyUnavailable):
            await worker.identities.session(secret)


async def test_what_has_no_secrets_form_is_refused_without_a_query_and_a_wrong_one_costs_one_a_second(
    worker: Worker,
) -> None:
    wrong = new_secret()
    for secret in ("", "x", wrong + "a", "ß" * 43, *[wrong] * 20):
        with pytest.raises(SessionEnded):
            await worker.identities.session(secret)
    assert len(worker.source.asked) == 1


async def test_renewing_a_session_reads_its_key_anew_and_ends_with_it(worker: Worker) -> None:
    secret = worker.sign_in()
    old = await worker.identities.session(secret)
    worker.source.live[name_of(secret)] = Found(replace(old, generation=1), None)
    assert (await worker.identities.renew(old)).generation == 1
    worker.source.live.clear()
    with pytest.raises(SessionEnded):
        await worker.identities.renew(old)


def test_whether_amounts_are_limited_counts_every_subject() -> None:
    principal = Principal("t", "k", Role.MEMBER)
    rate = Subject(SubjectKind.KEY, "k", Limits(requests_per_minute=1, parallel=1))
    money = Subject(SubjectKind.MODEL, "m", Limits(nano_usd_per_day=0))
    assert not Identity(principal, (rate,)).limits_amounts
    assert Identity(principal, (rate,), {"m": (money,)}).limits_amounts
    assert Identity(principal, (rate,), {"m": (money,)}).subjects_of("m", "/r") == (rate, money)
