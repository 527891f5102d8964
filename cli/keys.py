"""`./stoker keys`: API keys, over /v1/admin/keys."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.client import open_client
from cli.console import out
from cli.settings import load_settings

app = typer.Typer(help="Make, list, revoke and rotate API keys.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print the server's answer as JSON.")]
_PATH = "/v1/admin/keys"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    role: Annotated[str | None, typer.Option(help="admin or member.")] = None,
    tenant: Annotated[str | None, typer.Option(help="The tenant it belongs to.")] = None,
    rpm: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, help="Tokens a minute.")] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="Requests at the same time.")] = None,
    usd_per_day: Annotated[float | None, typer.Option(min=0, help="US dollars a day.")] = None,
    usd_per_month: Annotated[float | None, typer.Option(min=0, help="US dollars a month.")] = None,
    local_only: Annotated[bool, typer.Option("--local-only", help="Never use hosted providers.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key; it is shown this once."""
    limits = {"rpm": rpm, "tpm": tpm, "parallel": parallel, "usd_per_day": usd_per_day, "usd_per_month": usd_per_month}
    limits = {limit: value for limit, value in limits.items() if value is not None}
    asked: dict[str, Any] = {"name": name, "role": role, "tenant": tenant, "limits": limits or None}
    body = {field: value for field, value in asked.items() if value is not None}
    if local_only:
        body["local_only"] = True
    with open_client(load_settings()) as client:
        _show_once(client.post(_PATH, body), as_json)


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List the keys, without their texts."""
    with open_client(load_settings()) as client:
        keys = list(client.pages(_PATH))
    if as_json:
        out.print_json(json.dumps(keys))
        return
    table = Table(box=None)
    table.add_column("id", no_wrap=True, min_width=30)  # whole: it is what revoke and rotate want
    for title in ("name", "key", "role", "made", "state"):
        table.add_column(title)
    for key in keys:
        state = "revoked" if key.get("revoked_at") else "live"
        table.add_row(key["id"], key["name"], f"{key['prefix']}…", key["role"], _day(key["created_at"]), state)
    out.print(table)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """End a key at once."""
    with open_client(load_settings()) as client:
        answer = client.delete(f"{_PATH}/{key_id}")
    if as_json:
        out.print_json(json.dumps(answer))
    else:
        out.print(f"revoked {key_id}")


@app.command()
def rotate(key_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """Replace a key by a new one; the old one ends at once."""
    with open_client(load_settings()) as client:
        _show_once(client.post(f"{_PATH}/{key_id}/rotate"), as_json)


def _show_once(key: dict[str, Any], as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps(key))
        return
    out.print(f"{key['key']}", markup=False)
    out.print(f"[dim]id {key['id']}, role {key['role']}; the key is shown this once[/dim]")


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
