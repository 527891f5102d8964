"""Who must speak with whom, computed from code, settings and resources; and who may, by the NetworkPolicies.

An edge is (from, to, port). Nodes are workloads by their names, and what stands outside of the namespace: the stores as
their operators name and label them, DNS, the internet, Prometheus, what lets callers in, and somebody who has no
business here.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.support.cluster.code import SETTINGS, connects
from tests.support.cluster.objects import Cluster, Container, Workload, selects

Edge = tuple[str, str, int]
_NAMESPACE = "kubernetes.io/metadata.name"
_HERE = {"127.0.0.1", "localhost"}
_PORTS = {"https": 443, "http": 80, "redis": 6379, "postgresql+asyncpg": 5432}
_INGRESS = {"nginx": "ingress-nginx"}
_GATEWAYS = {"eg": "envoy-gateway-system"}
_DNS = 53
_STRANGE_PORT = 12345


@dataclass(frozen=True)
class Node:
    """Somebody who may speak, or listen.

    Attributes:
        namespace: of its pods; empty where it is none.
        labels: of its pods.
        address: of what is no pod.
    """

    name: str
    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    address: str = ""


OUTSIDE = (
    Node("dns", "kube-system", (("k8s-app", "kube-dns"),)),
    Node("another system pod", "kube-system", (("k8s-app", "other"),)),
    Node("monitoring", "monitoring"),
    Node("ingress-nginx", "ingress-nginx"),
    Node("envoy-gateway-system", "envoy-gateway-system"),
    Node("stranger", "elsewhere", (("app.kubernetes.io/name", "stoker-gateway"),)),
    # The operators' labels: CloudNativePG's, that of OT-CONTAINER-KIT, and Milvus's.
    Node("stoker-postgres-rw.stoker-data", "stoker-data", (("cnpg.io/cluster", "stoker-postgres"),)),
    Node("stoker-redis-master.stoker-data", "stoker-data", (("app", "stoker-redis"), ("role", "replication"))),
    Node("stoker-milvus.stoker-data", "stoker-data", (("app.kubernetes.io/instance", "stoker"),)),
    Node("internet", address="93.184.215.14"),
    Node("private network", address="10.1.2.3"),
    Node("the cloud's own service", address="169.254.169.254"),
)


def needed(cluster: Cluster) -> set[Edge]:
    """What code and resources make necessary."""
    return {*_out_of(cluster), *_into(cluster)}


def allowed(cluster: Cluster) -> tuple[set[Edge], set[Edge]]:
    """What may leave the pods of the namespace, and what may come in to them."""
    nodes = [*(_node(each) for each in cluster.workloads), *OUTSIDE]
    own = {each.name for each in cluster.workloads}
    ports = sorted({port for _, _, port in needed(cluster)} | set(_ports_of_policies(cluster)) | {_STRANGE_PORT})
    pairs = [(one, other, port) for one in nodes for other in nodes for port in ports if one is not other]
    leaving = {
        (one.name, other.name, port)
        for one, other, port in pairs
        if one.name in own and _passes(cluster, one, other, port, "Egress")
    }
    coming = {
        (one.name, other.name, port)
        for one, other, port in pairs
        if other.name in own and _passes(cluster, other, one, port, "Ingress")
    }
    return leaving, coming


def problems(cluster: Cluster) -> list[str]:
    """What must be and may not, and what may be and need not."""
    must = needed(cluster)
    own = {each.name for each in cluster.workloads}
    leaving, coming = allowed(cluster)
    out, into = {edge for edge in must if edge[0] in own}, {edge for edge in must if edge[1] in own}
    return [
        *(f"{one} must reach {other}:{port}, and may not leave" for one, other, port in sorted(out - leaving)),
        *(f"{one} must reach {other}:{port}, and is not let in" for one, other, port in sorted(into - coming)),
        *(f"{one} may leave for {other}:{port}, and need not" for one, other, port in sorted(leaving - out)),
        *(f"{one} is let in to {other}:{port}, and need not be" for one, other, port in sorted(coming - into)),
    ]


def _out_of(cluster: Cluster) -> Iterator[Edge]:
    for workload in cluster.workloads:
        found = {edge for each in workload.containers for edge in _of_container(cluster, workload, each)}
        yield from found
        if found:  # each names whom it wants
            yield (workload.name, "dns", _DNS)


def _of_container(cluster: Cluster, workload: Workload, container: Container) -> Iterator[Edge]:
    environment = cluster.environment(container)
    addresses = []
    if container.module in SETTINGS and container.module.partition(".")[0] != "inference":
        made = SETTINGS[container.module]
        for field in connects(container.module):
            value = environment.get(f"STOKER_{field.upper()}")
            if value is not None and field in made.model_fields:
                addresses.append(value)
    if container.module == "cli":
        addresses = [environment["STOKER_URL"]]
    if container.module == "api":
        addresses += [entry["litellm_params"].get("api_base", "https://") for entry in cluster.models["model_list"]]
    if container.module == "inference.models" and "pull" in container.command:
        addresses.append("https://")
    for address in addresses:
        yield from _edge(cluster, workload.name, address)


def _edge(cluster: Cluster, name: str, address: str) -> Iterator[Edge]:
    if address.startswith("folder:"):
        return
    if address.startswith("s3:"):
        address = "https://"
    parts = urlsplit(address)
    port = parts.port or _PORTS[parts.scheme]
    if parts.hostname is None:
        yield (name, "internet", port)
    elif parts.hostname not in _HERE:
        yield (name, resolve(cluster, parts.hostname, port), port)


def resolve(cluster: Cluster, host: str, port: int) -> str:
    """The node that a name of the namespace leads to at a port; what is wrong with it, where it leads nowhere."""
    pod, _, service = host.rpartition(".")
    if not cluster.has("Service", service or host):
        return f"nobody ({host})"
    found = cluster.get("Service", service)["spec"]
    if found.get("type") == "ExternalName":
        return str(found["externalName"].removesuffix(".svc.cluster.local"))
    ports = {each["port"]: each for each in found["ports"]}
    if port not in ports:
        return f"nobody ({host} has no port {port})"
    for workload in cluster.workloads:
        if selects({"matchLabels": found["selector"]}, workload.labels):
            names = {f"{workload.name}-{at}" for at in range(_most(cluster, workload))}
            return workload.name if not pod or pod in names else f"nobody ({host} is none of its pods)"
    return f"nobody ({host} selects no pod)"


def _most(cluster: Cluster, workload: Workload) -> int:
    """Of its replicas."""
    for scaler in cluster.of("ScaledObject"):
        if scaler["spec"]["scaleTargetRef"]["name"] == workload.name:
            return int(scaler["spec"]["maxReplicaCount"])
    return workload.replicas


def _into(cluster: Cluster) -> Iterator[Edge]:
    for ingress in cluster.of("Ingress"):
        source = _INGRESS[ingress["spec"]["ingressClassName"]]
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                yield from _let_in(cluster, source, path["backend"]["service"]["name"])
    for route in cluster.of("HTTPRoute"):
        parents = [cluster.get("Gateway", parent["name"]) for parent in route["spec"]["parentRefs"]]
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                for parent in parents:
                    yield from _let_in(cluster, _GATEWAYS[parent["spec"]["gatewayClassName"]], backend["name"])
    for monitor in cluster.of("PodMonitor"):
        for workload in cluster.workloads:
            if selects(monitor["spec"]["selector"], workload.labels):
                for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                    if endpoint["port"] in workload.ports:
                        yield ("monitoring", workload.name, workload.ports[endpoint["port"]])


def passes(cluster: Cluster, edge: Edge) -> bool:
    """Whether the store at an edge's end lets its beginning in, by the policies of its own namespace."""
    nodes = {node.name: node for node in (*(_node(each) for each in cluster.workloads), *OUTSIDE)}
    return _passes(cluster, nodes[edge[1]], nodes[edge[0]], edge[2], "Ingress")


