"""When requests begin: planned beforehand, by a seed, so that no answer can put off the question after it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

_MOST = 5_000_000  # requests of a run, whose samples are kept in memory


class PlanInvalid(Exception):
    """The plan cannot be carried out; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A load test. Times are seconds since its begin.

    Attributes:
        rate: requests a second whatever the answers do (open loop); None: `users` ask (closed loop).
        users: each asks, waits for the answer, thinks, and asks again.
        think_s: mean of an exponential; also between the turns of a conversation.
        warmup_s, cooldown_s: at the beginning and at the end; what is scheduled there is not measured.
        timeout_s: from the scheduled moment.
        connections: open at once in one process; who gets none waits, and its clock runs.
        processes: of the client; each takes its part of the arrivals or users.
    """

    seed: int
    duration_s: float
    rate: float | None = None
    users: int = 0
    think_s: float = 0.0
    warmup_s: float = 0.0
    cooldown_s: float = 0.0
    timeout_s: float = 120.0
    connections: int = 1000
    processes: int = 1

    def check(self) -> None:
        """Raises: PlanInvalid: nothing would be asked, or nothing measured."""
        if (self.rate is None) == (self.users == 0):
            raise PlanInvalid("give either --rate, requests a second, or --users, who wait for their answers")
        if self.rate is not None and not 0 < self.rate <= 100_000:
            raise PlanInvalid(f"--rate {self.rate:g} is not between 0 and 100,000 requests a second")
        if not 0 <= self.users <= 100_000:
            raise PlanInvalid(f"--users {self.users} is not between 1 and 100,000")
        if not 0 < self.duration_s <= 86_400:
            raise PlanInvalid(f"--duration {self.duration_s:g} is not between 0 and 86,400 s")
        if (self.rate or 0.0) * self.duration_s > _MOST:
            raise PlanInvalid(f"--rate times --duration is more than {_MOST:,} requests: make one of them smaller")
        for name, value in (("warmup", self.warmup_s), ("cooldown", self.cooldown_s), ("think", self.think_s)):
            if not 0 <= value <= 86_400:
                raise PlanInvalid(f"--{name} {value:g} is not between 0 and 86,400 s")
        if not 0 < self.timeout_s <= 86_400:
            raise PlanInvalid(f"--timeout {self.timeout_s:g} is not between 0 and 86,400 s")
        if self.warmup_s + self.cooldown_s >= self.duration_s:
            raise PlanInvalid("--warmup and --cooldown leave nothing of --duration to be measured: make it longer")
        if not 1 <= self.processes <= 64 or self.connections < 1:
            raise PlanInvalid("--processes is between 1 and 64, and --connections at least 1")

    @property
    def window(self) -> tuple[float, float]:
        """What is measured."""
        return self.warmup_s, self.duration_s - self.cooldown_s

    def arrivals(self) -> list[float]:
        """The moments at which requests begin in an open loop: a Poisson process, the same for the same seed."""
        assert self.rate is not None
        chance, at, found = random.Random(f"{self.seed}-arrivals"), 0.0, list[float]()
        while (at := at + chance.expovariate(self.rate)) < self.duration_s:
            found.append(at)
        return found

    def part(self, process: int) -> Sequence[tuple[int, float]]:
        """The numbers and moments of what one process of the client begins: requests, or users."""
        if self.rate is not None:
            moments = self.arrivals()
        else:  # users come one after the other while it warms up, and all at once where it does not
            moments = [self.warmup_s * user / self.users for user in range(self.users)]
        return [(number, at) for number, at in enumerate(moments) if number % self.processes == process]

    def think(self, chance: random.Random) -> float:
        """Seconds that somebody thinks before the next question."""
        return chance.expovariate(1 / self.think_s) if self.think_s else 0.0
