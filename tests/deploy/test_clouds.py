"""Terraform's example, Cloud Run's and Fly's files, and what the pages show: read, and held against the code."""

import os
import re
import signal
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml
from pydantic_settings import BaseSettings

from api.settings import ApiSettings
from router.config import load
from router.deployment import LaneName
from tests.support.cluster.code import paths
from tests.support.cluster.objects import overlay
from tests.support.process import ROOT
from tests.support.waiting import until

_TERRAFORM = ROOT / "deploy" / "terraform" / "aws"
_SERVERLESS = ROOT / "deploy" / "serverless"
_PAGES = ROOT / "docs" / "deploy"
_NAMED = re.compile(r"\b(data\.)?((?:aws|random)_\w+)\.(\w+)")
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)

Block = dict[str, Any]


def terraform() -> list[Block]:
    return [hcl2.loads(file.read_text()) for file in sorted(_TERRAFORM.glob("*.tf"))]


def blocks(kind: str) -> Iterator[tuple[str, str, Block]]:
    """Type, name and body of all resources, or of all data."""
    for file in terraform():
        for each in file.get(kind, ()):
            for type_, named in each.items():
                for name, body in named.items():
                    yield type_.strip('"'), name.strip('"'), body


def body_of(type_: str, name: str) -> Block:
    return next(body for found, called, body in blocks("resource") if (found, called) == (type_, name))


def plain(value: object) -> str:
    return str(value).strip('"')


def shown(page: str, language: str) -> list[str]:
    """What a page shows in a language."""
    return [text for found, text in _FENCE.findall((_PAGES / page).read_text()) if found == language]


def test_terraform_names_nothing_that_is_not_there() -> None:
    there = {
        f"{kind}{type_}.{name}" for kind in ("", "data.") for type_, name, _ in blocks("data" if kind else "resource")
    }
    variables = {plain(name) for file in terraform() for each in file.get("variable", ()) for name in each}
    text = "\n".join(file.read_text() for file in _TERRAFORM.glob("*.tf"))
    text = re.sub(r'^(resource|data) "(\w+)" "(\w+)"', "", text, flags=re.MULTILINE)
    assert {f"{said[0]}{said[1]}.{said[2]}" for said in _NAMED.findall(text)} <= there
    used = set(re.findall(r"\bvar\.(\w+)", text))
    assert used == variables
    assert len(there) > 20


def test_terraforms_gpu_nodes_are_those_that_engines_look_for() -> None:
    pool = body_of("aws_eks_node_group", "gpu")
    labels = {plain(name): plain(value) for name, value in pool["labels"].items()}
    spec = overlay("production").workload("stoker-vllm").pod
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert all(labels.get(each["key"]) in each["values"] for each in term["matchExpressions"])
    assert {plain(taint["key"]) for taint in pool["taint"]} == {each["key"] for each in spec["tolerations"]}


def test_terraforms_secrets_are_those_that_the_cluster_asks_for() -> None:
    asked = {
        each["remoteRef"]["key"]
        for found in overlay("production").of("ExternalSecret")
        for each in found["spec"]["data"]
    }
    locals_ = next(file["locals"][0] for file in terraform() if "locals" in file)
    made = {f"stoker/{name}" for name in re.findall(r'"(\w+)"', str(locals_["secrets"]))}
    assert made <= asked
    assert asked - made == {"stoker/hub", "stoker/backup"}, "these are yours to make"


def test_terraforms_account_is_the_gateways() -> None:
    association = body_of("aws_eks_pod_identity_association", "api")
    cluster = overlay("production")
    assert cluster.has("ServiceAccount", plain(association["service_account"]))
    assert cluster.has("Namespace", plain(association["namespace"]))


def test_terraform_keeps_data_from_the_internet() -> None:
    assert all(body_of("aws_s3_bucket_public_access_block", "bucket")[name] is True for name in (
        "block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"
    ))  # fmt: skip
    assert body_of("aws_db_instance", "sql")["storage_encrypted"] is True
    assert body_of("aws_db_instance", "sql")["deletion_protection"] is True
    assert "0.0.0.0/0" not in "".join(str(body) for _, _, body in blocks("resource"))


def known(environment: Mapping[str, str], made: type[BaseSettings] = ApiSettings) -> None:
    """All are settings, with values that they take."""
    fields = {name.removeprefix("STOKER_").lower(): value for name, value in environment.items()}
    assert set(fields) <= set(made.model_fields)
    made(**fields)


