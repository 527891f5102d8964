"""The configuration: LiteLLM's form in, deployments out, complaints with file and line."""

from pathlib import Path

import pytest

from router.config import load
from router.deployment import LaneName
from router.errors import ConfigInvalid
from router.health import HealthPolicy

ROOT = Path(__file__).resolve().parents[3]
LOCAL = {
    "model_name": "tiny",
    "litellm_params": {"model": "hosted_vllm/tiny", "api_base": "http://127.0.0.1:9/v1"},
    "model_info": {"mode": "chat"},
}


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "stoker.yaml"
    path.write_text(text)
    return path


def test_without_a_file_the_local_deployments_are_all_there_is() -> None:
    config = load(None, [LOCAL])
    (one,) = config.deployments
    assert (one.name, one.group, one.model, one.lane, one.hosted) == ("tiny-1", "tiny", "tiny", LaneName.NATIVE, False)
    assert one.deadlines.first_token_s == 60  # what `up` starts may run on a CPU


@pytest.mark.parametrize("key", ["model_lst", "modellist", "Model_list", "model-list"])
def test_a_list_of_models_that_is_misspelt_is_refused(tmp_path: Path, key: str) -> None:
    """It was a warning, and the stack started without the models."""
    with pytest.raises(ConfigInvalid, match=rf"stoker\.yaml:2: {key}: did you mean model_list\?"):
        load(_file(tmp_path, f"router_settings: {{}}\n{key}:\n  - model_name: a\n"), [LOCAL])


def test_another_key_that_is_misspelt_is_told_with_what_was_meant(tmp_path: Path) -> None:
    text = "model_list: []\nmodel_lst: []\nrouter_setings: {}\nsomething: {}\nguardrails: []\ncredential_list: []\n"
    assert list(load(_file(tmp_path, text), [LOCAL]).unsupported) == [
        "stoker.yaml:2: model_lst (did you mean model_list?)",
        "stoker.yaml:3: router_setings (did you mean router_settings?)",
        "stoker.yaml:4: something",
        "stoker.yaml:5: guardrails",
        "stoker.yaml:6: credential_list",
    ]


def test_the_shipped_file_loads_and_the_fallback_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = load(ROOT / "stoker.yaml", [LOCAL])
    assert [deployment.name for deployment in config.deployments] == ["tiny-1"]
    assert config.disabled == {"hosted-fallback-1": "OPENAI_API_KEY is not set"}
    assert not config.unsupported


def test_the_shipped_file_loads_with_the_key_and_the_fallback_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    config = load(ROOT / "stoker.yaml", [LOCAL])
    hosted = config.deployments[1]
    assert (hosted.lane, hosted.hosted, hosted.provider) == (LaneName.LITELLM, True, "openai")
    assert hosted.api_key == "sk-test"
    assert "sk-test" not in repr(hosted)
    assert hosted.breaker.probe_after_s == 30
    assert config.fallbacks["tiny"] == ["hosted-fallback"]
    assert config.fallbacks["hosted-fallback"] == []


def test_a_key_that_has_no_effect_is_named_with_its_line(tmp_path: Path) -> None:
    path = _file(tmp_path, "model_list: []\nrouter_settings:\n  num_retries: 1\n  enable_pre_call_checks: true\n")
    config = load(path)
    assert config.num_retries == 1
    assert list(config.unsupported) == ["stoker.yaml:4: router_settings.enable_pre_call_checks"]


def test_settings_reach_the_deployment(tmp_path: Path) -> None:
    path = _file(
        tmp_path,
        """
model_list:
  - model_name: a
    litellm_params: {model: hosted_vllm/x, api_base: "http://h:1/v1/", timeout: 7, stream_timeout: 3}
    model_info: {wakes_in_s: 90}
  - model_name: a
    litellm_params: {model: azure/y, api_base: "https://h", api_version: "v1", api_key: k}
router_settings: {allowed_fails: 2, cooldown_time: 9}
litellm_settings: {num_retries: 4}
stoker: {deadlines: {first_token_s: 2, between_tokens_s: 1.5}, waking: {hold_s: 12}}
""",
    )
    config = load(path)
    native, azure = config.deployments
    assert (native.api_base, native.deadlines.total_s, native.deadlines.first_token_s) == ("http://h:1/v1", 7, 3)
    assert (azure.model, azure.provider, dict(azure.parameters)) == ("azure/y", "azure", {"api_version": "v1"})
    assert (azure.deadlines.first_token_s, azure.deadlines.between_tokens_s) == (2, 1.5)
    assert (azure.breaker.failures_to_open, azure.breaker.probe_after_s) == (2, 9)
    assert (native.wakes_in_s, azure.wakes_in_s, config.hold_s) == (90, None, 12)
    assert (native.name, azure.name, config.num_retries) == ("a-1", "a-2", 4)


