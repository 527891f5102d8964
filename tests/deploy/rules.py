"""What must hold of the deployment: each rule says what is wrong, and nothing where all is well."""

import fnmatch
import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from api.settings import ApiSettings
from core.secretfile import SUFFIX
from inference.settings import EmbeddingSettings, VllmSettings
from monitoring.nvml.settings import NvmlSettings
from monitoring.rules.book import DEFAULT_PRICES
from monitoring.write import of_installation
from tests.deploy.deployment import API, EMBEDDING, OWN, VLLM, Deployment, loaded, seconds
from tests.deploy.dockerfile import words

Rule = Callable[[Deployment], Iterator[str]]

PUBLISHED = {"front": {"443", "80"}, "grafana": {"3000"}}
CAPABILITIES = {"front": ["NET_BIND_SERVICE"]}
WRITABLE = {"etcd", "minio", "milvus"}
"""Whose images write beside their volumes, or say nothing of where they write."""
UNASKED = {"jaeger", "dcgm-exporter"}
"""Whose images have neither a shell nor a command that asks."""
ONCE = {"migrate", "grafana-reader"}
API_TMPFS = {"/tmp", "/run/stoker/metrics"}
_HOST_PATHS = {"/var/lib/docker/containers"}
_OWN_LABELS = {"service", "level"}
_PORTS = {
    "gateway": {8080}, "keeper": {9464}, "worker": {9464}, "vllm": {8000}, "vllm-cpu": {8000}, "embedding": {8081},
    "embedding-cpu": {8081},
    "postgres": {5432}, "valkey": {6379}, "milvus": {19530, 9091}, "etcd": {2379}, "minio": {9000},
    "prometheus": {9090}, "alertmanager": {9093}, "grafana": {3000}, "loki": {3100}, "jaeger": {4317, 4318, 16686},
    "dcgm-exporter": {9400}, "front": {80, 443}, "alloy": {12345},
}  # fmt: skip


def settings_of(service: str) -> tuple[tuple[type, str], ...]:
    """Which classes read a service's variables, each with its prefix."""
    if service in API:
        return ((ApiSettings, "STOKER_"),)
    if service in VLLM:
        return ((VllmSettings, "STOKER_VLLM_"), (NvmlSettings, "STOKER_NVML_"))
    return ((EmbeddingSettings, "STOKER_EMBEDDINGS_"),) if service in EMBEDDING else ()


def images_are_exact(it: Deployment) -> Iterator[str]:
    for name, image in it.images.items():
        tag = image.rpartition("/")[2].partition(":")[2]
        if not tag or tag == "latest" or "@" in image or not re.search(r"\d", tag):
            yield f"deploy/images.env: {name}: {image} has no exact tag"
    used = set()
    for service, form in it.services.items():
        match = re.fullmatch(r"\$\{(\w+):\?[^}]+\}", form["image"])
        if match is None or match[1] not in it.images:
            yield f"{service}: {form['image']} is no image of deploy/images.env"
            continue
        used.add(match[1])
        used |= set(re.findall(r"\$\{(\w+):\?", json.dumps(form.get("build", {}))))
    yield from (f"deploy/images.env: nobody uses {name}" for name in it.images.keys() - used)


def dockerfiles_begin_with_these_images(it: Deployment) -> Iterator[str]:
    for file in ("Dockerfile.api", "Dockerfile.inference"):
        stages = it.dockerfile(file)
        for name, value in stages[0].arguments.items():
            if name.endswith("_IMAGE") and it.images.get(name) != value:
                yield f"{file}: {name} is {value}, and {it.images.get(name)} in deploy/images.env"
        known = {*it.images.values(), *(stage.name for stage in stages)}
        yield from (f"{file}: begins with {stage.base}" for stage in stages if stage.base not in known)


def dockerfiles_copy_what_is_there(it: Deployment) -> Iterator[str]:
    lines = [line for line in it.text(".dockerignore").splitlines() if line and not line.startswith("#")]
    for file in ("Dockerfile.api", "Dockerfile.inference"):
        for stage in it.dockerfile(file):
            for origin, sources, _ in stage.copies():
                for source in sources if origin is None else ():
                    if not (it.root / source).exists():
                        yield f"{file}: copies {source}, which is not there"
                    if _is_ignored(source, lines):
                        yield f"{file}: copies {source}, which .dockerignore keeps out"


