"""Money as whole nano-dollars: sums are exact, in any order, on every part."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal

from core.usage import Usage

NANO_PER_USD = 1_000_000_000


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """An amount in nano-USD (10^-9 US dollars)."""

    nano_usd: int = 0

    @classmethod
    def from_usd(cls, usd: Decimal | str | int) -> "Money":
        """Read dollars; takes no float, whose binary fraction would be rounded silently."""
        nano = (Decimal(usd) * NANO_PER_USD).to_integral_value(rounding=ROUND_HALF_EVEN)
        return cls(int(nano))

    @property
    def usd(self) -> Decimal:
        return Decimal(self.nano_usd) / NANO_PER_USD

    def __add__(self, other: "Money") -> "Money":
        return Money(self.nano_usd + other.nano_usd)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.nano_usd - other.nano_usd)

    def __mul__(self, count: int) -> "Money":
        return Money(self.nano_usd * count)


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's tokens cost, in pico-USD (10^-12 US dollars) a token, so that any listed price is whole.

    Attributes:
        prompt: a token read.
        cached: a token read whose KV blocks were found in the engine's cache.
        completion: a token written.
    """

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def times(self, factor: Decimal) -> "Price":
        """The price at a factor from 0, each kind rounded up to whole pico-USD."""
        return Price(*(_up(each * factor) for each in (self.prompt, self.cached, self.completion)))

    def nano_usd(self, usage: Usage) -> int:
        """The cost, rounded up to whole nano-USD; never falls when any count rises.

        Cached tokens are billed at `cached` where that is cheaper, the rest of the prompt at `prompt`.
        """
        cached = min(usage.cached_tokens, usage.prompt_tokens) if self.cached < self.prompt else 0
        pico = (
            (usage.prompt_tokens - cached) * self.prompt
            + cached * self.cached
            + usage.completion_tokens * self.completion
        )
        return -(-pico // 1000)


def _up(amount: Decimal) -> int:
    return int(amount.to_integral_value(rounding=ROUND_CEILING))
