"""`./stoker eval`: judged questions through several ways of searching, and a table of how good each is."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from cli.client import Client
from cli.console import err, out
from cli.errors import CliError
from cli.ingest import ensure_collection, follow
from cli.judged import Text, judgements, texts

_DOCUMENTS_AT_ONCE = 50
_BYTES_AT_ONCE = 10_000_000
_ID = "_id"
_MEASURES = {"ndcg@10": "nDCG@10", "recall@100": "recall@100", "mrr": "MRR", "map": "MAP"}
_CLEAR = 0.05


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be evaluated.

    Attributes:
        corpus: documents to fill the collection with, if it is empty.
        judged_by: what judgements call a document by; None: by its id in the corpus, else by its name.
        pipelines: such as `hybrid`, or `NAME={"mode": ...}`; none: the three modes.
        tune: choose first how hybrid search fuses, and keep it for the collection.
        daily: have these questions evaluate the collection every day from now on.
        every: also the figures of each question, where the answer is printed as JSON.
    """

    collection: str
    queries: Path
    qrels: Path
    corpus: Path | None = None
    judged_by: str | None = None
    pipelines: Sequence[str] = field(default_factory=list)
    tune: bool = False
    every: bool = False
    daily: bool = False


def evaluate(client: Client, asked: Asked) -> dict[str, Any]:
    """Fill and tune the collection if need be, and evaluate it, with progress. Returns: what /v1/evals answers."""
    questions, qrels = texts(asked.queries), judgements(asked.qrels)
    if asked.corpus is not None:
        fill(client, asked.collection, texts(asked.corpus))
    body: dict[str, Any] = {
        "collection": asked.collection,
        "queries": [{"id": one.id, "text": one.text} for one in questions],
        "qrels": qrels,
        "judged_by": asked.judged_by or ("filename" if asked.corpus is None else f"metadata.{_ID}"),
        "per_query": asked.every,
        "stream": True,
    }
    if asked.pipelines:
        body["pipelines"] = [_pipeline(one) for one in asked.pipelines]
    if asked.tune:
        _keep(client, _run(client, {**body, "tune": True}))
    found = _run(client, body)
    if asked.daily:
        _repeat(client, body)
    return found


def _repeat(client: Client, body: dict[str, Any]) -> None:
    """Have the collection be evaluated so every day."""
    name = body["collection"]
    judged = {field: body[field] for field in ("queries", "qrels", "judged_by")}
    client.put(f"/v1/collections/{quote(name, safe='')}/evaluation", judged)
    err.print(f"{name} is evaluated so every day from now on; stoker_evaluation_score tells how well it does")


def _keep(client: Client, tuned: dict[str, Any]) -> None:
    """Have the collection be searched as was chosen."""
    client.patch(f"/v1/collections/{quote(tuned['collection'], safe='')}", {"search": tuned["search"]})
    fusion, worth = tuned["search"]["fusion"], tuned["ndcg@10"]
    err.print(
        f"{tuned['collection']} is now fused by {fusion['method']}, {fusion['dense_weight']:.0%} dense: nDCG@10 "
        f"{worth['tuned']:.3f} on these questions, {worth['cross_validated']:.3f} to be expected on others; as usual "
        f"it was {worth['usual']:.3f}, dense alone {worth['dense']:.3f}, lexical alone {worth['lexical']:.3f}"
    )