def _let_in(cluster: Cluster, source: str, service: str) -> Iterator[Edge]:
    for port in cluster.get("Service", service)["spec"]["ports"]:
        yield (source, resolve(cluster, service, port["port"]), port["port"])


def _node(workload: Workload) -> Node:
    return Node(workload.name, workload.namespace, tuple(sorted(workload.labels.items())))


def _passes(cluster: Cluster, own: Node, other: Node, port: int, direction: str) -> bool:
    """Whether what `own` sends (Egress) or gets (Ingress) may pass; where no policy speaks, all may."""
    rules_key, peers_key = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    policies = [
        policy
        for policy in cluster.of("NetworkPolicy")
        if policy["metadata"]["namespace"] == own.namespace
        and direction in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], dict(own.labels))
    ]
    if not policies:
        return True
    return any(
        _fits_port(rule, port) and (peers_key not in rule or any(_fits(peer, own, other) for peer in rule[peers_key]))
        for policy in policies
        for rule in policy["spec"].get(rules_key, ())
    )


def _fits_port(rule: Mapping[str, Any], port: int) -> bool:
    protocol = "UDP" if port == _DNS else "TCP"
    ports = [(each["port"], each.get("protocol", "TCP")) for each in rule.get("ports", ())]
    return "ports" not in rule or (port, protocol) in ports


def _fits(peer: Mapping[str, Any], own: Node, other: Node) -> bool:
    if "ipBlock" in peer:
        if not other.address:  # a cluster's policies are not to be written by addresses of pods
            return False
        address = ipaddress.ip_address(other.address)
        block = peer["ipBlock"]
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(address in ipaddress.ip_network(left_out) for left_out in block.get("except", ()))
    if other.address:
        return False
    there = {_NAMESPACE: other.namespace}
    in_namespace = (
        selects(peer["namespaceSelector"], there) if "namespaceSelector" in peer else other.namespace == own.namespace
    )
    return in_namespace and selects(peer.get("podSelector", {}), dict(other.labels))


def _ports_of_policies(cluster: Cluster) -> Iterator[int]:
    for policy in cluster.of("NetworkPolicy"):
        for rule in (*policy["spec"].get("egress", ()), *policy["spec"].get("ingress", ())):
            yield from (int(port["port"]) for port in rule.get("ports", ()))
