"""What can go wrong between a request and its answer; nothing here knows of HTTP's own answers.

RouterError
├── ConfigInvalid          the configuration can't be used; the message names file, line and remedy
├── ModelNotFound          no such model group
├── MediaRefused           a medium in the request comes by an address that nobody opened
├── GuardRefused           a guard lets a text of the request, or of the answer, go no further
├── GuardFailed            a guard broke, or said nothing in time, so nothing goes further
├── NoDeployment           every deployment of the group and its fallbacks is away, resting or not allowed
│   ├── LeavesTheHouse     it has only hosted ones to which this text may not go
│   └── Overloaded         they have more to do than they can, and cheaper calls are refused first
├── UpstreamRefused        the upstream says that the request is at fault, or that the caller must wait (429)
└── UpstreamError          the upstream is at fault; another deployment may do better
    ├── UpstreamFailed     it answered with an error or with nonsense, or refused our own key
    │   └── UpstreamCut    the connection was lost in the middle of its answer
    ├── UpstreamUnavailable  it is not there, or says that it can't take work now (surfaces as NoDeployment)
    ├── UpstreamTimeout    a deadline passed
    │   └── UpstreamEjected  its engine was seen to stand still
    └── AnswerDiverged     asked to say an answer again, it said another one; it is healthy
"""

from collections.abc import Sequence
from typing import Any

from core.priority import Priority
from core.reach import Reach
from router.deployment import Deployment


class RouterError(Exception):
    """The root."""


class ConfigInvalid(RouterError):
    """The configuration can't be used."""


class ModelNotFound(RouterError):
    """No such model group.

    Attributes:
        model: what was asked for.
        known: the groups there are.
    """

    def __init__(self, model: str, known: Sequence[str]) -> None:
        names = ", ".join(known) if known else "none; start a model server or configure a deployment"
        super().__init__(f"The model {model!r} does not exist. Known models: {names}.")
        self.model = model
        self.known = list(known)
        self.param = "model"


class GuardRefused(RouterError):
    """A guard lets a text go no further; the message is the guard's."""


class GuardFailed(RouterError):
    """A guard broke, or said nothing in time. Args: its name."""

    def __init__(self, guard: str) -> None:
        super().__init__(f"The guard {guard} could not look at the text, so it goes no further.")


class MediaRefused(RouterError):
    """A medium comes by an address that nobody opened, or as a tensor. Args: param: the field that it stands in."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class NoDeployment(RouterError):
    """Nobody can answer now.

    Attributes:
        group: the group that was asked for.
        retry_after_s: seconds after which a new try makes sense; at least 1.

    Args:
        reason: without a full stop.
        remedy: a sentence that says what to do.
    """

    def __init__(self, group: str, reason: str, retry_after_s: float = 1.0, remedy: str = "") -> None:
        super().__init__(f"No deployment of {group!r} can answer now: {reason}.{remedy and f' {remedy}'}")
        self.group = group
        self.retry_after_s = max(1.0, retry_after_s)


class LeavesTheHouse(NoDeployment):
    """Policy keeps the text from every deployment of the group."""

    def __init__(self, group: str, deployments: Sequence[Deployment], reach: Reach) -> None:
        if reach.local_only:
            allowed = "this request may not leave the house"
        else:
            where = sorted({f"{one.provider} in {one.region or 'no known region'}" for one in deployments})
            kept = [
                f"{what} {', '.join(sorted(names)) or 'none'}"
                for what, names in (("providers", reach.providers), ("regions", reach.regions))
                if names is not None
            ]
            allowed = f"they are {' and '.join(where)}, and this request may go to {' and '.join(kept)} alone"
        super().__init__(group, f"it has only hosted ones, and {allowed}")


class Overloaded(NoDeployment):
    """The group has more to do than it can."""

    def __init__(self, group: str, priority: Priority, retry_after_s: float) -> None:
        super().__init__(group, f"it has more to do than it can, and {priority} calls have to wait", retry_after_s)


class UpstreamRefused(RouterError):
    """The caller's to mend, or to wait for; no other deployment was asked, save after a 429.

    Attributes:
        status: 4xx.
        error: OpenAI's error object: message, type, param, code.
        retry_after_s: seconds to wait, where the upstream named them; 1 after a bare 429.
        rest_s: the same, but None where it named none.
    """

    def __init__(self, status: int, error: dict[str, Any], retry_after_s: float | None = None) -> None:
        super().__init__(str(error.get("message", "")))
        self.status = status
        self.error = error
        self.rest_s = retry_after_s
        self.retry_after_s = 1.0 if status == 429 and retry_after_s is None else retry_after_s

    @property
    def too_long(self) -> bool:
        """The prompt does not fit into the model's window; it may fit into another's."""
        return self.error.get("code") == "context_length_exceeded"


class UpstreamError(RouterError):
    """A deployment failed.

    Attributes:
        deployment: its name.
        reason: for the log and the client; holds no text of a provider's, which might quote keys or addresses.
        retry_after_s: seconds to wait, where the upstream named them.
    """

    def __init__(self, deployment: str, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"The deployment {deployment!r} {reason}.")
        self.deployment = deployment
        self.reason = reason
        self.retry_after_s = retry_after_s


class UpstreamFailed(UpstreamError):
    """It answered with an error, or with nonsense, or refused our own key."""


class UpstreamCut(UpstreamFailed):
    """The connection was lost in the middle of its answer."""


class UpstreamUnavailable(UpstreamError):
    """It is not there, or says that it can't take work now."""


class UpstreamTimeout(UpstreamError):
    """A deadline passed."""


class UpstreamEjected(UpstreamTimeout):
    """Its engine was seen to stand still, so that nothing was waited for any longer."""


class AnswerDiverged(UpstreamError):
    """Asked to say an answer again, it said another one."""
