"""`python -m monitoring.probe URL`: exits with 0 where it answers 200, else with 1; health checks of containers run it.

The images have no curl, and the standard library asks as well.
"""

import sys
import urllib.request

_DEADLINE_S = 4.0


def answers(url: str, deadline_s: float = _DEADLINE_S) -> str | None:
    """Ask once. Returns: why it is not well; None: it is."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy of the environment
    try:
        with opener.open(url, timeout=deadline_s) as answer:
            return None if answer.status == 200 else f"it answered {answer.status}"
    except (OSError, ValueError) as error:
        return str(error)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not arguments[0].startswith("http://"):
        print("usage: python -m monitoring.probe http://HOST:PORT/PATH", file=sys.stderr)
        return 2
    reason = answers(arguments[0])
    if reason is not None:
        print(f"{arguments[0]}: {reason}", file=sys.stderr)
    return 0 if reason is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
