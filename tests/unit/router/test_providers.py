"""What is said at the start of providers that could not do what they are configured for."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from router.config import RouterConfig, load

Read = Callable[..., RouterConfig]


@pytest.fixture
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Reads entries as the file's `model_list`."""

    def of(model: str, mode: str = "chat", **params: object) -> RouterConfig:
        path = tmp_path_factory.mktemp("config") / "stoker.yaml"
        entry = {"model_name": "g", "litellm_params": {"model": model, **params}, "model_info": {"mode": mode}}
        path.write_text(yaml.safe_dump({"model_list": [entry]}))
        return load(path)

    return of


@pytest.mark.parametrize(
    ("model", "mode", "params", "reason"),
    [
        ("sagemaker/tgi", "chat", {}, "write sagemaker_chat/ENDPOINT"),
        ("tgi", "chat", {"custom_llm_provider": "sagemaker"}, "write sagemaker_chat/ENDPOINT"),
        ("sagemaker/tei", "embedding", {"api_base": "http://h:1"}, "set AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"),
        ("cohere/rerank-v3.5", "rerank", {"api_key": "k"}, "rerank is served by engines of your own alone"),
        ("azure/team", "chat", {"api_key": "k"}, "azure needs `api_base`"),
    ],
)
def test_what_cannot_work_is_off_and_says_what_to_do(
    read: Read, monkeypatch: pytest.MonkeyPatch, model: str, mode: str, params: dict[str, str], reason: str
) -> None:
    monkeypatch.delenv("AZURE_API_BASE", raising=False)
    config = read(model, mode, **params)
    assert config.deployments == []
    assert reason in config.disabled["g-1"]


@pytest.mark.parametrize(
    ("model", "mode", "params"),
    [
        ("sagemaker_chat/vllm", "chat", {"api_base": "http://h:1"}),
        ("sagemaker/tei", "embedding", {}),
        ("hosted_vllm/rank", "rerank", {"api_base": "http://h:1"}),
        ("azure/team", "chat", {"api_key": "k", "api_base": "http://h:1"}),
    ],
)
def test_what_works_is_on(read: Read, model: str, mode: str, params: dict[str, str]) -> None:
    assert [one.name for one in read(model, mode, **params).deployments] == ["g-1"]


def test_settings_of_amazon_and_azure_reach_litellm(read: Read) -> None:
    given = {
        "aws_role_name": "arn:aws:iam::1:role/r",
        "aws_session_name": "s",
        "aws_external_id": "e",
        "aws_profile_name": "p",
        "aws_web_identity_token": "w",
        "aws_sts_endpoint": "http://h:1",
        "aws_bedrock_runtime_endpoint": "http://h:2",
        "model_id": "m",
        "hf_model_name": "h",
        "azure_ad_token": "t",
    }
    config = read("bedrock/x", **given)
    assert dict(config.deployments[0].parameters) == given
    assert not config.unsupported


def test_a_secret_in_a_header_comes_from_the_environment(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"x-front-door": "os.environ/FRONT_DOOR"}
    monkeypatch.delenv("FRONT_DOOR", raising=False)
    assert read("openai/x", extra_headers=headers).disabled == {"g-1": "FRONT_DOOR is not set"}
    monkeypatch.setenv("FRONT_DOOR", "open sesame")
    (one,) = read("openai/x", extra_headers=headers).deployments
    assert one.parameters["extra_headers"] == {"x-front-door": "open sesame"}
    assert "sesame" not in repr(one)


def test_the_examples_of_the_documentation_are_all_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
    text = page.partition("## Hosted providers")[2].partition("```yaml\n")[2].partition("```")[0]
    for name in re.findall(r"os\.environ/(\w+)", text):
        monkeypatch.setenv(name, "x")
    path = tmp_path / "stoker.yaml"
    path.write_text(text)
    config = load(path)
    assert len(config.deployments) == len(yaml.safe_load(text)["model_list"]) > 7
    assert not config.disabled
    assert not config.unsupported
