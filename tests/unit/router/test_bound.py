"""What a group may cost at most: it is reserved before it is known who answers."""

from typing import cast

import pytest

from core.clock import SystemClock
from core.money import Price
from router.config import Deployment, LaneName, RouterConfig
from router.http1 import Client
from router.router import Router


@pytest.mark.parametrize("stands_in", ["fallbacks", "context_fallbacks"])
def test_the_dearest_that_may_answer_is_reserved(stands_in: str) -> None:
    """A prompt too long for a cheap model goes to a dear one, and was reserved at the cheap one's price."""
    both = tuple(
        Deployment(name, name, "m", LaneName.NATIVE, False, price=Price(price, price, price))
        for name, price in (("small", 1), ("large", 1000))
    )
    found = []
    for named in ({}, {stands_in: {"small": ["large"]}}):
        router = Router(RouterConfig(both, **named), cast(Client, object()), SystemClock())
        found.append(router.bound("small").price.prompt)
    assert found == [1, 1000]
