"""`./stoker keys`: API keys, over /v1/admin/keys."""

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cli.client import Client, open_client
from cli.console import err, out
from cli.errors import CliError
from cli.settings import load_settings

app = typer.Typer(help="Make, list, revoke and rotate API keys.", no_args_is_help=True)

_PATH = "/v1/admin/keys"
_ID = re.compile(r"key_[0-9a-z]+")
_GIVE_ID = "give the id, from `./stoker keys list`"
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(text: str) -> int:
    """Read a time such as 90, 45m, 12h or 30d. Raises: typer.BadParameter."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if found is None:
        raise typer.BadParameter("write a time such as 90, 45m, 12h or 30d")
    return int(found[1]) * _SECONDS[found[2]]


Which = Annotated[str, typer.Argument(metavar="ID|NAME", help="Its id, or the name of one standing key.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the server's answer as JSON.")]
Usd = Annotated[str | None, typer.Option(metavar="USD", help="US dollars, such as 12.50.")]  # text: no digit is lost
Scopes = Annotated[list[str] | None, typer.Option("--scope", help="A word such as chat; may be given many times.")]
ExpiresIn = Annotated[int | None, typer.Option(parser=seconds, metavar="TIME", help="Such as 90, 45m, 12h or 30d.")]
Overlap = Annotated[int | None, typer.Option(parser=seconds, metavar="TIME", help="How long the old key works on.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    role: Annotated[str | None, typer.Option(help="admin, manager, member, ingest or reader.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Id or name of the tenant it belongs to.")] = None,
    rpm: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, help="Tokens a minute.")] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="Requests at the same time.")] = None,
    usd_per_day: Usd = None,
    usd_per_month: Usd = None,
    local_only: Annotated[bool, typer.Option("--local-only", help="Never use hosted providers.")] = False,
    priority: Annotated[str | None, typer.Option(help="interactive, normal or batch.")] = None,
    no_rescue: Annotated[bool, typer.Option("--no-rescue", help="Let broken streams end in an error.")] = False,
    scope: Scopes = None,
    expires_in: ExpiresIn = None,
    as_json: AsJson = False,
) -> None:
    """Make a key; it is shown this once."""
    limits = {"rpm": rpm, "tpm": tpm, "parallel": parallel, "usd_per_day": usd_per_day, "usd_per_month": usd_per_month}
    limits = {limit: value for limit, value in limits.items() if value is not None}
    asked: dict[str, Any] = {
        "name": name,
        "role": role,
        "tenant": tenant,
        "limits": limits or None,
        "scopes": scope or None,
        "expires_in_s": expires_in,
        "local_only": local_only or None,
        "priority": priority,
        "rescue": False if no_rescue else None,
    }
    with open_client(load_settings()) as client:
        _show_once(client.post(_PATH, {field: value for field, value in asked.items() if value is not None}), as_json)


@app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Id or name of another tenant.")] = None,
    name: Annotated[str, typer.Option(help="Only keys in whose name this stands.")] = "",
    as_json: AsJson = False,
) -> None:
    """List the keys, the newest first, without their texts."""
    with open_client(load_settings()) as client:
        asked = {"tenant": tenant or "", "name": name}
        keys = list(client.pages(_PATH, **{field: value for field, value in asked.items() if value}))
    if as_json:
        out.print_json(json.dumps(keys))
        return
    table = Table(box=None)
    table.add_column("id", no_wrap=True, min_width=30)  # whole: it is what revoke and rotate want
    for title in ("name", "key", "role", "limits", "made", "state"):
        table.add_column(title)
    now = datetime.now(UTC).timestamp()
    for key in keys:
        about = (escape(key["name"]), f"{key['prefix']}…", key["role"], _limits(key.get("limits") or {}))
        table.add_row(key["id"], *about, _day(key["created_at"]), _state(key, now))
    out.print(table)


@app.command()
def revoke(key: Which, as_json: AsJson = False) -> None:
    """End a key at once."""
    with open_client(load_settings()) as client:
        key_id = _id_of(client, key)
        answer = client.delete(f"{_PATH}/{key_id}")
    if as_json:
        out.print_json(json.dumps(answer))
    else:
        out.print(f"revoked {key_id}" if key == key_id else f"revoked {escape(key)} ({key_id})")


@app.command()
def rotate(key: Which, overlap: Overlap = None, as_json: AsJson = False) -> None:
    """Replace a key by a new one; the old one ends at once, or after the overlap."""
    with open_client(load_settings()) as client:
        path = f"{_PATH}/{_id_of(client, key)}/rotate"
        _show_once(client.post(path, {"overlap_s": overlap or 0}), as_json)


def _id_of(client: Client, key: str) -> str:
    """The id that was given, or that of the one standing key of this name. Raises: CliError: there are none or more."""
    if _ID.fullmatch(key):
        return key
    now = datetime.now(UTC).timestamp()
    found = [one for one in client.pages(_PATH, name=key) if one["name"] == key]
    standing = [one["id"] for one in found if not one.get("revoked_at") and (one.get("expires_at") or now + 1) > now]
    if len(standing) == 1:
        return str(standing[0])
    if standing:
        raise CliError(f"{len(standing)} standing keys are called {key}: {', '.join(standing)}", _GIVE_ID)
    raise CliError(f"no standing key is called {key}", _GIVE_ID)


def _limits(limits: dict[str, Any]) -> str:
    """Those that are set, such as `60 rpm, 12.50 usd_per_month`: the words of the flags."""
    found = {name: value for name, value in limits.items() if value not in (None, False)}
    return ", ".join(name if value is True else f"{value} {name}" for name, value in found.items())


def _show_once(key: dict[str, Any], as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps(key))
        return
    out.print(f"{key['key']}", markup=False)
    err.print(f"[dim]id {key['id']}, role {key['role']}; the key is shown this once[/dim]")


def _state(key: dict[str, Any], now: float) -> str:
    if key.get("revoked_at"):
        return "revoked"
    ends = key.get("expires_at")
    if ends is None:
        return "live"
    return "expired" if ends <= now else f"until {_day(ends)}"


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
