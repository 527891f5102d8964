"""A request may ask for less than its key."""

import itertools

import pytest

from core.priority import Priority, lower


@pytest.mark.parametrize(("allowed", "asked"), list(itertools.product(Priority, Priority)))
def test_the_lower_of_two_is_the_one_that_is_served_later(allowed: Priority, asked: Priority) -> None:
    order = [Priority.INTERACTIVE, Priority.NORMAL, Priority.BATCH]
    assert lower(allowed, asked) is order[max(order.index(allowed), order.index(asked))]