def dockerfiles_end_safely(it: Deployment) -> Iterator[str]:
    for file in ("Dockerfile.api", "Dockerfile.inference"):
        stage = it.dockerfile(file)[-1]
        if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", (stage.all("USER") or ["root"])[-1]):
            yield f"{file}: ends as another user than one with a number above 0"
        for instruction in ("ENTRYPOINT", "CMD"):
            try:
                words(stage.last(instruction))
            except (ValueError, IndexError):
                yield f"{file}: {instruction} is not in exec form, so signals reach a shell"
        if not stage.all("HEALTHCHECK"):
            yield f"{file}: has no HEALTHCHECK"
        text = it.text(file)
        if "pip install" in text and "--require-hashes" not in text:
            yield f"{file}: installs without hashes"


def variables_are_settings(it: Deployment) -> Iterator[str]:
    for service in OWN:
        known = {f"{prefix}{field.upper()}" for cls, prefix in settings_of(service) for field in cls.model_fields}  # type: ignore[attr-defined]
        known |= {name + SUFFIX for name in known if service in API}
        for name in it.environment(service):
            if name.startswith("STOKER_") and name not in known:
                yield f"{service}: {name} is no setting"
    used = set(re.findall(r"\$\{(\w+)", it.text("docker-compose.gpu.yml")))
    unused = it.example.keys() - used - {"COMPOSE_PROFILES"}
    yield from (f"deploy/compose/env.example: nobody reads {name}" for name in unused)


def commands_and_checks_exist(it: Deployment) -> Iterator[str]:
    for service in OWN:
        form = it.services[service]
        module = (form.get("command") or ["api"])[0]
        if importlib.util.find_spec(module) is None:
            yield f"{service}: there is no module {module}"
        test = form.get("healthcheck", {}).get("test")
        if not test or service in ONCE:
            continue
        if test[2:4] != ["-m", "monitoring.probe"]:
            yield f"{service}: its health check is not monitoring.probe"
        address = urlsplit(test[-1])
        if address.port not in _PORTS[service]:
            yield f"{service}: its health check asks port {address.port}"
        told = int(it.environment(service).get("STOKER_METRICS_PORT", address.port or 0))
        if address.port != told:
            yield f"{service}: its health check asks port {address.port}, and {told} is served"
        if service in _SERVED and f'"{address.path}"' not in it.text(_SERVED[service]):
            yield f"{service}: {_SERVED[service]} serves no {address.path}"


_SERVED = {
    "gateway": "api/health.py", "worker": "monitoring/serving.py", "keeper": "monitoring/serving.py",
    "embedding": "inference/embeddings.py", "embedding-cpu": "inference/embeddings.py",
}  # fmt: skip


def addresses_lead_somewhere(it: Deployment) -> Iterator[str]:
    """What a service is told to ask is found in a network of its own, at a port that is served there."""
    for service in it.services:
        for name, value in it.environment(service).items():
            for host, port in re.findall(r"(?:https?|grpc)://([a-z][a-z0-9.-]*):(\d+)", value):
                yield from _leads(it, service, f"{service}: {name}", host, int(port))
    upstream = re.findall(r"STOKER_UPSTREAM:([a-z-]+):(\d+)", it.text("deploy/compose/Caddyfile"))
    yield from ([] if upstream else ["deploy/compose/Caddyfile: leads to no upstream"])
    for host, port in upstream:
        yield from _leads(it, "front", "deploy/compose/Caddyfile", host, int(port))
    for source in loaded(it.text("deploy/compose/grafana.yml"))["datasources"]:
        host, _, port = source["url"].removeprefix("http://").partition(":")
        yield from _leads(it, "grafana", f"deploy/compose/grafana.yml: {source['name']}", host, int(port))
    for host, port in re.findall(r'"http://([a-z-]+):(\d+)/', it.text("deploy/compose/alloy.config")):
        yield from _leads(it, "alloy", "deploy/compose/alloy.config", host, int(port))
    for config in ("deploy/compose/stoker.yaml", "deploy/compose/stoker.cpu.yaml"):
        for entry in loaded(it.text(config))["model_list"]:
            address = urlsplit(entry["litellm_params"]["api_base"])
            yield from _leads(it, "gateway", config, str(address.hostname), address.port or 0)


