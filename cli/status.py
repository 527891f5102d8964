"""`./stoker status`: the processes as the machine sees them, and what the gateway says of itself."""

import json
import re
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from cli.client import open_client
from cli.console import err, out, short_bytes, short_time
from cli.errors import CliError
from cli.process import memory_bytes
from cli.settings import CliSettings
from cli.state import PartState, PartStatus, StackState
from cli.top.frame import BREAKERS

_REDIS, _VALKEY = "redis", "valkey"  # the gateway knows what it speaks to, the machine what runs


def show_status(settings: CliSettings, *, as_json: bool) -> bool:
    """Print it. Returns: whether a stack is running and all its parts are ready."""
    state = StackState.load(settings.run_dir)
    if state is None or not state.supervisor.is_alive():
        left = [] if state is None else state.processes()
        if as_json:
            out.print_json(json.dumps({"running": False, "left_over": [process.pid for process in left]}))
        else:
            out.print(f"no stack is running on {settings.data_dir}; ./stoker up starts one")
            if left:
                out.print(f"[yellow]{len(left)} processes of a killed run are left; ./stoker down ends them[/yellow]")
        return False
    gateway, problem = _ask_gateway(settings)
    if as_json:
        stack = asdict(state)
        del stack["parts"]
        processes = [{**asdict(part), **_measured(part)} for part in state.parts]
        ready = state.is_ready()
        out.print_json(
            json.dumps({"running": True, "ready": ready, **stack, "processes": processes, "gateway": gateway})
        )
    else:
        uptime = short_time(state.supervisor.uptime_s())
        out.print(f"{state.url}, engine {state.engine}, running for {uptime}, data in {settings.data_dir}\n")
        out.print(_table(state))
        if gateway is not None:
            _print_gateway(gateway, {part.name for part in state.parts})
        if problem:
            err.print(f"[yellow]the gateway does not say how it is:[/yellow] {escape(problem)}")
    return state.is_ready()


def _table(state: StackState) -> Table:
    table = Table("process", "state", "pid", "port", "restarts", "uptime", "memory", "", box=None)
    for part in state.parts:
        measured = _measured(part)
        uptime, memory = measured["uptime_s"], measured["memory_bytes"]
        table.add_row(
            part.name,
            part.state.value,
            str(part.pid or ""),
            str(part.port or ""),
            str(part.restarts),
            "" if uptime is None else short_time(uptime),
            "" if memory is None else short_bytes(memory),
            f"last {part.note}" if part.note and part.state is not PartState.DONE else "",
        )
    return table


def _measured(part: PartStatus) -> dict[str, Any]:
    process = part.process
    if process is None:
        return {"uptime_s": None, "memory_bytes": None}
    return {"uptime_s": round(process.uptime_s(), 1), "memory_bytes": memory_bytes(process.pid)}


def _ask_gateway(settings: CliSettings) -> tuple[dict[str, Any] | None, str]:
    local = settings.model_copy(update={"url": None})  # the processes above are the local ones
    try:
        with open_client(local) as client:
            return client.get("/status"), ""
    except CliError as error:
        return None, "\n  what to do: ".join(part for part in (error.message, error.remedy) if part)


def _print_gateway(gateway: dict[str, Any], processes: Collection[str]) -> None:
    """Args: processes: by name; a part that is one of them is called as it is."""
    out.print()
    for part, said in gateway.get("parts", {}).items():
        name, word = part, said
        if part == _REDIS and _VALKEY in processes:
            name, word = _VALKEY, re.sub(rf"^{_REDIS}\b", _VALKEY, said)
        colour = "green" if word == "ok" else "red"
        out.print(f"  [{colour}]{name}[/]: {word}")
    table = Table("deployment", "model", "state", box=None)
    for each in gateway.get("deployments", []):
        table.add_row(each["name"], each["model_group"], _state_of(each))
    out.print(table if table.row_count else "  no deployments")


def _state_of(deployment: dict[str, Any]) -> str:
    """What keeps calls from it, as `./stoker top` calls it."""
    if deployment["draining"]:
        return "draining"
    reason = deployment["ejected"] or BREAKERS.get(deployment["state"])
    return f"[red]{reason}[/]" if reason else "ok"
