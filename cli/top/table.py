"""How a frame looks."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.console import short_bytes, short_time
from cli.top.frame import DeploymentRow, Frame, ModelRow
from monitoring.gpus.readings import Gpu

_UNKNOWN = "-"


def shown(frame: Frame, url: str) -> RenderableType:
    """The whole frame: a head, a table for each kind of thing, and what a person should know."""
    parts: list[RenderableType] = [_head(frame, url), ""]
    if frame.models:
        parts += [_models(frame), ""]
    if frame.deployments:
        parts += [_deployments(frame), ""]
    if frame.look.gpus:
        parts += [_gpus(frame), ""]
    parts += [Text(note, style="yellow") for note in frame.look.notes]
    return Group(*parts)


def _head(frame: Frame, url: str) -> RenderableType:
    look = frame.look
    said = f"{url}, over {frame.seconds:.1f} s: {frame.requests_s:.1f} requests/s, {frame.failed_s:.1f} failed/s"
    lines = [f"{said}, {frame.running} running"]
    if look.spent_usd is not None:
        usd, whose = look.spent_usd
        lines.append(f"spent today (UTC) by {whose}: {float(usd):.4f} USD")
    if frame.ingest_waiting is not None:
        since = f", the oldest for {short_time(frame.ingest_waited_s or 0)}" if frame.ingest_waiting else ""
        lines.append(f"ingestion: {frame.ingest_waiting} documents wait{since}")
    text = Text("\n".join(lines))
    for name, word in (look.parts or {}).items():
        if word != "ok":
            text.append(f"\n{name}: {word}", style="red")
    return text


def _models(frame: Frame) -> Table:
    table = _table("model", "calls/s", "in tok/s", "out tok/s", "TTFT p50", "TTFT p95")
    for row in frame.models:
        table.add_row(Text(row.name), *_model_cells(row))
    table.caption = f"TTFT over the last {frame.window_s:.0f} s"
    table.caption_justify = "left"
    return table


def _model_cells(row: ModelRow) -> list[str]:
    rates = [f"{value:.1f}" for value in (row.calls_s, row.tokens_in_s, row.tokens_out_s)]
    return [*rates, _milliseconds(row.ttft_p50_s), _milliseconds(row.ttft_p95_s)]


def _deployments(frame: Frame) -> Table:
    table = _table(
        "deployment", "model", "state", "calls/s", "running", "in engine", "waiting", "KV", "in tok/s", "out tok/s"
    )
    for row in frame.deployments:
        style = "" if row.state == "ok" else "red"
        table.add_row(*map(Text, (row.name, row.model, row.state)), *_deployment_cells(row), style=style)
    return table


def _deployment_cells(row: DeploymentRow) -> list[str]:
    return [
        f"{row.calls_s:.1f}",
        str(row.running),
        _number(row.engine_running),
        _number(row.engine_waiting),
        _share(row.kv_share),
        _rate(row.tokens_in_s),
        _rate(row.tokens_out_s),
    ]


def _gpus(frame: Frame) -> Table:
    table = _table("GPU", "name", "active", "memory", "power")
    for gpu in frame.look.gpus:
        table.add_row(
            Text(f"{gpu.host}:{gpu.index}"),
            Text(gpu.name),
            _share(gpu.active_ratio),
            _memory(gpu),
            _UNKNOWN if gpu.power_watts is None else f"{gpu.power_watts:.0f} W",
        )
    return table


def _table(*titles: str) -> Table:
    """Names to the left, figures to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        is_name = title in ("model", "deployment", "state", "GPU", "name")
        table.add_column(title, justify="left" if is_name else "right", no_wrap=True)
    return table


def _memory(gpu: Gpu) -> str:
    used, free = gpu.memory_used_bytes, gpu.memory_free_bytes
    if used is None:
        return _UNKNOWN
    return short_bytes(used) if free is None else f"{short_bytes(used)} of {short_bytes(used + free)}"


def _milliseconds(seconds: float | None) -> str:
    return _UNKNOWN if seconds is None else f"{seconds * 1000:.0f} ms"


def _share(ratio: float | None) -> str:
    return _UNKNOWN if ratio is None else f"{ratio:.0%}"


def _number(count: int | None) -> str:
    return _UNKNOWN if count is None else str(count)


def _rate(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.1f}"
