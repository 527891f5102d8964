"""`./stoker cost`: what a month of requests costs on GPUs of one's own, beside hosted providers."""

import importlib.util
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from rich.table import Table

from cli.console import out
from cli.errors import CliError

HOURS = 730  # of a month
_TABLE = "model_prices_and_context_window_backup.json"


@dataclass(frozen=True, slots=True)
class Load:
    """A month.

    Attributes:
        requests: of all callers.
        prompt_tokens: of one request, on average; `completion_tokens`: of its answer.
        cache_share: of requests that a cache answers, from 0 to below 1.
        fallback_share: of the others, those that go to a hosted provider, from 0 to 1.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    cache_share: Decimal
    fallback_share: Decimal

    @property
    def asked(self) -> Decimal:
        """Requests that a model answers."""
        return self.requests * (1 - self.cache_share)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One's own GPUs.

    Attributes:
        usd_per_hour: of one.
        tokens_per_s: that one writes at full load, with prompts of this length, as a load test prints it.
        utilisation: the share of that which a month's mean may take, since nights are quiet: above 0, at most 1.
    """

    usd_per_hour: Decimal
    tokens_per_s: Decimal
    utilisation: Decimal

    @property
    def usd_per_month(self) -> Decimal:
        return self.usd_per_hour * HOURS

    @property
    def tokens_per_month(self) -> Decimal:
        return self.tokens_per_s * self.utilisation * HOURS * 3600


@dataclass(frozen=True, slots=True)
class Hosted:
    """A hosted model and its prices, in US dollars a token."""

    name: str
    prompt: Decimal
    completion: Decimal

    def usd(self, load: Load) -> Decimal:
        """What one request costs."""
        return load.prompt_tokens * self.prompt + load.completion_tokens * self.completion


@dataclass(frozen=True, slots=True)
class Month:
    """What a month costs, in US dollars.

    Attributes:
        gpus: that are needed.
        busy: the share of what they could write at full load that is written.
        all_hosted: what the same requests cost without GPUs and without a cache.
        cheaper_from: requests a month from which GPUs are cheaper; None: a GPU so little used never earns its price.
    """

    gpus: int
    busy: Decimal
    own: Decimal
    fallback: Decimal
    all_hosted: Decimal
    cheaper_from: int | None

    @property
    def together(self) -> Decimal:
        return self.own + self.fallback


def month(load: Load, gpu: Gpu, hosted: Hosted) -> Month:
    """Reckon a month: whole GPUs for what is not answered by a cache or by a hosted provider."""
    own_requests = load.asked * (1 - load.fallback_share)
    tokens = own_requests * load.completion_tokens
    gpus = math.ceil(tokens / gpu.tokens_per_month)
    full = gpus * gpu.tokens_per_s * HOURS * 3600
    return Month(
        gpus=gpus,
        busy=tokens / full if full else Decimal(0),
        own=gpus * gpu.usd_per_month,
        fallback=load.asked * load.fallback_share * hosted.usd(load),
        all_hosted=load.requests * hosted.usd(load),
        cheaper_from=_cheaper_from(load, gpu, hosted),
    )


def _cheaper_from(load: Load, gpu: Gpu, hosted: Hosted) -> int | None:
    """The first number of requests at which the GPUs that they need cost no more than what they save."""
    own_share = (1 - load.cache_share) * (1 - load.fallback_share)
    saved = hosted.usd(load) * (1 - (1 - load.cache_share) * load.fallback_share)  # by one request
    if saved == 0:
        return None
    least = math.ceil(gpu.usd_per_month / saved)
    if own_share * load.completion_tokens * least <= gpu.tokens_per_month:
        return max(least, 1)
    return None  # with several GPUs each has the same to earn, and no more to do


@cache
def _prices() -> Mapping[str, Mapping[str, Any]]:
    """Prices as the installed litellm knows them. It is not imported, which would take seconds."""
    found = importlib.util.find_spec("litellm")
    folder = None if found is None or found.origin is None else Path(found.origin).parent
    if folder is None or not (folder / _TABLE).is_file():
        raise CliError("no table of prices is installed", "name them: --hosted-prompt-usd and --hosted-completion-usd")
    prices: Mapping[str, Mapping[str, Any]] = json.loads((folder / _TABLE).read_text(), parse_float=Decimal)
    return prices


def hosted(name: str, prompt_usd: Decimal | None = None, completion_usd: Decimal | None = None) -> Hosted:
    """A hosted model by its name.

    Args:
        prompt_usd: for a million tokens read, in place of the table's; `completion_usd`: for a million written.

    Raises: CliError: nobody knows its price.
    """
    if prompt_usd is not None and completion_usd is not None:
        return Hosted(name, prompt_usd / 10**6, completion_usd / 10**6)
    known = _prices().get(name, {})
    prices = [known.get(f"{kind}_cost_per_token") for kind in ("input", "output")]
    if None in prices:
        like = ", ".join(get_close_matches(name, _prices(), 3, 0.6))
        remedy = f"{f'did you mean {like}? ' if like else ''}or name its prices: --hosted-prompt-usd 0.15"
        raise CliError(
            f"the price of {name} is not known", f"{remedy} --hosted-completion-usd 0.60 (for a million tokens)"
        )
    return Hosted(name, *(Decimal(str(price)) for price in prices))


def show(load: Load, gpu: Gpu, against: Hosted, *, as_json: bool) -> None:
    """Print a month's cost and what it is reckoned from."""
    reckoned = month(load, gpu, against)
    if as_json:
        shown = {
            "usd": {
                "own_gpus": _usd(reckoned.own),
                "fallback": _usd(reckoned.fallback),
                "together": _usd(reckoned.together),
                "all_hosted": _usd(reckoned.all_hosted),
            },
            "gpus": reckoned.gpus,
            "busy": float(round(reckoned.busy, 4)),
            "cheaper_from_requests": reckoned.cheaper_from,
            "load": {name: float(value) for name, value in asdict(load).items()},
            "gpu": {name: float(value) for name, value in asdict(gpu).items()},
            "hosted": against.name,
        }
        out.print_json(json.dumps(shown))
        return
    table = Table("a month", "what", "US dollars", box=None, pad_edge=False)
    table.columns[2].justify = "right"
    cached, fallback = load.requests - load.asked, load.asked * load.fallback_share
    mean = f"{100 * reckoned.busy:.0f} % of {gpu.tokens_per_s:,.0f} tokens/s" if reckoned.gpus else "nothing to do"
    table.add_row("own GPUs", f"{reckoned.gpus} at {gpu.usd_per_hour:,.2f} an hour, {mean}", _usd(reckoned.own))
    table.add_row("fallback", f"{fallback:,.0f} requests to {against.name}", _usd(reckoned.fallback))
    table.add_row("cache", f"{cached:,.0f} requests", _usd(Decimal(0)))
    table.add_row("[bold]together[/bold]", f"{load.requests:,} requests", f"[bold]{_usd(reckoned.together)}[/bold]")
    table.add_row("all hosted", f"the same to {against.name}, no cache", _usd(reckoned.all_hosted))
    out.print(table)
    if reckoned.cheaper_from is None:
        out.print(
            f"A GPU used to {100 * gpu.utilisation:.0f} % never earns its price against {against.name}: "
            "raise --utilisation or --tokens-per-second, or compare a dearer model."
        )
    else:
        out.print(f"GPUs are cheaper from {reckoned.cheaper_from:,} requests a month on.")


def _usd(amount: Decimal) -> str:
    return f"{amount:.2f}"
