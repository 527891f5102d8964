"""The commands and their flags; each is carried out by the module of its name."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from cli import edge, keys, models
from cli.completion import COMPLETE_VARIABLE, Shell, script, with_completion
from cli.console import err, leave_unheard, out
from cli.errors import CliError
from cli.settings import Engine, load_settings

if TYPE_CHECKING:
    from cli.ingest import Outcome

# Headings under which `--help` lists the commands.
_EVERYDAY, _DOCUMENTS, _MODELS = "Every day", "Documents", "Models"
_UPKEEP, _DEVELOPERS = "Upkeep", "For those who change Stoker"

app = typer.Typer(
    help="Your own GPUs as one OpenAI-compatible endpoint, with answers from your documents that can be checked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(keys.app, name="keys", rich_help_panel=_EVERYDAY)
app.add_typer(models.app, name="models", rich_help_panel=_MODELS)
app.add_typer(edge.app, name="edge", rich_help_panel=_DOCUMENTS)
collections = typer.Typer(help="Collections of documents: list, back up, bring back, index anew.", no_args_is_help=True)
app.add_typer(collections, name="collections", rich_help_panel=_DOCUMENTS)
benches = typer.Typer(help="Measure, beside what it is compared with.", no_args_is_help=True)
app.add_typer(benches, name="bench", rich_help_panel=_DEVELOPERS)

DataDir = Annotated[
    Path | None, typer.Option(help="Folder of everything that the stack keeps.", show_default=".stoker")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(rich_help_panel=_EVERYDAY)
def up(
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once the stack is ready, and leave it running.")
    ] = False,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The gateway's port.", show_default="8080")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Gateway processes.", show_default="1")] = None,
    data_dir: DataDir = None,
    config: Annotated[Path | None, typer.Option(help="Deployments, in LiteLLM's model_list form.")] = None,
    model: Annotated[str | None, typer.Option(help="Folder or hub name.", show_default="by the machine")] = None,
    engine: Annotated[Engine | None, typer.Option(help="What serves the model.", show_default="auto")] = None,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Leave the collection demo alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --detach: print JSON once it is ready.")] = False,
) -> None:
    """Make what is missing, start every process, ingest the project's documentation."""
    from cli.up import up as bring_up

    if as_json and not detach:
        raise CliError("--json says once what runs", "add --detach; without it, up goes on telling what happens")
    settings = load_settings(port=port, workers=workers, data_dir=data_dir, config=config, model=model, engine=engine)
    bring_up(settings, detach=detach, with_demo=not no_demo, as_json=as_json)