def _run(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    with Progress(console=err, disable=not err.is_terminal, transient=True) as bars:
        bar = bars.add_task("searches", total=None)
        for event in client.stream("/v1/evals", body):
            if event.name == "progress":
                bars.update(bar, completed=event.data["done"], total=event.data["of"])
            elif event.name == "error":
                error = event.data["error"]
                raise CliError(str(error["message"]), "./stoker status shows which part is away; evaluate again")
            elif event.name == "done":
                return dict(event.data)
    raise CliError("the evaluation broke off", "evaluate again; ./stoker logs gateway may say why")


def fill(client: Client, collection: str, corpus: Sequence[Text]) -> None:
    """Make the collection and put the documents in, unless it has some already."""
    ensure_collection(client, collection)
    there = client.get(f"/v1/collections/{quote(collection, safe='')}")
    if there["documents"]:
        err.print(f"{collection} has {there['documents']:,} documents already: nothing is put in")
        return
    failed: dict[str, str] = {}
    with Progress(console=err, disable=not err.is_terminal) as bars:
        bar = bars.add_task(f"{len(corpus):,} documents", total=len(corpus))
        for batch in _batches(corpus):
            job = client.post("/v1/ingest", {"collection": collection, "documents": [_document(one) for one in batch]})
            for outcome in follow(client, job["job_id"], Progress(disable=True)):
                if outcome.status != "ready":
                    failed[outcome.filename] = outcome.error or outcome.status
            bars.advance(bar, len(batch))
    err.print(f"{len(corpus) - len(failed):,} of {len(corpus):,} documents are ready in {collection}")
    for name, reason in list(failed.items())[:5]:
        err.print(f"[yellow]{escape(name)}: {escape(reason)}[/yellow]")


def tell(found: dict[str, Any], *, as_json: bool) -> None:
    """Print an evaluation: a table, what differs, and what to be careful about."""
    if as_json:
        out.print_json(json.dumps(found))
        return
    table = Table("", *_MEASURES.values(), "p50", "p99", box=None)
    for one in found["pipelines"]:
        cells = [_interval(one["measures"][name]) for name in _MEASURES]
        table.add_row(one["name"], *cells, f"{one['search_ms']['p50']:.0f} ms", f"{one['search_ms']['p99']:.0f} ms")
    out.print(
        f"{found['collection']}, version {found['collection_version']}: {found['queries']} questions "
        "(95 % intervals in parentheses)",
        markup=False,
    )
    out.print(table)
    for one in found["comparisons"]:
        out.print(_compared(one), markup=False)
    _warn(found)


def _warn(found: dict[str, Any]) -> None:
    if found["missing_documents"]:
        some = escape(", ".join(found["missing_examples"]))
        err.print(f"[yellow]{found['missing_documents']} judged documents are not in the collection: {some}[/yellow]")
    if found["unjudged_queries"]:
        err.print(f"[yellow]{found['unjudged_queries']} questions have no relevant document, and don't count[/yellow]")
    if found["changed_meanwhile"]:
        err.print("[yellow]the collection was changed meanwhile: evaluate again[/yellow]")
    for one in found["pipelines"]:
        if one["degraded_queries"]:
            err.print(
                f"[yellow]{one['name']}: a part was away for {one['degraded_queries']} questions, so these figures are "
                "of something else; ./stoker status shows which[/yellow]"
            )


def _interval(measure: dict[str, float]) -> str:
    return f"{measure['mean']:.3f} ({measure['low']:.3f} to {measure['high']:.3f})"


def _compared(one: dict[str, Any]) -> str:
    difference = one["difference"]
    clear = "clearly" if one["p"] < _CLEAR else "not clearly"
    return (
        f"{one['second']} differs {clear} from {one['first']}: nDCG@10 {difference['mean']:+.3f} "
        f"({difference['low']:+.3f} to {difference['high']:+.3f}), p = {one['p']:.3f}; better on {one['better']} "
        f"questions, worse on {one['worse']}"
    )


def _pipeline(said: str) -> dict[str, Any]:
    name, has_more, raw = said.partition("=")
    try:
        rest = json.loads(raw) if has_more else {"mode": name}
    except ValueError as error:
        raise CliError(f"{said!r} is no pipeline: {error}", 'say hybrid, or \'mine={"mode": "hybrid"}\'') from error
    if not isinstance(rest, dict):
        raise CliError(f"{said!r} is no pipeline", 'say hybrid, or \'mine={"mode": "hybrid"}\'')
    return {"name": name, **rest}


def _document(one: Text) -> dict[str, Any]:
    content = f"{one.title}\n\n{one.text}".strip() or " "
    return {"title": one.id, "content": content, "metadata": {**one.metadata, _ID: one.id}}


def _batches(corpus: Sequence[Text]) -> Iterator[list[Text]]:
    batch: list[Text] = []
    size = 0
    for one in corpus:
        if batch and (len(batch) == _DOCUMENTS_AT_ONCE or size + len(one.text) > _BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += len(one.text)
    if batch:
        yield batch
