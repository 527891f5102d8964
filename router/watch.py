"""The watch over the engines behind the native lane: it reads their own metrics, ejects who stands still, and probes.

One task for each deployment of a process, until it has left the configuration and its last call is over. It looks
every `poll_s` while there is work, less often while there is none; a call that is sent to an idle engine wakes it. An
ejected engine comes back once it has answered a probe of one token: its metrics alone may move while it can't be
reached. A server that serves no such metrics is left to its breaker.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import orjson

from core.clock import Clock
from monitoring.logs import logger
from router import http1
from router.choice import Member
from router.deployment import Deployment, LaneName
from router.health import Health, HealthPolicy
from router.holdings import NAMES as HELD
from router.holdings import Holdings
from router.progress import NAMES, Progress, Sample

_log = logger(__name__)

_KEEPALIVE_S = 4.0  # uvicorn closes idle connections after 5 s
_MAX_BYTES = 8 * 1024 * 1024
_ACTIVE_S = 10.0  # without work, after which an engine is looked at less often
_FOREIGN_S = 30.0  # until a server without metrics is looked at again: another may have taken its place
_LATE_S = 0.25  # a deadline that fires later than this was missed by our own event loop
_SOONEST_S = 0.02
_MOVES = 3  # samples with progress that show a queueing engine to be alive
# vLLM's whole text takes milliseconds of its interpreter. With the slash, its own app answers, which takes names; the
# route without it gives everything, and so does an app whose registry is gathered from several processes.
_PATHS = ("/metrics/?" + "&".join(f"name%5B%5D={name.decode()}" for name in NAMES + HELD), "/metrics")


class Watches:
    """The watches of one process; close it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._client = http1.Client(_KEEPALIVE_S)
        self._policy: HealthPolicy | None = None
        self._watched: dict[Health, tuple[EngineWatch, asyncio.Task[None]]] = {}

    def follow(self, members: Sequence[Member], policy: HealthPolicy) -> None:
        """Watch those on the native lane from now on; who is none of them any more, until its last call is over."""
        wanted = {member.health: member for member in members if member.deployment.lane is LaneName.NATIVE}
        anew = policy != self._policy
        self._policy = policy
        for health, (watch, task) in list(self._watched.items()):
            member = wanted.get(health) if policy.enabled else None
            if task.done() or (anew and member is not None):
                task.cancel()
                del self._watched[health]
            elif member is None:
                watch.retire()
            else:
                watch.breaker = member.breaker
        if not policy.enabled:
            return
        for health, member in wanted.items():
            if health not in self._watched:
                watch = EngineWatch(member, policy, self._client, self._clock)
                self._watched[health] = watch, asyncio.create_task(watch.run())

    async def close(self) -> None:
        tasks = [task for _, task in self._watched.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()


class EngineWatch:
    """The watch over one deployment; its verdict is in the member's health."""

    def __init__(self, member: Member, policy: HealthPolicy, client: http1.Client, clock: Clock) -> None:
        deployment = member.deployment
        assert deployment.api_base is not None  # the configuration asks for one on this lane
        self._deployment = deployment
        self._health = member.health
        self.breaker = member.breaker
        self._retired = False
        if deployment.on_cpu:
            policy = replace(policy, standstill_s=policy.standstill_cpu_s)
        self._policy = policy
        self._client = client
        self._clock = clock
        self._origin = http1.Origin.of(deployment.api_base)
        self._root = replace(self._origin, prefix=self._origin.prefix.removesuffix("/v1"))
        self._head = _head(deployment)
        self._paths: tuple[str, ...] = _PATHS
        self._progress = Progress(policy)
        self._failed = False
        self._nudged = False
        self._begun = 0
        self._active_until_s = 0.0
        self._changes = 0
        self._probe: asyncio.Task[None] | None = None
        self._waking: asyncio.Task[None] | None = None
        self._probed_s = 0.0
        self._work = asyncio.Event()

    async def run(self) -> None:
        """Look until cancelled. What goes wrong here must not leave the deployment ejected for good."""
        self._health.on_work = self._work.set
        try:
            await asyncio.sleep(random.uniform(0, self._policy.poll_s))  # noqa: S311 - so that workers look in turn
            while not self._retired or self._health.in_flight:
                began_s = self._clock.monotonic()
                await self._look(began_s)
                self._judge()
                await self._pause(self._clock.monotonic() - began_s)
        except Exception:
            _log.exception("the watch ended", deployment=self._deployment.name)
            raise
        finally:
            self._health.on_work = None
            self._health.readmit()
            asking = [task for task in (self._probe, self._waking) if task is not None]
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    def retire(self) -> None:
        """Its deployment is given no more calls: end with the last one that it has."""
        self._retired = True
        self._work.set()

    async def _look(self, began_s: float) -> None:
        """Take a sample, or count that there is none."""
        again = self._failed and self._health.stopped is None
        limit_s = self._policy.deadline_s / (2 if again else 1)  # a second look need not wait as long
        try:
            async with asyncio.timeout(limit_s):
                sample = await self._sample()
        except (TimeoutError, http1.ConnectFailed, http1.Broken):
            self._failed = True
            now_s = self._clock.monotonic()
            if now_s - began_s < limit_s + _LATE_S:
                self._progress.missed(began_s, now_s)
            return
        self._failed = False
        if sample is None:
            self._progress.forget()
        else:
            changes, now_s = self._progress.changes, self._clock.monotonic()
            self._progress.saw(sample, now_s, self._health.waiting_since_s)
            if self._progress.changes > changes:
                self._health.moved_s = now_s

    async def _sample(self) -> Sample | None:
        """Read the metrics; None: it serves none. Raises: ConnectFailed, Broken: it is away."""
        for path in self._paths:
            response = await self._client.get(self._root, path, self._head, self._policy.deadline_s)
            try:
                if response.status >= 500:
                    raise http1.Broken(f"answered {response.status}")
                text = await response.body(_MAX_BYTES)
            finally:
                response.close()
            sample = Sample.of(text) if response.status == 200 else None
            if sample is not None:
                self._health.holds = Holdings.of(text)
                self._paths = (path,)
                return sample
        self._paths = _PATHS
        return None

    def _judge(self) -> None:
        """Eject or readmit, and probe where that would tell more."""
        progress, health = self._progress, self._health
        verdict = progress.verdict
        if verdict is not None:
            if health.stopped is None:
                self._changes = progress.changes
            health.eject(verdict)
        if health.stopped is None:
            # What an idle engine says may be old, and a call that it seems to leave unanswered may still be on its
            # way to it, as while an image is fetched: a probe moves the figures of any engine that works.
            if progress.doubtful and not self._nudged:
                self._start_probe()
            self._nudged = progress.doubtful
        elif not progress.judged:
            self._readmit("it serves no metrics any more")
        elif verdict == "asleep":
            self._wake()  # a probe would wait
        elif self._failed:
            pass  # it would be refused
        elif verdict is None and progress.queueing and progress.changes >= self._changes + _MOVES:
            self._readmit("it makes progress")  # a probe would only wait in its queue
        elif self._clock.monotonic() >= self._probed_s + self._policy.probe_every_s:
            self._start_probe()

    async def _pause(self, took_s: float) -> None:
        """Wait until the next look."""
        progress, policy = self._progress, self._policy
        jitter = random.uniform(0.9, 1.1)  # noqa: S311 - so that workers don't stay in step
        if self._failed and progress.judged:
            await asyncio.sleep(max(0.0, policy.poll_s - took_s))
            return
        if not progress.judged:
            await asyncio.sleep(jitter * (policy.idle_poll_s if self._failed else _FOREIGN_S))
            return
        now_s = self._clock.monotonic()
        if progress.working or self._health.stopped or self._health.in_flight or self._health.begun != self._begun:
            self._begun = self._health.begun
            self._active_until_s = now_s + _ACTIVE_S
        if now_s < self._active_until_s:
            await asyncio.sleep(max(_SOONEST_S, min(jitter * policy.poll_s, progress.due_s())))
            return
        self._work.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(jitter * policy.idle_poll_s):
                await self._work.wait()

    def _wake(self) -> None:
        """Wake it if a call waits for it, and it may be woken."""
        if not self._health.wake_wanted or self._deployment.wakes_in_s is None:
            return
        if self._waking is None or self._waking.done():
            self._health.wake_wanted = False
            self._waking = asyncio.create_task(self._ask_to_wake(self._deployment.wakes_in_s))

    async def _ask_to_wake(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                response = await self._client.post(self._root, "/wake_up", self._head, b"", self._policy.deadline_s)
                try:
                    await response.body(_MAX_BYTES)
                finally:
                    response.close()
        except (TimeoutError, http1.ConnectFailed, http1.Broken) as error:
            _log.warning("deployment not woken", deployment=self._deployment.name, reason=str(error) or "no answer")
            return
        if response.status != 200:
            why = f"/wake_up answered {response.status}; vLLM serves it where VLLM_SERVER_DEV_MODE is 1"
            _log.warning("deployment not woken", deployment=self._deployment.name, reason=why)

    def _start_probe(self) -> None:
        if self._probe is None or self._probe.done():
            self._probed_s = self._clock.monotonic()
            self._probe = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        """Ask for one token. Closing the connection takes the request back from an engine that does not answer."""
        route, body = _probe_of(self._deployment)
        try:
            async with asyncio.timeout(max(self._policy.probe_s, self._progress.patience_s())):
                head = b"content-type: application/json\r\n" + self._head
                response = await self._client.post(self._origin, route, head, body, self._policy.deadline_s)
                try:
                    await response.body(_MAX_BYTES)
                finally:
                    response.close()
        except (TimeoutError, http1.ConnectFailed, http1.Broken):
            return
        if response.status != 200 or self._progress.verdict == "asleep":
            return
        if self._health.stopped is None:
            self._progress.restart()  # whatever its figures say, as those may that something on the way keeps
        else:
            self._readmit("it answered a probe")

    def _readmit(self, why: str) -> None:
        _log.info("deployment readmitted", deployment=self._deployment.name, after=self._health.stopped, reason=why)
        self._progress.restart()
        self._health.readmit()
        self.breaker.close()


def _head(deployment: Deployment) -> bytes:
    key = f"authorization: Bearer {deployment.api_key}\r\n" if deployment.api_key else ""
    return f"accept-encoding: identity\r\n{key}".encode("latin-1")


def _probe_of(deployment: Deployment) -> tuple[str, bytes]:
    """The smallest request: route and body."""
    if deployment.kind == "embedding":
        return "/embeddings", orjson.dumps({"model": deployment.model, "input": "a"})
    if deployment.kind == "rerank":
        return "/rerank", orjson.dumps({"model": deployment.model, "query": "a", "documents": ["a"]})
    return "/completions", orjson.dumps({"model": deployment.model, "prompt": "a", "max_tokens": 1, "temperature": 0})
