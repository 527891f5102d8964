"""Spans, their parents, and which traces are kept."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from time import perf_counter

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from core.usage import Usage
from monitoring import tracing
from monitoring.redaction import redacted
from monitoring.tracing import genai
from monitoring.tracing.exporting import Exporter
from monitoring.tracing.ration import Ration
from monitoring.tracing.spans import MOST_SPANS, Span, install

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


class Kept:
    """A sink."""

    def __init__(self) -> None:
        self.traces: list[Sequence[Span]] = []

    def take(self, spans: Sequence[Span]) -> None:
        self.traces.append(spans)

    def tree(self) -> dict[str, str]:
        """The name of each span's parent, by name, of the last trace."""
        names = {span.id: span.name for span in self.traces[-1]}
        return {span.name: names.get(span.parent_id, "") for span in self.traces[-1]}


@pytest.fixture
def kept() -> Iterator[Kept]:
    sink = Kept()
    install(sink, per_second=1000, slow_s=10)
    yield sink
    install(None)


def test_nothing_is_noted_where_nobody_listens() -> None:
    assert tracing.begin("request") is None
    with tracing.stage("stage") as one:
        assert one.span is None
        assert tracing.start("call") is None
    assert tracing.traceparent() == "" == tracing.current_trace_id()


def test_each_span_stands_below_the_one_it_began_in(kept: Kept) -> None:
    async def leg(name: str) -> None:
        with tracing.stage(name):
            await asyncio.sleep(0)
            with tracing.stage(f"{name} part"):
                await asyncio.sleep(0)

    async def request() -> None:
        root = tracing.begin("request")
        assert root is not None
        with tracing.stage("search"):
            await asyncio.gather(leg("dense"), leg("lexical"))
        call = tracing.start("call", "client")
        with tracing.below(call), tracing.stage("inside"):
            pass
        with tracing.stage("after"):
            pass
        tracing.finish(root)

    asyncio.run(request())
    assert kept.tree() == {
        "request": "",
        "search": "request",
        "dense": "search",
        "dense part": "dense",
        "lexical": "search",
        "lexical part": "lexical",
        "call": "request",
        "inside": "call",
        "after": "request",
    }
    assert all(span.end_ns >= span.start_ns for span in kept.traces[0])


def test_a_generator_that_another_task_closes_leaves_that_task_alone(kept: Kept) -> None:
    async def told() -> AsyncGenerator[int, None]:
        with tracing.stage("telling"):
            yield 1
            yield 2

    async def run() -> None:
        first = tracing.begin("first")
        assert first is not None
        numbers = told()
        await anext(numbers)

        async def close() -> None:
            other = tracing.begin("other")
            await numbers.aclose()
            with tracing.stage("its own"):
                pass
            assert other is not None
            tracing.finish(other)

        await asyncio.create_task(close())
        tracing.finish(first)

    asyncio.run(run())
    assert [{span.name for span in spans} for spans in kept.traces] == [
        {"other", "its own"},
        {"first", "telling"},
    ]


def test_what_goes_on_after_its_request_is_not_noted_for_ever(kept: Kept) -> None:
    async def run() -> None:
        root = tracing.begin("request")
        assert root is not None
        over = asyncio.Event()

        async def later() -> None:
            await over.wait()
            for _ in range(10):
                with tracing.stage("much later"):
                    assert tracing.start("call") is None

        task = asyncio.create_task(later())
        await asyncio.sleep(0)
        tracing.finish(root)
        over.set()
        await task
        assert root.trace.spans == []

    asyncio.run(run())
    assert [len(spans) for spans in kept.traces] == [1]


def test_a_span_that_cannot_be_described_costs_its_request_nothing() -> None:
    exporter = Exporter("test", "http://127.0.0.1:9")
    install(exporter, per_second=10, slow_s=10)
    try:
        root = tracing.begin("request")
        assert root is not None
        root.details = lambda: {}[1]  # type: ignore[index]
        tracing.finish(root)
    finally:
        install(None)
    assert exporter._attributes(root) == {}
    root.details = lambda: {}[1]  # type: ignore[index]
    assert exporter._attributes(root) == {"stoker.undescribed": "KeyError"}


