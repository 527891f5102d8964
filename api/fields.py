"""Which fields of a model request reach an upstream.

Listed ones pass unchanged, unlisted ones are dropped and named in `x-stoker-ignored`, dangerous ones are refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson

from api.errors import RequestInvalid
from api.shapes.shapes import check_shapes

_OPENAI_CHAT = """messages model audio frequency_penalty function_call functions logit_bias logprobs
max_completion_tokens max_tokens metadata modalities n parallel_tool_calls prediction
presence_penalty prompt_cache_key reasoning_effort response_format safety_identifier seed
service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user
verbosity web_search_options"""
_VLLM_CHAT = """add_generation_prompt allowed_token_ids bad_words continue_final_message echo add_special_tokens
ignore_eos include_reasoning length_penalty min_p min_tokens priority prompt_logprobs repetition_penalty
return_token_ids return_tokens_as_token_ids skip_special_tokens spaces_between_special_tokens stop_token_ids
structured_outputs thinking_token_budget top_k truncate_prompt_tokens use_beam_search"""
_OPENAI_COMPLETION = """model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty
seed stop stream stream_options suffix temperature top_p user"""
_ANTHROPIC = """model messages max_tokens metadata output_config stop_sequences stream system temperature thinking
tool_choice tools top_k top_p service_tier"""
# Of OpenAI's responses: those that are read, and those of a chat that go on to the model as they are.
_OPENAI_RESPONSE = """model input instructions previous_response_id conversation store stream stream_options
background include max_output_tokens max_tool_calls metadata parallel_tool_calls prompt reasoning text tool_choice
tools top_logprobs truncation"""
PASSED_ON_FIELDS = frozenset(
    """temperature top_p user safety_identifier prompt_cache_key service_tier frequency_penalty presence_penalty
    logit_bias seed stop top_k min_p min_tokens repetition_penalty length_penalty ignore_eos stop_token_ids bad_words
    allowed_token_ids skip_special_tokens thinking_token_budget""".split()
)
RESPONSE_FIELDS = frozenset(_OPENAI_RESPONSE.split()) | PASSED_ON_FIELDS
CHAT_FIELDS = frozenset(f"{_OPENAI_CHAT} {_VLLM_CHAT}".split())
COMPLETION_FIELDS = frozenset(f"{_OPENAI_COMPLETION} {_VLLM_CHAT} response_format".split()) - {
    "add_generation_prompt",
    "continue_final_message",
    "include_reasoning",
}
MESSAGE_FIELDS = frozenset(_ANTHROPIC.split())
EMBEDDING_FIELDS = frozenset("input model encoding_format dimensions user input_type truncate".split())
RERANK_FIELDS = frozenset("model query documents top_n return_documents truncate user".split())

DANGEROUS_FIELDS = frozenset(
    """chat_template chat_template_kwargs mm_processor_kwargs media_io_kwargs cache_salt api_base api_key
    user_config kv_transfer_params ec_transfer_params vllm_xargs mm_payload prompt_embeds""".split()
)
# Of a chat whose answer is more than a model's; no upstream knows them.
OWN_FIELDS = frozenset({"retrieval", "conversation_id"})
# Bounds of completion tokens, under each of the names that the routes know.
_BOUNDS = ("max_completion_tokens", "max_tokens")
MAX_N = 8
_SHOWN_FIELDS = 20
_SHOWN_CHARACTERS = 64


def read_json_object(body: bytes) -> dict[str, Any]:
    """Read a request's body. Raises: RequestInvalid: it is no JSON object."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestInvalid(f"the body is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise RequestInvalid("the body must be a JSON object")
    return value


def sort_fields(body: Mapping[str, Any], known: frozenset[str]) -> tuple[dict[str, Any], list[str]]:
    """Divide a body into what goes upstream and the names of what is dropped.

    Raises: RequestInvalid: a dangerous field, `n` out of range, or a schema, expression or grammar that an engine
        should not be given.
    """
    for name in body:
        if name in DANGEROUS_FIELDS:
            raise RequestInvalid(f"the field {name} is not allowed: it would change the server, not the answer", name)
    n = body.get("n", 1)
    if n is not None and not (isinstance(n, int) and 1 <= n <= MAX_N):
        raise RequestInvalid(f"n must be a whole number from 1 to {MAX_N}", "n")
    passed = {name: value for name, value in body.items() if name in known}
    check_shapes(passed)
    return passed, sorted(set(body) - set(passed))


def own_fields(body: Mapping[str, Any], taken: frozenset[str], route: str) -> dict[str, Any]:
    """Those of `OWN_FIELDS` that say something.

    Args:
        taken: those that the route takes.

    Raises: RequestInvalid: the route takes it not.
    """
    own = {name: body[name] for name in sorted(OWN_FIELDS) if body.get(name) is not None}
    for name in own:
        if name not in taken:
            raise RequestInvalid(f"{route} takes no {name}; POST /v1/chat/completions does", name)
    return own


def model_of(body: Mapping[str, Any]) -> str:
    """The model group that a request names. Raises: RequestInvalid."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise RequestInvalid("model is missing: name one of GET /v1/models", "model")
    return model


def shown_fields(names: Sequence[str]) -> str:
    """Names of fields as a header may hold them: percent-encoded and cut."""
    shown = [quote(name[:_SHOWN_CHARACTERS], safe="") for name in names[:_SHOWN_FIELDS]]
    return ", ".join(shown) + (", ..." if len(names) > _SHOWN_FIELDS else "")


def completion_bound(body: Mapping[str, Any]) -> int | None:
    """The completion tokens that a request asks for at most, over all its completions; None: it names no bound.

    Raises: RequestInvalid: the bound is no whole number from 1, or `best_of` is out of range.
    """
    asked = [(name, body[name]) for name in _BOUNDS if body.get(name) is not None]
    for name, value in asked:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise RequestInvalid(f"{name} must be a whole number from 1", name)
    if not asked:
        return None
    bound: int = max(value for _, value in asked) * completions_of(body)
    return bound


def completions_of(body: Mapping[str, Any]) -> int:
    """How many completions a request asks for: its choices, of each of its prompts.

    Raises: RequestInvalid: `best_of` is out of range.
    """
    best_of = body.get("best_of") or 1
    if not isinstance(best_of, int) or not 1 <= best_of <= MAX_N:
        raise RequestInvalid(f"best_of must be a whole number from 1 to {MAX_N}", "best_of")
    prompt = body.get("prompt")
    prompts = 1  # a text, or one's token ids
    if isinstance(prompt, list) and not all(isinstance(part, int) for part in prompt):
        prompts = len(prompt)
    return prompts * max(body.get("n") or 1, best_of)