@pytest.mark.parametrize(("said", "parted"), [("", True), ("tenant", True), ("shared", False)])
def test_engines_keep_prompts_apart_by_tenant_unless_told_otherwise(tmp_path: Path, said: str, parted: bool) -> None:
    vllm = "litellm_params: {model: hosted_vllm/x, api_base: 'http://h:1/v1'}"
    entries = (
        f"- {{model_name: chat, {vllm}}}",
        f"- {{model_name: vectors, {vllm}, model_info: {{mode: embedding, engine: vllm-cpu}}}}",
        f"- {{model_name: orders, {vllm}, model_info: {{mode: rerank}}}}",
        "- {model_name: hosted, litellm_params: {model: openai/x, api_key: k, api_base: 'http://h:1/v1'}}",
        "- {model_name: lite, litellm_params: {model: x, custom_llm_provider: hosted_vllm, api_base: 'http://h:1/v1'}}",
    )
    text = "model_list:\n" + "\n".join(entries) + (f"\nstoker: {{prefix_cache: {said}}}" if said else "")
    found = {one.group: one.salted for one in load(_file(tmp_path, text)).deployments}
    # Stoker's own server of vectors, which `./stoker up` calls a vllm-cpu like any other, refuses the field.
    assert found == {"chat": parted, "vectors": False, "orders": False, "hosted": False, "lite": parted}
    (own,) = load(None, [LOCAL]).deployments
    assert own.salted


def test_the_watch_is_on_and_its_settings_are_the_files(tmp_path: Path) -> None:
    assert load(None).health == HealthPolicy()
    config = load(_file(tmp_path, "stoker: {health: {enabled: false, poll_s: 0.25, standstill_s: 5}}\n"))
    assert config.health == HealthPolicy(enabled=False, poll_s=0.25, standstill_s=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_list: [", r"stoker.yaml:1: this is no YAML"),
        ("- a\n", r"stoker.yaml:1: the file must hold a mapping"),
        ("a: \x1a\n", r"stoker.yaml: this is no YAML: unacceptable character"),
        ("a: &a [*a]\n", r"stoker.yaml: it holds itself"),
        ("a: " + "[" * 3000 + "\n", r"stoker.yaml: .*nested too deeply"),
        ("a: 2026-02-31\n", r"stoker.yaml: a value is none"),
        ("model_list:\n  - model_name: a\n", r"stoker.yaml:2: model_list.0.litellm_params: Field required"),
        (
            "model_list:\n- model_name: a\n  litellm_params:\n    model: hosted_vllm/x\n",
            r"stoker.yaml:4: hosted_vllm/x needs `api_base`",
        ),
        (
            "model_list:\n- model_name: a\n  litellm_params:\n    model: x\n    api_base: host:1\n",
            r"`api_base` must be such as http",
        ),
        ("stoker:\n  deadlines:\n    frist_token_s: 1\n", r"stoker.yaml:3: stoker.deadlines.frist_token_s"),
        ("stoker:\n  deadlines:\n    total_s: -1\n", r"stoker.yaml:3: stoker.deadlines.total_s: .*greater than 0"),
        ("router_settings:\n  fallbacks:\n  - a: [b]\n", r"stoker.yaml:3: no `model_list` entry is called 'a'"),
        ("router_settings:\n  default_fallbacks: [b]\n", r"stoker.yaml:2: no `model_list` entry is called 'b'"),
        (
            "model_list:\n- {model_name: a, litellm_params: {model: x}}\n"
            "- {model_name: a, litellm_params: {model: y}, model_info: {mode: embedding}}\n",
            r"stoker.yaml:3: 'a' mixes",
        ),
    ],
)
def test_a_mistake_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigInvalid, match=message):
        load(_file(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"absent.yaml: the file can't be read"):
        load(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    "name",
    ["simple-shuffle", "least-busy", "latency-based-routing", "cost-based-routing", "prefix-affinity"],
)
def test_the_strategy_and_weights_are_read(tmp_path: Path, name: str) -> None:
    entry = "  - model_name: m\n    litellm_params: {model: hosted_vllm/m, api_base: 'http://a/v1', weight: 3}\n"
    config = load(_file(tmp_path, f"model_list:\n{entry}router_settings:\n  routing_strategy: {name}\n"))
    assert config.strategy == name
    assert config.deployments[0].weight == 3
    assert not config.unsupported


def test_a_strategy_that_there_is_not_is_named_with_its_line(tmp_path: Path) -> None:
    path = _file(tmp_path, "model_list: []\nrouter_settings:\n  routing_strategy: usage-based-routing-v2\n")
    with pytest.raises(ConfigInvalid, match=r"stoker.yaml:3: .*prefix-affinity"):
        load(path)
