"""What must hold of each rendering. A check tells what is wrong, a line for each; nothing where all is well."""

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from inference.modelfiles import defaults
from inference.modelfiles.names import ModelName
from router.config import load
from router.deployment import Deadlines, LaneName
from router.errors import ConfigInvalid
from tests.support.cluster import edges
from tests.support.cluster.code import SETTINGS, exists, paths
from tests.support.cluster.objects import Cluster, Container, Workload, selects

Check = Callable[[Cluster], list[str]]
_MARGIN_S = 15
_OURS = ("STOKER_", "PROMETHEUS_")
_ELSEWHERE = {"PROMETHEUS_MULTIPROC_DIR"}  # of prometheus-client
_CLIENT = {"STOKER_URL", "STOKER_API_KEY"}  # of the command line's client
_PORT_OF = {
    "api": "STOKER_PORT",
    "api.keeper": "STOKER_METRICS_PORT",
    "retrieval.worker": "STOKER_METRICS_PORT",
    "inference.embeddings": "STOKER_EMBEDDINGS_PORT",
    "inference.vllm": "STOKER_VLLM_PORT",
}
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def variables(cluster: Cluster) -> list[str]:
    """Every variable is a setting of the process that gets it, and has a value that it takes."""
    return [line for workload, each in _containers(cluster) for line in _variables(cluster, workload, each)]


def _variables(cluster: Cluster, workload: Workload, container: Container) -> Iterator[str]:
    where = f"{workload.name}/{container.name}"
    if not container.module:
        return
    known = {_variable(made, name) for made in SETTINGS.values() for name in made.model_fields} | _ELSEWHERE | _CLIENT
    found = cluster.environment(container)
    for name in found:
        if name.startswith(_OURS) and name not in known:
            yield f"{where}: no setting is called {name}"
    made = SETTINGS.get(container.module)
    if made is None:
        return
    own = {_variable(made, name) for name in made.model_fields} | _ELSEWHERE | _CLIENT
    for entry in container.spec.get("env", ()):
        if entry["name"].startswith(_OURS) and entry["name"] not in own:
            yield f"{where}: {container.module} reads no {entry['name']}"
    prefix = str(made.model_config["env_prefix"])
    given = {name.removeprefix(prefix).lower(): value for name, value in found.items() if name in own - _CLIENT}
    try:
        made(**{name: value for name, value in given.items() if name in made.model_fields})
    except ValidationError as error:
        yield from (f"{where}: {one['loc']}: {one['msg']}" for one in error.errors())


def _variable(made: Any, name: str) -> str:
    return f"{made.model_config['env_prefix']}{name.upper()}"


def processes(cluster: Cluster) -> list[str]:
    """Commands run modules that are there; ports, probes and paths are those of the code."""
    return [line for workload, each in _containers(cluster) for line in _process(cluster, workload, each)]


def _process(cluster: Cluster, workload: Workload, container: Container) -> Iterator[str]:
    where = f"{workload.name}/{container.name}"
    if container.module and not exists(container.module):
        yield f"{where}: nothing runs as `python -m {container.module}`"
    if container.module in _PORT_OF:
        environment = cluster.environment(container)
        wanted = environment.get(_PORT_OF[container.module])
        host = environment.get(_PORT_OF[container.module].replace("PORT", "HOST"))
        if [wanted] != [str(port) for port in container.ports.values()]:
            yield f"{where}: it listens on {wanted}, and the pod shows {container.ports}"
        if host != "0.0.0.0":
            yield f"{where}: nobody outside of the pod reaches {host}"
        if "startupProbe" not in container.probes or "livenessProbe" not in container.probes:
            yield f"{where}: it has no probes"
    for kind, probe in container.probes.items():
        if "httpGet" in probe:
            if probe["httpGet"]["port"] not in container.ports:
                yield f"{where}: {kind} asks a port that is not there"
            if container.module and probe["httpGet"]["path"] not in paths(container.module):
                yield f"{where}: {kind} asks {probe['httpGet']['path']}, which nothing answers"
        elif not _runs(probe.get("exec", {}).get("command", [])):
            yield f"{where}: {kind} runs what is not there"
    if container.module == "inference.vllm":
        started = container.probes.get("startupProbe", {}).get("exec", {}).get("command", [])
        if started[-2:] != ["inference.probe", "started"]:
            yield f"{where}: it may be ready before it has answered a token"


def _runs(command: list[str]) -> bool:
    return "-m" not in command or exists(command[command.index("-m") + 1])


def selectors(cluster: Cluster) -> list[str]:
    """Who selects pods finds some: workloads their own, Services, monitors, spreads and budgets."""
    return list(_selectors(cluster))


