"""A run's report: one file of JSON, one of HTML that needs nothing else, a table for the terminal, rows of requests."""

import csv
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from tests.load.generator.answer import Sample
from tests.load.generator.driver import Driven
from tests.load.generator.figures import latencies
from tests.load.generator.plots import by_second, distribution, plot

_LATENCIES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "itl_s": "ITL", "e2e_s": "end to end"}
_COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")
_STYLE = (
    "body{font:14px system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}"
    "td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}svg{width:34rem;max-width:100%;font:11px system-ui,sans-serif}"
    ".warning{background:#ffebe9;border:2px solid #cf222e;padding:.8rem;font-weight:bold}"
)


def write(folder: Path, found: dict[str, Any], driven: Sequence[Driven], *, rows: bool = False) -> list[Path]:
    """Write `report.json` and `report.html`, and `requests.csv` where rows are wanted. Returns: what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = sorted((one for each in driven for one in each.samples), key=lambda one: one.scheduled_s)
    files = {"report.json": json.dumps(found, indent=2) + "\n", "report.html": html(found, samples)}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    if rows:
        with (folder / "requests.csv").open("w", newline="", encoding="utf-8") as file:
            _rows(csv.writer(file), samples)
        files["requests.csv"] = ""
    return [folder / name for name in files]


def table(found: dict[str, Any]) -> str:
    """The figures as a person reads them in a terminal: Markdown, latencies in milliseconds."""
    lines = ["| | " + " | ".join(_COLUMNS) + " | count |", "|" + " --- |" * (len(_COLUMNS) + 2)]
    for key, name in _LATENCIES.items():
        cells = " | ".join(f"{found[key][column] * 1e3:.1f}" for column in _COLUMNS)
        lines.append(f"| {name}, ms | {cells} | {found[key]['count']} |")
    lines += ["", *(f"{name}: {value}" for name, value in summary(found).items())]
    lines += [f"WARNING: {warning}" for warning in found["warnings"]]
    return "\n".join(lines)


def summary(found: dict[str, Any]) -> dict[str, str]:
    """What is no latency."""
    failures = ", ".join(f"{count} {what}" for what, count in found["failures"].items()) or "none"
    bounds = ", ".join(f"{name[:-2]} {bound:g} s" for name, bound in found["slo"].items() if bound is not None)
    told = {
        "requests": f"{found['requests']}, of which {found['ended_well']} ended well",
        "failures": failures,
        "output tokens/s": f"{found['output_tokens_per_s']:.1f}",
        "prompt and output tokens/s": f"{found['total_tokens_per_s']:.1f}",
        "goodput": f"{found['goodput_per_s']:.2f} requests/s ({_percent(found['good_share'])}) within "
        f"{bounds or 'no bound: every answer that ended well'}",
        "prompt tokens out of the engine's cache": _percent(found["cached_tokens_share"]),
        "answers out of Stoker's caches": _percent(found["cache_hits_share"]),
        "answers with citations": _percent(found["cited_share"]),
        "client": f"{found['client']['processes']} processes, {max(found['client']['cpu_share'], default=0):.0%} of a "
        f"core at most, {found['client']['late_s']['p99'] * 1e3:.1f} ms late at p99",
    }
    if (engine := found.get("engine")) is not None:
        word = {True: "equal to", False: "NOT EQUAL to", None: "not comparable, because answers failed, with"}
        ours = found["whole"]
        told["engine's counters"] = (
            f"{engine['prompt_tokens']} prompt and {engine['output_tokens']} output tokens, {word[engine['equal']]} "
            f"the answers' {ours['prompt_tokens']} and {ours['output_tokens']}"
        )
    return told


def html(found: dict[str, Any], samples: Sequence[Sample]) -> str:
    """One page without scripts, and without anything of another host."""
    end_s = max((sample.ended_s for sample in samples), default=1.0)
    tokens = [
        (at_s, (sample.output_tokens or 0) / len(sample.tokens_s)) for sample in samples for at_s in sample.tokens_s
    ]
    ttft = [(one.scheduled_s, one.ttft_s) for one in samples if one.ttft_s is not None and one.failure is None]
    failed = [(sample.ended_s, 1.0) for sample in samples if sample.failure is not None]
    spread = {
        "TTFT": distribution(latencies(samples, lambda one: one.ttft_s)),
        "end to end": distribution(latencies(samples, lambda one: one.e2e_s)),
    }
    plots = (
        plot("Latencies of all answers", "seconds", "percent that took no longer", spread),
        plot("TTFT by the scheduled moment", "second of the run", "seconds", {"TTFT": ttft}, points=True),
        plot("Tokens by second", "second of the run", "tokens", {"output": by_second(tokens, end_s)}),
        plot("Failures by second", "second of the run", "requests", {"failed": by_second(failed, end_s)}),
    )
    rows = _pairs(summary(found))
    warnings = "".join(f'<p class="warning">{escape(warning)}</p>' for warning in found["warnings"])
    kinds = "".join(f"<h2>{escape(kind)}</h2>{_latencies(of)}" for kind, of in found["kinds"].items())
    settings = _pairs({**found.get("asked", {}), **found["plan"]})
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Load test</title><style>{_STYLE}</style></head><body><h1>Load test</h1>{warnings}"
        f"{_latencies(found)}<table>{rows}</table>{''.join(plots)}{kinds}<h2>What was asked</h2>"
        f"<table>{settings}</table></body></html>\n"
    )


def _pairs(values: dict[str, Any]) -> str:
    return "".join(f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in values.items())


def _latencies(found: dict[str, Any]) -> str:
    head = "".join(f"<th>{column}</th>" for column in ("milliseconds", *_COLUMNS, "count"))
    rows = "".join(
        f"<tr><td>{name}</td>"
        + "".join(f"<td>{found[key][column] * 1e3:.1f}</td>" for column in _COLUMNS)
        + f"<td>{found[key]['count']}</td></tr>"
        for key, name in _LATENCIES.items()
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _rows(writer: Any, samples: Sequence[Sample]) -> None:
    writer.writerow("number kind scheduled_s held_s ttft_s tpot_s e2e_s prompt_tokens output_tokens failure".split())
    for one in samples:
        times = (one.scheduled_s, one.held_s, one.ttft_s, one.tpot_s, one.e2e_s)
        counts = (one.prompt_tokens, one.output_tokens)
        writer.writerow(
            [
                one.number,
                one.kind,
                *("" if value is None else f"{value:.6f}" for value in times),
                *("" if value is None else value for value in counts),
                one.what,
            ]
        )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