def test_a_trace_has_an_end_and_a_bound(kept: Kept) -> None:
    root = tracing.begin("request")
    assert root is not None
    for _ in range(MOST_SPANS + 5):
        tracing.start("call")
    tracing.finish(root)
    (spans,) = kept.traces
    assert len(spans) == MOST_SPANS
    assert all(span.end_ns for span in spans)


def test_an_error_that_passes_a_stage_is_noted_by_its_class(kept: Kept) -> None:
    root = tracing.begin("request")
    assert root is not None
    with pytest.raises(ValueError, match="secret"), tracing.stage("parse"):
        raise ValueError("a secret of the caller's")
    tracing.finish(root)
    assert [span.error for span in kept.traces[0]] == ["", "ValueError"]


@pytest.mark.parametrize(
    ("parent", "trace_id", "parent_id"),
    [
        (f"{CALLER}-01", 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331),
        (f"{CALLER}-01-more of a later version", 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331),
        (f"ff{CALLER[2:]}-01", None, 0),
        ("00-" + "0" * 32 + "-b7ad6b7169203331-01", None, 0),
        ("00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01", None, 0),
        (f"{CALLER.upper()}-01", None, 0),
        ("nonsense", None, 0),
        (f"{CALLER}-01\r\nx: y", None, 0),
    ],
)
def test_a_caller_s_trace_is_gone_on_with(kept: Kept, parent: str, trace_id: int | None, parent_id: int) -> None:
    root = tracing.begin("request", parent=parent)
    assert root is not None
    assert root.parent_id == parent_id
    assert trace_id is None or root.trace.id == trace_id
    assert re.fullmatch(f"00-{root.trace.id:032x}-{root.id:016x}-01", tracing.traceparent())
    tracing.finish(root)


def test_what_is_kept_is_a_ration_and_what_failed_or_was_slow() -> None:
    sink = Kept()
    install(sink, per_second=2, slow_s=0)
    try:
        for _ in range(50):
            _request()
        sampled = sum(spans[0].trace.sampled for spans in sink.traces)
        slow = len(sink.traces) - sampled
        assert (sampled, slow) == (2, 8)
    finally:
        install(None)


def test_a_caller_who_keeps_no_trace_is_traced_only_if_it_fails() -> None:
    sink = Kept()
    install(sink, per_second=100, slow_s=100)
    try:
        _request(parent=f"{CALLER}-00")
        assert sink.traces == []
        root = tracing.begin("request", parent=f"{CALLER}-00")
        assert root is not None
        assert tracing.traceparent().endswith("-00")
        call = tracing.start("call", "client")
        assert call is not None
        call.end("timeout")
        tracing.finish(root)
        assert [spans[0].trace.failed for spans in sink.traces] == [True]
    finally:
        install(None)


def test_callers_can_have_no_more_kept_than_the_ration() -> None:
    sink = Kept()
    install(sink, per_second=1, slow_s=100)
    try:
        for _ in range(100):
            _request(parent=f"{CALLER}-01")
        assert len(sink.traces) == 4
    finally:
        install(None)


def test_a_ration_fills_as_time_goes_by() -> None:
    now = [0.0]
    ration = Ration(2, lambda: now[0])
    assert [ration.spend() for _ in range(3)] == [True, True, False]
    now[0] = 0.5
    assert [ration.spend() for _ in range(2)] == [True, False]
    now[0] = 100
    assert [ration.spend() for _ in range(3)] == [True, True, False]
    assert not Ration(0, lambda: now[0]).spend()


def test_names_are_those_of_the_installed_conventions() -> None:
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    used = set(re.findall(r'"(gen_ai\.[a-z_.]+)"', Path(genai.__file__).read_text()))
    assert used
    assert used <= known
    operations = {one.value for one in gen_ai_attributes.GenAiOperationNameValues}
    assert {genai.operation_of(kind) for kind in ("chat.completions", "messages", "completions", "embeddings")} <= (
        operations
    )
    providers = {one.value for one in gen_ai_attributes.GenAiProviderNameValues}
    for provider in ("azure", "azure_ai", "bedrock", "gemini", "mistral", "vertex_ai", "watsonx", "xai", "openai"):
        assert genai.asked("embeddings", provider, "m", {})["gen_ai.provider.name"] in providers