def prometheus_scrapes_what_runs(it: Deployment) -> Iterator[str]:
    named = {"engines.yml", "gpus.yml", "keepers.yml", "workers.yml"}
    for job in it.prometheus["scrape_configs"]:
        groups = list(job.get("static_configs", []))
        for file in (file for one in job.get("file_sd_configs", []) for file in one["files"]):
            groups += loaded(it.text(f"deploy/compose/monitoring/{file}"))
            named.discard(file)
        targets = [target for group in groups for target in group["targets"]]
        yield from ([] if targets else [f"prometheus.yml: {job['job_name']} scrapes nobody"])
        for host, _, port in (target.partition(":") for target in targets):
            yield from _leads(it, "prometheus", f"prometheus.yml: {job['job_name']}", host, int(port))
    yield from (f"prometheus.yml reads no {name}" for name in named)
    config = loaded(it.text("deploy/compose/stoker.yaml"))["model_list"]
    made = of_installation(
        config, prices=DEFAULT_PRICES, gpus=["dcgm-exporter:9400"], keepers=["keeper:9464"], workers=["worker:9464"],
        receivers=["webhook"],
    )  # fmt: skip
    for name, text in made.items():
        if it.text(f"deploy/compose/monitoring/{name}") != text:
            yield f"deploy/compose/monitoring/{name}: run `scripts/compose.sh monitoring`"


def mounts_exist(it: Deployment) -> Iterator[str]:
    volumes = set(it.compose["volumes"])
    used = set()
    for service in it.services:
        for source, _ in it.binds(service):
            if source in volumes:
                used.add(source)
            elif source.startswith("./deploy/secrets"):
                if source not in ("./deploy/secrets/tls",):
                    yield f"{service}: mounts {source}: name it as a secret"
            elif source not in _HOST_PATHS and not (it.root / source).exists():
                yield f"{service}: mounts {source}, which is not there"
    yield from (f"nobody uses the volume {name}" for name in volumes - used)
    for service, form in it.dev["services"].items():
        for source in (mount.partition(":")[0] for mount in form.get("volumes", [])):
            if not (it.root / source).exists():
                yield f"docker-compose.dev.yml: {service}: mounts {source}, which is not there"


def secrets_are_used_and_made(it: Deployment) -> Iterator[str]:
    declared = it.compose["secrets"]
    script = it.text("scripts/init_secrets.sh")
    used = set()
    for service in it.services:
        had = it.secrets(service)
        used |= set(had)
        yield from (f"{service}: there is no secret {name}" for name in had.keys() - declared.keys())
        for name, value in it.environment(service).items():
            if value.startswith("/run/secrets/") and value not in had.values():
                yield f"{service}: {name} names {value}, which it does not have"
            if re.search(r"PASSWORD$|SECRET$|TOKEN$|_KEY$", name) and value:
                yield f"{service}: {name} is a secret in the environment"
    yield from (f"nobody uses the secret {name}" for name in declared.keys() - used)
    for name, form in declared.items():
        file = form["file"].removeprefix("./deploy/secrets/")
        if not re.search(rf"(keep|publish) {re.escape(file)} ", script):
            yield f"scripts/init_secrets.sh makes no {file} for the secret {name}"


def only_front_and_grafana_publish(it: Deployment) -> Iterator[str]:
    for service, form in it.services.items():
        ports = {str(port["target"]) for port in form.get("ports", []) if isinstance(port, dict)}
        if ports != PUBLISHED.get(service, set()) or len(ports) != len(form.get("ports", [])):
            yield f"{service}: publishes {form.get('ports')}"
    for service, form in it.dev["services"].items():
        if any(port.get("host_ip") != "127.0.0.1" for port in form.get("ports", [])):
            yield f"docker-compose.dev.yml: {service}: publishes to others"


def networks_part_what_need_not_meet(it: Deployment) -> Iterator[str]:
    networks = it.compose["networks"]
    for name in ("back", "vectors", "monitoring"):
        if not networks[name].get("internal"):
            yield f"the network {name} is not internal"
    for service in ("etcd", "minio"):
        if set(it.networks(service)) != {"vectors"}:
            yield f"{service}: is in other networks than vectors"
    for service in ("postgres", "valkey", "migrate", "grafana-reader", *EMBEDDING):
        if {"front", "outside"} & set(it.networks(service)):
            yield f"{service}: reaches the outside"
    for service in it.services:
        if service not in ("front", "gateway", "grafana") and "front" in it.networks(service):
            yield f"{service}: is in the network of clients"


