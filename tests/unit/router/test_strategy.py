"""Which deployment of a group is asked first, by each strategy; and what prefix affinity brings, on modelled caches."""

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from core.clock import ManualClock
from core.money import Price
from core.reach import ANYWHERE
from router.call import Call
from router.choice import Group, Member
from router.deployment import Deployment, LaneName
from router.holdings import Holdings
from router.strategy import Name, Strategy
from router.trail import trail_of
from tests.unit.router.test_trail import call


def group(name: Name, *deployments: Deployment) -> Group:
    return Group("g", deployments, ManualClock(), strategy=Strategy(name))


def replicas(count: int, **fields: float) -> list[Deployment]:
    return [Deployment(f"d{at}", "g", "m", LaneName.NATIVE, False, **fields) for at in range(count)]  # type: ignore[arg-type]


def first(one: Group, asked: Call | None = None) -> Member:
    """Who is asked; it holds the prompt from then on."""
    trail = None if asked is None else one.trail(asked)
    for member, permit in one.in_turn(reach=ANYWHERE, trail=trail):
        member.breaker.withdraw(permit)
        one.strategy.sent(member.deployment.name, trail)
        return member
    raise AssertionError("nobody")


def names(one: Group, count: int) -> list[str]:
    return [first(one).deployment.name for _ in range(count)]


def test_weights_are_kept_in_every_stretch() -> None:
    weighted = [Deployment(f"d{at}", "g", "m", LaneName.NATIVE, False, weight=at) for at in range(4)]
    one = group("simple-shuffle", *weighted)
    for _ in range(5):
        assert Counter(names(one, 6)) == {"d1": 1, "d2": 2, "d3": 3}
    for member in one.members[1:]:
        member.health.eject("away")
    assert set(names(one, 3)) == {"d0"}


def test_the_least_busy_is_asked_first() -> None:
    one = group("least-busy", *replicas(3))
    for member, flights in zip(one.members, (2, 0, 1), strict=True):
        for _ in range(flights):
            member.health.begin()
    assert names(one, 3) == ["d1"] * 3
    one.members[1].health.begin()
    assert set(names(one, 4)) == {"d1", "d2"}


def test_the_quick_ones_share_the_work_and_the_slow_ones_wait_for_it() -> None:
    clock = ManualClock()
    one = Group("g", replicas(3), clock, strategy=Strategy("latency-based-routing"))
    for member, taken_s in zip(one.members, (1.0, 1.4, 5.0), strict=True):
        flight = member.health.begin()
        clock.advance(taken_s)
        flight.answered()
        flight.end(ok=True)
    assert set(names(one, 6)) == {"d0", "d1"}
    assert one.members[2].health.first_token_s == 5.0


def test_the_cheapest_is_asked_first() -> None:
    prices = [Price(prompt, prompt, completion) for prompt, completion in ((3, 9), (1, 2), (2, 2))]
    one = group(
        "cost-based-routing",
        *(Deployment(f"d{at}", "g", "m", LaneName.NATIVE, False, price=price) for at, price in enumerate(prices)),
    )
    assert names(one, 3) == ["d1"] * 3


def test_a_conversation_stays_where_it_was() -> None:
    one = group("prefix-affinity", *replicas(4))
    said: list[str] = []
    places = set()
    for turn in range(6):
        said += [f"question {turn} " * 100, f"answer {turn} " * 100]
        places.add(first(one, call(*said[:-1])).deployment.name)
    assert len(places) == 1


def test_workers_that_know_nothing_of_each_other_agree() -> None:
    workers = [group("prefix-affinity", *replicas(4)) for _ in range(3)]
    for number in range(50):
        said = [f"conversation {number} " * 200, "I see.", "Go on."]
        assert len({first(worker, call(*said[:1])).deployment.name for worker in workers}) == 1
        assert len({first(worker, call(*said)).deployment.name for worker in workers}) == 1


def test_a_prefix_that_all_share_moves_no_load() -> None:
    one = group("prefix-affinity", *replicas(4))
    shared = "the same instructions " * 200
    for number in range(400):
        first(one, call(f"{shared}{number}")).health.begin()
    assert {member.health.in_flight for member in one.members} == {100}


def test_load_is_bounded_for_a_prefix_that_is_longer_than_any_queue() -> None:
    one = group("prefix-affinity", *replicas(4))
    for _ in range(12):
        first(one, call("x" * 256 * 60)).health.begin()
    assert max(member.health.in_flight for member in one.members) <= 2 * 3 + 2


def test_a_conversation_stays_with_a_busier_engine_while_that_costs_less_than_the_prompt() -> None:
    one = group("prefix-affinity", *replicas(8))
    asked = call("x" * 256 * 5)
    home = first(one, asked)
    home.health.begin()
    assert first(one, asked) is home
    home.health.begin()
    for member in one.members:
        for _ in range(4):
            member.health.begin()
    assert first(one, asked) is home  # two calls more than elsewhere, and five blocks less
    for _ in range(3):
        home.health.begin()
    assert first(one, asked) is not home


def test_less_than_half_of_a_prompt_is_not_worth_a_queue() -> None:
    one = group("prefix-affinity", *replicas(2))
    chosen = first(one, call("x" * 2000 + "a" * 5000))
    chosen.health.begin()
    assert first(one, call("x" * 2000 + "b" * 5000)) is not chosen