def test_a_call_is_described_without_its_text() -> None:
    body = {"messages": [{"role": "user", "content": "who"}], "temperature": 0, "max_tokens": 5, "stream": True}
    assert genai.asked("chat.completions", "hosted_vllm", "m", body) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "hosted_vllm",
        "gen_ai.request.model": "m",
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.temperature": 0,
        "gen_ai.request.stream": True,
    }
    assert genai.answered(Usage(7, 3, 2), "stop", 0.5) == {
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.5,
    }


def test_text_is_shown_where_that_is_switched_on_and_secrets_never() -> None:
    body = {"messages": [{"role": "user", "content": "mail ann@example.com, my key is sk-stoker-0123456789abcdef"}]}
    install(Kept(), 1, 1, text=True)
    try:
        shown = genai.asked("chat.completions", "p", "m", body)["gen_ai.input.messages"]
    finally:
        install(None)
    assert shown == '[{"role":"user","content":"mail [address], my key is [key]"}]'


def test_of_a_long_prompt_the_beginning_is_shown_and_numbers_that_no_span_can_hold_are_not() -> None:
    body = {"prompt": ["word " * 10_000, "more"], "seed": 2**64 - 1}
    install(Kept(), 1, 1, text=True)
    try:
        shown = genai.asked("completions", "p", "m", body)
        documents = genai.asked("embeddings", "p", "m", {"input": ["a document"]}, query=False)
    finally:
        install(None)
    assert len(str(shown["gen_ai.input.messages"])) <= 20_010
    assert "gen_ai.request.seed" not in shown
    assert "gen_ai.input.messages" not in documents


def test_a_span_that_is_over_holds_nothing_of_its_request(kept: Kept) -> None:
    root = tracing.begin("request")
    assert root is not None
    call = tracing.start("call", "client")
    assert call is not None
    call.details = lambda: {}
    tracing.finish(root)
    assert call.details is None
    assert tracing.traceparent(call) == ""


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("call +49 (30) 901820-0 or 030 901820123", "call [telephone] or [telephone]"),
        ("card 4111 1111 1111 1111, order 4111 1111 1111 1112", "card [card], order 4111 1111 1111 1112"),
        ("in 2024-11-23 some 12500000 of 1,234,567.89 at 10.0.0.1", None),
        ("DE89 3704 0044 0532 0130 00", "[account]"),
        ("Authorization: Bearer abcdef0123456789", "Authorization: [token]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0abc.c2lnbmF0dXJl", "[token]"),
        ('{"password": "hunter22", "tokens": 5}', '{"[secret]", "tokens": 5}'),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----.", "[key]."),
        ("AKIAIOSFODNN7EXAMPLE and ghp_16C7e42F292c6912E7710c838347Ae178B4a", "[key] and [key]"),
        ("the token bucket holds 5: a secret of speed", None),
    ],
)
def test_what_has_the_form_of_a_secret_is_taken_out(text: str, left: str | None) -> None:
    assert redacted(text, 1000) == (text if left is None else left)
    assert redacted(f"my words:\n{text}", 1000) == f"my words:\n{text if left is None else left}"


@pytest.mark.parametrize(
    "text",
    [
        "STOKER_DB_PASSWORD=hunter22",
        "client_secret=hunter22",
        "AWS_SECRET_ACCESS_KEY: hunter22",
        "postgresql://ann:hunter22@db/stoker",
        f"sk-{'a' * 500}hunter22",
        f"{'word ' * 199}sk-abcdefghijklmnhunter22",
    ],
)
def test_nothing_is_told_of_a_secret(text: str) -> None:
    assert "hunter" not in redacted(text, 1015)


@pytest.mark.parametrize("part", ["eyJ-", "eyJaaaaaaaa.", "a@", "+4", "DE12 ", "://a:", "password", "-----BEGIN "])
def test_no_text_takes_long(part: str) -> None:
    began_s = perf_counter()
    redacted(part * (20_000 // len(part)), 20_000)
    assert perf_counter() - began_s < 2  # some milliseconds on a quiet machine


def _request(parent: str = "") -> None:
    root = tracing.begin("request", parent=parent)
    assert root is not None
    tracing.finish(root)
