"""Money as whole nano-dollars: sums are exact, in any order, on every part."""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

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