def _selectors(cluster: Cluster) -> Iterator[str]:
    for workload in cluster.workloads:
        if workload.runs_on and not selects(workload.object["spec"]["selector"], workload.labels):
            yield f"{workload.name}: it does not select its own pods"
        for spread in workload.pod.get("topologySpreadConstraints", ()):
            if not selects(spread["labelSelector"], workload.labels):
                yield f"{workload.name}: it spreads by pods of others"
        if workload.kind == "StatefulSet" and not _is_headed(cluster, workload):
            yield f"{workload.name}: {workload.object['spec']['serviceName']} does not name its pods"
    for service in cluster.of("Service"):
        spec, name = service["spec"], service["metadata"]["name"]
        if spec.get("type") == "ExternalName":
            continue
        found = [each for each in cluster.workloads if selects({"matchLabels": spec["selector"]}, each.labels)]
        if len(found) != 1:
            yield f"Service {name}: {len(found)} workloads are behind it"
        for port in spec["ports"]:
            if any(port["targetPort"] not in each.ports for each in found):
                yield f"Service {name}: no port is called {port['targetPort']}"
            elif any(each.ports[port["targetPort"]] != port["port"] for each in found):
                yield f"Service {name}: its port is another than the pod's"
    for monitor in cluster.of("PodMonitor"):
        found = [each for each in cluster.workloads if selects(monitor["spec"]["selector"], each.labels)]
        ports = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
        if not found or any(not ports <= set(each.ports) for each in found):
            yield f"PodMonitor {monitor['metadata']['name']}: there is nothing to scrape"
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            for each in found:
                module = next((one.module for one in each.containers if endpoint["port"] in one.ports), "")
                if module and endpoint["path"] not in paths(module):
                    yield f"PodMonitor {monitor['metadata']['name']}: {module} has no {endpoint['path']}"


def _is_headed(cluster: Cluster, workload: Workload) -> bool:
    name = workload.object["spec"]["serviceName"]
    if not cluster.has("Service", name):
        return False
    return selects({"matchLabels": cluster.get("Service", name)["spec"].get("selector", {"": ""})}, workload.labels)


def budgets(cluster: Cluster) -> list[str]:
    """Each of ours that runs on has one budget, which lets a node be drained."""
    found = []
    for workload in cluster.workloads:
        of_it = [
            each for each in cluster.of("PodDisruptionBudget") if selects(each["spec"]["selector"], workload.labels)
        ]
        if workload.runs_on and workload.name.startswith("stoker-") and len(of_it) != 1:
            found.append(f"{workload.name}: {len(of_it)} budgets")
        found += [
            f"{workload.name}: nothing may be evicted" for each in of_it if each["spec"].get("maxUnavailable") == 0
        ]
    for each in cluster.of("PodDisruptionBudget"):
        if not any(selects(each["spec"]["selector"], workload.labels) for workload in cluster.workloads):
            found.append(f"PodDisruptionBudget {each['metadata']['name']}: it guards nothing")
    return found


def references(cluster: Cluster) -> list[str]:
    """What pods name is there: ConfigMaps, claims, accounts. `secrets_used` tells of secrets."""
    return list(_references(cluster))


def _references(cluster: Cluster) -> Iterator[str]:
    for workload in cluster.workloads:
        claims = {each["metadata"]["name"] for each in workload.object["spec"].get("volumeClaimTemplates", ())}
        volumes = {each["name"] for each in workload.pod.get("volumes", ())} | claims
        for container in workload.containers:
            for mount in container.spec.get("volumeMounts", ()):
                if mount["name"] not in volumes:
                    yield f"{workload.name}/{container.name}: no volume is called {mount['name']}"
            for source in container.spec.get("envFrom", ()):
                if not cluster.has("ConfigMap", source["configMapRef"]["name"]):
                    yield f"{workload.name}/{container.name}: no ConfigMap {source['configMapRef']['name']}"
        for volume in workload.pod.get("volumes", ()):
            if "configMap" in volume and not cluster.has("ConfigMap", volume["configMap"]["name"]):
                yield f"{workload.name}: no ConfigMap {volume['configMap']['name']}"
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim is not None and not cluster.has("PersistentVolumeClaim", claim):
                yield f"{workload.name}: no PersistentVolumeClaim {claim}"
        account = workload.pod.get("serviceAccountName")
        if account is not None and not cluster.has("ServiceAccount", account):
            yield f"{workload.name}: no ServiceAccount {account}"
    for external in cluster.of("ExternalSecret"):
        name = external["spec"]["target"]["name"]
        keys = {each["secretKey"] for each in external["spec"]["data"]}
        used = {key for secret, key, _ in secrets_used(cluster) if secret == name}
        if used - keys:
            yield f"ExternalSecret {name}: it has no {', '.join(sorted(used - keys))}"


