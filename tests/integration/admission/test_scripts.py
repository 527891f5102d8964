"""The Lua scripts on a real Valkey do exactly what the model does, on operations that hypothesis thinks of."""

from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from api.admission.errors import Dimension
from api.admission.meters import MAX_NANO_USD, MAX_PER_MINUTE, Metered, metered
from api.admission.model import Book, Bucket, Counter, Granted, Load, Missing, Outcome, Purse, Refused, period_of
from api.admission.scripts import admit_args, adopt_args, outcome_of
from api.admission.settlements import Ended, calls_of
from core.limits import Limits, Subject, SubjectKind
from storage.scripts import Argument, Script
from tests.integration.admission.conftest import VIRTUAL
from tests.integration.admission.servers import dump, plain

TENANT = "acme"
SUBJECTS = [
    Subject(SubjectKind.KEY, "k 1}", Limits(requests_per_minute=7, burst=3, tokens_per_minute=100, parallel=4)),
    Subject(SubjectKind.USER, "u", Limits(requests_per_minute=3, tokens_per_minute=150, strict=True, parallel=9)),
    Subject(SubjectKind.TEAM, "t", Limits(nano_usd_per_day=500, nano_usd_per_month=1200)),
    Subject(SubjectKind.TENANT, "acme", Limits(nano_usd_per_month=MAX_NANO_USD, tokens_per_minute=MAX_PER_MINUTE)),
    Subject(SubjectKind.MODEL, "m", Limits(requests_per_minute=0, burst=2, nano_usd_per_day=MAX_NANO_USD)),
    Subject(SubjectKind.ROUTE, "/v1/chat", Limits(nano_usd_per_day=0, parallel=0)),
    Subject(SubjectKind.ROUTE, "/v1/none", Limits()),
]
ONE = st.sampled_from(SUBJECTS).map(lambda subject: (subject,))
KINDS = ONE | st.lists(st.sampled_from(SUBJECTS[:5]), min_size=1, max_size=4).map(tuple)
SELDOM = st.sampled_from([False, False, False, False, True])
TOKENS = st.integers(0, 120) | st.sampled_from([10**6, MAX_PER_MINUTE - 1, MAX_PER_MINUTE])
NANO_USD = st.integers(0, 600) | st.sampled_from([MAX_NANO_USD - 1, MAX_NANO_USD])
USED_TOKENS = st.integers(0, 120) | st.just(10**8)  # sums stay below 2^53: beyond, only refusals are reckoned
USED_NANO_USD = st.integers(0, 600) | st.just(10**10)
LEASES_MS = st.integers(1, 90_000)


