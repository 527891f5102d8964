"""Where a look comes from: the gateway, its engines, and the readers of GPUs."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx

from cli.client import Client, open_client
from cli.errors import ApiRefused, CliError
from cli.settings import CliSettings
from cli.state import PartState, StackState
from cli.top.frame import Look
from monitoring.counting import Scrape
from monitoring.gpus.readings import Gpu, read

_PATIENCE_S = 2.0  # for an engine or a reader of GPUs: a frame does not wait longer for one that hangs
_SPENT_EVERY_S = 10.0  # the sum over a day's ledger costs SQL something
_FORBIDDEN = 403


class Sources:
    """Looks at everything; used as a context manager. Engines and readers of GPUs are never shown the key.

    Raises on entering: CliError: there is no local stack, or no key.
    """

    def __init__(self, settings: CliSettings) -> None:
        self.client: Client = open_client(settings)
        self._gpus = _gpu_readers(settings)
        self._http = httpx.Client(timeout=_PATIENCE_S, trust_env=False)
        self._threads = ThreadPoolExecutor(16)
        self._spent: tuple[float, tuple[str, str] | None] | None = None
        self._hidden: set[str] = set()  # what the key may not see

    def __enter__(self) -> "Sources":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()
        self._http.close()
        self.client.__exit__(kind, error, trace)

    def look(self) -> Look:
        """Look once. Raises: CliError: the gateway does not answer, refuses the key, or is no Stoker."""
        parts = (self._seen("/status") or {}).get("parts")
        listed = self._seen("/v1/admin/deployments")
        deployments = None if listed is None else listed["data"]
        spent = self._spent_today()
        texts = self._texts(_engines(deployments or ()))
        gateway = self._gateway()
        engines, notes = self._engines(deployments or (), texts)
        return Look(
            gateway=gateway,
            parts=parts,
            deployments=deployments,
            spent_usd=spent,
            engines=engines,
            gpus=_read_gpus([text for address in self._gpus if (text := texts[address][0]) is not None]),
            notes=[*notes, *self._notes()],
        )

    def _gateway(self) -> Scrape:
        try:
            text = self.client.bytes_of("/metrics").decode()
            found = Scrape.read(text, time.monotonic())
        except ValueError as error:
            raise CliError(f"what answers at {self.client.url} is no Stoker", "check STOKER_URL") from error
        if "stoker_requests_running" not in found.values:
            raise CliError(f"what answers at {self.client.url} is no Stoker", "check STOKER_URL")
        return found

    def _seen(self, path: str, **query: str | int) -> dict[str, Any] | None:
        """What a route says; None: the key may not see it, and is not shown there again."""
        if path in self._hidden:
            return None
        try:
            return self.client.get(path, **query)
        except ApiRefused as error:
            if error.status != _FORBIDDEN:
                raise
            self._hidden.add(path)
            return None

    def _spent_today(self) -> tuple[str, str] | None:
        now = time.monotonic()
        if self._spent is None or now - self._spent[0] >= _SPENT_EVERY_S:
            self._spent = (now, self._ask_spent())
        return self._spent[1]

    def _ask_spent(self) -> tuple[str, str] | None:
        today = datetime.now(UTC).date().isoformat()
        for path, whose in (("/v1/admin/usage", "all tenants"), ("/v1/usage", "what your key may see")):
            found = self._seen(path, group_by="", **{"from": today})
            if found is not None:
                return (found["data"][0]["usd"] if found["data"] else "0", whose)
        return None

    def _notes(self) -> list[str]:
        """What the key may not see."""
        notes = []
        if {"/status", "/v1/admin/deployments"} & self._hidden:
            notes.append(
                "parts, engines and states of deployments need an admin's key; what is shown is the metrics' own"
            )
        if "/v1/usage" in self._hidden:
            notes.append("what was spent needs a key with the scope usage")
        return notes

    def _texts(self, engines: Mapping[str, str]) -> dict[str, tuple[str | None, float]]:
        addresses = list(dict.fromkeys([*engines.values(), *self._gpus]))
        return dict(zip(addresses, self._threads.map(self._text, addresses), strict=True))

    def _text(self, address: str) -> tuple[str | None, float]:
        """What an address gave, and when; None: it did not answer."""
        try:
            answer = self._http.get(address)
        except (httpx.HTTPError, httpx.InvalidURL):
            return None, time.monotonic()
        return answer.text if answer.is_success else None, time.monotonic()

    def _engines(
        self, deployments: Sequence[Mapping[str, Any]], texts: Mapping[str, tuple[str | None, float]]
    ) -> tuple[dict[str, Scrape], list[str]]:
        found, notes = {}, []
        for name, address in _engines(deployments).items():
            text, at_s = texts[address]
            try:
                if text is None:
                    raise ValueError(address)
                found[name] = Scrape.read(text, at_s)
            except ValueError:
                notes.append(f"the engine of {name} tells nothing at {address}")
        return found, notes


def _engines(deployments: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Deployments that are engines of one's own, to the addresses of their metrics."""
    return {
        each["id"]: f"{each['api_base'].rstrip('/').removesuffix('/v1')}/metrics"
        for each in deployments
        if each.get("lane") == "native" and not each.get("hosted") and each.get("api_base")
    }


def _gpu_readers(settings: CliSettings) -> list[str]:
    """Our own reader where the local stack has one; else the exporter that was named, or that is usual on this host."""
    is_local = settings.url is None or urlsplit(settings.url).hostname in ("127.0.0.1", "localhost", "::1")
    state = StackState.load(settings.run_dir) if settings.url is None else None
    for part in [] if state is None else state.parts:
        if part.name == "gpu" and part.state is PartState.READY and part.port is not None:
            return [f"http://127.0.0.1:{part.port}/metrics"]
    return [settings.dcgm_url] if is_local or "dcgm_url" in settings.model_fields_set else []


def _read_gpus(texts: Sequence[str]) -> tuple[Gpu, ...]:
    try:
        return read(*texts)
    except ValueError:
        return ()
