"""What retrieval can be told, read once per process."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from retrieval.analyzer import ENGLISH, LANGUAGES
from retrieval.hosted import HostedModel
from retrieval.sources.guard import read_opened
from storage.settings import StorageSettings

Placement = Literal["dedicated", "pooled"]
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class RetrievalSettings(StorageSettings):
    """Read from `STOKER_...` environment variables."""

    log_level: str = Field("info", description="debug, info, warning or error.")
    otlp_endpoint: str | None = Field(
        None,
        description="Address of an OpenTelemetry collector that takes OTLP over HTTP, such as http://127.0.0.1:4318. "
        "Unset: no traces are kept.",
    )
    traces_per_second: float = Field(
        5.0,
        ge=0,
        le=10_000,
        description="Requests a second and process whose trace is kept; four times as many of those that failed, were "
        "slow, or whose caller keeps a trace.",
    )
    trace_slow_s: float = Field(10.0, gt=0, description="Seconds from which a request is slow enough for its trace.")
    trace_text: bool = Field(
        False, description="Traces show prompts and questions, less what looks like secrets or personal data."
    )
    sentry_dsn: SecretStr | None = Field(
        None, description="Address of a project at Sentry, which is told of errors that nobody expected."
    )
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of /metrics and /health of a keeper or ingestion worker that runs by itself. Unset: none.",
    )
    metrics_host: str = Field("127.0.0.1", description="Address of these.")
    milvus_uri: str = Field("http://127.0.0.1:19530", description="Address of Milvus or of `milvus-lite server`.")
    embedding_url: str = Field(
        "http://127.0.0.1:8081", description="Address of the embedding server, without /v1 at its end."
    )
    embedding_deadline_s: float = Field(5.0, gt=0, le=120, description="Seconds to embed one question.")
    hosted_embeddings: dict[str, HostedModel] = Field(
        {},
        description="Hosted embedders, as JSON: a model group of the gateway, and its dimensions, query_prefix and "
        "document_prefix; see docs/configuration.md.",
    )
    hosted_embeddings_url: str = Field(
        "http://127.0.0.1:8080", description="Address of the gateway through which hosted embedders are reached."
    )
    hosted_embeddings_key: SecretStr | None = Field(
        None, description="Key of the gateway, with the scope embeddings, that pays for hosted embedders."
    )
    search_deadline_s: float = Field(5.0, gt=0, le=30, description="Seconds for one search of the index.")
    rerank_model: str | None = Field(
        None, description="What reranks, of the models of the embedding server; without it, its first that can."
    )
    rerank_deadline_s: float = Field(5.0, gt=0, le=120, description="Seconds to rerank the candidates of one question.")
    ingest_deadline_s: float = Field(
        120.0, gt=0, le=3600, description="Seconds to embed one batch, or to write one to the index."
    )
    ingest_batch: int = Field(100, ge=1, le=1000, description="Chunks embedded and indexed in one call.")
    outage_patience_s: float = Field(
        300.0, ge=0, le=86_400, description="Seconds that a part may be away before it counts as a failed attempt."
    )
    chunk_characters: int = Field(950, ge=100, le=8000, description="Longest chunk, in characters.")
    chunk_tokens: int = Field(220, ge=32, le=8000, description="Longest chunk, in tokens of the embedder.")
    chunk_overlap: int = Field(0, ge=0, le=4000, description="Most characters that a chunk repeats of the one before.")
    chunk_strategy: Literal["structure", "fixed"] = Field(
        "structure", description="Cut along headings, paragraphs and tables, or into windows of one size."
    )
    chunk_tokenizer: str | None = Field(
        None, description="The embedding model's tokenizer.json; without it tokens are estimated."
    )
    average_terms: float = Field(
        65.0, gt=0, description="BM25's average chunk length, in terms, until a collection has chunks of its own."
    )
    language: str = Field(
        ENGLISH, description="What the texts of new collections are written in: its stop words and word forms count."
    )
    placement: Placement = Field(
        "dedicated",
        description="Whether new collections have a Milvus collection of their own, or share one (`pooled`).",
    )
    max_file_bytes: int = Field(50 * 2**20, ge=1, description="Largest file accepted, in bytes.")
    max_characters: int = Field(5_000_000, ge=1, description="Longest normalised text of one document.")
    max_pages: int = Field(2000, ge=1, description="Most pages of one PDF.")
    max_depth: int = Field(500, ge=10, le=900, description="Deepest nesting of elements, objects or lists in one file.")
    max_unpacked_bytes: int = Field(256 * 2**20, ge=1, description="Most that one file may unpack to, in bytes.")
    max_batch_files: int = Field(100, ge=1, description="Most files in one call.")
    parse_deadline_s: float = Field(60.0, gt=0, le=3600, description="Seconds for parsing one file.")
    parse_memory_bytes: int = Field(2 * 2**30, ge=2**28, description="Address space of the parsing process, in bytes.")
    ocr_python: str | None = Field(
        None,
        description="Python of an environment with requirements/ocr.txt, which reads scans and pictures: `./stoker "
        "ocr` makes one, and `up` finds it. Unset: they are refused.",
    )
    lease_s: float = Field(30.0, ge=1, le=3600, description="Seconds after which a silent worker loses its document.")
    heartbeat_s: float = Field(1.0, gt=0, le=60, description="Seconds between two renewals; also how fast a cancel is.")
    poll_s: float = Field(1.0, gt=0, le=60, description="Seconds between two looks for work when no nudge comes.")
    max_attempts: int = Field(3, ge=1, le=20, description="Attempts before a document is failed.")
    sweep_s: float = Field(30.0, gt=0, le=3600, description="Seconds between two sweeps of what nobody reads any more.")
    reader_grace_s: float = Field(
        60.0, gt=0, le=86_400, description="Seconds that a retired revision stays in the index for running readers."
    )
    orphans_s: float = Field(
        3600.0, gt=0, le=604_800, description="Seconds between two looks for what belongs to nothing in any store."
    )
    orphan_grace_s: float = Field(
        3600.0, ge=0, le=604_800, description="Seconds that something may belong to nothing before it is removed."
    )
    fetch: bool = Field(True, description="Whether documents are fetched from addresses that callers name.")
    fetch_allow: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Hosts, addresses and networks that may be reached though they are not on the public internet, "
        "separated by commas, each with `:PORT` or without, such as wiki.example:8080,10.0.5.0/24.",
    )
    fetch_ports: Annotated[list[Annotated[int, Field(ge=1, le=65_535)]], NoDecode] = Field(
        default_factory=lambda: [80, 443], description="Ports that may be reached everywhere, separated by commas."
    )
    fetch_connect_s: float = Field(5.0, gt=0, le=60, description="Seconds to connect to a host.")
    fetch_read_s: float = Field(15.0, gt=0, le=300, description="Seconds between two pieces of an answer.")
    fetch_total_s: float = Field(60.0, gt=0, le=3600, description="Seconds for one page, redirects included.")
    fetch_redirects: int = Field(5, ge=0, le=20, description="Redirects that are followed, each checked anew.")
    fetch_delay_s: float = Field(1.0, ge=0, le=3600, description="Seconds between two calls to one host.")
    fetch_parallel: int = Field(4, ge=1, le=64, description="Fetches at once of one worker, each of another host.")
    fetch_retry_s: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="Seconds until what could not be fetched is asked for again; then four times that.",
    )
    fetch_agent: str = Field(
        "stoker/0.1", min_length=1, max_length=200, description="As which fetching makes itself known to servers."
    )
    sitemap_limit: int = Field(1000, ge=1, le=10_000, description="Pages of one sitemap, or objects of one prefix.")
    s3_sources: dict[str, list[str]] = Field(
        {},
        description="Buckets, or `BUCKET/PREFIX`, that a tenant may take documents from, as JSON by the tenant's name "
        'or id: {"acme": ["papers", "shared/public"]}; `*` stands for all tenants.',
    )
    flush_rows: int = Field(500, ge=1, description="New rows of a collection after which its index is flushed.")

    def tracing(self) -> dict[str, Any]:
        """What `monitoring.tracing.traced` wants to know, besides who is traced."""
        return {
            "endpoint": self.otlp_endpoint,
            "per_second": self.traces_per_second,
            "slow_s": self.trace_slow_s,
            "text": self.trace_text,
        }

    def error_reports(self) -> str | None:
        """Where errors are reported."""
        return self.sentry_dsn.get_secret_value() or None if self.sentry_dsn is not None else None

    @field_validator("fetch_allow", "fetch_ports", mode="before")
    @classmethod
    def _from_a_list(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("fetch_allow")
    @classmethod
    def _entries_open_something(cls, value: list[str]) -> list[str]:
        for entry in value:
            read_opened(entry)
        return value

    @field_validator("fetch_agent")
    @classmethod
    def _fits_a_header(cls, value: str) -> str:
        if not value.isascii() or not value.isprintable():
            raise ValueError("it is sent as a header: letters, digits and signs of ASCII alone")
        return value

    @field_validator("s3_sources")
    @classmethod
    def _entries_name_buckets(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for entry in (entry for entries in value.values() for entry in entries):
            if not _BUCKET.fullmatch(entry.partition("/")[0]):
                raise ValueError(f"{entry!r} names no bucket: write BUCKET or BUCKET/PREFIX, such as papers/2026")
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("it is an address over HTTP, such as http://127.0.0.1:4318 (4317 is gRPC's port)")
        return value or None

    @field_validator("chunk_tokenizer", "ocr_python")
    @classmethod
    def _file_is_there(cls, value: str | None) -> str | None:
        if value and not Path(value).is_file():
            raise ValueError(f"there is no file {value}")
        return value or None

    @field_validator("language")
    @classmethod
    def _language_is_known(cls, value: str) -> str:
        if value not in LANGUAGES:
            raise ValueError(f"{value!r} is none of {', '.join(sorted(LANGUAGES))}")
        return value

    @field_validator("hosted_embeddings_key")
    @classmethod
    def _empty_is_none(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value is not None and value.get_secret_value() else None

    @model_validator(mode="after")
    def _grace_outlives_readers(self) -> Self:
        longest_s = (
            self.embedding_deadline_s + 2 * self.search_deadline_s + self.rerank_deadline_s + self.sql_deadline_s
        )
        if self.reader_grace_s <= longest_s:
            raise ValueError(
                f"reader_grace_s ({self.reader_grace_s:g}) must be above what one search may take ({longest_s:g} s)"
            )
        if self.heartbeat_s * 2 > self.lease_s:
            raise ValueError("heartbeat_s must be at most half of lease_s")
        return self
