"""The router's configuration: LiteLLM's file and the deployments that `./stoker up` started, as deployments.

`hosted_vllm/NAME` is ours and native; any other provider is hosted and goes through LiteLLM. A deployment whose
`os.environ/NAME` is unset is disabled, with a log line: that is how a fallback waits for its key.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pydantic import ValidationError

from core.breaker import BreakerPolicy
from core.money import Price
from core.naming import deployment_names
from core.reach import Reach
from core.secretfile import SecretUnread, secret
from monitoring.logs import logger
from router import guards, http1, providers, yamlfile
from router.deployment import VLLM, Deadlines, Deployment, Kind, LaneName
from router.errors import ConfigInvalid
from router.experiments import Experiment, Stop
from router.guards import Posted
from router.health import HealthPolicy
from router.litellm_form import Form, ModelEntry, StokerSection, unknown_keys
from router.strategy import Name as Strategy

_NEAR = 0.8  # of difflib: how like another word a misspelt one is
_log = logger(__name__)

LOCAL_SOURCE = "STOKER_LOCAL_DEPLOYMENTS"
ADMIN_SOURCE = "/v1/admin/deployments"

Source = Literal["up", "file", "admin"]
"""Where a deployment comes from: `./stoker up`, the file, or an administrator's request."""

_NATIVE_PREFIX = f"{VLLM}/"
_SECRET_PREFIX = "os.environ/"  # noqa: S105 - LiteLLM's way to name an environment variable


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """What the router works with.

    Attributes:
        deployments: the enabled ones, local ones first; names are unique.
        fallbacks: group to the groups that stand in for it, in order; they may have no deployment enabled.
        context_fallbacks: the same for prompts that do not fit into the group's window.
        num_retries: how many more deployments of one group are tried after the first.
        disabled: deployment name to the reason.
        removed: those that the file or `./stoker up` names and an administrator took away.
        sources: deployment name to where it comes from.
        unsupported: `FILE:LINE: key` of each key that has no effect.
        health: how the native deployments' engines are watched.
        strategy: in which order a group's healthy deployments are asked.
        policies: group to where text may go that is for it, its fallbacks included.
        experiments: all, those that were ended as well.
        guards: group to what looks at its texts.
        media_hosts: from which media in requests may be fetched, in lower case.
        hold_s: how long a call is held for an engine that is asleep or scaled to zero.
    """

    deployments: Sequence[Deployment] = ()
    fallbacks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    context_fallbacks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    num_retries: int = 2
    disabled: Mapping[str, str] = field(default_factory=dict)
    removed: Sequence[Deployment] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    unsupported: Sequence[str] = ()
    health: HealthPolicy = field(default_factory=HealthPolicy)
    hold_s: float = 60.0
    strategy: Strategy = "simple-shuffle"
    policies: Mapping[str, Reach] = field(default_factory=dict)
    experiments: Sequence[Experiment] = ()
    guards: Mapping[str, Sequence[Posted]] = field(default_factory=dict)
    media_hosts: Set[str] = frozenset()

    def others(self, group: str) -> list[str]:
        """The groups that may be asked in a group's place, or beside it."""
        tried = [one.to for one in self.experiments if one.group == group]
        return [*self.fallbacks.get(group, ()), *self.context_fallbacks.get(group, ()), *tried]


@dataclass(frozen=True, slots=True)
class Changes:
    """What administrators changed of the deployments while the gateway ran.

    Attributes:
        added: more entries of `model_list`, each with a `model_info.id`.
        draining: names of those that are given no new calls.
        removed: names of those that are there no more.
        stopped: names of experiments that were ended.
    """

    added: Sequence[Mapping[str, Any]] = ()
    draining: Set[str] = frozenset()
    removed: Set[str] = frozenset()
    stopped: Set[str] = frozenset()


def load(path: Path | None, local_deployments: Sequence[Mapping[str, Any]] = ()) -> RouterConfig:
    """Read the configuration.

    Args:
        path: a file in LiteLLM's form, or None.
        local_deployments: more entries of `model_list`, made by `./stoker up`.

    Raises: ConfigInvalid: names the file and line, and what to do.
    """
    return assembled(written(path), local_deployments, Changes())