class AdmissionMachine(RuleBasedStateMachine):
    """Every operation runs on both, and both must answer the same and hold the same afterwards."""

    def __init__(self, redis: "Redis") -> None:
        super().__init__()
        self.redis = redis
        self.redis.flushall()
        self.book = Book()
        self.known: list[tuple[str, Metered, int, int]] = []
        self.count = 0
        self.missing: tuple[Counter, ...] = ()
        self.wait(0, 1_790_000_000_000)

    @initialize(start_ms=st.sampled_from([1_790_000_000_123, 1_798_761_599_000, 1_709_164_799_999]))
    def begin(self, start_ms: int) -> None:
        self.wait(0, start_ms)

    @rule(
        ms=st.integers(0, 3_000) | st.integers(50_000, 62_000) | st.sampled_from([130_000, 86_400_000, 31 * 86_400_000])
    )
    def wait(self, ms: int, start_ms: int | None = None) -> None:
        self.now_ms = (start_ms or self.now_ms) + ms
        self.redis.set("clock_ms", self.now_ms)

    @rule(
        subjects=KINDS | st.lists(st.sampled_from(SUBJECTS), max_size=3).map(tuple),
        tokens=TOKENS,
        nano_usd=NANO_USD,
        lease_ms=LEASES_MS,
        margin_ms=st.sampled_from([0, 1, 5, -1]),
        generation=st.none() | st.integers(0, 4),
        again=SELDOM,
        unloaded=SELDOM,
        data=st.data(),
    )
    def admit(
        self,
        subjects: tuple[Subject, ...],
        tokens: int,
        nano_usd: int,
        lease_ms: int,
        margin_ms: int,
        generation: int | None,
        again: bool,
        unloaded: bool,
        data: st.DataObject,
    ) -> None:
        self.count += 1
        asked = (f"r{self.count}", metered(TENANT, subjects), tokens, nano_usd)
        if again and self.known:
            asked = data.draw(st.sampled_from(self.known))
        key = None if generation is None else ("key", generation)
        loads: list[Load] = []
        for _ in range(2):
            outcome = self.book.admit(
                self.now_ms,
                *asked,
                lease_ms=lease_ms,
                not_after_ms=self.now_ms + margin_ms,
                key=key,
                loads=loads,
            )
            args = admit_args(*asked, lease_ms=lease_ms, not_after_ms=self.now_ms + margin_ms, key=key, loads=loads)
            reply = self.run(VIRTUAL.admit, asked[1].prefix, args)
            assert outcome_of(reply, asked[1]) == outcome
            if not isinstance(outcome, Missing) or unloaded:
                break
            loads = [self.load(counter, data) for counter in outcome.counters]
        if isinstance(outcome, Granted) and asked[1].meters:
            self.known.append(asked)

    def load(self, counter: Counter, data: st.DataObject) -> Load:
        """An answer of the ledger, at times for a period that has passed, at times seen before later settlements."""
        dimension = counter.meter.dimension
        period = period_of(dimension, self.now_ms) - data.draw(st.sampled_from([0, 0, 0, 0, 1]))
        late = max(0, counter.late - data.draw(st.sampled_from([0, 0, 7])))
        return Load(counter.meter, period, late, data.draw(st.sampled_from([0, 0, 3, 450, MAX_NANO_USD])))

    @rule(
        subjects=KINDS,
        tokens=USED_TOKENS,
        nano_usd=USED_NANO_USD,
        lease_ms=LEASES_MS,
        again=SELDOM,
        data=st.data(),
    )
    def adopt(
        self, subjects: tuple[Subject, ...], tokens: int, nano_usd: int, lease_ms: int, again: bool, data: st.DataObject
    ) -> None:
        self.count += 1
        asked = (f"a{self.count}", metered(TENANT, subjects), tokens, nano_usd)
        if again and self.known:
            asked = data.draw(st.sampled_from(self.known))
        if self.book.done.get(asked[0], self.now_ms + 1) <= self.now_ms:
            return  # the mark lasts ten minutes of the server's own clock, which the virtual one cannot move
        admitted_ms = self.now_ms - data.draw(st.sampled_from([0, 500, 5_000]))
        self.book.adopt(self.now_ms, *asked, admitted_ms=admitted_ms, lease_ms=lease_ms)
        args = adopt_args(*asked, admitted_ms=admitted_ms, lease_ms=lease_ms, not_after_ms=self.now_ms)
        self.run(VIRTUAL.admit, asked[1].prefix, args)
        self.known.append(asked)

    @precondition(lambda self: self.known)
    @rule(
        tokens=USED_TOKENS,
        nano_usd=USED_NANO_USD,
        exact=st.booleans(),
        verbs=st.lists(st.booleans(), min_size=1, max_size=3),
        data=st.data(),
    )
    def end(self, tokens: int, nano_usd: int, exact: bool, verbs: list[bool], data: st.DataObject) -> None:
        batch = []
        for released in verbs:
            name, subjects, asked_tokens, asked_nano_usd = data.draw(st.sampled_from(self.known))
            small = asked_tokens <= 10**8 and asked_nano_usd <= 10**10
            used = (asked_tokens, asked_nano_usd) if exact and small else (tokens, nano_usd)
            if released:
                self.book.release(self.now_ms, name)
                used = (0, 0)
            else:
                self.book.settle(self.now_ms, name, subjects, *used)
            batch.append(Ended(name, subjects, *used, released))
        ((script, prefix, args),) = calls_of(list(batch), {}, VIRTUAL, self.now_ms, 0)
        assert self.run(script, prefix, args)[0] == 0

    @precondition(lambda self: self.known)
    @rule(lease_ms=LEASES_MS, data=st.data())
    def renew(self, lease_ms: int, data: st.DataObject) -> None:
        name, subjects, *_ = data.draw(st.sampled_from(self.known))
        there = self.book.renew(self.now_ms, name, lease_ms)
        reply = self.run(VIRTUAL.renew, subjects.prefix, [self.now_ms, lease_ms, name])
        assert reply[2:] == ([] if there else [0])

    @rule(most=st.integers(1, 3))
    def sweep(self, most: int) -> None:
        prefix = metered(TENANT, ()).prefix
        assert self.run(VIRTUAL.sweep, prefix, [most]) == self.book.return_overdue(self.now_ms, most)

    @rule(subject=st.sampled_from(SUBJECTS[2:5]))
    def forget(self, subject: Subject) -> None:
        own = metered(TENANT, (subject,))
        self.book.forget([own.meters[0].key])
        self.run(VIRTUAL.forget, own.prefix, [own.record.split()[0]])

    @rule(generation=st.integers(0, 4))
    def bump(self, generation: int) -> None:
        self.book.bump("key", generation)
        reply = self.run(VIRTUAL.generation, metered(TENANT, ()).prefix, ["key", generation])
        assert reply == self.book.generations["key"]

    @invariant()
    def both_hold_the_same(self) -> None:
        assert held_by_redis(self.redis, self.now_ms) == held_by(self.book, self.now_ms)

    @invariant()
    def nothing_is_held_beyond_what_reservations_hold(self) -> None:
        for key, parallel in self.book.parallel.items():
            assert parallel == sum(key in {m.key for m in hold.metered.meters} for hold in self.book.holds.values())

    def run(self, script: Script, prefix: str, args: list[Argument]) -> Any:
        return self.redis.eval(script.text, 1, prefix, *plain(args))


