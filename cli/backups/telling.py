"""What a person is told of a backup or a restore."""

import json
import time
from dataclasses import asdict
from pathlib import Path

from cli.backups import manifest
from cli.backups.making import sizes
from cli.backups.manifest import Manifest
from cli.backups.told import settings_told
from cli.console import err, out, short_bytes
from cli.settings import CliSettings

_PARTS = (manifest.SQL, manifest.OBJECTS, manifest.VECTORS, manifest.LEDGER)


def tell_made(folder: Path, made: Manifest, *, as_json: bool) -> None:
    """Say what is in a backup, and what is not."""
    parts = sizes(folder, _PARTS)
    for lost in made.lost:
        err.print(f"[yellow]lost before this backup, so it is not in it: {lost}[/yellow]")
    if as_json:
        out.print_json(data={"folder": str(folder), "bytes": parts, **asdict(made)})
        return
    out.print(f"{folder} is whole: {short_bytes(made.size_bytes)} in {made.files} files, of {_when(made)}")
    out.print("  " + ", ".join(f"{name} {short_bytes(size)}" for name, size in parts.items()))
    out.print("  no secret is in it: admin.key, provider keys and passwords are kept where you keep them;")
    out.print("  what tenants sent in is, as it came: encrypt the folder before it leaves this host (age, gpg)")


def tell_restored(settings: CliSettings, folder: Path, backup: Manifest) -> None:
    """Say what came back, and which settings differ from those of the stack that was backed up."""
    out.print(f"restored {_when(backup)} of Stoker {backup.stoker}: {backup.objects} files, {backup.rows} passages")
    for lost in backup.lost:
        err.print(f"[yellow]not in the backup: {lost}[/yellow]")
    then = json.loads((folder / manifest.SETTINGS).read_text())
    now = settings_told(settings.config)["environment"]
    for name, value in then["environment"].items():
        if now.get(name) != value:
            err.print(f"[dim]{name} was {value}[/dim]", highlight=False)
    for name in then["left_out"]:
        err.print(f"[dim]{name} was set, and is no part of a backup[/dim]")
    out.print("./stoker up starts it; keys work as before, and the first admin key is in admin.key, which is made anew")


def _when(made: Manifest) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(made.made_at))