def written(path: Path | None) -> yamlfile.Document:
    """The file as it stands. Raises: ConfigInvalid: it can't be read, or is no YAML."""
    return yamlfile.read(path) if path is not None else yamlfile.Document("no file", {}, {})


def assembled(
    document: yamlfile.Document,
    local_deployments: Sequence[Mapping[str, Any]],
    changes: Changes,
    before: Mapping[str, Sequence[Posted]] | None = None,
) -> RouterConfig:
    """As `load`, of a file that was read before, with what administrators changed since.

    Args:
        before: guards that there are already; what is configured as it was is not made anew.
    """
    local = yamlfile.Document(LOCAL_SOURCE, {"model_list": [dict(entry) for entry in local_deployments]}, {})
    added = yamlfile.Document(ADMIN_SOURCE, {"model_list": [dict(entry) for entry in changes.added]}, {})
    form = _validated(document)
    reader = _Reader(form.stoker, form, changes)
    parts: Sequence[tuple[Source, yamlfile.Document, Form]] = (
        ("up", local, _validated(local)),
        ("file", document, form),
        ("admin", added, _validated(added)),
    )
    for source, text, its_form in parts:
        names = deployment_names((entry.model_name, entry.model_info.id) for entry in its_form.model_list)
        for at, (entry, name) in enumerate(zip(its_form.model_list, names, strict=True)):
            reader.add(entry, name, text, at, source)
    unsupported = _unsupported(form, document)
    return RouterConfig(
        deployments=reader.deployments,
        fallbacks=_fallbacks(form, document, reader.groups),
        context_fallbacks=_named(form, document, reader.groups, "context_window_fallbacks"),
        num_retries=_first(form.router_settings.num_retries, form.litellm_settings.num_retries, default=2),
        disabled=reader.disabled,
        removed=reader.removed,
        sources=reader.sources,
        unsupported=unsupported,
        health=HealthPolicy(**form.stoker.health.model_dump()),
        hold_s=form.stoker.waking.hold_s,
        strategy=form.router_settings.routing_strategy,
        policies=_policies(form, document, reader.groups),
        experiments=_experiments(form, document, reader, changes.stopped),
        guards=_guards(form, document, reader.groups, before or {}),
        media_hosts=frozenset(host.lower() for host in form.stoker.media_hosts),
    )


