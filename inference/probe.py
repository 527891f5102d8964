"""Whether a vLLM server works, by its exit code: `python -m inference.probe started|alive`, for Kubernetes' probes.

`started` asks for one token. `alive` is content when the engine's own figures have moved since it last looked, so that
a busy one is not asked for more; where they stand still it asks for one token, too: `/health` may say 200 while the
engine is wedged. Address and model are those of the launcher's own settings, from the environment.
"""

import argparse
import http.client
import json
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from inference.settings import VllmSettings

SEEN = Path(tempfile.gettempdir()) / "stoker-engine.seen"
_MOVES = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:kv_cache_usage_perc")
_AWAKE = 'sleep_state="awake"'
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no business on this machine


def generates(address: str, model: str, deadline_s: float) -> bool:
    """Whether it answers one token."""
    body = json.dumps({"model": model, "prompt": "Hello", "max_tokens": 1}).encode()
    return _asked(f"{address}/v1/completions", deadline_s, body) is not None


def alive(address: str, model: str, deadline_s: float, seen: Path = SEEN) -> bool:
    """Whether its figures have moved since the last look, it sleeps as it was told, or it answers one token.

    Args:
        seen: file of what the last look saw.
    """
    figures = _asked(f"{address}/metrics", deadline_s)
    if figures is None:
        return False
    now = "\n".join(line for line in figures.splitlines() if line.startswith(_MOVES))
    before = seen.read_text() if seen.exists() else None
    seen.write_text(now)
    return now != before or _asleep(figures) or generates(address, model, deadline_s)


def _asleep(figures: str) -> bool:
    states = [line for line in figures.splitlines() if line.startswith("vllm:engine_sleep_state{")]
    return any(_AWAKE in line and float(line.rpartition(" ")[2]) == 0 for line in states)


def _asked(url: str, deadline_s: float, body: bytes | None = None) -> str | None:
    """What it answers with status 200; None: nothing of use."""
    request = urllib.request.Request(url, data=body, headers={"content-type": "application/json"})  # noqa: S310 - http
    try:
        with _OPENER.open(request, timeout=deadline_s) as response:
            text: str = response.read().decode()
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except (OSError, ValueError, http.client.HTTPException):  # URLError is an OSError
        return None
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Look once. Returns: 0 where it works, else 1."""
    parser = argparse.ArgumentParser(prog="python -m inference.probe", description="Whether a vLLM server works.")
    parser.add_argument("what", choices=("started", "alive"))
    parser.add_argument("--deadline-s", type=float, default=25.0, help="seconds for one answer of the engine")
    given = parser.parse_args(arguments)
    settings = VllmSettings()
    address = f"http://127.0.0.1:{settings.port}"
    look = generates if given.what == "started" else alive
    if look(address, settings.served_model_name, given.deadline_s):
        return 0
    print(f"{settings.served_model_name} does not answer on {address}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
