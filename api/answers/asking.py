"""One call of a model for one step of query work: admitted, sent, counted and billed as an answer is."""

from typing import Protocol

import orjson

from api.answers.bill import Account
from api.answers.deltas import StreamBroken, texts
from api.answers.queryprompts import Prompt
from api.answers.queryreading import MOST_SAID
from api.answers.question import Step, StepFailed
from api.answers.reservations import Reservations
from api.metering import Size
from core.dependency import DependencyError
from core.principal import Principal
from core.usage import Usage
from monitoring.record import count_tokens
from router.errors import GuardFailed, GuardRefused, RouterError
from router.router import Call, Router


class Ask(Protocol):
    """Asks a model."""

    async def __call__(self, step: Step, prompt: Prompt) -> str:
        """What it wrote.

        Raises: StepFailed: nothing that could be read; GuardRefused, GuardFailed, and what admission and ledger raise,
            end the whole question.
        """
        ...


class Asker:
    """Asks one model group for the steps of one question.

    Args:
        model: None: there is none to ask.
        request_id: the question's; each step's call has a name of its own, since engines take no two of one name.

    Attributes:
        usage: of all steps so far.
        by_others: a fallback group did some of them.
    """

    def __init__(
        self, router: Router, reservations: Reservations, principal: Principal, model: str | None, request_id: str
    ) -> None:
        self._router = router
        self._reservations = reservations
        self._principal = principal
        self._model = model
        self._request_id = request_id
        self.usage = Usage()
        self.by_others = False

    async def __call__(self, step: Step, prompt: Prompt) -> str:
        if self._model is None:
            raise StepFailed("no model is configured to do it")
        call = self._call(step, prompt, self._model)
        size = Size(len(orjson.dumps(call.body)), prompt.max_tokens)
        metered = await self._reservations.admit(call.group, call.request_id, size, self._router.bound(call.group))
        try:
            return await self._said(call, metered, prompt)
        except (GuardRefused, GuardFailed):
            raise
        except (RouterError, DependencyError, StreamBroken) as error:
            raise StepFailed(f"no model answered: {error}") from error
        finally:
            metered.close(Usage(), left=False)
            self._reservations.ended()

    def _call(self, step: Step, prompt: Prompt, model: str) -> Call:
        principal = self._principal
        return Call(
            "chat.completions",
            model,
            prompt.body(model),
            stream=True,
            reach=principal.reach,
            request_id=f"{self._request_id}.{step}",
            priority=principal.priority,
            rescue=principal.rescue,
            tenant=principal.tenant_id,
            who=principal.who,
        )

    async def _said(self, call: Call, metered: Account, prompt: Prompt) -> str:
        """The whole answer; it is streamed only so that what was made is counted if it is given up in the middle."""
        answer = await self._router.open(call)
        said = ""
        try:
            assert answer.frames is not None
            metered.opened(answer.deployment)
            answer.on_switch = metered.switched
            async for text in texts(answer.frames):
                metered.count(answer.tokens)
                said += text
                if len(said) > MOST_SAID:
                    raise StepFailed("the model wrote far more than was asked for")
        except StreamBroken as error:
            raise answer.refused or error from error
        finally:
            await answer.aclose()
            whole = answer.over and not answer.broken
            usage = answer.usage or Usage(0, answer.tokens)
            self.usage += usage
            self.by_others = self.by_others or answer.by_others
            count_tokens(call.group, usage)
            metered.finish(usage, "ok" if whole else "failed")
        if prompt.whole and answer.finish_reason == "length":
            raise StepFailed("the model's text was cut off")
        return said
