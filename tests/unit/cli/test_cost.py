"""`./stoker cost` by hand and by what must hold of every month."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli import cost
from cli.cost import HOURS, Gpu, Hosted, Load, month
from cli.errors import CliError
from cli.main import app

SHARES = st.decimals(0, "0.9", places=2)
PRICES = st.decimals("0.000000001", "0.0001", places=9)


def test_a_month_by_hand() -> None:
    load = Load(1_000_000, 1500, 300, Decimal("0.2"), Decimal("0.1"))
    gpu = Gpu(Decimal("2.50"), Decimal(100), Decimal("0.5"))
    found = month(load, gpu, Hosted("h", Decimal("0.000001"), Decimal("0.000004")))
    # 800,000 are asked, 720,000 of one's own GPUs: 216 million tokens, of which one GPU writes 131.4 million a month.
    assert found.gpus == 2
    assert found.own == 2 * HOURS * Decimal("2.5") == 3650
    assert round(found.busy, 3) == Decimal("0.411")
    assert found.fallback == 80_000 * Decimal("0.0027") == 216
    assert found.all_hosted == 2700
    # A request saves 0.0027 less 8 % of that: 1,825 dollars are saved by 734,703, which one GPU cannot carry.
    assert found.cheaper_from is None


@given(
    st.builds(Load, st.integers(1, 10**9), st.integers(0, 10**5), st.integers(1, 10**5), SHARES, SHARES),
    st.builds(
        Gpu, st.decimals("0.01", 50, places=2), st.decimals(1, 10**5, places=1), st.decimals("0.01", 1, places=2)
    ),
    st.builds(Hosted, st.just("h"), PRICES, PRICES),
)
def test_gpus_carry_what_they_must_and_pay_from_where_it_says(load: Load, gpu: Gpu, hosted: Hosted) -> None:
    found = month(load, gpu, hosted)
    tokens = load.asked * (1 - load.fallback_share) * load.completion_tokens
    assert (found.gpus - 1) * gpu.tokens_per_month < tokens <= found.gpus * gpu.tokens_per_month
    assert found.busy <= gpu.utilisation
    if found.cheaper_from is None:
        assert found.together > found.all_hosted * Decimal("0.999999")
        return
    for requests, cheaper in ((found.cheaper_from, True), (found.cheaper_from - 1, False)):
        if requests:
            at = month(
                Load(requests, load.prompt_tokens, load.completion_tokens, load.cache_share, load.fallback_share),
                gpu,
                hosted,
            )
            assert (at.together <= at.all_hosted) is cheaper


def test_prices_are_those_of_the_installed_table() -> None:
    known = cost.hosted("gpt-4o-mini")
    assert 0 < known.prompt < known.completion
    with pytest.raises(CliError, match="gpt-4o-minj is not known") as refused:
        cost.hosted("gpt-4o-minj")
    assert "gpt-4o-mini" in refused.value.remedy
    assert cost.hosted("own", Decimal(2), Decimal(3)) == Hosted("own", Decimal("0.000002"), Decimal("0.000003"))


def test_the_command_prints_what_was_reckoned() -> None:
    flags = "--requests 1000000 --gpu-usd-per-hour 2.5 --tokens-per-second 1200 --hosted-prompt-usd 1"
    asked = ["cost", *flags.split(), "--hosted-completion-usd", "4", "--hosted", "some-model"]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0, told.output
    assert "1825.00" in told.output
    assert "some-model" in told.output
    shown = json.loads(CliRunner().invoke(app, [*asked, "--json"]).output)
    assert shown["usd"] == {"own_gpus": "1825.00", "fallback": "54.00", "together": "1879.00", "all_hosted": "2700.00"}
    assert shown["cheaper_from_requests"] == 689_721
    one_price = CliRunner().invoke(app, ["cost", *flags.split()])
    assert isinstance(one_price.exception, CliError)
    assert "both" in one_price.exception.remedy
