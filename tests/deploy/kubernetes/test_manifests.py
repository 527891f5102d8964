"""Each overlay of k8s/ renders, and what it renders to fits the code: variables, ports, probes, policies, endings."""

import re

import kubernetes_validate
import pytest
import yaml

from tests.support.cluster import edges
from tests.support.cluster.checks import CHECKS, secrets_used
from tests.support.cluster.objects import FOLDER, OVERLAYS, Cluster, overlay, rendered, selects
from tests.support.process import ROOT

_KUBERNETES = "1.32"
_PAGE = ROOT / "docs" / "deploy" / "kubernetes.md"
_ALL = [*(f"overlays/{name}" for name in OVERLAYS), "stores"]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_fits_the_code(name: str, check: str) -> None:
    assert CHECKS[check](overlay(name)) == []


def test_the_gateway_api_leads_in_as_an_ingress_does() -> None:
    cluster = Cluster([*overlay("cpu-dev").objects, *_of("components/gateway-api/gateway.yaml")])
    assert "may not" not in " ".join(CHECKS["ways in"](cluster))
    assert any("envoy-gateway-system must reach stoker-gateway:8080" in line for line in edges.problems(cluster))
    cluster = Cluster([*cluster.objects, *_of("components/gateway-api/network.yaml")])
    assert CHECKS["ways in"](cluster) == edges.problems(cluster) == []


def _of(file: str) -> list[dict[str, object]]:
    found = list(yaml.safe_load_all((FOLDER / file).read_text()))
    for each in found:
        each["metadata"]["namespace"] = "stoker"
    return found


def test_hosted_providers_are_reached_where_their_component_says_so() -> None:
    hosted = {"model_name": "big", "litellm_params": {"model": "openai/gpt-4o-mini"}}
    cluster = overlay("cpu-dev").copy()
    models = {"model_list": [*cluster.models["model_list"], hosted]}
    cluster.get("ConfigMap", "stoker-deployments")["data"]["stoker.yaml"] = yaml.safe_dump(models)
    assert edges.problems(cluster) == ["stoker-gateway must reach internet:443, and may not leave"]
    assert edges.problems(Cluster([*cluster.objects, *_of("components/hosted/network.yaml")])) == []


def test_the_stores_let_in_who_needs_them_and_nobody_else() -> None:
    both = Cluster([*overlay("production").objects, *rendered(FOLDER / "stores").objects])
    wanted = {edge for edge in edges.needed(overlay("production")) if edge[1].endswith(".stoker-data")}
    assert len({edge[1] for edge in wanted}) == 3
    for one, other, port in wanted:
        assert edges.passes(both, (one, other, port)), f"{one} is not let in to {other}"
        assert not edges.passes(both, (one, other, port + 1))
        for stranger in ("stranger", "stoker-vllm", "stoker-embedding", "ingress-nginx", "internet"):
            assert not edges.passes(both, (stranger, other, port)), f"{stranger} is let in to {other}"


def test_services_and_secrets_of_the_stores_are_those_that_the_gateway_names() -> None:
    """A store's operator makes a Service of this name."""
    stores = rendered(FOLDER / "stores")
    made = {
        f"{stores.get('Cluster', 'stoker-postgres')['metadata']['name']}-rw",
        f"{stores.get('RedisReplication', 'stoker-redis')['metadata']['name']}-master",
        f"{stores.get('Milvus', 'stoker')['metadata']['name']}-milvus",
    }
    named = {
        each["spec"]["externalName"] for each in overlay("production").of("Service") if "externalName" in each["spec"]
    }
    assert named == {f"{name}.stoker-data.svc.cluster.local" for name in made}
    secrets = {each["spec"]["target"]["name"] for each in stores.of("ExternalSecret")}
    assert {stores.get("Cluster", "stoker-postgres")["spec"]["bootstrap"]["initdb"]["secret"]["name"]} <= secrets


def test_the_page_names_every_secret_that_pods_read() -> None:
    told = {
        (name, key) for name, key in re.findall(r"^\| `([a-z-]+)` \| `([a-z.]+)` \|", _PAGE.read_text(), re.MULTILINE)
    }
    used = {(name, key) for each in OVERLAYS for name, key, _ in secrets_used(overlay(each))}
    assert told == used


def test_secrets_of_production_come_from_the_clouds_own_store() -> None:
    cluster = overlay("production")
    made = {each["spec"]["target"]["name"] for each in cluster.of("ExternalSecret")}
    assert {name for name, _, _ in secrets_used(cluster)} == made
    assert not list(cluster.of("Secret")), "no secret stands in the repository"


def test_gateways_are_scaled_as_the_contract_says() -> None:
    spec = overlay("production").get("HorizontalPodAutoscaler", "stoker-gateway")["spec"]
    bounds = {each["resource"]["name"]: each["resource"]["target"]["averageUtilization"] for each in spec["metrics"]}
    assert (spec["minReplicas"], spec["maxReplicas"], bounds) == (2, 10, {"cpu": 70, "memory": 80})


def test_a_large_model_may_take_an_hour_to_load() -> None:
    for workload in overlay("gpu-mig").workloads:
        for container in workload.containers:
            if container.module == "inference.vllm":
                probe = container.probes["startupProbe"]
                assert probe["periodSeconds"] * probe["failureThreshold"] >= 3600


def test_rendered_objects_fit_kubernetes_own_schemas_and_those_without_one_are_listed() -> None:
    unvalidated, count = set(), 0
    for folder in _ALL:
        for each in rendered(FOLDER / folder).objects:
            try:
                kubernetes_validate.validate(each, _KUBERNETES, strict=True)
                count += 1
            except kubernetes_validate.SchemaNotFoundError:
                unvalidated.add(f"{each['apiVersion']} {each['kind']} {each['metadata']['name']}")
    for each in _of("components/gateway-api/gateway.yaml"):
        unvalidated.add(f"{each['apiVersion']} {each['kind']} {each['metadata']['name']}")
    listed = [line for line in (FOLDER / "unvalidated.txt").read_text().splitlines() if not line.startswith("#")]
    assert sorted(unvalidated) == listed
    assert count > 100


def test_no_selector_of_a_policy_selects_nothing() -> None:
    for name in OVERLAYS:
        cluster = overlay(name)
        for policy in cluster.of("NetworkPolicy"):
            selector = policy["spec"]["podSelector"]
            assert any(selects(selector, each.labels) for each in cluster.workloads), policy["metadata"]["name"]
