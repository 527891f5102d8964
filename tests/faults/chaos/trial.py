"""What every trial ends with: nothing unclear was seen, and all that is kept is right."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection

from tests.faults.chaos.audit import Books, audit, places
from tests.faults.chaos.house import LEASE_S, PARALLEL
from tests.faults.chaos.load import CLEAR, EXACT, GOOD, Seen

Figure = Callable[[str], None]


async def examine(
    books: Books, seen: Seen, port: int, name: str, figure: Figure, tolerated: Collection[str] = ()
) -> None:
    """Look at everything, the load having ended.

    Args:
        tolerated: how outcomes may begin beside the good and the clear ones, where it is the client's own line that
            broke.
    """
    outcomes = seen.outcomes()
    bad = {
        what: count
        for what, count in outcomes.items()
        if what not in GOOD | CLEAR and not what.startswith(tuple(tolerated))
    }
    assert not bad, bad
    await asyncio.sleep(LEASE_S + 1)
    found = await audit(books, seen)
    less = Counter(f"{one.kind}: {one.outcome}" for one in seen.operations if one.outcome not in GOOD)
    figure(f"{name}: {outcomes.total()} operations, all whole but {dict(less)}; {dict(found.counted)}")
    assert not found.wrong, found.wrong[:5]
    assert min(found.counted[what] for what in ("lines of whole answers", "documents ready")) > 0
    for tenant in books.tenants:
        free = await places(port, tenant.key, EXACT, PARALLEL)
        assert free == Counter({200: PARALLEL}), f"places are still held: {free}"