def held_by(book: Book, now_ms: int) -> dict[str, Any]:
    """The model's amounts, where they are not nothing."""
    return {
        "buckets": dict(book.buckets),
        "windows": {at: recent for at, slots in book.windows.items() if (recent := within_minute(slots, now_ms))},
        "parallel": book.parallel,
        "purses": {at: asdict(purse) for at, purse in book.purses.items()},
        "leases": {name: hold.lease_end_ms for name, hold in book.holds.items()},
    }


def within_minute(slots: dict[int, int], now_ms: int) -> dict[int, int]:
    return {second: count for second, count in slots.items() if second > now_ms // 1000 - 61}


def held_by_redis(redis: "Redis", now_ms: int) -> dict[str, Any]:
    """The same, read from the keys."""
    prefix = metered(TENANT, ()).prefix
    found: dict[str, Any] = {"buckets": {}, "windows": {}, "parallel": {}, "purses": {}, "leases": {}}
    letters = {"r": Dimension.REQUESTS, "t": Dimension.TOKENS, "d": Dimension.USD_DAY, "m": Dimension.USD_MONTH}
    for name in redis.keys(f"{prefix}*:*"):
        if name.startswith(f"{prefix}done:") or redis.type(name) != "hash":
            continue
        state = {field: int(value) for field, value in redis.hgetall(name).items()}
        if name.count(":") == prefix.count(":") + 2:
            key, _, letter = name.rpartition(":")
            recent = within_minute({int(second): count for second, count in state.items()}, now_ms)
            if recent:
                found["windows"][key, letters[letter]] = recent
            continue
        for letter, dimension in letters.items():
            if letter in state and letter in "rt":
                found["buckets"][name, dimension] = Bucket(state[letter], state[letter + "a"])
            elif letter in state:
                purse = Purse(
                    state[letter],
                    state[letter + "h"],
                    state.get(letter + "s"),
                    state.get(letter + "l", 0),
                    state.get(letter + "w", 0),
                    letter + "q" in state,
                    state.get(letter + "f", 0),
                )
                found["purses"][name, dimension] = asdict(purse)
        if "p" in state:
            found["parallel"][name] = state["p"]
    found["leases"] = {name: int(end_ms) for name, end_ms in redis.zrange(f"{prefix}leases", 0, -1, withscores=True)}
    assert set(redis.hkeys(f"{prefix}records")) == set(found["leases"])
    return found


@pytest.mark.slow
def test_the_scripts_do_what_the_model_does(redis: "Redis") -> None:
    run_state_machine_as_test(
        lambda: AdmissionMachine(redis),
        settings=settings(stateful_step_count=40, deadline=None, phases=[Phase.reuse, Phase.generate]),
    )


def test_a_refused_request_changes_nothing(redis: "Redis") -> None:
    redis.flushall()
    subjects = metered(TENANT, (SUBJECTS[0], SUBJECTS[1]))
    start_ms = 1_790_000_000_000
    for turn in range(3):
        redis.set("clock_ms", start_ms + turn)
        assert isinstance(admit(redis, subjects, f"r{turn}", tokens=10), Granted)
    before = dump(redis)
    for tokens in (1, 1000):
        assert isinstance(admit(redis, subjects, "late", tokens), Refused)
    assert dump(redis) == before


def admit(redis: "Redis", subjects: Metered, name: str, tokens: int) -> Outcome:
    args = admit_args(name, subjects, tokens, 0, lease_ms=60_000, not_after_ms=2**50)
    return outcome_of(redis.eval(VIRTUAL.admit.text, 1, subjects.prefix, *plain(args)), subjects)
