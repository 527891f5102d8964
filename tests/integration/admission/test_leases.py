"""`lease.lua` on a real Valkey does exactly what the model does, on the walks that the model is tested with."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from api.admission.common import Reply, Want, Whole
from api.admission.meters import LETTERS, Meter, common_prefix
from api.admission.model import Load
from api.admission.scripts import lease_args, reply_of
from core.limits import Limits
from tests.integration.admission.conftest import VIRTUAL
from tests.support.leasing import Walk, lose_everything_while_money_is_spent, model

PREFIX = common_prefix(model(Limits()))


class Both(Whole):
    """The model, and the script beside it: both must say the same and hold the same."""

    def __init__(self, redis: "Redis") -> None:
        super().__init__()
        self.redis = redis
        redis.flushall()

    def lease(
        self,
        now_ms: int,
        account_id: str,
        call: int,
        meters: Sequence[Meter],
        wants: Sequence[Want],
        *,
        known: bool,
        lease_ms: int,
        not_after_ms: int,
        loads: Sequence[Load] = (),
    ) -> Reply:
        how = {"known": known, "lease_ms": lease_ms, "not_after_ms": not_after_ms, "loads": loads}
        said = super().lease(now_ms, account_id, call, meters, wants, **how)  # type: ignore[arg-type]
        self.redis.set("clock_ms", now_ms)
        args = lease_args(account_id, call, meters, wants, **how)  # type: ignore[arg-type]
        reply: Any = self.redis.eval(VIRTUAL.lease.text, 1, PREFIX, *args)
        assert reply_of(reply, meters) == said
        assert reply[1] == now_ms
        assert held_by_redis(self.redis) == held_by(self)
        return said

    def forget(self) -> None:
        super().forget()
        self.redis.eval(VIRTUAL.forget.text, 1, PREFIX, "whole")


def held_by(whole: Whole) -> dict[str, Any]:
    """The model's amounts."""
    return {
        "held": {dimension: held for dimension, held in whole.held.items() if held},
        "buckets": {dimension: (bucket.units, bucket.at_ms) for dimension, bucket in whole.buckets.items()},
        "purses": {
            dimension: (purse.period, purse.held, purse.spent, purse.late, purse.loaded_ms, purse.forgot, purse.doubt)
            for dimension, purse in whole.purses.items()
        },
        "accounts": {
            name: (one.call, one.lease_end_ms, one.held, one.used, one.periods, one.told_ms)
            for name, one in whole.accounts.items()
        },
    }


def held_by_redis(redis: "Redis") -> dict[str, Any]:
    """The same, read from the keys."""
    whole = {field: int(value) for field, value in redis.hgetall(f"{PREFIX}whole").items()}
    found: dict[str, Any] = {"held": {}, "buckets": {}, "purses": {}, "accounts": {}}
    for dimension, letter in LETTERS.items():
        if dimension.money and letter in whole:
            values = [whole.get(f"{letter}{what}") for what in "hslwfq"]
            held, spent, late, loaded_ms, forgot, doubt = values
            told = (late or 0, loaded_ms or 0, forgot or 0, doubt is not None)
            found["purses"][dimension] = (whole[letter], held, spent, *told)
        elif whole.get(f"{letter}h") and not dimension.money:
            found["held"][dimension] = whole[f"{letter}h"]
        if dimension.rate and letter in whole:
            found["buckets"][dimension] = (whole[letter], whole[f"{letter}a"])
    for name, end_ms in redis.zrange(f"{PREFIX}leases", 0, -1, withscores=True):
        fields = {field: int(value) for field, value in redis.hgetall(f"{PREFIX}account:{name}").items()}
        of = [
            {dimension: fields[letter + what] for dimension, letter in LETTERS.items() if letter + what in fields}
            for what in ("h", "u", "", "a")
        ]
        found["accounts"][name] = (fields["c"], int(end_ms), *of)
    accounts = {key.removeprefix(f"{PREFIX}account:") for key in redis.keys(f"{PREFIX}account:*")}
    assert accounts == set(found["accounts"])
    return found


@pytest.mark.slow
def test_the_script_does_what_the_model_does(redis: "Redis") -> None:
    @given(seed=st.integers(0, 2**32))
    def walk(seed: int) -> None:
        Walk(seed, lambda: Both(redis)).walk()

    lose_everything_while_money_is_spent(Walk(0, lambda: Both(redis)))

    walk()


def test_a_short_walk_of_script_and_model(redis: "Redis") -> None:
    for seed in (14, 15, 18, 19, 34, 42):  # calls that come late, and money that is asked for often
        Walk(seed, lambda: Both(redis)).walk()
    lose_everything_while_money_is_spent(Walk(0, lambda: Both(redis)))
