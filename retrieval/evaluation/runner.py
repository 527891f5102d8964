"""Does daily evaluations that are due, in the ingestion worker, beside its documents."""

import asyncio
import contextlib
from contextlib import aclosing

from core.clock import Clock
from core.dependency import DependencyError
from monitoring.logs import logger
from retrieval.errors import LeaseLost, RetrievalError
from retrieval.evaluation.daily import USUAL, Outcome, Result, figures_of, new_result
from retrieval.evaluation.evaluator import Evaluation, Evaluator
from retrieval.evaluation.turns import LEASE_S, Turn, Turns

_log = logger(__name__)

_LOOK_S = 5.0  # between two looks for what is due
_RENEW_S = LEASE_S / 6


class Runner:
    """One for each worker."""

    def __init__(self, turns: Turns, evaluator: Evaluator, clock: Clock) -> None:
        self._turns = turns
        self._evaluator = evaluator
        self._clock = clock

    async def run(self) -> None:
        """Evaluate until cancelled; what was under way then is given back."""
        while True:
            try:
                while await self.once():
                    pass
            except DependencyError as error:
                _log.warning("evaluations wait for a part that is away", part=error.name, reason=str(error))
            except Exception:  # documents go on being ingested
                _log.exception("an evaluation could not be begun or ended")
            await asyncio.sleep(_LOOK_S)

    async def once(self) -> bool:
        """Do one evaluation that is due. Returns: whether one was. Raises: DependencyError: SQL is away."""
        turn = await self._turns.take()
        if turn is None:
            return False
        log = _log.bind(collection=str(turn.collection))
        try:
            result, soon = await self._evaluated(turn)
            await self._turns.end(turn, result, soon=soon)
            log.info("evaluated", outcome=result.outcome, reason=result.reason)
        except LeaseLost as error:  # another does it, or the set was changed
            log.warning("an evaluation was given up", reason=str(error))
        except asyncio.CancelledError:
            with contextlib.suppress(LeaseLost, DependencyError):
                await self._turns.release(turn)
            raise
        return True

    async def _evaluated(self, turn: Turn) -> tuple[Result, bool]:
        """Returns: the result, and whether it is to be tried again soon. Raises: LeaseLost."""
        renewed_s = self._clock.monotonic()
        found: Evaluation | None = None
        events = self._evaluator.run(turn.principal, turn.collection, turn.questions, [USUAL], turn.judged_by)
        try:
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Evaluation):
                        found = event
                    elif self._clock.monotonic() - renewed_s > _RENEW_S:
                        renewed_s = self._clock.monotonic()
                        await self._turns.renew(turn)
        except LeaseLost:
            raise
        except Exception as error:
            known = isinstance(error, DependencyError | RetrievalError)
            reason = str(error) if known else "It failed unexpectedly; the worker's log has the details."
            if not known:
                _log.error("an evaluation failed unexpectedly", collection=str(turn.collection), exc_info=error)
            return new_result("failed", reason[:2000], None, self._clock.time()), not isinstance(error, RetrievalError)
        assert found is not None  # the last thing that comes
        degraded = found.scores[0].degraded > 0
        outcome: Outcome = "degraded" if degraded else "whole"
        return new_result(outcome, None, figures_of(found), self._clock.time()), degraded
