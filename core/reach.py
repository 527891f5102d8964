"""Where text may go: to engines of the house always, to hosted providers as far as everybody concerned allows it.

Tenant, key, conversation, collection and model group each have a reach; a request has what all of them leave.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

HEADER = "x-stoker-reach"
_SEPARATORS = ("-", "_")


@dataclass(frozen=True, slots=True)
class Reach:
    """The hosted deployments that text may be sent to.

    Attributes:
        providers: as LiteLLM names them, such as `azure`; None: any; empty: none, so that nothing leaves the house.
        regions: such as `eu`, which stands for `eu-west-1`, too; None: any, and none has to be known.
    """

    providers: frozenset[str] | None = None
    regions: frozenset[str] | None = None

    @classmethod
    def read(cls, row: Mapping[str, Any] | None) -> "Reach":
        """As `row` wrote it."""
        return ANYWHERE if row is None else cls(_set(row["providers"]), _set(row["regions"]))

    def row(self) -> dict[str, list[str] | None] | None:
        """As SQL and the audit log keep it; None: anywhere."""
        if self == ANYWHERE:
            return None
        return {"providers": _list(self.providers), "regions": _list(self.regions)}

    @classmethod
    def asked(cls, text: str) -> "Reach":
        """As a request's header says it: `local`, or `providers=azure,openai; regions=eu`.

        Raises: ValueError: it says something else.
        """
        if text.strip() == "local":
            return HOME
        said: dict[str, frozenset[str]] = {}
        for part in text.split(";"):
            name, equals, names = (word.strip() for word in part.partition("="))
            if not equals or name not in ("providers", "regions") or name in said:
                raise ValueError(text)
            said[name] = frozenset(word.strip() for word in names.split(",") if word.strip())
        return cls(said.get("providers"), said.get("regions"))

    def header(self) -> dict[str, str]:
        """The header that `asked` reads; empty where there is nothing to say."""
        said = [
            f"{name}={','.join(sorted(names))}"
            for name, names in (("providers", self.providers), ("regions", self.regions))
            if names is not None
        ]
        return {HEADER: "; ".join(said)} if said else {}

    @property
    def local_only(self) -> bool:
        """Nothing leaves the house."""
        return self.providers is not None and not self.providers

    def narrowed(self, other: "Reach") -> "Reach":
        """What both allow."""
        if other is ANYWHERE or self == other:
            return self
        return Reach(_both(self.providers, other.providers), _narrower(self.regions, other.regions))

    def allows(self, provider: str, region: str | None) -> bool:
        """Whether a hosted deployment may be sent text; one that names no region only where any will do."""
        if self.providers is not None and provider not in self.providers:
            return False
        return self.regions is None or (region is not None and any(_within(region, one) for one in self.regions))


ANYWHERE = Reach()
HOME = Reach(providers=frozenset())
"""Nothing leaves the house."""


def _set(names: Iterable[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _list(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _narrower(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    """The regions that lie in both: `eu` and `eu-west-1` leave `eu-west-1`."""
    if one is None or other is None:
        return other if one is None else one
    return frozenset(
        region for regions, others in ((one, other), (other, one)) for region in regions if _any(region, others)
    )


def _any(region: str, others: frozenset[str]) -> bool:
    return any(_within(region, other) for other in others)


def _within(region: str, other: str) -> bool:
    return region == other or region.startswith(tuple(other + separator for separator in _SEPARATORS))
