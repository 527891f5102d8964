"""`./stoker collections reindex`: a collection in another embedding model, over /v1/collections/NAME/reindex."""

import json
import time
from typing import Any
from urllib.parse import quote

from rich.markup import escape
from rich.progress import Progress

from cli.client import Client
from cli.console import err, out
from cli.errors import CliError

_LOOK_S = 0.5


def reindex(client: Client, name: str, model: str, chunking: str | None, *, wait: bool, as_json: bool = False) -> None:
    """Begin to index a collection anew.

    Args:
        chunking: a JSON object, as POST /v1/collections takes it.
        wait: until the new index answers.

    Raises: CliError: the server refuses, or documents could not be indexed anew.
    """
    where = f"/v1/collections/{quote(name, safe='')}"
    asked: dict[str, Any] = {"embedding_model": model}
    if chunking is not None:
        asked["chunking"] = _object(chunking)
    about = client.post(f"{where}/reindex", asked)
    if wait:
        about = _wait(client, where, about)
    if as_json:
        out.print_json(data=about)
    elif "reindex" in about:
        out.print(f"{name} is being indexed anew; ./stoker collections show {name} tells how far it is", markup=False)
    else:
        _done(about)


def cancel(client: Client, name: str, *, as_json: bool = False) -> None:
    """Give a reindex up."""
    about = client.delete(f"/v1/collections/{quote(name, safe='')}/reindex")
    if as_json:
        out.print_json(data=about)
    else:
        out.print(f"{name} stays as it was", markup=False)


def show(client: Client, name: str) -> None:
    """Print all that is known of a collection, as JSON."""
    out.print_json(data=client.get(f"/v1/collections/{quote(name, safe='')}"))


def _wait(client: Client, where: str, about: dict[str, Any]) -> dict[str, Any]:
    with Progress(console=err, disable=not err.is_terminal, transient=True) as bar:
        line = bar.add_task("indexing anew")
        while (state := about.get("reindex")) is not None:
            bar.update(line, completed=state["documents_done"], total=state["documents"])
            if state["failed"] and state["documents_done"] + state["failed"] >= state["documents"]:
                raise _failed(state, about["name"])
            time.sleep(_LOOK_S)
            about = client.get(where)
    return about


def _failed(state: dict[str, Any], name: str) -> CliError:
    for each in state["errors"]:
        err.print(f"[red]{escape(each['filename'])}[/red]: {escape(each['error'])}")
    return CliError(
        f"{state['failed']} of {state['documents']} documents of {name} could not be indexed; the old index answers",
        "send these documents again or delete them, and it goes on; or give it up with --cancel",
    )


def _done(about: dict[str, Any]) -> None:
    out.print(f"{about['name']} answers from {about['embedding_model']}", markup=False)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise CliError(f"--chunking is no JSON: {error}", "write it like --chunking '{\"characters\": 400}'") from error
    if not isinstance(value, dict):
        raise CliError("--chunking must be a JSON object", "write it like --chunking '{\"characters\": 400}'")
    return value