def containers_may_little(it: Deployment) -> Iterator[str]:
    for service, form in it.services.items():
        if form.get("privileged") or form.get("pid") or "host" in (form.get("network_mode"), form.get("ipc")):
            yield f"{service}: is privileged, or shares the host's processes, memory or network"
        if form.get("cap_drop") != ["ALL"] or form.get("cap_add", []) != CAPABILITIES.get(service, []):
            yield f"{service}: has capabilities: drops {form.get('cap_drop')}, adds {form.get('cap_add')}"
        if form.get("security_opt") != ["no-new-privileges:true"]:
            yield f"{service}: may gain privileges"
        if not form.get("read_only") and service not in WRITABLE:
            yield f"{service}: can write its root file system"
        if "docker.sock" in json.dumps(form):
            yield f"{service}: has the engine's socket"
    for service in API:
        written = {one.partition(":")[0] for one in it.services[service]["tmpfs"]}
        if written != API_TMPFS:
            yield f"{service}: writes to {written}"


def everything_is_bounded(it: Deployment) -> Iterator[str]:
    for service, form in it.services.items():
        limits = form.get("deploy", {}).get("resources", {}).get("limits", {})
        if not {"cpus", "memory"} <= limits.keys():
            yield f"{service}: has no limits of processors and memory"
        options = form.get("logging", {}).get("options", {})
        if not {"max-size", "max-file"} <= options.keys():
            yield f"{service}: its log grows for ever"
        if options.get("labels") != "com.docker.compose.service":
            yield f"{service}: its log does not say whose it is"
        if form.get("restart") != ("no" if service in ONCE else "unless-stopped"):
            yield f"{service}: restarts: {form.get('restart')}"
        if service not in ONCE and "stop_grace_period" not in form:
            yield f"{service}: has no stop_grace_period"
        check = form.get("healthcheck", {}).get("test")
        if not check and service not in ONCE | UNASKED:
            yield f"{service}: has no health check"


def dependencies_can_be_waited_for(it: Deployment) -> Iterator[str]:
    for service, form in it.services.items():
        for name, how in form.get("depends_on", {}).items():
            other = it.services.get(name, {})
            if how["condition"] == "service_completed_successfully" and name in ONCE:
                continue
            if how["condition"] != "service_healthy" or not other.get("healthcheck", {}).get("test"):
                yield f"{service}: waits for {name}, which has no health check"


def streams_end_before_containers(it: Deployment) -> Iterator[str]:
    gateway = it.environment("gateway")
    drain, deadline = int(gateway["STOKER_DRAIN_S"]), int(gateway["STOKER_REQUEST_DEADLINE_S"])
    grace = {name: seconds(form.get("stop_grace_period", 0)) for name, form in it.services.items()}
    door = seconds((re.search(r"grace_period (\S+)", it.text("deploy/compose/Caddyfile")) or [""])[0])
    if not deadline <= drain < grace["gateway"]:
        killed = f"is killed after {grace['gateway']:g} s"
        yield f"gateway: answers may take {deadline} s, it drains for {drain} s and {killed}"
    if not drain < door < grace["front"]:
        yield f"front: drains for {door:g} s, the gateway for {drain} s; it is killed after {grace['front']:g} s"
    for service in VLLM:
        shutdown = int(it.environment(service)["STOKER_VLLM_SHUTDOWN_TIMEOUT_S"])
        if shutdown >= grace[service]:
            yield f"{service}: drains for {shutdown} s and is killed after {grace[service]:g} s"


def bodies_are_refused_by_the_gateway(it: Deployment) -> Iterator[str]:
    found = re.search(r"max_size (\d+)MB", it.text("deploy/compose/Caddyfile"))
    if found is None or int(found[1]) * 1_000_000 <= ApiSettings.model_fields["max_body_bytes"].default:
        yield "deploy/compose/Caddyfile: max_size is not above STOKER_MAX_BODY_BYTES, so clients get a foreign error"


