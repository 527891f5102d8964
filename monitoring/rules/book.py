"""All rules, in the order in which they are evaluated; a file each."""

from collections.abc import Mapping, Sequence

from monitoring.gpus.figures import Prices
from monitoring.gpus.placement import Place
from monitoring.rules import alerts, gateway, gpus
from monitoring.rules.form import Group, as_yaml

DEFAULT_PRICES = Prices(gpu_usd_per_hour=2.5, hosted_prompt_usd=0.15, hosted_completion_usd=0.6)
"""Those of README's `./stoker cost` and of gpt-4o-mini, the fallback in `stoker.yaml`; say your own."""

HEAD = "Made by `python -m monitoring.write`; change monitoring/rules instead."


def files(prices: Prices = DEFAULT_PRICES, places: Sequence[Place] = ()) -> Mapping[str, str]:
    """File name to its text."""
    return {f"{group.name}.yml": as_yaml([group], HEAD) for group in groups(prices, places)}


def groups(prices: Prices = DEFAULT_PRICES, places: Sequence[Place] = ()) -> Sequence[Group]:
    """All groups."""
    return [gpus.prices(prices), gpus.seen(), gpus.placement(places), gpus.group(), gateway.group(), alerts.group()]
