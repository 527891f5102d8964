"""`python -m edge --folder FOLDER`: what `./stoker edge serve` runs, in the environment `edge`."""

import sys

import uvicorn
from pydantic import ValidationError

from edge.app import create_app
from edge.errors import FolderRefused
from edge.manifest import Manifest
from edge.settings import EdgeSettings
from monitoring.logs import configure_logs, logger

_log = logger(__name__)


def main() -> int:
    try:
        settings = EdgeSettings(_cli_parse_args=True)
    except ValidationError as error:
        first = error.errors()[0]
        sys.stderr.write(f"stoker: {'.'.join(map(str, first['loc']))}: {first['msg']}\n")
        return 2
    configure_logs("edge", settings.log_level)
    try:
        manifest = Manifest.read(settings.folder)
        manifest.check(settings.folder)
    except FolderRefused as error:
        return _refused(error)
    refused: list[FolderRefused] = []
    app = create_app(settings, manifest, refused.append)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=10,
        )
    )
    server.run()
    if refused:
        return _refused(refused[0])
    return 0 if server.started else 1


def _refused(error: FolderRefused) -> int:
    sys.stderr.write(f"stoker: {error.message}\n  what to do: {error.remedy}\n")
    return 3


if __name__ == "__main__":
    sys.exit(main())
