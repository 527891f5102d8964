"""`./stoker models`: fetch, check, keep and carry what the servers load."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cli.console import Steps, out, short_bytes
from cli.modelfiles import Worker
from cli.settings import CliSettings, Engine, load_settings

app = typer.Typer(help="Models: fetch, list, check, remove, carry to hosts without a hub.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder of the logs.", show_default=".stoker")]
Name = Annotated[str, typer.Argument(help="ORGANISATION/NAME, NAME@REVISION or NAME:FILE.gguf.")]


@app.command("list")
def list_models(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show the models in the folder of models, whole ones and begun ones."""
    found = _light(data_dir).run("list", steps=Steps())["models"]
    if as_json:
        out.print_json(json.dumps(found))
        return
    table = Table("name", "size", "source", "commit", "state", box=None)
    for each in found:
        size, commit = short_bytes(each["bytes"]), (each["commit"] or "")[:12]
        table.add_row(each["name"], size, escape(each["source"]), commit, each["state"])  # a bundle may say anything
    out.print(table)


@app.command()
def pull(name: Name, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Fetch a model from the hub, checked; run again, it goes on where it stopped."""
    found = _whole(data_dir).pull(Steps(), name, if_missing=False)
    _tell({"folder": found.folder, "name": found.name}, f"{name} is in {found.folder}", as_json=as_json)


@app.command()
def verify(name: Name, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Read every byte of a model again; exit code 1 if one is wrong."""
    found = _light(data_dir).run("verify", name, steps=Steps())["verified"]
    text = f"{name} is as it should be: {found['files']} files, {short_bytes(found['bytes'])}"
    _tell(found, text, as_json=as_json)


@app.command()
def remove(name: Name, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Remove a model, and what an interrupted pull left of it."""
    found = _light(data_dir).run("remove", name, steps=Steps())
    _tell(found, f"{name} is removed", as_json=as_json)


@app.command("export")
def export_models(
    names: Annotated[list[str], typer.Argument(metavar="NAME... FILE.tar", help="The models, then the file.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Write models into one file, to be carried to a host without a hub."""
    if len(names) < 2:
        raise typer.BadParameter("name models, and then the file")
    found = _whole(data_dir).run("export", *names[:-1], str(Path(names[-1]).absolute()), steps=Steps())["exported"]
    text = f"{', '.join(found['models'])} in {found['file']} ({short_bytes(found['bytes'])})"
    _tell(found, text, as_json=as_json)


@app.command("import")
def import_models(
    file: Annotated[Path, typer.Argument(help="What models export wrote.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Take the models out of such a file, every checksum looked at."""
    found = _light(data_dir).run("import", str(file.absolute()), steps=Steps())
    lines = [f"{name} is imported" for name in found["imported"]]
    lines += [f"{name} was there already, and equal" for name in found["there"]]
    _tell(found, "\n".join(lines), as_json=as_json)


def _light(data_dir: Path | None) -> Worker:
    """For what needs nothing but Python: it works before the inference environment is installed."""
    return _worker(load_settings(data_dir=data_dir), Path(sys.executable))


def _whole(data_dir: Path | None) -> Worker:
    """For what reaches the hub, converts, or looks into packages."""
    # Here: every other command would have to read the router's configuration and more before it begins.
    from cli import environments
    from cli.plan import detect_engine

    settings = load_settings(data_dir=data_dir)
    engine = detect_engine(settings.engine)
    environment = environments.inference(Engine.VLLM_CPU if engine is Engine.NONE else engine)
    environment.ensure()
    return _worker(settings, environment.python)


def _worker(settings: CliSettings, python: Path) -> Worker:
    return Worker(python, settings.models_dir, settings.logs_dir / "models.log")


def _tell(found: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps(found))
    else:
        out.print(text, markup=False)
