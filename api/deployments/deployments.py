"""The router's deployments as administrators see and change them."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from api.acting import Actor
from api.deployments.book import DeploymentBook, Row, State, check_secrets
from api.deployments.following import Following
from api.errors import DeploymentNotFound, RequestInvalid
from api.settings import ApiSettings
from core.clock import Clock
from core.dependency import DependencyError
from monitoring.metrics import UPSTREAM_RUNNING, samples_of
from monitoring.tally import tally
from router.config import Source
from router.deployment import Deployment
from router.errors import ConfigInvalid
from router.litellm_form import ModelEntry, unknown_keys
from router.router import DeploymentStatus, Router

_ALL_KNOW_S = 5.0  # after which every worker has seen a change, also on other hosts
_MAX_NAME = 200

Condition = Literal["active", "draining", "drained", "disabled", "removed"]


@dataclass(frozen=True, slots=True)
class Shown:
    """One deployment.

    Attributes:
        condition: drained is one that gets no calls from any worker and has none left; told where there is one host.
        deployment: None: it is disabled.
        health: None: it is disabled or removed.
        reason: why it is disabled.
        running: calls that it has now, in all workers of this host.
    """

    name: str
    source: Source
    condition: Condition
    deployment: Deployment | None = None
    health: DeploymentStatus | None = None
    reason: str | None = None
    running: int = 0


class Deployments:
    """Of one worker; what it does, all workers do within seconds."""

    def __init__(
        self, router: Router, following: Following, book: DeploymentBook, settings: ApiSettings, clock: Clock
    ) -> None:
        self._router = router
        self._settings = settings
        self._following = following
        self._book = book
        self._clock = clock

    @property
    def following(self) -> Following:
        return self._following

    async def all(self) -> Sequence[Shown]:
        """All, those of the configuration first; also the disabled and the removed ones."""
        config = self._following.config
        tally.flush()
        counted = await asyncio.to_thread(samples_of, UPSTREAM_RUNNING)
        running = {sample.labels["deployment"]: sample.value for sample in counted}
        health = {status.name: status for status in self._router.status()}
        rows = {row.name: row for row in self._following.kept.deployments}
        by_name = {deployment.name: deployment for deployment in (*config.deployments, *config.removed)}
        removed = {deployment.name for deployment in config.removed}
        found = []
        for name, source in config.sources.items():
            calls = int(running.get(name, 0))
            if name in config.disabled:
                found.append(Shown(name, source, "disabled", reason=config.disabled[name]))
                continue
            condition = "removed" if name in removed else self._condition(by_name[name], rows.get(name), calls)
            found.append(Shown(name, source, condition, by_name[name], health.get(name), running=calls))
        return found

    async def get(self, name: str) -> Shown:
        """Raises: DeploymentNotFound."""
        for shown in await self.all():
            if shown.name == name:
                return shown
        raise DeploymentNotFound(f"there is no deployment {name}", "name")

    async def add(self, by: Actor, entry: ModelEntry) -> Shown:
        """Add a deployment.

        Raises:
            RequestInvalid: the entry can't be used, or tells a secret.
            NameTaken: another one was added at the same time.
        """
        for place in unknown_keys(entry):
            key = ".".join(str(part) for part in place)
            raise RequestInvalid(f"{key} is not supported and would have no effect; leave it out", key)
        written = entry.model_dump(mode="json", exclude_unset=True)
        check_secrets(written["litellm_params"], self._settings.deployment_secrets)
        name = entry.model_info.id or self._free_name(entry.model_name)
        written["model_info"] = {**written.get("model_info", {}), "id": name}
        try:
            kept = self._following.kept
            added = Row(name, "active", written, self._clock.time())
            self._following.tried(replace(kept, deployments=[*kept.deployments, added]))
        except ConfigInvalid as error:
            raise RequestInvalid(str(error)) from error
        await self._book.add(by, name, written)
        await self._follow()
        return await self.get(name)

    async def put(self, by: Actor, name: str, state: State) -> Shown | None:
        """Have a deployment be active, draining or removed; calls that it has go on.

        Returns: None: it was added, and is forgotten. Raises: DeploymentNotFound.
        """
        await self.get(name)
        await self._book.put(by, name, state)
        await self._follow()
        with suppress(DeploymentNotFound):
            return await self.get(name)
        return None

    async def try_experiment(self, by: Actor, name: str, stopped: str | None) -> None:
        """End an experiment, and say why; None: have it go on."""
        if stopped is None:
            await self._book.start(by, name)
        else:
            await self._book.stop(by, name, stopped or "an administrator ended it")
        await self._follow()

    async def reload(self) -> None:
        """Read the file now; other workers do so within a second. Raises: RequestInvalid: it can't be used."""
        try:
            await self._following.reload()
        except ConfigInvalid as error:
            raise RequestInvalid(f"{error}; what was read before stays in use") from error

    async def _follow(self) -> None:
        with suppress(DependencyError):  # the change is made; this worker learns of it with its next look
            await self._following.follow_kept()

    def _condition(self, deployment: Deployment, row: Row | None, running: int) -> Condition:
        if not deployment.draining:
            return "active"
        all_know_s = max(_ALL_KNOW_S, 3 * self._settings.config_poll_s)
        known = row is not None and self._clock.time() >= row.changed_at + all_know_s
        return "drained" if known and not running and self._settings.hosts == 1 else "draining"

    def _free_name(self, group: str) -> str:
        taken: Mapping[str, Any] = self._following.config.sources
        number = next(number for number in range(1, len(taken) + 2) if f"{group}-{number}" not in taken)
        return f"{group[: _MAX_NAME - 8]}-{number}"