class _Reader:
    """Turns entries into deployments."""

    def __init__(self, stoker: StokerSection, form: Form, changes: Changes) -> None:
        self._stoker = stoker
        self._form = form
        self._changes = changes
        self.deployments: list[Deployment] = []
        self.removed: list[Deployment] = []
        self.disabled: dict[str, str] = {}
        self.sources: dict[str, Source] = {}
        self.groups: list[str] = []

    def add(self, entry: ModelEntry, name: str, document: yamlfile.Document, at: int, source: Source) -> None:
        group = entry.model_name
        self.groups.append(group)
        where = document.where(("model_list", at, "litellm_params", "model"))
        if name in self.sources:
            raise ConfigInvalid(f"{where}: two deployments are called {name!r}: give one another `model_info.id`")
        self.sources[name] = source
        values = entry.litellm_params.model_dump(exclude_none=True)
        try:
            reason = _why_not(entry, values)
        except SecretUnread as error:
            raise ConfigInvalid(f"{where}: {error}") from error
        if reason is not None:
            self.disabled[name] = reason
            _log.warning("deployment disabled", deployment=name, where=where, reason=reason)
            return
        if any(other.group == group and other.kind != entry.model_info.mode for other in self.deployments):
            raise ConfigInvalid(
                f"{where}: {group!r} mixes `mode`s: give those of chat, embedding and rerank names of their own"
            )
        values = {key: _resolved(value) for key, value in values.items()}
        engine = entry.model_info.engine or ("vllm-cpu" if source == "up" else "vllm")
        deployment = self._deployment(name, group, entry, values, engine == "vllm-cpu", where)
        (self.removed if name in self._changes.removed else self.deployments).append(deployment)

    def _deployment(
        self, name: str, group: str, entry: ModelEntry, values: dict[str, Any], on_cpu: bool, where: str
    ) -> Deployment:
        model: str = values["model"]
        native = model.startswith(_NATIVE_PREFIX)
        if native and not values.get("api_base"):
            raise ConfigInvalid(f"{where}: {model} needs `api_base`, the address of its server's /v1")
        base = values.get("api_base")
        if base is not None:
            _check_address(base, where)
        if native and not str(values.get("api_key") or "").isascii():
            raise ConfigInvalid(f"{where}: `api_key` must be of ASCII signs, as a header carries them")
        return Deployment(
            name=name,
            group=group,
            model=model.removeprefix(_NATIVE_PREFIX),
            lane=LaneName.NATIVE if native else LaneName.LITELLM,
            hosted=not native,
            kind=cast(Kind, entry.model_info.mode),
            provider="stoker" if native else entry.model_info.provider or providers.provider_of(model, values),
            region=_region(entry, values),
            api_base=base.rstrip("/") if base else None,
            api_key=values.get("api_key"),
            parameters=providers.parameters(model, values),
            price=_price(entry),
            default_max_tokens=entry.model_info.default_max_tokens,
            max_parallel=entry.litellm_params.max_parallel_requests,
            weight=_first(entry.litellm_params.weight, default=1.0),
            on_cpu=on_cpu,
            rescue=entry.model_info.rescue,
            wakes_in_s=entry.model_info.wakes_in_s,
            draining=name in self._changes.draining,
            parts_tenants=self._parts_tenants(entry),
            deadlines=self._deadlines(values, on_cpu),
            breaker=self._breaker(hosted=not native),
        )

    def _parts_tenants(self, entry: ModelEntry) -> bool:
        """Servers of vectors and of reranking, Stoker's own among them, refuse a field that they don't know."""
        return entry.model_info.mode == "chat" and self._stoker.prefix_cache == "tenant"

    def _deadlines(self, values: dict[str, Any], on_cpu: bool) -> Deadlines:
        wanted, routing = self._stoker.deadlines, self._form.router_settings
        own_total, own_first = values.get("timeout"), values.get("stream_timeout")
        return Deadlines(
            connect_s=wanted.connect_s,
            first_token_s=_first(
                own_first, routing.stream_timeout, default=wanted.first_token_cpu_s if on_cpu else wanted.first_token_s
            ),
            between_tokens_s=wanted.between_tokens_s,
            total_s=_first(
                own_total, routing.timeout, self._form.litellm_settings.request_timeout, default=wanted.total_s
            ),
            embedding_s=_first(own_total, default=wanted.embedding_s),
        )

    def _breaker(self, *, hosted: bool) -> BreakerPolicy:
        wanted, routing, other = self._stoker.breaker, self._form.router_settings, self._form.litellm_settings
        return BreakerPolicy(
            failures_to_open=_first(routing.allowed_fails, other.allowed_fails, default=wanted.failures_to_open),
            probe_after_s=_first(
                routing.cooldown_time,
                other.cooldown_time,
                default=wanted.probe_hosted_s if hosted else wanted.probe_local_s,
            ),
            successes_to_close=wanted.successes_to_close,
        )


def _check_address(base: str, where: str) -> None:
    """Raises: ConfigInvalid: it is no address that can be asked."""
    try:
        http1.Origin.of(base)
    except (ValueError, UnicodeError):
        raise ConfigInvalid(f"{where}: `api_base` must be such as http://host:8000/v1, not {base!r}") from None


def _why_not(entry: ModelEntry, values: Mapping[str, Any]) -> str | None:
    """Why an entry makes no deployment; None: it does."""
    if entry.model_info.mode not in get_args(Kind):
        return f"mode {entry.model_info.mode} is not served; {', '.join(get_args(Kind))} are"
    if "*" in entry.model_name or "*" in entry.litellm_params.model:
        return "a name with * stands for many models, and is not supported: write an entry for each"
    unset = [value.removeprefix(_SECRET_PREFIX) for value in _texts(values) if _is_unset(value)]
    if unset:
        return f"{unset[0]} is not set"
    return providers.why_not(entry.litellm_params.model, entry.model_info.mode, values)


