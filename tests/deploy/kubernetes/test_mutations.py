"""Each kind of mistake in k8s/ is found by the check that is there for it."""

from collections.abc import Callable

import pytest
import yaml

from tests.support.cluster.checks import CHECKS
from tests.support.cluster.objects import Cluster, Object, overlay

Mistake = Callable[[Cluster], None]


def pod(cluster: Cluster, name: str) -> Object:
    return cluster.workload(name).pod


def container(cluster: Cluster, workload: str, name: str) -> Object:
    return cluster.workload(workload).container(name).spec


def policy(cluster: Cluster, name: str) -> Object:
    found = cluster.get("NetworkPolicy", name)["spec"]
    assert isinstance(found, dict)
    return found


def put_env(cluster: Cluster, workload: str, name: str, variable: str, value: str) -> None:
    env = container(cluster, workload, name)["env"]
    env[:] = [entry for entry in env if entry["name"] != variable] + [{"name": variable, "value": value}]


def settings(cluster: Cluster) -> dict[str, str]:
    name = container(cluster, "stoker-worker", "worker")["envFrom"][0]["configMapRef"]["name"]
    found = cluster.get("ConfigMap", name)["data"]
    assert isinstance(found, dict)
    return found


def drop(cluster: Cluster, kind: str, name: str) -> None:
    cluster.objects.remove(cluster.get(kind, name))


def models(cluster: Cluster, change: Callable[[Object], object]) -> None:
    said = cluster.models
    change(said)
    cluster.get("ConfigMap", "stoker-deployments")["data"]["stoker.yaml"] = yaml.safe_dump(said)


def set_to(found: Object, name: str, value: object) -> None:
    found[name] = value


