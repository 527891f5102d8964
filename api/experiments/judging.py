"""What an experiment has shown so far, and whether its variant is worse.

Calls of all workers of this host are counted, from the start of the gateway on, or from when the experiment was started
again: on several hosts each judges by its own share, and the first one that finds the variant worse ends it for all.
"""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass

from api.acting import Actor
from api.deployments.book import DeploymentBook
from api.deployments.following import Following
from api.first_key import DEFAULT_TENANT
from core.principal import Principal, Role
from monitoring import metrics
from monitoring.logs import logger
from monitoring.tally import tally
from router.experiments import Arm, Experiment, Stop

_log = logger(__name__)

_SHOWN_Z = 1.96  # of the intervals that are shown: 95 %
_STOPS_Z = 3.0  # of the judgement, which is made again and again: 99.7 %
_ITSELF = Actor(Principal(tenant_id=DEFAULT_TENANT, key_id=None, role=Role.ADMIN), request_id="experiment")

_COUNTED = (
    metrics.EXPERIMENT_CALLS,
    metrics.EXPERIMENT_SECONDS,
    metrics.EXPERIMENT_SQUARES,
    metrics.EXPERIMENT_NANO_USD,
)
_WHAT = {
    "stoker_experiment_seconds_total": "seconds",
    "stoker_experiment_square_seconds_total": "squares",
    "stoker_experiment_nano_usd_total": "nano_usd",
}

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Side:
    """The calls of one side.

    Attributes:
        calls: that were answered or failed; `failed` of them.
        left_out: that were to cast a shadow while there were too many.
        seconds, squares: sums over the answered ones, to the first token or the whole answer.
        nano_usd: what they cost.
    """

    calls: int = 0
    failed: int = 0
    left_out: int = 0
    seconds: float = 0.0
    squares: float = 0.0
    nano_usd: float = 0.0

    def since(self, before: "Side") -> "Side":
        """What came after the calls of `before`."""
        return Side(
            self.calls - before.calls,
            self.failed - before.failed,
            self.left_out - before.left_out,
            self.seconds - before.seconds,
            self.squares - before.squares,
            self.nano_usd - before.nano_usd,
        )

    @property
    def answered(self) -> int:
        return self.calls - self.failed

    @property
    def share_failed(self) -> float | None:
        return self.failed / self.calls if self.calls else None

    @property
    def mean_s(self) -> float | None:
        return self.seconds / self.answered if self.answered else None

    def failed_interval(self, z: float = _SHOWN_Z) -> Interval | None:
        """Within which the share of failed calls lies, by Wilson's score."""
        n = self.calls
        if n == 0:
            return None
        share = self.failed / n
        middle = share + z * z / (2 * n)
        spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)

    def error_s(self) -> float | None:
        """The standard error of the mean time."""
        n = self.answered
        if n < 2:
            return None
        variance = max(0.0, (self.squares - self.seconds**2 / n) / (n - 1))
        return math.sqrt(variance / n)


async def _counted() -> Mapping[str, Mapping[Arm, Side]]:
    """What the metrics of all workers say of each experiment."""
    tally.flush()
    found: dict[str, dict[Arm, dict[str, float]]] = {}
    for sample in await asyncio.to_thread(metrics.samples_of, *_COUNTED):
        arm: Arm = sample.labels["arm"]  # type: ignore[assignment]  # only `router.experiments` writes them
        said = found.setdefault(sample.labels["experiment"], {}).setdefault(arm, {})
        said[sample.labels.get("outcome") or _WHAT[sample.name]] = sample.value
    return {name: {arm: _side(said) for arm, said in arms.items()} for name, arms in found.items()}


def _side(said: Mapping[str, float]) -> Side:
    ok, failed = int(said.get("ok", 0)), int(said.get("failed", 0))
    return Side(
        calls=ok + failed,
        failed=failed,
        left_out=int(said.get("left out", 0)),
        seconds=said.get("seconds", 0.0),
        squares=said.get("squares", 0.0),
        nano_usd=said.get("nano_usd", 0.0),
    )


def worse(control: Side, variant: Side, stop: Stop) -> str | None:
    """Why the variant is to be ended; None: it is not known to be worse."""
    if min(control.calls, variant.calls) < stop.after:
        return None
    of_control, of_variant = control.failed_interval(_STOPS_Z), variant.failed_interval(_STOPS_Z)
    assert of_control is not None
    assert of_variant is not None
    failing, usual = variant.failed / variant.calls, control.failed / control.calls
    # Newcombe's interval of the difference of two shares, from Wilson's of each.
    least = (failing - usual) - math.hypot(failing - of_variant[0], of_control[1] - usual)
    if least > 0 and failing - usual > stop.failures:
        return f"{failing:.1%} of its {variant.calls} calls failed, {usual:.1%} of the control's {control.calls}"
    mean, mean_usual, error, error_usual = variant.mean_s, control.mean_s, variant.error_s(), control.error_s()
    if mean is None or mean_usual is None or error is None or error_usual is None:
        return None
    if mean > stop.slower * mean_usual and mean - mean_usual > _STOPS_Z * math.hypot(error, error_usual):
        return f"it takes {mean:.3f} s on average, the control's {mean_usual:.3f} s"
    return None


class Judging:
    """Ends experiments whose variant is worse.

    Of one that was started again, a worker counts what comes after it has noticed.
    """

    def __init__(self, following: Following, book: DeploymentBook) -> None:
        self._following = following
        self._book = book
        self._before: dict[str, tuple[float, Mapping[Arm, Side]]] = {}  # by name: when it was started again, and then

    async def sides(self, experiment: Experiment) -> Mapping[Arm, Side]:
        """What each side has shown since the experiment was started."""
        return self._since(experiment.name, (await _counted()).get(experiment.name, {}))

    def _since(self, name: str, found: Mapping[Arm, Side]) -> Mapping[Arm, Side]:
        again_s = next((one.again_at for one in self._following.kept.stopped if one.name == name), None)
        if again_s is None:
            return found
        noticed_s, before = self._before.get(name, (0.0, {}))
        if noticed_s != again_s:
            before = found
            self._before[name] = again_s, found
        return {arm: side.since(before.get(arm, Side())) for arm, side in found.items()}

    async def look(self) -> None:
        """Judge each experiment that runs. Raises: DependencyError: SQL is away."""
        names = {one.name for one in self._following.config.experiments}
        self._before = {name: before for name, before in self._before.items() if name in names}  # their counts go, too
        judged = [one for one in self._following.config.experiments if not one.stopped and not one.shadow and one.stop]
        told = await _counted() if judged else {}
        for experiment in judged:
            assert experiment.stop is not None
            found = self._since(experiment.name, told.get(experiment.name, {}))
            reason = worse(found.get("control", Side()), found.get("variant", Side()), experiment.stop)
            if reason is not None:
                _log.warning("an experiment is ended", experiment=experiment.name, reason=reason)
                await self._book.stop(_ITSELF, experiment.name, reason)
                await self._following.follow_kept()