def _texts(values: Mapping[str, Any]) -> Iterator[Any]:
    """All values, those of `extra_headers` as well."""
    for value in values.values():
        yield from value.values() if isinstance(value, dict) else (value,)


def _price(entry: ModelEntry) -> Price:
    own, info = entry.litellm_params, entry.model_info
    prompt = _first(own.input_cost_per_token, info.input_cost_per_token, default=Decimal(0))
    return Price(
        prompt=_pico(prompt),
        cached=_pico(_first(own.cache_read_input_token_cost, info.cache_read_input_token_cost, default=prompt)),
        completion=_pico(_first(own.output_cost_per_token, info.output_cost_per_token, default=Decimal(0))),
    )


def _pico(usd: Decimal) -> int:
    return int((usd * 10**12).to_integral_value(rounding=ROUND_UP))


def _validated(document: yamlfile.Document) -> Form:
    # An empty section (`router_settings:` and nothing below) is None in YAML and means the defaults.
    data = {key: value for key, value in document.data.items() if value is not None}
    try:
        return Form.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = tuple(first["loc"])
        key = ".".join(str(part) for part in place)
        raise ConfigInvalid(f"{document.where(place)}: {key}: {first['msg']}") from error


def _fallbacks(form: Form, document: yamlfile.Document, groups: list[str]) -> dict[str, list[str]]:
    named = _named(form, document, groups, "fallbacks")
    default = form.router_settings.default_fallbacks or form.litellm_settings.default_fallbacks
    for name in default:
        if not _is_there(name, groups):
            where = document.where(("router_settings", "default_fallbacks"))
            raise ConfigInvalid(f"{where}: no `model_list` entry is called {name!r}")
    return {group: [name for name in named.get(group, default) if name != group] for group in dict.fromkeys(groups)}


def _named(form: Form, document: yamlfile.Document, groups: list[str], key: str) -> dict[str, list[str]]:
    """What a key says in either section: group to groups, all of which there are."""
    named: dict[str, list[str]] = {}
    sections = (("litellm_settings", form.litellm_settings), ("router_settings", form.router_settings))
    for section, settings in sections:
        rows: list[dict[str, list[str]]] = getattr(settings, key)
        for at, row in enumerate(rows):
            for group, others in row.items():
                for name in (group, *others):
                    if not _is_there(name, groups):
                        where = document.where((section, key, at, group))
                        raise ConfigInvalid(f"{where}: no `model_list` entry is called {name!r}")
                named[group] = others
    return named


def _experiments(form: Form, document: yamlfile.Document, reader: _Reader, stopped: Set[str]) -> list[Experiment]:
    found: list[Experiment] = []
    kinds = {deployment.group: deployment.kind for deployment in reader.deployments}
    taken: dict[tuple[str, bool], str] = {}
    for name, asked in form.stoker.experiments.items():
        where = document.where(("stoker", "experiments", name))
        of_groups, of_answers = asked.group is not None and asked.to is not None, asked.answers is not None
        if of_groups == of_answers or of_answers != (asked.collection is not None) or (of_answers and asked.shadow):
            raise ConfigInvalid(
                f"{where}: an experiment has `group` and `to`, which may be a `shadow`, or `collection` and `answers`"
            )
        if of_groups and asked.tenant:
            raise ConfigInvalid(f"{where}: `tenant` belongs to ways of answering: calls of all tenants take part")
        if of_answers and (asked.group or asked.to):
            raise ConfigInvalid(f"{where}: `group` and `to` are of models; leave them out, or `answers`")
        if of_answers and not asked.answers:
            raise ConfigInvalid(f"{where}: `answers` names nothing that would be otherwise")
        group, to = asked.group or "", asked.to or ""
        for one in (group, to) if of_groups else ():
            if one not in reader.groups:
                raise ConfigInvalid(f"{where}: no `model_list` entry is called {one!r}")
            if kinds.get(one, "chat") != "chat":
                raise ConfigInvalid(f"{where}: {one!r} is no chat model: vectors of two models can't be mixed")
        if of_groups and group == to:
            raise ConfigInvalid(f"{where}: {group!r} can't be tried against itself")
        subject = group or f"{asked.tenant or ''}/{asked.collection}"
        other = taken.setdefault((subject, asked.shadow), name)
        if other != name:
            what = "shadow" if asked.shadow else "experiment"
            raise ConfigInvalid(f"{where}: {subject!r} has the {what} {other!r} already: end that one first")
        if asked.percent == 100 and not asked.shadow and asked.stop is not None:
            raise ConfigInvalid(f"{where}: with all callers in it there is nothing to judge by: write `stop: null`")
        stop = None if asked.stop is None else Stop(**asked.stop.model_dump())
        ended = name in stopped
        found.append(
            Experiment(
                name, group, to, asked.percent, asked.shadow, stop, ended,
                asked.collection, asked.tenant, asked.answers or {},
            )
        )  # fmt: skip
    return found


