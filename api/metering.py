"""What a model request may use and what it used: admission before it, the ledger's line after it, as one thing.

`docs/decisions/0004-admission-and-ledger.md` tells the order in which they meet.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from api.admission.admission import Admission, Ask, Reservation
from api.admission.errors import KeyStale
from api.admission.headers import rate_headers
from api.admission.meters import MAX_NANO_USD, MAX_PER_MINUTE
from api.errors import describe
from api.identities import Identities, Identity
from api.ledger.ledger import Entry, Ledger
from api.ledger.line import CacheOutcome, Line, Outcome
from core.clock import Clock
from core.ids import unique_hex
from core.money import NANO_PER_USD, Price
from core.principal import Principal
from core.usage import Usage
from monitoring import metrics, tracing
from router.deployment import Deployment
from router.errors import RouterError
from router.router import Answer, Bound


@dataclass(frozen=True, slots=True)
class Size:
    """The most that a request can use.

    Attributes:
        prompt_bytes: an upper bound of its prompt's tokens.
        completion_tokens: over all choices.
    """

    prompt_bytes: int
    completion_tokens: int

    @property
    def tokens(self) -> int:
        return self.prompt_bytes + self.completion_tokens

    def nano_usd(self, price: Price) -> int:
        return price.nano_usd(Usage(self.prompt_bytes, self.completion_tokens))


class Metering:
    """One for each worker."""

    def __init__(self, admission: Admission, ledger: Ledger, identities: Identities, clock: Clock) -> None:
        self._admission = admission
        self._ledger = ledger
        self._identities = identities
        self._clock = clock
        self._kind: Callable[..., Metered] = Metered

    async def admit(
        self, identity: Identity, route: str, group: str, request_id: str, size: Size, bound: Bound
    ) -> "Metered":
        """Reserve the most that the request can use.

        Raises:
            LimitReached: nothing was reserved.
            NotAuthenticated: the key was changed meanwhile, and no longer holds.
            DependencyError: neither Redis nor the ledger can say what a budget has left.
        """
        with tracing.stage("admit"):
            try:
                reservation = await self._reserve(identity, route, group, request_id, size, bound)
            except KeyStale:
                identity = await self._identities.renew(identity)
                reservation = await self._reserve(identity, route, group, request_id, size, bound)
        return self._kind(
            self._admission, self._ledger, reservation, identity.principal, route, group, request_id, self._clock
        )

    async def _reserve(
        self, identity: Identity, route: str, group: str, request_id: str, size: Size, bound: Bound
    ) -> Reservation:
        principal = identity.principal
        return await self._admission.admit(
            Ask(
                tenant_id=principal.tenant_id,
                request_id=request_id,
                subjects=identity.subjects_of(group, route),
                tokens=min(size.tokens, MAX_PER_MINUTE),  # what is beyond fits no limit either
                nano_usd=min(size.nano_usd(bound.price), MAX_NANO_USD),
                key_id=principal.key_id,
                generation=identity.generation,
            )
        )


class Metered:
    """One admitted request. `finish` ends it; `close` in a `finally` ends it if nothing else has."""

    def __init__(
        self,
        admission: Admission,
        ledger: Ledger,
        reservation: Reservation,
        principal: Principal,
        route: str,
        group: str,
        request_id: str,
        clock: Clock,
    ) -> None:
        self._admission = admission
        self._ledger = ledger
        self._reservation = reservation
        self._principal = principal
        self._route = route
        self._group = group
        self._request_id = request_id
        self._clock = clock
        self._started_s = clock.monotonic()
        self._at = clock.time()
        self._first_token_s: float | None = None
        self._deployment: Deployment | None = None
        self._entry: Entry | None = None  # None: no deployment has answered, so nothing was used
        self._segment = 0
        self._billed = Usage()  # in the segments before
        self._billed_nano_usd = 0
        self._cache: CacheOutcome = "off"
        self._ended = False

    @property
    def nano_usd(self) -> int:
        """What the lines that were written have cost so far."""
        return self._billed_nano_usd

    def rate_headers(self) -> dict[str, str]:
        """What is left for this caller."""
        return rate_headers(self._reservation.rate)

    def opened(self, deployment: Deployment) -> None:
        """A deployment answers: from here its tokens count, and survive this process.

        Raises: LedgerFull: they could not be accounted for.
        """
        self._deployment = deployment
        self._entry = self._begin(deployment.price)

    def switched(self, usage: Usage, deployment: Deployment, outcome: Outcome = "rescued") -> None:
        """Another deployment goes on with the stream, or begins it anew: what was used so far is a line of its own.

        Args:
            usage: of the whole answer so far; the next line counts what comes beyond.
            outcome: of what was so far.

        Raises: LedgerFull: what comes could not be accounted for.
        """
        if self._ended or self._entry is None or self._deployment is None:
            return
        self._write(self._entry, self._deployment, usage, outcome, 200)
        self._segment += 1
        self._deployment, self._entry = deployment, None
        self._entry = self._ledger.begin(self._line(Usage(), 0, "lost", 0), deployment.price)

    def count(self, tokens_out: int) -> None:
        """Tokens that were read so far; the first call with some is the first token's time."""
        if self._first_token_s is None and tokens_out:
            self._first_token_s = self._clock.monotonic()
        if self._entry is not None:
            self._entry.count(0, max(0, tokens_out - self._billed.completion_tokens))

    def finish(self, usage: Usage, outcome: Outcome, status: int = 200) -> None:
        """Write the line, then settle; does nothing the second time, or where no deployment has answered.

        Args:
            usage: of the whole answer, over all deployments that gave it.
        """
        if self._ended or self._entry is None or self._deployment is None:
            return
        self._ended = True
        self._write(self._entry, self._deployment, usage, outcome, status)
        self._admission.settle(self._reservation, self._billed.total_tokens, self._billed_nano_usd)

    def served(self, nano_usd_saved: int) -> None:
        """The answer came from a cache: a request was made, and nothing used.

        Args:
            nano_usd_saved: what the answer cost when it was made.

        Raises: LedgerFull: it could not be accounted for.
        """
        if self._ended:
            return
        self._ended = True
        self._cache = "hit"
        entry = self._begin(Price())
        entry.finish(replace(self._line(Usage(), 0, "ok", 200), nano_usd_saved=nano_usd_saved))
        metrics.CACHE_SAVED_USD.labels(self._group).inc(nano_usd_saved / NANO_PER_USD)
        self._admission.settle(self._reservation, 0, 0)

    def close(self, usage: Usage, *, left: bool) -> None:
        """End what did not end by itself: a client that left, an upstream that broke; with nothing used, no line."""
        if self._ended:
            return
        if self._entry is not None:
            self.finish(usage, "client_left" if left else "failed", 499 if left else 502)
            return
        self._ended = True
        if self._segment:  # the next one could not be begun
            self._admission.settle(self._reservation, self._billed.total_tokens, self._billed_nano_usd)
        else:
            self._admission.release(self._reservation)

    def _begin(self, price: Price) -> Entry:
        """The first line, with a name of its own. Raises: LedgerFull."""
        self._request_id = self._name_line(self._request_id)
        return self._ledger.begin(self._line(Usage(), 0, "lost", 0), price)

    @staticmethod
    def _name_line(request_id: str) -> str:
        """A name that no other request has: what clients send as their request's id may come twice, and look like
        ours.
        """
        return f"{unique_hex()}.{request_id}"[:128]

    def _write(self, entry: Entry, deployment: Deployment, usage: Usage, outcome: Outcome, status: int) -> None:
        """Write the line of this segment: what the whole answer used beyond the segments before."""
        own = usage.less(self._billed)
        nano_usd = deployment.price.nano_usd(own)
        entry.finish(self._line(own, nano_usd, outcome, status))
        self._billed += own
        self._billed_nano_usd += nano_usd

    def _line(self, usage: Usage, nano_usd: int, outcome: Outcome, status: int) -> Line:
        principal, deployment = self._principal, self._deployment
        ended = outcome != "lost"
        return Line(
            request_id=self._request_id,
            segment=self._segment,
            tenant_id=principal.tenant_id,
            route=self._route,
            model_group=self._group,
            deployment="" if deployment is None else deployment.name,
            at=self._at,
            user_id=principal.user_id,
            team_id=principal.team_id,
            key_id=principal.key_id,
            tokens_in=usage.prompt_tokens,
            tokens_cached=usage.cached_tokens,
            tokens_out=usage.completion_tokens,
            nano_usd=nano_usd,
            cache=self._cache,
            outcome=outcome,
            status=status,
            latency_ms=(self._clock.monotonic() - self._started_s) * 1000 if ended else 0.0,
            ttft_ms=None if self._first_token_s is None else (self._first_token_s - self._started_s) * 1000,
        )


def refused(error: RouterError, answer: Answer, metered: Metered) -> RouterError:
    """Bill an answer of which nothing, or no more, may be told: it was made. Returns: the error, to be raised."""
    metered.finish(answer.usage or Usage(0, answer.tokens), "failed", describe(error)[0])
    return error
