"""How many servers it takes, by the theory of queues: Erlang's formulas, and an approximation where they don't hold.

Callers come by chance, at a rate; each takes one of the servers for a service time; who finds none free waits in turn.
Source: Gross, Shortle, Thompson, Harris: Fundamentals of Queueing Theory; Allen and Cunneen's approximation there.
"""

import math

_MOST = 10_000_000


def erlang_b(servers: int, load: float) -> float:
    """The share of callers that find no server free, where those leave.

    Args:
        load: rate times service time, in erlangs: how many servers would be busy if there were enough.
    """
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked


def erlang_c(servers: int, load: float) -> float:
    """The share of callers that must wait, 0 to 1; 1 where the servers are too few for the load."""
    if load >= servers:
        return 1.0
    blocked = erlang_b(servers, load)
    return blocked / (1 - load / servers * (1 - blocked))


def wait_s(servers: int, per_s: float, service_s: float, spread: float = 1.0, burst: float = 1.0) -> float:
    """The mean wait, in seconds; infinite where the servers are too few.

    Args:
        per_s: callers a second.
        spread: squared coefficient of variation of service times: 1 exponential, 0 all alike.
        burst: the same of the times between callers: 1 by chance.
    """
    load = per_s * service_s
    if load >= servers:
        return math.inf
    return erlang_c(servers, load) * service_s / (servers - load) * (spread + burst) / 2


def share_waiting(servers: int, per_s: float, service_s: float, longer_than_s: float) -> float:
    """The share of callers that wait for longer, where service times are exponential."""
    load = per_s * service_s
    if load >= servers:
        return 1.0
    return erlang_c(servers, load) * math.exp(-(servers - load) * longer_than_s / service_s)


def servers_for(per_s: float, service_s: float, longer_than_s: float, share: float) -> int:
    """The fewest servers with which at most this share of callers waits for longer."""
    low, high = 0, max(1, math.ceil(per_s * service_s))
    while share_waiting(high, per_s, service_s, longer_than_s) > share:
        low, high = high, high * 2
        if high > _MOST:
            raise ValueError("no number of servers is enough")
    while high - low > 1:
        middle = (low + high) // 2
        if share_waiting(middle, per_s, service_s, longer_than_s) > share:
            low = middle
        else:
            high = middle
    return high
