"""Settings of the inference side, one class for each process; flags on the command line win over the environment."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from inference import vllm_rules


class EmbeddingSettings(BaseSettings):
    """The embedding server: `STOKER_EMBEDDINGS_...`, or flags such as `--served-model-name`."""

    model_config = SettingsConfigDict(
        env_prefix="STOKER_EMBEDDINGS_", cli_kebab_case=True, cli_prog_name="python -m inference.embeddings"
    )

    model: str = Field(description="Folder of a sentence-transformers model, or its name where a hub is reached.")
    served_model_name: str = Field(min_length=1, description="The name that clients use.")
    more_models: dict[str, str] = Field(
        {}, description="Further embedding models, as JSON: the name that clients use, and folder or name of the model."
    )
    rerankers: dict[str, str] = Field(
        {}, description="Cross-encoders for /v1/rerank, as JSON: the name that clients use, and folder or name."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8081, ge=1, le=65535, description="Port to listen on.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number format of the weights; auto measures at the start and keeps what is fast and true."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the model runs.")
    threads: int = Field(0, ge=0, le=256, description="CPU threads of the model; 0 means every core it may use.")
    lanes: int = Field(
        0,
        ge=0,
        le=64,
        description="Batches computed at once, each by its part of the threads; 0: up to 4 on a CPU, else 1.",
    )
    max_batch_tokens: int = Field(2048, ge=1, le=1_000_000, description="Tokens in one forward pass, padding included.")
    batch_s: float = Field(
        0.25,
        gt=0,
        le=60,
        description="Seconds that one forward pass may take, by the speed measured, while nobody asks.",
    )
    asked_batch_s: float = Field(
        0,
        ge=0,
        le=60,
        description="The same, within 10 seconds after a question; 0: 0.01 with one lane, where the next question "
        "waits for the pass, 0.03 with several, of which one is kept for questions then.",
    )
    max_queue_tokens: int = Field(
        65_536,
        ge=1,
        le=100_000_000,
        description="Tokens that may wait, of questions and of bulk work each; beyond them a request gets 429.",
    )
    max_inputs: int = Field(2048, ge=1, le=100_000, description="Texts in one request.")
    max_input_characters: int = Field(
        200_000, ge=1, le=10_000_000, description="Characters of one text; a longer one is refused, not cut."
    )
    max_body_bytes: int = Field(16 * 1024 * 1024, ge=1024, le=1 << 30, description="Bytes of one request's body.")
    drain_s: int = Field(20, ge=0, le=600, description="Seconds that running requests get after SIGTERM.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")


def _from_environment(value: object) -> object:
    """A number out of a variable, which is text: a list of permitted numbers would refuse it."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


