"""`./stoker edge`: a collection in one folder, to be served where there is no network."""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from cli import environments, modelfiles
from cli.client import Client, open_client, sound_key
from cli.console import Steps, err, out, short_bytes
from cli.environments import inference
from cli.errors import CliError
from cli.settings import ROOT, CliSettings, Engine, load_settings

app = typer.Typer(help="A collection in the field: export it into a folder, serve the folder.", no_args_is_help=True)
_NO_MODEL = "none"


@app.command("export")
def export_collection(
    collection: Annotated[str, typer.Argument(help="The collection.")],
    output: Annotated[Path | None, typer.Option(help="The folder; COLLECTION.edge when left out.")] = None,
    llm: Annotated[str, typer.Option(help="Folder of a model that writes answers, or none: passages are quoted.")] = (
        "none"
    ),
    principal: Annotated[
        list[str] | None,
        typer.Option(help="Whose rights apply, user:ID or group:NAME; again for more. Else: what everyone may read."),
    ] = None,
    embedding_model: Annotated[
        Path | None, typer.Option(help="Folder of the collection's embedding model.", show_default="the stack's own")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the stack.", show_default=".stoker")] = None,
) -> None:
    """Export a collection as it stands: texts, vectors, statistics and models, in one folder."""
    settings = load_settings(data_dir=data_dir)
    with open_client(settings) as client:
        _export(client, settings, collection, output, llm, principal or [], embedding_model)


@app.command()
def serve(
    folder: Annotated[Path, typer.Argument(help="What edge export made.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8090,
    host: Annotated[str, typer.Option(help="Address to listen on; any other than this machine's needs a key.")] = (
        "127.0.0.1"
    ),
    key: Annotated[
        str | None, typer.Option(envvar="STOKER_EDGE_KEY", help="Key that callers must send.", show_default="none")
    ] = None,
    central: Annotated[
        str | None, typer.Option(help="A gateway that hard questions may go to, by the key in STOKER_API_KEY.")
    ] = None,
) -> None:
    """Serve an exported folder, without a network, until Ctrl-C."""
    environments.EDGE.ensure()
    command = [str(environments.EDGE.python), "-m", "edge", "--folder", str(folder.resolve()), "--host", host]
    command += ["--port", str(port), *(["--central", central] if central else [])]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_EDGE_")}
    upward = os.environ.get("STOKER_API_KEY", "")
    if central and upward:
        upward = sound_key(upward, "STOKER_API_KEY")
    secrets = {"STOKER_EDGE_KEY": key or "", "STOKER_EDGE_CENTRAL_KEY": upward}
    sys.stdout.flush()
    os.chdir(ROOT)
    os.execve(command[0], command, {**kept, **secrets, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"})  # noqa: S606


def _export(
    client: Client,
    settings: CliSettings,
    name: str,
    output: Path | None,
    llm: str,
    principals: Sequence[str],
    embedding: Path | None,
) -> None:
    from core.version import VERSION
    from edge.errors import EdgeError
    from edge.exporting import ModelFolder, write

    to = (output or Path(f"{name.replace('/', '_')}.edge")).expanduser().absolute()
    writer = None if llm == _NO_MODEL else Path(llm).expanduser().resolve()
    where = f"/v1/collections/{quote(name, safe='')}"
    about = client.get(where)
    space = str(about["embedding_model"])
    embedder = ModelFolder(embedding.expanduser().resolve() if embedding else _embedding(settings, space), space)
    writes = None if writer is None else ModelFolder(writer, writer.name)
    query = "&".join(f"readers={quote(one, safe=':')}" for one in principals)
    lines = client.lines(f"{where}/export{'?' if query else ''}{query}")
    try:
        manifest = write(_records(lines), to, embedder, writes, VERSION, time.time())
    except EdgeError as error:
        raise CliError(error.message, error.remedy) from error
    for warning in manifest.warnings:
        err.print(f"[yellow]note:[/yellow] {warning}")
    out.print(
        f"{manifest.documents} of {about['documents']} documents of {name}, version {manifest.collection['version']}, "
        f"are in {to} ({short_bytes(manifest.bytes)})",
        markup=False,
    )
    if manifest.documents < about["documents"]:
        err.print("[dim]the others are not ready, or not for everyone: --principal says whose rights apply[/dim]")
    out.print(f"Try:  ./stoker edge serve {to}", markup=False)


def _records(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Raises: CliError: a line is no record."""
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise CliError("what the gateway sent is no export", "check STOKER_URL, and run the same command again")
        yield record


def _embedding(settings: CliSettings, name: str) -> Path:
    """The folder of the model that embeds for the local stack. Raises: CliError: it is not the collection's."""
    named = settings.embedding_model
    candidates = [Path(named)] if named else []
    candidates.append(settings.models_dir / name)
    for folder in candidates:
        if folder.name == name and (folder / "modules.json").is_file():
            return folder
    if named is None:
        python = inference(Engine.VLLM_CPU).python
        if python.exists():
            worker = modelfiles.Worker(python, settings.models_dir, settings.logs_dir / "models.log")
            found = worker.prepare(Steps(), ["embedding"])["embedding"]
            if found.name == name:
                return Path(found.folder)
    raise CliError(
        f"the files of {name}, which embeds this collection, are not found here",
        "name their folder with --embedding-model",
    )