def _is_there(name: str, groups: list[str]) -> bool:
    """Whether an entry has this name, or stands for it by its `*` (and is disabled for that)."""
    return name in groups or any("*" in group and fnmatchcase(name, group) for group in groups)


def _policies(form: Form, document: yamlfile.Document, groups: list[str]) -> dict[str, Reach]:
    found = {}
    for group, policy in form.stoker.policy.items():
        where = document.where(("stoker", "policy", group))
        if group not in groups:
            raise ConfigInvalid(f"{where}: no `model_list` entry is called {group!r}")
        if policy.local_only and policy.providers:
            raise ConfigInvalid(f"{where}: local_only is the same as `providers: []`; write one of them")
        providers = [] if policy.local_only else policy.providers
        found[group] = Reach.read({"providers": providers, "regions": policy.regions})
    return found


def _guards(
    form: Form, document: yamlfile.Document, groups: list[str], before: Mapping[str, Sequence[Posted]]
) -> dict[str, list[Posted]]:
    found: dict[str, list[Posted]] = {}
    for group, wanted in form.stoker.guards.items():
        where = document.where(("stoker", "guards", group))
        if group not in groups:
            raise ConfigInvalid(f"{where}: no `model_list` entry is called {group!r}")
        old = list(before.get(group, ()))
        try:
            found[group] = [_posted(one.use, one.options, old) for one in wanted]
        except ValueError as error:
            raise ConfigInvalid(f"{where}: {error}") from error
    return found


def _posted(use: str, options: Mapping[str, Any], old: list[Posted]) -> Posted:
    """The guard that stands there already, which is taken out of `old`, or a new one. Raises: ValueError."""
    for at, posted in enumerate(old):
        if (posted.use, posted.options) == (use, options):
            return old.pop(at)
    return Posted(guards.load(use, options), use, options)


def _unsupported(form: Form, document: yamlfile.Document) -> list[str]:
    """Raises: ConfigInvalid: there is no `model_list`, and what stands there is nearly called so."""
    found = []
    for place in unknown_keys(form):
        key, where = ".".join(str(part) for part in place), document.where(place)
        meant = get_close_matches(key, Form.model_fields, 1, _NEAR) if len(place) == 1 else []
        if meant == ["model_list"] and "model_list" not in document.data:
            raise ConfigInvalid(f"{where}: {key}: did you mean model_list?")
        found.append(f"{where}: {key}" + "".join(f" (did you mean {name}?)" for name in meant))
        _log.warning("a key is not supported and has no effect", where=where, key=key, meant=meant)
    return found


def _region(entry: ModelEntry, values: Mapping[str, Any]) -> str | None:
    said = (values.get(key) for key in ("region_name", "aws_region_name", "vertex_location"))
    return entry.model_info.region or next((region for region in said if region), None)


def _is_unset(value: object) -> bool:
    return (
        isinstance(value, str) and value.startswith(_SECRET_PREFIX) and not secret(value.removeprefix(_SECRET_PREFIX))
    )


def _resolved(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _resolved(inner) for name, inner in value.items()}
    if isinstance(value, str) and value.startswith(_SECRET_PREFIX):
        return secret(value.removeprefix(_SECRET_PREFIX))
    return value


def _first(*values: Any, default: Any) -> Any:
    """The first value that is set."""
    return next((value for value in values if value is not None), default)