def variables_of(container: Mapping[str, Any]) -> dict[str, str]:
    secret = {entry["name"]: "redis://secret" for entry in container["env"] if "valueFrom" in entry}
    return secret | {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def test_cloud_runs_file_fits_the_code() -> None:
    service = yaml.safe_load((_SERVERLESS / "service.yaml").read_text())
    template = service["spec"]["template"]
    gateway, keeper = template["spec"]["containers"]
    for container, module in ((gateway, "api"), (keeper, "api.keeper")):
        known(variables_of(container))
        assert container["command"] == ["python", "-m", module]
        assert re.search(r":\d+\.\d+\.\d+$", container["image"])
        for probe in ("startupProbe", "livenessProbe"):
            if probe in container:
                assert container[probe]["httpGet"]["path"] in paths(module)
    own, kept = variables_of(gateway), variables_of(keeper)
    assert gateway["ports"][0]["containerPort"] == ApiSettings().port
    assert keeper["startupProbe"]["httpGet"]["port"] == int(kept["STOKER_METRICS_PORT"])
    folders = [{each["mountPath"]: each["name"] for each in one["volumeMounts"]} for one in (gateway, keeper)]
    assert folders[0][own["STOKER_DATA_DIR"]] == folders[1][kept["STOKER_DATA_DIR"]] == "data"
    for name in ("STOKER_CONFIG", "STOKER_ADMIN_KEY_FILE"):
        volume = folders[0][str(Path(own[name]).parent)]
        (found,) = [each for each in template["spec"]["volumes"] if each["name"] == volume]
        assert found["secret"]["items"][0]["path"] == Path(own[name]).name
    most = template["metadata"]["annotations"]["autoscaling.knative.dev/maxScale"]
    assert own["STOKER_HOSTS"] == kept["STOKER_HOSTS"] == most
    assert template["spec"]["timeoutSeconds"] >= ApiSettings().request_deadline_s
    assert float(own["STOKER_DRAIN_S"]) < 10, "an instance has 10 s to end"


def fly() -> dict[str, Any]:
    return tomllib.loads((_SERVERLESS / "fly.toml").read_text())


def test_flys_file_fits_the_code() -> None:
    said = fly()
    known(said["env"])
    assert said["http_service"]["internal_port"] == int(said["env"]["STOKER_PORT"])
    assert {check["path"] for check in said["http_service"]["checks"]} <= paths("api")
    assert float(said["env"]["STOKER_DRAIN_S"]) < float(said["kill_timeout"].removesuffix("s"))
    assert said["mounts"][0]["destination"] == said["env"]["STOKER_DATA_DIR"]
    written = {file["guest_path"] for file in said["files"]}
    assert {said["env"]["STOKER_CONFIG"], said["env"]["STOKER_ADMIN_KEY_FILE"]} <= written
    assert int(said["env"]["STOKER_HOSTS"]) >= said["http_service"]["min_machines_running"]
    assert re.search(r":\d+\.\d+\.\d+$", said["build"]["image"])


def test_on_fly_the_keeper_ends_after_the_gateway(tmp_path: Path) -> None:
    """The command of the file, with a Python that tells what it was started as and takes its time to end."""
    log, double = tmp_path / "log", tmp_path / "bin" / "python"
    double.parent.mkdir()
    double.write_text(
        f'#!/bin/sh\ntrap \'sleep 0.3; echo "$2 ended" >> {log}; exit 3\' TERM\necho "$2 began" >> {log}\n'
        "while :; do sleep 0.05; done\n"
    )
    double.chmod(0o755)
    (command,) = fly()["processes"].values()
    environment = {**os.environ, "PATH": f"{double.parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(["sh", "-c", f"exec {command}"], env=environment, start_new_session=True)
    try:
        until(lambda: log.exists() and log.read_text().count("began") == 2, "both have begun")
        process.send_signal(signal.SIGTERM)  # to the first process alone, as an init does
        assert process.wait(20) == 3, "the gateway's own status"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert [line for line in log.read_text().splitlines() if "ended" in line] == ["api ended", "api.keeper ended"]


def test_sagemaker_as_the_page_shows_it_is_a_deployment(tmp_path: Path) -> None:
    (text,) = [text for text in shown("aws.md", "yaml") if "model_list" in text]
    (file := tmp_path / "stoker.yaml").write_text(text)
    config = load(file)
    (found,) = config.deployments
    assert (found.lane, found.hosted, found.region) == (LaneName.LITELLM, True, "eu-central-1")
    assert (dict(config.disabled), list(config.unsupported)) == ({}, [])


def test_the_canary_that_the_page_shows_is_an_experiment(tmp_path: Path) -> None:
    (text,) = [text for text in shown("kubernetes.md", "yaml") if "experiments" in text]
    base = "http://stoker-vllm-0.stoker-vllm:8000/v1"
    entries = [
        {"model_name": name, "litellm_params": {"model": f"hosted_vllm/{name}", "api_base": base}}
        for name in ("chat", "chat-next")
    ]
    (file := tmp_path / "stoker.yaml").write_text(yaml.safe_dump({"model_list": entries}) + text)
    (experiment,) = load(file).experiments
    assert (experiment.group, experiment.to, experiment.percent) == ("chat", "chat-next", 5)


@pytest.mark.parametrize("page", [page.name for page in sorted(_PAGES.glob("*.md"))])
def test_what_pages_show_of_terraform_and_yaml_can_be_read(page: str) -> None:
    for text in shown(page, "hcl"):
        assert hcl2.load(StringIO(text))
    for text in shown(page, "yaml"):
        assert yaml.safe_load(text)


def test_every_path_that_the_pages_name_exists() -> None:
    ignored = (ROOT / ".gitignore").read_text().split()
    for page in _PAGES.glob("*.md"):
        for name in re.findall(r"`((?:k8s|deploy)/[A-Za-z0-9_./-]+)`", page.read_text()):
            made = any(f"{name}/".startswith(folder) for folder in ignored)  # by a script, where somebody deploys
            assert made or (ROOT / name).exists(), f"{page.name} names {name}"