_SPEC = "spec"
MISTAKES: dict[str, tuple[str, Mistake]] = {
    "a variable that no setting has": (
        "variables",
        lambda c: put_env(c, "stoker-gateway", "gateway", "STOKER_PROT", "1"),
    ),
    "a variable of another process": (
        "variables",
        lambda c: put_env(c, "stoker-worker", "worker", "STOKER_PUBLIC_URL", "https://a.example"),
    ),
    "a shared variable that nothing reads": ("variables", lambda c: set_to(settings(c), "STOKER_WORKER", "2")),
    "a value that is refused": ("variables", lambda c: set_to(settings(c), "STOKER_WORKERS", "many")),
    "an engine's flags that contradict": (
        "variables",
        lambda c: put_env(c, "stoker-vllm", "vllm", "STOKER_VLLM_MAX_MODEL_LEN", "3"),
    ),
    "a module that is not there": (
        "processes",
        lambda c: set_to(container(c, "stoker-worker", "worker"), "command", ["python", "-m", "retrieval.worked"]),
    ),
    "a port that nobody listens on": (
        "processes",
        lambda c: set_to(container(c, "stoker-gateway", "gateway")["ports"][0], "containerPort", 8000),
    ),
    "a process that listens to itself alone": (
        "processes",
        lambda c: put_env(c, "stoker-worker", "worker", "STOKER_METRICS_HOST", "127.0.0.1"),
    ),
    "a probe of a path that is not there": (
        "processes",
        lambda c: set_to(container(c, "stoker-gateway", "gateway")["readinessProbe"]["httpGet"], "path", "/healthz"),
    ),
    "a probe of a port that is not there": (
        "processes",
        lambda c: set_to(container(c, "stoker-embedding", "embedding")["livenessProbe"]["httpGet"], "port", "web"),
    ),
    "a probe that runs what is not there": (
        "processes",
        lambda c: set_to(
            container(c, "stoker-vllm", "vllm")["livenessProbe"]["exec"],
            "command",
            ["python", "-m", "inference.probes"],
        ),
    ),
    "an engine that is ready before its first token": (
        "processes",
        lambda c: set_to(
            container(c, "stoker-vllm", "vllm"), "startupProbe", {"httpGet": {"path": "/health", "port": "http"}}
        ),
    ),
    "a process without probes": (
        "processes",
        lambda c: container(c, "stoker-gateway", "keeper").pop("livenessProbe"),
    ),
    "a Service without pods": (
        "selectors",
        lambda c: set_to(c.get("Service", "stoker-gateway")[_SPEC]["selector"], "app.kubernetes.io/name", "gateway"),
    ),
    "a Service to a port without a name": (
        "selectors",
        lambda c: set_to(c.get("Service", "stoker-embedding")[_SPEC]["ports"][0], "targetPort", "web"),
    ),
    "a workload that selects others": (
        "selectors",
        lambda c: set_to(
            c.get("Deployment", "stoker-worker")[_SPEC],
            "selector",
            {"matchLabels": {"app.kubernetes.io/name": "worker"}},
        ),
    ),
    "pods without names": (
        "selectors",
        lambda c: set_to(c.get("StatefulSet", "stoker-vllm")[_SPEC], "serviceName", "vllm"),
    ),
    "pods that spread by others": (
        "selectors",
        lambda c: set_to(
            pod(c, "stoker-gateway")["topologySpreadConstraints"][0],
            "labelSelector",
            {"matchLabels": {"app.kubernetes.io/name": "stoker-worker"}},
        ),
    ),
    "a monitor of nothing": (
        "selectors",
        lambda c: set_to(
            c.get("PodMonitor", "stoker-worker")[_SPEC],
            "selector",
            {"matchLabels": {"app.kubernetes.io/name": "worker"}},
        ),
    ),
    "a monitor of a port that is not there": (
        "selectors",
        lambda c: set_to(c.get("PodMonitor", "stoker")[_SPEC]["podMetricsEndpoints"][0], "port", "metrics"),
    ),
    "no budget": ("budgets", lambda c: drop(c, "PodDisruptionBudget", "stoker-gateway")),
    "a budget that guards nothing": (
        "budgets",
        lambda c: set_to(
            c.get("PodDisruptionBudget", "stoker-vllm")[_SPEC], "selector", {"matchLabels": {"app": "vllm"}}
        ),
    ),
    "a budget that lets no node be drained": (
        "budgets",
        lambda c: set_to(c.get("PodDisruptionBudget", "stoker-worker")[_SPEC], "maxUnavailable", 0),
    ),
    "a ConfigMap that is not there": ("references", lambda c: drop(c, "ConfigMap", "stoker-deployments")),
    "a claim that is not there": ("references", lambda c: drop(c, "PersistentVolumeClaim", "stoker-models")),
    "a volume that is not there": (
        "references",
        lambda c: set_to(container(c, "stoker-worker", "worker")["volumeMounts"][0], "name", "files"),
    ),
    "an account that is not there": ("references", lambda c: drop(c, "ServiceAccount", "stoker-api")),
    "a secret without the key that is read": (
        "references",
        lambda c: set_to(c.get("ExternalSecret", "stoker-sql")[_SPEC]["data"][0], "secretKey", "pass"),
    ),
    "a pod that may run as root": (
        "security",
        lambda c: set_to(pod(c, "stoker-worker")["securityContext"], "runAsNonRoot", False),
    ),
    "a pod without a filter of calls": (
        "security",
        lambda c: pod(c, "stoker-vllm")["securityContext"].pop("seccompProfile"),
    ),
    "a pod with a token": (
        "security",
        lambda c: set_to(pod(c, "stoker-gateway"), "automountServiceAccountToken", True),
    ),
    "a pod in its host's network": ("security", lambda c: set_to(pod(c, "stoker-gateway"), "hostNetwork", True)),
    "a folder of the host": (
        "security",
        lambda c: pod(c, "stoker-vllm")["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
    ),
    "a container that may gain rights": (
        "security",
        lambda c: set_to(container(c, "stoker-gateway", "keeper")["securityContext"], "allowPrivilegeEscalation", True),
    ),
    "a container that keeps capabilities": (
        "security",
        lambda c: container(c, "stoker-vllm", "vllm")["securityContext"].pop("capabilities"),
    ),
    "a container that may write everywhere": (
        "security",
        lambda c: set_to(
            container(c, "stoker-embedding", "embedding")["securityContext"], "readOnlyRootFilesystem", False
        ),
    ),
    "a namespace that lets other pods in": (
        "security",
        lambda c: set_to(
            c.get("Namespace", "stoker")["metadata"]["labels"], "pod-security.kubernetes.io/enforce", "baseline"
        ),
    ),
    "no limit": ("resources", lambda c: container(c, "stoker-worker", "worker")["resources"]["limits"].pop("memory")),
    "a limit below the request": (
        "resources",
        lambda c: set_to(container(c, "stoker-worker", "worker")["resources"]["limits"], "memory", "512Mi"),
    ),
    "half a GPU": (
        "resources",
        lambda c: set_to(container(c, "stoker-vllm", "vllm")["resources"]["requests"], "nvidia.com/gpu", 0),
    ),
    "a GPU on any node": ("resources", lambda c: pod(c, "stoker-vllm").pop("affinity")),
    "a GPU on nodes that keep it away": ("resources", lambda c: pod(c, "stoker-vllm").pop("tolerations")),
    "an engine that is told of more GPUs than it gets": (
        "resources",
        lambda c: put_env(c, "stoker-vllm", "vllm", "STOKER_VLLM_TENSOR_PARALLEL_SIZE", "2"),
    ),
    "an image of any day": (
        "images",
        lambda c: set_to(container(c, "stoker-worker", "worker"), "image", "registry.example.com/stoker-api:latest"),
    ),
    "an image without a version": (
        "images",
        lambda c: set_to(container(c, "stoker-gateway", "keeper"), "image", "registry.example.com:5000/stoker-api"),
    ),
    "a pod that is killed while it drains": (
        "endings",
        lambda c: set_to(pod(c, "stoker-gateway"), "terminationGracePeriodSeconds", 600),
    ),
    "a gateway that cuts its longest stream": ("endings", lambda c: set_to(settings(c), "STOKER_DRAIN_S", "30")),
    "requests that are longer than the drain": (
        "endings",
        lambda c: set_to(settings(c), "STOKER_REQUEST_DEADLINE_S", "3600"),
    ),
    "an engine that aborts what it computes": (
        "endings",
        lambda c: put_env(c, "stoker-vllm", "vllm", "STOKER_VLLM_SHUTDOWN_TIMEOUT_S", "45"),
    ),
    "a pod that ends before callers know": (
        "endings",
        lambda c: container(c, "stoker-gateway", "gateway").pop("lifecycle"),
    ),
    "a keeper that ends with its gateway": (
        "endings",
        lambda c: container(c, "stoker-gateway", "keeper").pop("restartPolicy"),
    ),
    "a keeper that does not see the journal": (
        "endings",
        lambda c: put_env(c, "stoker-gateway", "keeper", "STOKER_DATA_DIR", "/tmp"),
    ),
    "a journal that goes with its pod": (
        "endings",
        lambda c: c.get("StatefulSet", "stoker-gateway")[_SPEC].pop("volumeClaimTemplates"),
    ),
    "a journal that goes when there are fewer pods": (
        "endings",
        lambda c: set_to(
            c.get("StatefulSet", "stoker-gateway")[_SPEC]["persistentVolumeClaimRetentionPolicy"],
            "whenScaled",
            "Delete",
        ),
    ),
    "counts that take the same names": (
        "endings",
        lambda c: pod(c, "stoker-gateway").pop("shareProcessNamespace"),
    ),
    "an autoscaler of nothing": (
        "scalers",
        lambda c: set_to(
            c.get("HorizontalPodAutoscaler", "stoker-gateway")[_SPEC]["scaleTargetRef"], "kind", "Deployment"
        ),
    ),
    "more gateways than they know of": ("scalers", lambda c: set_to(settings(c), "STOKER_HOSTS", "2")),
    "a number of pods that each apply restores": (
        "scalers",
        lambda c: set_to(c.get("StatefulSet", "stoker-vllm")[_SPEC], "replicas", 2),
    ),
    "an engine that nobody waits for": (
        "engines",
        lambda c: models(c, lambda said: said["model_list"][0]["model_info"].pop("wakes_in_s")),
    ),
    "an engine that no call brings back": (
        "engines",
        lambda c: models(c, lambda said: set_to(said["model_list"][0], "model_name", "talk")),
    ),
    "a replica that no call reaches": ("engines", lambda c: models(c, lambda said: said["model_list"].pop(1))),
    "a name that the engine does not serve": (
        "engines",
        lambda c: models(c, lambda said: set_to(said["model_list"][2]["litellm_params"], "model", "hosted_vllm/talk")),
    ),
    "two deployments of one engine": (
        "engines",
        lambda c: models(
            c,
            lambda said: set_to(
                said["model_list"][1]["litellm_params"], "api_base", said["model_list"][0]["litellm_params"]["api_base"]
            ),
        ),
    ),
    "a word that the router does not know": (
        "engines",
        lambda c: models(c, lambda said: set_to(said["router_settings"], "routing_strategy", "by luck")),
    ),
    "a model that nobody fetches": (
        "models",
        lambda c: c.get("Job", "stoker-models")["spec"]["template"]["spec"]["initContainers"].pop(0),
    ),
    "a model in another folder": (
        "models",
        lambda c: put_env(c, "stoker-embedding", "embedding", "STOKER_EMBEDDINGS_MODEL", "/srv/all-minilm-l6-v2"),
    ),
    "an Ingress that cuts long streams": (
        "ways in",
        lambda c: set_to(
            c.get("Ingress", "stoker")["metadata"]["annotations"],
            "nginx.ingress.kubernetes.io/proxy-read-timeout",
            "60",
        ),
    ),
    "an Ingress that holds streams back": (
        "ways in",
        lambda c: c.get("Ingress", "stoker")["metadata"]["annotations"].pop(
            "nginx.ingress.kubernetes.io/proxy-buffering"
        ),
    ),
    "an Ingress without TLS": ("ways in", lambda c: c.get("Ingress", "stoker")[_SPEC].pop("tls")),
    "no policy that denies": ("network", lambda c: drop(c, "NetworkPolicy", "deny-all")),
    "a way that is missing": ("network", lambda c: drop(c, "NetworkPolicy", "redis-out")),
    "a way that is open at one end": ("network", lambda c: drop(c, "NetworkPolicy", "vllm-in")),
    "names that nobody tells": ("network", lambda c: policy(c, "dns")["egress"][0]["ports"].pop(0)),
    "a port that nobody needs": (
        "network",
        lambda c: policy(c, "embedding-in")["ingress"][0]["ports"].append({"port": 22, "protocol": "TCP"}),
    ),
    "a peer that nobody needs": (
        "network",
        lambda c: policy(c, "vllm-in")["ingress"][0]["from"].append({"namespaceSelector": {}}),
    ),
    "a store that an engine may reach": (
        "network",
        lambda c: set_to(c.workload("stoker-vllm").template["metadata"]["labels"], "stoker.dev/sql", "client"),
    ),
    "a client that has lost its label": (
        "network",
        lambda c: c.workload("stoker-worker").template["metadata"]["labels"].pop("stoker.dev/milvus"),
    ),
    "the cloud's own service": (
        "network",
        lambda c: policy(c, "objects-out")["egress"][0]["to"][0]["ipBlock"].pop("except"),
    ),
    "an engine in the internet": (
        "network",
        lambda c: set_to(policy(c, "objects-out"), "podSelector", {}),
    ),
    "everybody's way in": ("network", lambda c: policy(c, "ingress-in")["ingress"][0].pop("from")),
    "an address that leads nowhere": (
        "network",
        lambda c: set_to(settings(c), "STOKER_EMBEDDING_URL", "http://stoker-embeddings:8081"),
    ),
    "an address with another port": (
        "network",
        lambda c: set_to(settings(c), "STOKER_EMBEDDING_URL", "http://stoker-embedding:8000"),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake: str) -> None:
    check, make = MISTAKES[mistake]
    cluster = overlay("production").copy()
    make(cluster)
    assert CHECKS[check](cluster) != []


def test_every_check_has_a_mistake_that_it_finds() -> None:
    assert {check for check, _ in MISTAKES.values()} == set(CHECKS)