@app.command(rich_help_panel=_MODELS)
def cost(
    requests: Annotated[int, typer.Option(min=1, help="Requests a month.")],
    gpu_usd_per_hour: Annotated[float, typer.Option(min=0, help="Price of one GPU.")],
    tokens_per_second: Annotated[
        float, typer.Option(min=0.1, help="That one GPU writes at full load, as a load test prints it.")
    ],
    prompt_tokens: Annotated[int, typer.Option(min=0, help="Of one request, on average.")] = 1500,
    completion_tokens: Annotated[int, typer.Option(min=1, help="Of its answer, on average.")] = 300,
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of full load that the mean of a month may be.")
    ] = 0.3,
    fallback_share: Annotated[float, typer.Option(min=0, max=1, help="Of requests, to a hosted provider.")] = 0.02,
    cache_share: Annotated[float, typer.Option(min=0, max=0.99, help="Of requests, answered out of a cache.")] = 0,
    hosted: Annotated[str, typer.Option(help="The hosted model to compare with, as LiteLLM calls it.")] = "gpt-4o-mini",
    hosted_prompt_usd: Annotated[
        float | None, typer.Option(min=0, help="Its price for a million tokens read.", show_default="LiteLLM's table")
    ] = None,
    hosted_completion_usd: Annotated[
        float | None,
        typer.Option(min=0, help="Its price for a million tokens written.", show_default="LiteLLM's table"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a month of requests costs on GPUs of your own, beside a hosted provider."""
    from cli.cost import Gpu, Load, show
    from cli.cost import hosted as priced

    def exact(number: float) -> Decimal:
        return Decimal(str(number))

    if (hosted_prompt_usd is None) != (hosted_completion_usd is None):
        raise CliError("one price of two", "give both --hosted-prompt-usd and --hosted-completion-usd, or neither")
    named = [None if price is None else exact(price) for price in (hosted_prompt_usd, hosted_completion_usd)]
    load = Load(requests, prompt_tokens, completion_tokens, exact(cache_share), exact(fallback_share))
    gpu = Gpu(exact(gpu_usd_per_hour), exact(tokens_per_second), exact(utilisation))
    show(load, gpu, priced(hosted, *named), as_json=as_json)


@app.command(rich_help_panel=_EVERYDAY)
def down(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """End everything that runs."""
    from cli.down import end_stack

    settings = load_settings(data_dir=data_dir)
    was_running = end_stack(settings.run_dir)
    if as_json:
        out.print_json(data={"data_dir": str(settings.data_dir), "was_running": was_running})
    else:
        out.print("ended; nothing is left running" if was_running else f"nothing was running on {settings.data_dir}")


@app.command(rich_help_panel=_EVERYDAY)
def status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show processes, deployments and health; exit code 1 unless all is ready."""
    from cli.status import show_status

    if not show_status(load_settings(data_dir=data_dir), as_json=as_json):
        raise typer.Exit(1)


@app.command(rich_help_panel=_EVERYDAY)
def top(
    interval: Annotated[float, typer.Option(min=0.5, max=3600, help="Seconds between two frames.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame as plain text, after one interval.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print each frame as a line of JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Show what models, deployments, engines and GPUs do now, until Ctrl-C."""
    from cli.top.loop import show

    show(load_settings(data_dir=data_dir), interval, once=once, as_json=as_json)


@app.command(rich_help_panel=_EVERYDAY)
def logs(
    process: Annotated[str | None, typer.Argument(help="Such as gateway; all when left out.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    count: Annotated[int, typer.Option("-n", min=0, help="Lines from the end.")] = 50,
    data_dir: DataDir = None,
) -> None:
    """Show what the processes wrote."""
    from cli.logs import show_logs

    show_logs(load_settings(data_dir=data_dir), process, count, follow=follow)


@app.command(rich_help_panel=_EVERYDAY)
def doctor(
    data_dir: DataDir = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535)] = None,
    model: Annotated[str | None, typer.Option(help="Folder or hub name; whether it fits.")] = None,
    engine: Annotated[Engine | None, typer.Option(help="What would serve it.", show_default="auto")] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine; each finding names what to do."""
    from cli.doctor import doctor as examine

    if not examine(load_settings(data_dir=data_dir, port=port, model=model, engine=engine), as_json=as_json):
        raise typer.Exit(1)


@app.command(rich_help_panel=_EVERYDAY)
def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    collection: Annotated[str, typer.Option(help="The documents to ask.")] = "demo",
    model: Annotated[str | None, typer.Option(help="Model group; the server's choice when left out.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Ask the documents; the answer streams, then its sources follow."""
    from cli.ask import ask as put_question
    from cli.client import open_client

    with open_client(load_settings(data_dir=data_dir)) as client:
        put_question(client, question, collection, model, as_json=as_json)


@app.command(rich_help_panel=_DOCUMENTS)
def ocr() -> None:
    """Install text recognition for scans and pictures; the next `up` uses it."""
    from cli import environments

    environments.OCR.ensure()
    out.print("text recognition is installed; `./stoker down` and `./stoker up` make a running stack use it")


@app.command(rich_help_panel=_DOCUMENTS)
def warm(
    collection: Annotated[str, typer.Argument(help="The collection.")],
    questions: Annotated[Path, typer.Argument(help="One in each line, or JSON lines with `text`.")],
    model: Annotated[str | None, typer.Option(help="Model group; the server's choice when left out.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Have questions answered before they are asked, so that the cache has them; exit code 1 if any is not kept."""
    from cli.client import open_client
    from cli.warm import read_questions
    from cli.warm import warm as answer_before

    found = read_questions(questions)
    with open_client(load_settings(data_dir=data_dir)) as client:
        if not answer_before(client, collection, found, model, as_json=as_json):
            raise typer.Exit(1)


@app.command(rich_help_panel=_DOCUMENTS)
def ingest(
    collection: Annotated[str, typer.Option(help="Where they go; made when it is missing.")],
    paths: Annotated[list[Path] | None, typer.Argument(help="Files and folders.")] = None,
    metadata: Annotated[str | None, typer.Option(help="A JSON object for every document.")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="JSON lines: path or url, and title, metadata, acl, expires_after.")
    ] = None,
    watch: Annotated[Path | None, typer.Option(help="A folder that the collection follows, until Ctrl-C.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="With --watch: names left out, such as 'draft-*'.")] = None,
    interval: Annotated[float, typer.Option(min=0.1, max=3600, help="With --watch: seconds between two looks.")] = 2.0,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Put documents into a collection; exit code 1 if any failed."""
    from cli.client import open_client
    from cli.ingest import find_sources
    from cli.ingest import ingest as put_in

    if sum(1 for way in (paths, manifest, watch) if way) != 1:
        raise CliError("what is to be taken in?", "name files and folders, or --manifest FILE, or --watch FOLDER")
    if metadata is not None and not paths:
        raise CliError("--metadata goes with files and folders alone", "write it into the manifest's lines")
    if manifest is not None:
        from cli.manifest import ingest_manifest, read_manifest

        listed = read_manifest(manifest)
        with open_client(load_settings(data_dir=data_dir)) as client:
            _tell(collection, ingest_manifest(client, collection, listed), as_json=as_json)
        return
    if watch is not None:
        from cli.watch import watch as follow

        settings = load_settings(data_dir=data_dir)
        with open_client(settings) as client:
            follow(client, collection, watch, settings.data_dir / "watch", ignore or (), interval, as_json=as_json)
        return
    if metadata is not None:
        _require_object(metadata)
    sources, skipped = find_sources(paths or [])
    for path in skipped:
        err.print(f"[dim]skipped, not a supported format: {escape(str(path))}[/dim]")
    with open_client(load_settings(data_dir=data_dir)) as client:
        outcomes = put_in(client, collection, sources, metadata)
    _tell(collection, outcomes, as_json=as_json)


@app.command("eval", rich_help_panel=_DOCUMENTS)
def evaluate(
    collection: Annotated[str, typer.Argument(help="The collection.")],
    queries: Annotated[Path, typer.Option(help="Questions: queries.jsonl, as in BEIR.")],
    qrels: Annotated[Path, typer.Option(help="Judgements: question, document, grade.")],
    corpus: Annotated[Path | None, typer.Option(help="Documents for it if it is empty: corpus.jsonl.")] = None,
    judged_by: Annotated[
        str | None, typer.Option(help="What judgements call a document by: filename, id, or metadata.NAME.")
    ] = None,
    pipeline: Annotated[
        list[str] | None,
        typer.Option(help="hybrid, dense, lexical, or 'NAME={...}' with fields of /v1/search; again for more."),
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="First choose how hybrid search fuses here, and keep it for the collection.")
    ] = False,
    daily: Annotated[bool, typer.Option("--daily", help="Have it be evaluated so every day from now on.")] = False,
    every: Annotated[bool, typer.Option("--every", help="With --json: the figures of each question, too.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Measure how good a collection's search is: nDCG@10, recall@100, MRR and MAP, by judged questions."""
    from cli.client import open_client
    from cli.evaluate import Asked, tell
    from cli.evaluate import evaluate as measure

    asked = Asked(collection, queries, qrels, corpus, judged_by, pipeline or [], tune, every, daily)
    with open_client(load_settings(data_dir=data_dir)) as client:
        tell(measure(client, asked), as_json=as_json)


@collections.command("list")
def list_collections(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show the collections."""
    from cli.backup import listed
    from cli.client import open_client

    with open_client(load_settings(data_dir=data_dir)) as client:
        listed(client, as_json=as_json)


@collections.command("export")
def export_collection(
    name: Annotated[str, typer.Argument(help="The collection.")],
    to: Annotated[Path | None, typer.Option(help="The file; NAME.stoker.tar.gz when left out.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Write a collection's documents into one file, as they were sent in."""
    from cli.backup import export
    from cli.client import open_client

    file = to or Path(f"{name.replace('/', '_')}.stoker.tar.gz")
    with open_client(load_settings(data_dir=data_dir)) as client:
        count, left_out = export(client, name, file)
    for each in left_out:
        err.print(f"[dim]left out, gone meanwhile: {escape(each)}[/dim]")
    if as_json:
        out.print_json(data={"collection": name, "file": str(file), "documents": count, "left_out": list(left_out)})
    else:
        out.print(f"{count} documents of {name} are in {file}")


@collections.command("import")
def import_collection(
    file: Annotated[Path, typer.Argument(help="What collections export wrote.")],
    name: Annotated[str | None, typer.Option("--as", help="Another name for the collection.")] = None,
    model: Annotated[str | None, typer.Option(help="Its embedding model.", show_default="the server's first")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make a collection of such a file; exit code 1 if a document failed."""
    from cli.backup import restore
    from cli.client import open_client

    with open_client(load_settings(data_dir=data_dir)) as client:
        collection, outcomes = restore(client, file, name, model)
    _tell(collection, outcomes, as_json=as_json)


@collections.command("show")
def show_collection(
    name: Annotated[str, typer.Argument(help="The collection.")],
    as_json: Annotated[bool, typer.Option("--json", help="As ever: it prints JSON.")] = True,  # noqa: ARG001
    data_dir: DataDir = None,
) -> None:
    """Show all that is known of a collection, as JSON; how far a reindex is, too."""
    from cli.client import open_client
    from cli.reindex import show

    with open_client(load_settings(data_dir=data_dir)) as client:
        show(client, name)


@collections.command("reindex")
def reindex_collection(
    name: Annotated[str, typer.Argument(help="The collection.")],
    model: Annotated[str | None, typer.Option(help="The embedding model; it may be the one that it has.")] = None,
    chunking: Annotated[str | None, typer.Option(help="A JSON object; as it was when left out.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return once the new index answers.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Give up a reindex that runs.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Move a collection to another embedding model, or cut it anew; the old index answers meanwhile."""
    from cli.client import open_client
    from cli.reindex import cancel as give_up
    from cli.reindex import reindex

    if (model is None) != cancel:
        raise CliError("name either a model or --cancel", "./stoker collections reindex NAME --model MODEL")
    with open_client(load_settings(data_dir=data_dir)) as client:
        if model is None:
            give_up(client, name, as_json=as_json)
        else:
            reindex(client, name, model, chunking, wait=wait, as_json=as_json)


@app.command(rich_help_panel=_UPKEEP)
def backup(
    to: Annotated[Path, typer.Option(help="Folder in which the new backup gets a folder of its own.")],
    keep: Annotated[
        int | None, typer.Option(min=1, help="Whole backups that stay there, the newest.", show_default="all")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The stack's configuration file, kept without secrets.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Copy everything that the stack keeps, while it works; exit code 1 if something of it was lost before."""
    from cli.backups.making import backup as make
    from cli.backups.telling import tell_made

    folder, made = make(load_settings(data_dir=data_dir, config=config), to.resolve(), keep)
    tell_made(folder, made, as_json=as_json)
    if made.lost:
        raise typer.Exit(1)


@app.command(rich_help_panel=_UPKEEP)
def restore(
    folder: Annotated[Path | None, typer.Argument(help="What ./stoker backup has written.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take away what an interrupted restore has brought.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Fill an empty stack that does not run; an interrupted restore goes on when it is run again."""
    from cli.backups.restoring import restore as fill
    from cli.backups.restoring import undo as take_away
    from cli.backups.telling import tell_restored

    settings = load_settings(data_dir=data_dir)
    if undo == (folder is not None):
        raise CliError("name either a backup or --undo", "./stoker restore FOLDER")
    if folder is None:
        take_away(settings)
        out.print(f"{settings.data_dir} is empty again")
    else:
        tell_restored(settings, folder.resolve(), fill(settings, folder.resolve()))


@app.command(
    "test", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, rich_help_panel=_DEVELOPERS
)
def run_suite(
    context: typer.Context,
    fast: Annotated[bool, typer.Option("--fast", help="Everything without vLLM.")] = False,
    long: Annotated[
        bool,
        typer.Option(
            "--long",
            help="The tests that take minutes, and the promises, too: in parts of less than 45 minutes, those left out "
            "that have passed since the code changed. With words behind it: these tests, in one go.",
        ),
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="With --long: begin no part after so many minutes.")
    ] = None,
    part: Annotated[
        list[str] | None, typer.Option("--part", help="With --long: only parts whose names hold this; again for more.")
    ] = None,
    promises: Annotated[
        bool,
        typer.Option("--promises", help="Instead: plant the defects of docs/promises.toml; of those that hold WORDS."),
    ] = False,
) -> None:
    """Run the whole suite on real servers; further arguments go to pytest."""
    from cli.testrun import Extent, run_long, run_promises, run_tests

    if fast + long + promises > 1:
        raise CliError("--fast, --long and --promises exclude each other", "choose one")
    if (minutes is not None or part) and (not long or context.args):
        raise CliError("--minutes and --part go with --long alone", "leave them out, or the words behind them")
    if long and not context.args:
        run_long(minutes, part or ())
        return
    if promises:
        run_promises(context.args)
        return
    run_tests(Extent.FAST if fast else Extent.LONG if long else Extent.USUAL, context.args)


@benches.command("gateway", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def measure_gateway(
    context: typer.Context,
    peer: Annotated[str | None, typer.Option(help="Measure this beside it: litellm.")] = None,
) -> None:
    """What a request costs in the gateway, everything switched on; further arguments: --rounds --requests --streams."""
    from cli.bench import bench_gateway

    bench_gateway(peer, context.args)


@benches.command("engine", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def measure_engine(context: typer.Context) -> None:
    """Tokens a second of real vLLM through the gateway, beside direct ones; further: --pairs --streams --tokens."""
    from cli.bench import bench_engine

    bench_engine(context.args)


@benches.command("search", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def measure_search(context: typer.Context) -> None:
    """How long a search takes while documents come in, and while none do; further: --rounds --searches --base."""
    from cli.bench import bench_search

    bench_search(context.args)


@benches.command("edge", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def measure_edge(context: typer.Context) -> None:
    """How long a search of an edge takes, and its memory; further: --chunks --searches --graph."""
    from cli.bench import bench_edge

    bench_edge(context.args)


@benches.command("savings", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def measure_savings(context: typer.Context) -> None:
    """What caching and `auto` save of a workload's price, and what they lose in right answers."""
    from cli.bench import bench_savings

    bench_savings(context.args)


@benches.command("embeddings", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def measure_embeddings(
    context: typer.Context,
    peer: Annotated[str | None, typer.Option(help="Measure this beside it: infinity.")] = None,
) -> None:
    """Texts a second beside plain `encode`, and questions during bulk work; further: --texts --rounds --questions
    --collections.
    """
    from cli.bench import bench_embeddings

    bench_embeddings(peer, context.args)


@benches.command("budget")
def measure_budget() -> None:
    """Processor time of the rooms that a model request passes, each by itself, in microseconds."""
    from cli.bench import bench_budget

    bench_budget()


@benches.command("load", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def measure_load(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(help="The server, with STOKER_API_KEY; default: that of ask.")] = None,
    mock: Annotated[bool, typer.Option("--mock", help="Start a mock that only keeps time, and ask that.")] = False,
    data_dir: DataDir = None,
) -> None:
    """What a server does under a load; further: --scenario --rate --users --duration --seed --slo --report, and those
    of docs/load.md.
    """
    from cli.bench import bench_load

    bench_load(load_settings(data_dir=data_dir), url, mock, context.args)


@benches.command("faults", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def measure_faults(context: typer.Context) -> None:
    """Whole right answers under every fault of an upstream that has a healthy twin; further: --calls."""
    from cli.bench import bench_faults

    bench_faults(context.args)


def _tell(collection: str, outcomes: "Sequence[Outcome]", *, as_json: bool) -> None:
    """Say how documents ended. Raises: typer.Exit: with 1, if one failed."""
    failed = [outcome for outcome in outcomes if outcome.status != "ready"]
    if as_json:
        out.print_json(data={"collection": collection, "documents": [asdict(outcome) for outcome in outcomes]})
        raise typer.Exit(1 if failed else 0)
    for outcome in failed:
        err.print(f"[red]{escape(outcome.filename)}[/red]: {escape(outcome.error or outcome.status)}")
    out.print(f"{len(outcomes) - len(failed)} of {len(outcomes)} documents are ready in {collection}")
    if failed:
        raise typer.Exit(1)


@app.command(rich_help_panel=_UPKEEP)
def completion(shell: Annotated[Shell, typer.Argument(help="The shell that is to complete.")]) -> None:
    """Print a script by which a shell completes commands and flags; docs/cli.md says where it goes."""
    out.print(script(shell), markup=False, end="")


def run() -> None:
    """The entry: expected failures become two lines and exit code 1."""
    with_completion()
    _guarded(lambda: app(prog_name="./stoker", complete_var=COMPLETE_VARIABLE))


def _guarded(command: Callable[[], object]) -> None:
    try:
        command()
    except CliError as error:
        err.print(f"[red]stoker:[/red] {escape(error.message)}")
        if error.remedy:
            err.print(f"  what to do: {escape(error.remedy)}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        leave_unheard()


def _require_object(metadata: str) -> None:
    try:
        value = json.loads(metadata)
    except json.JSONDecodeError as error:
        raise CliError(f"--metadata is no JSON: {error}", 'write it like --metadata \'{"team": "docs"}\'') from error
    if not isinstance(value, dict):
        raise CliError("--metadata must be a JSON object", 'write it like --metadata \'{"team": "docs"}\'')
