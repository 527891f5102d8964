"""How much of what was said a model is shown again: the newest turns that fit, whole."""

from collections.abc import Callable, Sequence
from itertools import accumulate

import orjson

from api.conversations.items import Item


def size_of(item: Item) -> int:
    """The bytes of an item as JSON: an upper bound of its tokens."""
    return len(orjson.dumps(item))


def history(
    earlier: Sequence[Item], budget: int, *, asked: Sequence[Item] = (), size: Callable[[Item], int] = size_of
) -> list[Item]:
    """The newest turns that fit into a budget, in their order.

    A turn begins where a user speaks after the model has. A function's call and what it gave are never parted: turns
    that they join are taken or left together. What is asked now always stays, and with it every turn that it answers.

    Args:
        earlier: what was said, the oldest first.
        budget: for earlier turns and `asked` together, in the unit of `size`.
        asked: what is being said now; it is not in what is returned.
    """
    items = [*earlier, *asked]
    begins = [at for at in _beginnings(items, len(earlier)) if at <= len(earlier)]
    kept = begins.pop()
    used = sum(map(size, items[kept:]))
    while begins:
        begin = begins.pop()
        used += sum(map(size, items[begin:kept]))
        if used > budget:
            break
        kept = begin
    return list(items[kept : len(earlier)])


def last_turn(items: Sequence[Item]) -> int:
    """Where the last turn begins."""
    return max((at for at in _beginnings(items, len(items)) if at < len(items)), default=0)


def _beginnings(items: Sequence[Item], asked_at: int) -> list[int]:
    """Where turns begin, in order, the first at 0; what is asked now is a turn of its own, whatever it begins with."""
    spoken = [_speaks(item) for item in items]
    joined = _joined(items)
    return [
        at
        for at in range(len(items) + 1)
        if at == 0 or (not joined[at] and (at == asked_at or (at < len(items) and spoken[at] and not spoken[at - 1])))
    ]


def _joined(items: Sequence[Item]) -> list[bool]:
    """For each place between two items, whether a function was called before it and answered behind it."""
    change = [0] * (len(items) + 2)
    called: dict[str, int] = {}
    for at, item in enumerate(items):
        if item["type"] == "function_call":
            called[item["call_id"]] = at  # the latest: some models number their calls anew in each answer
        elif item["type"] == "function_call_output" and item["call_id"] in called:
            change[called[item["call_id"]] + 1] += 1
            change[at + 1] -= 1
    return [depth > 0 for depth in accumulate(change[:-1])]


def _speaks(item: Item) -> bool:
    return bool(item["type"] == "message" and item["role"] != "assistant")
