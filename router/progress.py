"""Whether an engine is wedged, from what it says of itself: a pure state machine, fed with samples and clock readings.

An engine with work whose figures ALL stand still for longer than `standstill_s`, or twice its slowest recent step, is
wedged, whatever its `/health` says: the process that answers HTTP is not the one that computes. Any change is
progress; during a long prefill only the KV usage moves. Not every second counts:

- only those with work: the engine's own requests, or calls of ours that it leaves unanswered, for an engine that
  stopped while it was idle goes on to say that it has nothing to do;
- of a gap between two samples only as much as is usual: our event loop may have stood still, or the metrics were slow.
"""

from collections import deque
from dataclasses import dataclass
from math import inf, isnan

from router.health import HealthPolicy, Reason

RUNNING = b"vllm:num_requests_running"
WAITING = b"vllm:num_requests_waiting"
KV_USAGE = b"vllm:kv_cache_usage_perc"
GENERATED = b"vllm:generation_tokens_total"
PROMPT = b"vllm:prompt_tokens_total"
SLEEP = b"vllm:engine_sleep_state"
NAMES = (RUNNING, WAITING, KV_USAGE, GENERATED, PROMPT, SLEEP)

_RECENT_S = 60.0  # for how long a step is remembered
_MIN_MISSES = 2


@dataclass(frozen=True, slots=True)
class Sample:
    """An engine's figures at one moment, summed over the engines behind one address.

    Attributes:
        kv_usage: 0 to 1 for each engine.
        generated_tokens, prompt_tokens: since its start.
        awake: False while the engine sleeps, its weights put aside.
    """

    running: float = 0.0
    waiting: float = 0.0
    kv_usage: float = 0.0
    generated_tokens: float = 0.0
    prompt_tokens: float = 0.0
    awake: bool = True

    @classmethod
    def of(cls, text: bytes) -> "Sample | None":
        """Read Prometheus's text form; None: it lacks a figure, so this is no engine that can be judged."""
        running, waiting, kv_usage = _sum(text, RUNNING), _sum(text, WAITING), _sum(text, KV_USAGE)
        generated, prompt = _sum(text, GENERATED), _sum(text, PROMPT)
        if running is None or waiting is None or kv_usage is None or generated is None or prompt is None:
            return None
        awake = _sum(text, SLEEP, b'sleep_state="awake"') != 0  # an engine that can't sleep does not say
        return cls(running, waiting, kv_usage, generated, prompt, awake)

    @property
    def watched(self) -> tuple[float, ...]:
        """What moves while the engine works."""
        return (self.running, self.waiting, self.kv_usage, self.generated_tokens, self.prompt_tokens)

    @property
    def busy(self) -> bool:
        """It says that it has work."""
        return self.running > 0 or self.waiting > 0


def _sum(text: bytes, name: bytes, label: bytes = b"") -> float | None:
    """The sum of a metric's series, of those with the label; None: there is none."""
    total, found, at = 0.0, False, text.find(name)
    while at >= 0:
        end = text.find(b"\n", at)
        line = text[at:] if end < 0 else text[at:end]
        starts = at == 0 or text[at - 1] == 0x0A
        if starts and line[len(name) : len(name) + 1] in (b"{", b" ") and label in line:
            try:
                value = float(line[line.rfind(b"}") + 1 if b"{" in line else len(name) :].split()[0])
            except (ValueError, IndexError):
                value = float("nan")
            if not isnan(value):
                total += value
                found = True
        at = text.find(name, at + len(name))
    return total if found else None


class Progress:
    """One for each engine.

    Attributes:
        verdict: why it should have no calls; None: nothing is known against it.
        judged: it serves metrics; until it was seen to, nothing is held against it.
        changes: samples that showed progress.
    """

    def __init__(self, policy: HealthPolicy) -> None:
        self._policy = policy
        self._gap_s = 2 * policy.poll_s
        self._last: Sample | None = None
        self._last_s = 0.0
        self._working = False
        self._stood_s = 0.0
        self._steps: deque[tuple[float, float]] = deque()  # when one ended, and how long it was
        self._misses = 0
        self._missed_s = 0.0
        self._missed_until_s = 0.0
        self.verdict: Reason | None = None
        self.changes = 0

    def saw(self, sample: Sample, now_s: float, waiting_since_s: float | None = None) -> None:
        """Take a sample.

        Args:
            now_s: reading of the monotonic clock.
            waiting_since_s: the same when our oldest call began that the engine has not begun to answer; None: there
                is none.
        """
        last, self._last = self._last, sample
        passed_s, self._last_s = min(now_s - self._last_s, self._gap_s), now_s
        self._misses, self._missed_s = 0, 0.0
        if last is None:
            self._stood_s = 0.0
        elif last.watched == sample.watched:
            self._stood_s += passed_s
        else:
            if self._working:
                self._learn(self._stood_s + passed_s, now_s)
            self._stood_s = 0.0
            self.changes += 1
        self._working = sample.busy or waiting_since_s is not None
        if not sample.busy:
            self._stood_s = 0.0 if waiting_since_s is None else min(self._stood_s, now_s - waiting_since_s)
        if not sample.awake:
            self.verdict = "asleep"
        else:
            self.verdict = "wedged" if self._stood_s >= self.patience_s() else None

    def missed(self, began_s: float, now_s: float) -> None:
        """It refused, or did not answer within the deadline, a look that lasted from `began_s` to `now_s`."""
        if self._last is None:
            return
        if self._misses:
            self._missed_s += min(began_s - self._missed_until_s, self._gap_s)
        self._missed_s += now_s - began_s
        self._missed_until_s = now_s
        self._misses += 1
        if self._misses >= _MIN_MISSES and self._missed_s >= self._policy.away_s:
            self.verdict = "away"

    def forget(self) -> None:
        """It serves no metrics, so it can't be judged."""
        self._last, self._working, self._stood_s, self.verdict = None, False, 0.0, None
        self._misses, self._missed_s = 0, 0.0

    def restart(self) -> None:
        """It has shown that it works: what it stood still before no longer counts."""
        self._stood_s = 0.0
        self.verdict = None

    @property
    def judged(self) -> bool:
        return self._last is not None

    @property
    def working(self) -> bool:
        """There was work at the last sample."""
        return self._working

    @property
    def queueing(self) -> bool:
        """Requests wait in the engine, so that a new one would wait behind them."""
        return self._last is not None and self._last.waiting > 0

    @property
    def doubtful(self) -> bool:
        """It has stood still for half of the time it may."""
        return self._stood_s >= self.patience_s() / 2

    def due_s(self) -> float:
        """Seconds from the last sample until it becomes doubtful, then until it is judged, if nothing moves."""
        if not self._working:
            return inf
        return self.patience_s() / (1 if self.doubtful else 2) - self._stood_s

    def patience_s(self) -> float:
        """How long it may stand still; the first step of an engine that has finished none takes long."""
        while self._steps and self._steps[0][0] < self._last_s - _RECENT_S:
            self._steps.popleft()
        patience_s = max(self._policy.standstill_s, 2 * max((step_s for _, step_s in self._steps), default=0.0))
        cold = self._last is not None and self._last.generated_tokens + self._last.prompt_tokens == 0
        return max(patience_s, self._policy.cold_s) if cold else patience_s

    def _learn(self, step_s: float, now_s: float) -> None:
        """Remember a step. One far beyond the patience was none, but a standstill that is over."""
        if self._policy.standstill_s / 2 < step_s <= 2 * self.patience_s():  # a shorter one makes no difference
            self._steps.append((now_s, step_s))