def clients_that_leave_are_noticed(it: Deployment) -> Iterator[str]:
    """Source: https://caddyserver.com/docs/caddyfile/directives/reverse_proxy, `flush_interval`."""
    if re.search(r"^\s*flush_interval", it.text("deploy/compose/Caddyfile"), re.MULTILINE):
        yield "deploy/compose/Caddyfile: flush_interval keeps the gateway from noticing that a client has left"


def logs_have_few_labels(it: Deployment) -> Iterator[str]:
    text = it.text("deploy/compose/alloy.config")
    kept = re.search(r"stage\.label_keep \{\s*values = (\[[^]]*\])", text)
    labelled = set(
        re.findall(r"(\w+) *= *\"", (re.search(r"stage\.labels \{\s*values = \{([^}]*)\}", text) or ["", ""])[1])
    )
    if kept is None or set(json.loads(kept[1])) != _OWN_LABELS or labelled != _OWN_LABELS:
        yield "deploy/compose/alloy.config: lines have other labels than service and level"


def the_model_is_named_alike(it: Deployment) -> Iterator[str]:
    config = loaded(it.text(it.example["STOKER_CONFIG_FILE"]))
    names = [entry["litellm_params"]["model"].removeprefix("hosted_vllm/") for entry in config["model_list"]]
    told = it.environment("vllm")["STOKER_VLLM_SERVED_MODEL_NAME"]
    if told not in names:
        yield f"deploy/compose/stoker.yaml has {names}, and vLLM serves {told}"


def workflows_are_pinned_and_bounded(it: Deployment) -> Iterator[str]:
    for file, workflow in it.workflows.items():
        if "permissions" not in workflow:
            yield f"{file}: has no permissions, so it has all"
        for name, job in workflow["jobs"].items():
            if "timeout-minutes" not in job and "uses" not in job:
                yield f"{file}: {name} has no timeout-minutes"
            for step in job.get("steps", []):
                used = step.get("uses", "")
                if used and not used.startswith("./") and not re.search(r"@(v\d+(\.\d+)*|[0-9a-f]{40})$", used):
                    yield f"{file}: {used} is not pinned"
                for script in re.findall(r"(?<![\w/])\.?/?((?:scripts|\.ci)/[\w.]+)", step.get("run", "")):
                    if not (it.root / script).exists():
                        yield f"{file}: runs {script}, which is not there"
                if re.search(r"\$\{\{ *github\.(event|head_ref)", step.get("run", "")):
                    yield f"{file}: puts a stranger's text into a shell"
    jobs = it.workflows.get("deploy.yml", {}).get("jobs", {})
    production = jobs.get("production", {})
    if production.get("environment", {}) == {} or "staging" not in str(production.get("needs")):
        yield "deploy.yml: production waits neither for staging nor for an approval"


RULES: tuple[Rule, ...] = (
    images_are_exact,
    dockerfiles_begin_with_these_images,
    dockerfiles_copy_what_is_there,
    dockerfiles_end_safely,
    variables_are_settings,
    commands_and_checks_exist,
    addresses_lead_somewhere,
    prometheus_scrapes_what_runs,
    mounts_exist,
    secrets_are_used_and_made,
    only_front_and_grafana_publish,
    networks_part_what_need_not_meet,
    containers_may_little,
    everything_is_bounded,
    dependencies_can_be_waited_for,
    streams_end_before_containers,
    bodies_are_refused_by_the_gateway,
    clients_that_leave_are_noticed,
    logs_have_few_labels,
    the_model_is_named_alike,
    workflows_are_pinned_and_bounded,
)


def _leads(it: Deployment, service: str, place: str, host: str, port: int) -> Iterator[str]:
    if host in ("localhost",):
        return
    others = [other for network in it.networks(service) for other in it.found(host, network)]
    if not others:
        yield f"{place}: {service} finds no {host} in its networks"
    for other in others:
        if port not in _PORTS[other]:
            yield f"{place}: {other} serves no port {port}"


def _is_ignored(path: str, lines: list[str]) -> bool:
    """As .dockerignore says: the last line that fits the path or a folder above it decides."""
    ignored = False
    parts = path.split("/")
    for line in lines:
        pattern = line.removeprefix("!")
        above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        if any(fnmatch.fnmatchcase(one, pattern) for one in above):
            ignored = not line.startswith("!")
    return ignored
