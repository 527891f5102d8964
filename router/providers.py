"""What is known of the providers that LiteLLM translates for: who answers a name, what it is told, what it can't do."""

import os
from collections.abc import Mapping
from typing import Any

from router.deployment import VLLM

_BARE_NAMES = {"claude": "anthropic", "command": "cohere", "embed-": "cohere", "rerank-": "cohere", "voyage": "voyage"}
_CONNECTION = (
    "api_version",
    "organization",
    "custom_llm_provider",
    "region_name",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_region_name",
    "aws_bedrock_runtime_endpoint",
    "aws_profile_name",
    "aws_role_name",
    "aws_session_name",
    "aws_external_id",
    "aws_web_identity_token",
    "aws_sts_endpoint",
    "model_id",
    "hf_model_name",
    "azure_ad_token",
    "vertex_project",
    "vertex_location",
    "vertex_credentials",
    "extra_headers",
)


def provider_of(model: str, values: Mapping[str, Any]) -> str:
    """Who answers, as LiteLLM takes the model's name."""
    prefix, slash, _ = model.partition("/")
    named = next((provider for start, provider in _BARE_NAMES.items() if model.startswith(start)), "openai")
    return str(values.get("custom_llm_provider") or (prefix if slash else named))


def parameters(model: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What LiteLLM is given beside the model; a name without a prefix goes to the provider that policy takes it for."""
    found = {key: values[key] for key in _CONNECTION if key in values}
    return found if "/" in model else {"custom_llm_provider": provider_of(model, values), **found}


def why_not(model: str, mode: str, values: Mapping[str, Any]) -> str | None:
    """What can't be done with a provider, so that it is said at the start and not by the first request."""
    provider = provider_of(model, values)
    if provider == VLLM:
        return None
    if mode == "rerank":
        return "rerank is served by engines of your own alone"
    if provider == "sagemaker" and mode == "chat":
        return "its answers say neither their tokens nor whether they are whole: write sagemaker_chat/ENDPOINT"
    if provider == "sagemaker" and values.get("api_base"):
        return "embeddings of SageMaker take no `api_base`: set AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME in the environment"
    if provider == "azure" and not (values.get("api_base") or os.environ.get("AZURE_API_BASE")):
        return "azure needs `api_base`, the address of its resource"
    return None
