"""Model files: makes, fetches, checks and carries what the servers load, and says where it is.

`python -m inference.models COMMAND --models-dir D ...` prints one JSON object a line:

    progress    {"step", "message", "done"}, of bytes also {"bytes", "total"}: at most two such lines a second
    at the end  {"ready": {KIND: {"folder", "name"}}}     prepare [llm] [embedding]: the default models
                {"ready": {"model": {"folder", "name"}}}  pull NAME[:FILE.gguf][@REVISION] [--if-missing]
                {"models": [{"name", "bytes", "source", "commit", "folder", "state"}]}   list
                {"verified": {"name", "files", "bytes"}}  verify NAME
                {"removed": NAME}                         remove NAME
                {"exported": {"file", "models", "bytes"}} export NAME... FILE.tar
                {"imported": [NAME...], "there": [...]}   import FILE.tar
    a failure   {"step": "failed", "error", "message", "remedy"} and exit status 1; `error` is both in one line

Every command can be interrupted and run again: a folder appears under its final name only when it is whole, and what a
pull has fetched stays for the next. `name` is the name to serve a model under.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from inference.modelfiles import bundle, defaults, unbundle
from inference.modelfiles.errors import ModelFilesError, NameRefused
from inference.modelfiles.names import ModelName
from inference.modelfiles.says import emit
from inference.modelfiles.store import Store


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    models_dir = options.models_dir.resolve()
    work: Callable[[Path, argparse.Namespace], dict[str, object]] = options.work
    try:
        emit(work(models_dir, options))
    except ModelFilesError as error:
        return _failed(error)
    except OSError as error:
        where = error.filename or models_dir
        return _failed(ModelFilesError(f"{where}: {error.strerror or error}", "make it readable and writable"))
    return 0


def _prepare(models_dir: Path, options: argparse.Namespace) -> dict[str, object]:
    return {"ready": defaults.prepare(models_dir, options.kinds or tuple(defaults.Kind))}


def _pull(models_dir: Path, options: argparse.Namespace) -> dict[str, object]:
    # Here, because all other commands do without huggingface_hub.
    from inference.modelfiles.hub import Hub
    from inference.modelfiles.pull import pull

    name = ModelName.parse(options.name)
    if str(name) in defaults.NAMES:
        raise NameRefused(f"{name} is a default model, and comes in a package", "./stoker up makes it ready")
    folder = pull(Store(models_dir), Hub(), name, refresh=not options.if_missing)
    return {"ready": {"model": {"folder": str(folder), "name": name.served}}}


def _list(models_dir: Path, _options: argparse.Namespace) -> dict[str, object]:
    return {"models": Store(models_dir).listed()}


def _verify(models_dir: Path, options: argparse.Namespace) -> dict[str, object]:
    manifest = Store(models_dir).verify(ModelName.parse(options.name))
    return {"verified": {"name": manifest.name, "files": len(manifest.files), "bytes": manifest.size}}


def _remove(models_dir: Path, options: argparse.Namespace) -> dict[str, object]:
    name = ModelName.parse(options.name)
    Store(models_dir).remove(name)
    return {"removed": str(name)}


def _export(models_dir: Path, options: argparse.Namespace) -> dict[str, object]:
    file = options.file.resolve()
    models = bundle.export(Store(models_dir), [ModelName.parse(name) for name in options.names], file)
    size = sum(model.manifest.size for model in models)
    return {"exported": {"file": str(file), "models": [model.manifest.name for model in models], "bytes": size}}


def _import(models_dir: Path, options: argparse.Namespace) -> dict[str, object]:
    imported, there = unbundle.take_in(Store(models_dir), options.file.resolve())
    return {"imported": imported, "there": there}


def _failed(error: ModelFilesError) -> int:
    emit({"step": "failed", "error": str(error), "message": error.message, "remedy": error.remedy})
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m inference.models", description="Model files.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, work: Callable[..., object], about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about)
        added.add_argument("--models-dir", type=Path, required=True, help="folder that keeps models")
        added.set_defaults(work=work)
        return added

    kinds = command("prepare", _prepare, "make default models ready")
    kinds.add_argument("kinds", nargs="*", type=defaults.Kind, help="llm, embedding; both where none is named")
    pulled = command("pull", _pull, "fetch a model from the hub")
    pulled.add_argument("name")
    pulled.add_argument("--if-missing", action="store_true", help="ask the hub only where the model is not there")
    command("list", _list, "show what is there")
    command("verify", _verify, "read all bytes of a model again").add_argument("name")
    command("remove", _remove, "remove a model").add_argument("name")
    exported = command("export", _export, "write models into one file")
    exported.add_argument("names", nargs="+")
    exported.add_argument("file", type=Path)
    command("import", _import, "take the models out of such a file").add_argument("file", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
