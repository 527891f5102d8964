"""In which order a group's deployments are asked: by what they hold, what they do, what they cost, or in turn."""

from collections import OrderedDict
from collections.abc import Sequence
from math import ceil
from typing import Literal, Protocol, TypeVar

from router.deployment import Deployment
from router.health import Health
from router.trail import Trail, rank_of

Name = Literal["prefix-affinity", "simple-shuffle", "least-busy", "latency-based-routing", "cost-based-routing"]

_BOUND = 2.0  # of the mean load, and one call more: no deployment is given more for a prefix's sake
_LEAST_SHARE = 0.5  # of the prompt's blocks, which one must hold to be worth a queue; source: SGLang's router
_REMEMBERED = 64 * 1024  # blocks of a deployment, 16 MiB of text; fewer where its engine says that it holds fewer
_FEWEST = 64
_TOKENS = 48  # of a block, rather too few: what an engine has just forgotten is as well sought there as elsewhere
_SLACK = 1.5  # a deployment is as quick as the quickest if it takes up to so many times as long


class Candidate(Protocol):
    """A deployment and what is known of it."""

    @property
    def deployment(self) -> Deployment: ...

    @property
    def health(self) -> Health: ...


C = TypeVar("C", bound=Candidate)


class Strategy:
    """Of one group in one process.

    Args:
        name: as `router_settings.routing_strategy` has it.
        share: processes that send prompts to the same deployments.
    """

    def __init__(self, name: Name = "simple-shuffle", share: int = 1) -> None:
        self.name = name
        self._share = share
        self._credit: dict[str, float] = {}  # of weighted turns, as nginx's smooth weighted round robin keeps it
        self._due: str | None = None
        self._held: dict[str, OrderedDict[int, None]] = {}
        self._turn = 0

    @property
    def wants_trail(self) -> bool:
        """Whether it looks at what is asked."""
        return self.name == "prefix-affinity"

    def turn(self, members: Sequence[Candidate]) -> None:
        """The next call is there, for which one of these may be asked."""
        self._turn += 1
        weights = {member.deployment.name: member.deployment.weight for member in members}
        if self.name != "simple-shuffle" or len(set(weights.values())) < 2:
            self._due = None
            return
        for name, weight in weights.items():
            self._credit[name] = self._credit.get(name, 0.0) + weight
        self._due = max(weights, key=lambda name: (weights[name] > 0, self._credit[name]))
        self._credit[self._due] -= sum(weights.values())

    def order(self, members: Sequence[C], trail: Trail | None) -> list[C]:
        """The best first, for the call whose turn it is."""
        cut = self._turn % len(members) if members else 0
        rotated = [*members[cut:], *members[:cut]]
        match self.name:
            case "prefix-affinity" if trail is not None and len(members) > 1:
                return self._by_prefix(rotated, trail)
            case "prefix-affinity" | "least-busy":
                return sorted(rotated, key=_load)
            case "latency-based-routing":
                return _by_latency(rotated)
            case "cost-based-routing":
                return sorted(rotated, key=_cost)
            case _:
                return sorted(rotated, key=self._is_late)

    def sent(self, deployment: str, trail: Trail | None, kv_tokens: int | None = None) -> None:
        """A deployment was given a prompt, and holds it from now on.

        Args:
            kv_tokens: how many its engine holds; None: nobody knows.
        """
        if trail is None:
            return
        held = self._held.setdefault(deployment, OrderedDict())
        for block in reversed(trail.blocks):  # beginnings are the last to be forgotten
            held[block] = None
            held.move_to_end(block)
        most = _REMEMBERED if kv_tokens is None else max(_FEWEST, kv_tokens // _TOKENS // self._share)
        while len(held) > min(most, _REMEMBERED):
            held.popitem(last=False)

    def forget(self, deployment: str) -> None:
        """It holds nothing any more: its engine was away."""
        self._held.pop(deployment, None)

    def leave(self, deployment: str) -> None:
        """It is no member of the group any more."""
        self.forget(deployment)
        self._credit.pop(deployment, None)

    def _is_late(self, member: Candidate) -> tuple[bool, bool]:
        """Where weights differ: behind the one that is due, and those of weight 0 behind all others."""
        if self._due is None:
            return False, False
        return member.deployment.name != self._due, member.deployment.weight == 0

    def _by_prefix(self, members: Sequence[C], trail: Trail) -> list[C]:
        """Where one holds half of the prompt: who has least to do with it first, nobody much busier than the others;
        else who every process would choose for this conversation, unless it has more to do than the others, or, where
        one process knows all that was sent, would hold much more: chance gives most of a few conversations to one
        engine, whose cache then holds none of them to its end.

        What there is to do are the blocks that are missing, and one for each call under way: it takes turns with them.
        """
        held = {member.deployment.name: self._matched(member.deployment.name, trail) for member in members}
        filled = {name: len(self._held.get(name, ())) for name in held}
        worth = max(held.values()) >= max(1, _LEAST_SHARE * len(trail.blocks))
        mean = (sum(member.health.in_flight for member in members) + 1) / len(members)
        most = ceil(_BOUND * mean) + 1 if worth else ceil(mean)

        def badness(member: Candidate) -> tuple[bool, int, int, bytes]:
            load, name = member.health.in_flight, member.deployment.name
            rank = bytes(255 - byte for byte in rank_of(trail.key, name))
            if load + 1 > most:
                return True, load, 0, rank
            if not worth:  # an engine that has to load the adapter first takes longer
                crowded = self._share == 1 and filled[name] - min(filled.values()) > len(trail.blocks)
                return False, 2 * (member.deployment.model not in member.health.holds.adapters) + crowded, 0, rank
            return False, len(trail.blocks) - held[name] + load, load, rank

        return sorted(members, key=badness)

    def _matched(self, deployment: str, trail: Trail) -> int:
        """Blocks from the beginning of the prompt that the deployment was given before."""
        held = self._held.get(deployment)
        if not held:
            return 0
        count = 0
        for block in trail.blocks:
            if block not in held:
                break
            count += 1
        return count


def _load(member: Candidate) -> int:
    return member.health.in_flight


def _cost(member: Candidate) -> int:
    """Of an answer as long as its prompt."""
    price = member.deployment.price
    return price.prompt + price.completion


def _by_latency(members: Sequence[C]) -> list[C]:
    """The quick ones by their load, then the others by their time; those of which nothing is known count as quick."""
    times = {member.deployment.name: member.health.first_token_s for member in members}
    known = [taken for taken in times.values() if taken is not None]
    quick_s = min(known, default=0.0) * _SLACK

    def badness(member: Candidate) -> tuple[float, int]:
        taken = times[member.deployment.name]
        return (0.0 if taken is None or taken <= quick_s else taken), member.health.in_flight

    return sorted(members, key=badness)