def test_conversations_with_the_same_long_beginning_are_spread_also_one_after_the_other() -> None:
    one = group("prefix-affinity", *replicas(2))
    shared = "the same instructions " * 200
    chosen = Counter(first(one, call(shared, "I see.", f"document {at} " * 1000)).deployment.name for at in range(60))
    assert min(chosen.values()) > 0


def test_a_few_conversations_fill_all_engines_alike_where_one_process_sends_them() -> None:
    """By hashing alone two engines may get ten and two of twelve."""
    splits, hashed = Counter[int](), Counter[int]()
    for seed in range(40):
        for share, counted in ((1, splits), (2, hashed)):
            one = Group("g", replicas(2), ManualClock(), strategy=Strategy("prefix-affinity", share))
            chosen = Counter(first(one, call(f"document {seed} {at} " * 200)).deployment.name for at in range(12))
            counted[max(chosen.values())] += 1
    assert max(splits) <= 7
    assert max(hashed) >= 9


def test_nothing_shared_means_nobody_has_more_to_do_than_another() -> None:
    one = group("prefix-affinity", *replicas(3))
    for number in range(300):
        first(one, call(f"{number} " * 1000)).health.begin()
    assert {member.health.in_flight for member in one.members} == {100}


def test_what_an_engine_held_is_forgotten_when_it_was_away() -> None:
    one = group("prefix-affinity", *replicas(2))
    asked = call("a long question " * 500)
    chosen = first(one, asked)
    chosen.health.begin()
    assert first(one, asked) is chosen
    chosen.health.eject("away")
    assert first(one, asked) is not chosen
    assert one.strategy._matched(chosen.deployment.name, one.trail(asked)) == 0


def test_an_engine_is_not_taken_to_hold_more_than_it_can() -> None:
    strategy, trails = Strategy("prefix-affinity", share=2), [trail_of(call(f"{at}" * 256 * 100)) for at in range(3)]
    for trail in trails:
        strategy.sent("d0", trail, kv_tokens=2 * 48 * 150)
    assert [strategy._matched("d0", trail) for trail in trails] == [0, 50, 100]
    strategy.sent("d0", trails[0])
    assert strategy._matched("d0", trails[0]) == 100


def test_where_nothing_is_held_an_engine_comes_first_that_has_the_adapter() -> None:
    one = group("prefix-affinity", *replicas(3))
    for number in range(6):
        for member in one.members:
            one.strategy.forget(member.deployment.name)
            member.health.holds = Holdings()
        one.members[number % 3].health.holds = Holdings(adapters=frozenset({"m"}))
        assert first(one, call(f"{number} " * 1000)) is one.members[number % 3]


def test_other_strategies_do_not_look_at_prompts() -> None:
    assert group("least-busy", *replicas(2)).trail(call("a" * 5000)) is None
    assert group("prefix-affinity", *replicas(1)).trail(call("a" * 5000)) is None
    embedding = Call("embeddings", "g", {"input": "a" * 5000}, False, ANYWHERE, "req_1", tenant="t")
    assert group("prefix-affinity", *replicas(2)).trail(embedding) is None


@dataclass
class Engine:
    """A cache of blocks that forgets those that were used longest ago, as vLLM's does."""

    blocks: int
    held: OrderedDict[int, None] = field(default_factory=OrderedDict)

    def cached(self, prompt: Sequence[int]) -> int:
        """Blocks of the prompt that were there; all of them are afterwards."""
        count = 0
        for block in prompt:
            if block not in self.held:
                break
            count += 1
        for block in reversed(prompt):
            self.held[block] = None
            self.held.move_to_end(block)
        while len(self.held) > self.blocks:
            self.held.popitem(last=False)
        return count


def trace(conversations: int, turns: int, seed: int) -> list[Call]:
    """Conversations about documents that take turns with each other; how they begin is the same for all."""
    of = random.Random(seed)
    said = [
        [f"{'Answer from the document. ' * 20} document {number}: {of.randbytes(4000).hex()}"]
        for number in range(conversations)
    ]
    calls = []
    for _ in range(turns):
        for number in of.sample(range(conversations), conversations):
            calls.append(call(*said[number]))
            said[number] += [of.randbytes(400).hex(), of.randbytes(100).hex()]
    return calls


def replay(calls: Sequence[Call], choose: Callable[[int, Call], int], engines: int, blocks: int) -> float:
    """The share of the prompts' blocks that was cached."""
    caches = [Engine(blocks) for _ in range(engines)]
    found = asked = 0
    for at, one in enumerate(calls):
        prompt = trail_of(one).blocks
        found += caches[choose(at, one)].cached(prompt)
        asked += len(prompt)
    return found / asked


def test_affinity_keeps_nearly_all_that_could_be_cached(figure: Callable[[str], None]) -> None:
    calls = trace(conversations=40, turns=6, seed=3)
    whole = sum(len(blocks) for blocks in {trail_of(one).key: trail_of(one).blocks for one in calls}.values())
    blocks = int(0.7 * whole)  # one replica's cache holds no more of all conversations
    one = group("prefix-affinity", *replicas(2))
    best = replay(calls, lambda _at, _call: 0, 1, 10**9)
    turns = replay(calls, lambda at, _call: at % 2, 2, blocks)
    affine = replay(calls, lambda _at, asked: int(first(one, asked).deployment.name[1:]), 2, blocks)
    figure(
        f"of all blocks cached: {best:.1%} at best, {affine:.1%} by affinity ({affine / best:.1%}), {turns:.1%} in turn"
    )
    assert affine > 0.9 * best
    assert affine > turns