def secrets_used(cluster: Cluster) -> set[tuple[str, str, bool]]:
    """Name and key of every secret that pods read, and whether it must be there."""
    found = set()
    for workload, container in _containers(cluster):
        for entry in container.spec.get("env", ()):
            if secret := entry.get("valueFrom", {}).get("secretKeyRef"):
                found.add((secret["name"], secret["key"], not secret.get("optional", False)))
        for volume in workload.pod.get("volumes", ()):
            if "secret" in volume and container.mounted("/run/secrets/stoker") == volume["name"]:
                file = cluster.environment(container)["STOKER_ADMIN_KEY_FILE"]
                found.add((volume["secret"]["secretName"], Path(file).name, True))
    return found


def security(cluster: Cluster) -> list[str]:
    """Every pod is restricted, gets no token of the API, and cannot write where it need not."""
    found = []
    for workload in cluster.workloads:
        own = workload.pod.get("securityContext", {})
        if own.get("runAsNonRoot") is not True or not own.get("runAsUser"):
            found.append(f"{workload.name}: it may run as root")
        if own.get("seccompProfile") != {"type": "RuntimeDefault"}:
            found.append(f"{workload.name}: its calls of the kernel are not filtered")
        if workload.pod.get("automountServiceAccountToken") is not False:
            found.append(f"{workload.name}: it gets a token of the API")
        if any(workload.pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
            found.append(f"{workload.name}: it is in its host's namespaces")
        found += [
            f"{workload.name}: it mounts a folder of its host"
            for volume in workload.pod.get("volumes", ())
            if "hostPath" in volume
        ]
        for container in workload.containers:
            if container.spec.get("securityContext") != _RESTRICTED:
                found.append(f"{workload.name}/{container.name}: it is not restricted")
    for namespace in cluster.of("Namespace"):
        if namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            found.append("the namespace lets other pods in")
    return found


def resources(cluster: Cluster) -> list[str]:
    """Every container says what it needs and what it may take; GPUs are asked for as they are limited."""
    found = []
    for workload, container in _containers(cluster):
        where = f"{workload.name}/{container.name}"
        said = container.spec.get("resources", {})
        requests, limits = said.get("requests", {}), said.get("limits", {})
        if not {"cpu", "memory"} <= requests.keys() or not {"cpu", "memory"} <= limits.keys():
            found.append(f"{where}: it does not say what it needs")
            continue
        found += [f"{where}: {name} is limited below what it needs" for name in requests
                  if _amount(limits.get(name, 0)) < _amount(requests[name])]  # fmt: skip
        gpus = {name: amount for name, amount in limits.items() if "/" in name}
        if gpus != {name: amount for name, amount in requests.items() if "/" in name}:
            found.append(f"{where}: GPUs can't be shared")
        if gpus and not _is_placed(workload):
            found.append(f"{where}: it wants GPUs, and its pool is not named or keeps it away")
        engine = cluster.environment(container)
        ways = int(engine.get("STOKER_VLLM_TENSOR_PARALLEL_SIZE", 1))
        on_gpus = container.module == "inference.vllm" and engine.get("STOKER_VLLM_ENGINE") == "vllm"
        if on_gpus and sum(int(amount) for amount in gpus.values()) != ways:
            found.append(f"{where}: it is told of {ways} GPUs and gets {gpus}")
    return found


def _is_placed(workload: Workload) -> bool:
    tolerated = any(each["key"] == "nvidia.com/gpu" for each in workload.pod.get("tolerations", ()))
    return tolerated and "requiredDuringSchedulingIgnoredDuringExecution" in str(workload.pod.get("affinity", {}))


def _amount(said: object) -> float:
    text = str(said)
    for unit, factor in (("m", 0.001), ("Mi", 2**20), ("Gi", 2**30)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text)


def images(cluster: Cluster) -> list[str]:
    """Each image has a tag that stays what it is."""
    found = []
    for workload, container in _containers(cluster):
        name, colon, tag = str(container.spec["image"]).rpartition("/")[2].partition(":")
        if not colon or tag in ("", "latest"):
            found.append(f"{workload.name}/{container.name}: {name} has no version")
    return found


def endings(cluster: Cluster) -> list[str]:
    """Whoever ends gets more time than its longest request; a keeper ends after its gateway, whose journal it sees."""
    found = []
    for workload, container in _containers(cluster):
        environment, grace_s = cluster.environment(container), workload.pod.get("terminationGracePeriodSeconds", 30)
        waits_s = container.spec.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        drains = {
            "api": ("STOKER_DRAIN_S", float(environment.get("STOKER_REQUEST_DEADLINE_S", math.inf))),
            "inference.vllm": ("STOKER_VLLM_SHUTDOWN_TIMEOUT_S", Deadlines().total_s),
            "inference.embeddings": ("STOKER_EMBEDDINGS_DRAIN_S", 0.0),
        }
        if container.module not in drains:
            continue
        name, longest_s = drains[container.module]
        drain_s = float(environment.get(name, 0))
        if drain_s < longest_s:
            found.append(f"{workload.name}: {name} is shorter than a request of {longest_s:.0f} s")
        if waits_s < 5:
            found.append(f"{workload.name}: callers come when it has ended")
        if grace_s < waits_s + drain_s + _MARGIN_S:
            found.append(f"{workload.name}: it is killed after {grace_s} s, and drains for {waits_s} + {drain_s:.0f} s")
    return [*found, *_keeper(cluster)]


def _keeper(cluster: Cluster) -> Iterator[str]:
    gateway = cluster.workload("stoker-gateway")
    keepers = [each for each in gateway.containers if each.module == "api.keeper"]
    if [(each.first, each.spec.get("restartPolicy")) for each in keepers] != [(True, "Always")]:
        yield "stoker-gateway: its keeper is no sidecar that ends after it"
        return
    own, keeper = gateway.container("gateway"), keepers[0]
    folder = cluster.environment(own)["STOKER_DATA_DIR"]
    if own.mounted(folder) is None or own.mounted(folder) != keeper.mounted(
        cluster.environment(keeper)["STOKER_DATA_DIR"]
    ):
        yield "stoker-gateway: its keeper does not see its journal"
    claims = {each["metadata"]["name"] for each in gateway.object["spec"].get("volumeClaimTemplates", ())}
    if gateway.kind != "StatefulSet" or own.mounted(folder) not in claims:
        yield "stoker-gateway: the journal goes with its pod"
    kept = gateway.object["spec"].get("persistentVolumeClaimRetentionPolicy", {})
    if set(kept.values()) - {"Retain"}:
        yield "stoker-gateway: the journal goes with its pod"
    counts = [cluster.environment(each).get("PROMETHEUS_MULTIPROC_DIR", "") for each in (own, keeper)]
    if own.mounted(counts[0]) is None or own.mounted(counts[0]) != keeper.mounted(counts[1]):
        yield "stoker-gateway: its workers and its keeper do not count in one place"
    if gateway.pod.get("shareProcessNamespace") is not True:
        yield "stoker-gateway: containers that share a folder of counts must share their process ids"


def scalers(cluster: Cluster) -> list[str]:
    """Autoscalers scale what is there, and those who must know of the most replicas do."""
    found = []
    hosts = int(cluster.environment(cluster.workload("stoker-gateway").container("gateway"))["STOKER_HOSTS"])
    most = cluster.workload("stoker-gateway").replicas
    for scaler in cluster.of("HorizontalPodAutoscaler", "ScaledObject"):
        spec, name = scaler["spec"], scaler["metadata"]["name"]
        target = spec["scaleTargetRef"]
        if not cluster.has(target["kind"], target["name"]):
            found.append(f"{name}: there is no {target['kind']} {target['name']}")
            continue
        if "replicas" in cluster.get(target["kind"], target["name"])["spec"]:
            found.append(f"{name}: {target['name']} says how many it is, and each apply would undo the autoscaler")
        if target["name"] == "stoker-gateway":
            most = int(spec["maxReplicas"])
    if hosts != most:
        found.append(f"STOKER_HOSTS is {hosts}, and there may be {most} gateways")
    return found


def engines(cluster: Cluster) -> list[str]:
    """The configuration of models is one that the gateway takes, and each replica is a deployment of it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stoker.yaml"
        file.write_text(yaml.safe_dump(cluster.models))
        try:
            config = load(file)
        except ConfigInvalid as error:
            return [str(error)]
    found = [f"stoker.yaml: {key} has no effect" for key in config.unsupported]
    native = [each for each in config.deployments if each.lane is LaneName.NATIVE]
    bases = [each.api_base for each in native]
    for workload in cluster.workloads:
        container = next((each for each in workload.containers if each.module == "inference.vllm"), None)
        if container is None:
            continue
        environment = cluster.environment(container)
        scaler = next((each for each in cluster.of("ScaledObject") if _scales(each, workload)), None)
        most = int(scaler["spec"]["maxReplicaCount"]) if scaler else workload.replicas
        service, port = workload.object["spec"]["serviceName"], workload.ports["http"]
        wanted = {f"{workload.name}-{at}": f"http://{workload.name}-{at}.{service}:{port}/v1" for at in range(most)}
        there = {each.name: each for each in native if (each.api_base or "").startswith(f"http://{workload.name}-")}
        if {name: each.api_base for name, each in there.items()} != wanted:
            found.append(f"{workload.name}: it has {most} replicas, and stoker.yaml names {sorted(there)}")
        for each in there.values():
            if each.model != environment["STOKER_VLLM_SERVED_MODEL_NAME"]:
                found.append(f"{each.name}: the engine serves no {each.model}")
            if scaler and scaler["spec"]["minReplicaCount"] == 0 and each.wakes_in_s is None:
                found.append(f"{each.name}: it may be scaled to zero, and nobody waits for it")
            if scaler and f'model_group="{each.group}"' not in _queries(scaler):
                found.append(f"{each.name}: a call of {each.group} does not bring it back")
    if len(bases) != len(set(bases)):
        found.append("stoker.yaml: two deployments are one engine")
    return found


def _scales(scaler: dict[str, Any], workload: Workload) -> bool:
    return bool(scaler["spec"]["scaleTargetRef"]["name"] == workload.name)


def _queries(scaler: dict[str, Any]) -> str:
    return " ".join(trigger["metadata"]["query"] for trigger in scaler["spec"]["triggers"])


def models(cluster: Cluster) -> list[str]:
    """What engines load is in the folder that they see, put there by the Job."""
    made = {name for _, container in _containers(cluster) for name in _fetched(container)}
    found = []
    for workload, container in _containers(cluster):
        environment = cluster.environment(container)
        model = environment.get("STOKER_VLLM_MODEL") or environment.get("STOKER_EMBEDDINGS_MODEL")
        if model is None:
            continue
        folder, _, name = model.rpartition("/")
        if name not in made:
            found.append(f"{workload.name}: nothing puts {name} into the volume of models")
        if container.mounted(folder) != "models":
            found.append(f"{workload.name}: {folder} is not the volume of models")
    return found


def _fetched(container: Container) -> Iterator[str]:
    """Folders that a command of `inference.models` makes."""
    if container.module != "inference.models":
        return
    verb, *words = container.command[container.command.index("inference.models") + 1 :]
    if verb == "pull":
        yield ModelName.parse(words[-1]).folder
    if verb == "prepare" and words[-1] == defaults.Kind.LLM:
        yield defaults.LLM_NAME
    if verb == "export":  # and another one imports it
        yield from (word for word in words if word in defaults.NAMES)


def ways_in(cluster: Cluster) -> list[str]:
    """Ingress and Gateway wait for as long as a request may take, hold nothing back, and speak TLS."""
    found = []
    container = cluster.workload("stoker-gateway").container("gateway")
    longest_s = float(cluster.environment(container)["STOKER_REQUEST_DEADLINE_S"])
    for ingress in cluster.of("Ingress"):
        said = {name.rpartition("/")[2]: value for name, value in ingress["metadata"]["annotations"].items()}
        found += [
            f"Ingress: {name} is shorter than a request may take"
            for name in ("proxy-read-timeout", "proxy-send-timeout")
            if float(said.get(name, 0)) < longest_s
        ]
        if said.get("proxy-buffering") != "off":
            found.append("Ingress: streams are held back")
        hosts = {host for each in ingress["spec"].get("tls", ()) for host in each["hosts"]}
        if not {rule["host"] for rule in ingress["spec"]["rules"]} <= hosts:
            found.append("Ingress: a host has no TLS")
    for route in cluster.of("HTTPRoute"):
        waits = [rule.get("timeouts", {}).get("request", "0s") for rule in route["spec"]["rules"]]
        if any(float(said.removesuffix("s")) < longest_s for said in waits):
            found.append("HTTPRoute: its timeout is shorter than a request may take")
    return found


def _containers(cluster: Cluster) -> Iterator[tuple[Workload, Container]]:
    return ((workload, container) for workload in cluster.workloads for container in workload.containers)


CHECKS: dict[str, Check] = {
    "variables": variables,
    "processes": processes,
    "selectors": selectors,
    "budgets": budgets,
    "references": references,
    "security": security,
    "resources": resources,
    "images": images,
    "endings": endings,
    "scalers": scalers,
    "engines": engines,
    "models": models,
    "ways in": ways_in,
    "network": edges.problems,
}