class VllmSettings(BaseSettings):
    """One vLLM server: `STOKER_VLLM_...`, or flags. A setting left empty keeps vLLM's own default."""

    model_config = SettingsConfigDict(
        env_prefix="STOKER_VLLM_",
        env_ignore_empty=True,
        cli_kebab_case=True,
        cli_prog_name="python -m inference.vllm",
    )

    model: str = Field(min_length=1, description="Folder of a Hugging Face model, or its name where a hub is reached.")
    served_model_name: str = Field(min_length=1, description="The name that clients use.")
    revision: str | None = Field(None, description="Branch, tag or commit of the model on the hub.")
    tokenizer: str | None = Field(None, description="Folder or hub name of another tokenizer than the model's own.")
    download_dir: str | None = Field(None, description="Folder for what is fetched from the hub; unset: the hub's own.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    engine: Literal["vllm", "vllm-cpu"] = Field("vllm-cpu", description="vLLM on a GPU, or its CPU build.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="Number format of weights.")
    quantization: str | None = Field(
        None, description="How the weights are quantised, or are to be (fp8); unset: as the model's own files say."
    )
    max_model_len: Annotated[int, Field(ge=16)] | Literal["auto"] | None = Field(
        None,
        description="Tokens of prompt and answer: a number, or auto for as many as the memory holds. "
        "On a CPU 4096, or the model's own limit if less.",
    )
    max_num_seqs: int | None = Field(None, ge=1, le=4096, description="Sequences computed at once; on a CPU 32.")
    max_num_batched_tokens: int | None = Field(
        None,
        ge=16,
        le=1_000_000,
        description="Tokens of all sequences in one step, longer prompts being read in parts; on a CPU 256.",
    )
    enforce_eager: bool | None = Field(
        None, description="Skip compilation: ready in a third of the time, a little slower after; on a CPU yes."
    )
    tensor_parallel_size: int = Field(1, ge=1, le=1024, description="GPUs that share each layer of the model.")
    pipeline_parallel_size: int = Field(1, ge=1, le=1024, description="Groups of GPUs, each with a part of the layers.")
    kv_cache_gib: int = Field(1, ge=1, le=4096, description="GiB of key-value cache; CPU build only.")
    kv_cache_dtype: str | None = Field(None, description="Number format of the key-value cache, such as fp8.")
    gpu_memory_utilization: float | None = Field(
        None, gt=0, le=1, description="Share of each GPU's memory to take, 0 to 1; vLLM's own is 0.92."
    )
    prefix_caching: bool | None = Field(None, description="Keep what was computed for prompts that begin alike.")
    chunked_prefill: bool | None = Field(None, description="Read long prompts in parts, others in between.")
    speculative_method: str | None = Field(
        None, description="Speculative decoding: ngram, draft_model, eagle3, mtp or another that vLLM knows."
    )
    speculative_model: str | None = Field(None, description="Folder or hub name of the model that drafts.")
    speculative_tokens: int | None = Field(None, ge=1, le=64, description="Tokens drafted in one step.")
    lora_modules: dict[str, str] = Field(
        {}, description='LoRA adapters, each listed as a model: JSON, {"NAME": "FOLDER"}, or flags NAME=FOLDER.'
    )
    max_loras: int | None = Field(None, ge=1, le=1024, description="Adapters used in one step; unset: 1.")
    max_lora_rank: Annotated[
        Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] | None, BeforeValidator(_from_environment)
    ] = Field(None, description="Largest rank of an adapter; unset: 16.")
    lora_at_run_time: bool = Field(
        False,
        description="Adapters may be loaded and unloaded by POST /v1/load_lora_adapter and /v1/unload_lora_adapter of "
        "the engine, by anybody who reaches its port: listen only on a private address.",
    )
    tool_call_parser: str | None = Field(None, description="Reads tool calls out of answers; switches them on.")
    reasoning_parser: str | None = Field(None, description="Parts a model's thinking from its answer.")
    enable_thinking: bool | None = Field(
        None, description="Whether a model that can think does so where a request doesn't say; unset: as it was made."
    )
    max_num_queued_reqs: int | None = Field(
        256, ge=1, description="Requests that may wait in the engine; beyond them it answers 503."
    )
    max_num_queued_tokens: int | None = Field(
        None, ge=1, description="Prompt tokens that may wait in the engine; beyond them it answers 503."
    )
    shutdown_timeout_s: int = Field(45, ge=0, le=3600, description="Seconds that running requests get after SIGTERM.")
    otlp_traces_endpoint: str | None = Field(
        None,
        description="Address of an OpenTelemetry collector that vLLM tells what requests passed through, by gRPC, such "
        "as http://jaeger:4317; by HTTP with OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf.",
    )
    sleep_mode: bool = Field(
        False,
        description="The engine can be put to sleep and woken (POST /sleep, /wake_up), with its memory free meanwhile. "
        "vLLM's development mode, which this needs, opens further endpoints: listen only on a private address.",
    )
    extra_args: list[str] = Field(
        [], description='Further flags of vLLM as a JSON list, such as ["--seed", "1"]; none that has a setting here.'
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if problems := vllm_rules.contradictions(self):
            raise ValueError("\n".join(problems))
        return self
