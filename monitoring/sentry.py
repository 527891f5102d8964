"""Errors that nobody expected, told to Sentry, or to what speaks its protocol.

A report is of the error, its stack without variables, the process, and the ids of request and trace: no request, no
header, no text of prompts or documents. Of errors that are not of Stoker's own classes the words are left out, since
they quote what could not be taken; from the others what has the form of a secret is taken out.
"""

import socket
import sys
from typing import Any

import structlog

from monitoring.logs import on_exception
from monitoring.redaction import redacted

_MOST_WORDS = 500  # of an error
_OURS = frozenset(("api", "core", "inference", "monitoring", "retrieval", "router", "storage"))
_UNTOLD = "its words may hold what a caller sent; the log has them"
_KEPT = ("request_id", "trace_id", "document", "job", "deployment", "experiment", "duty", "process")


def report_errors(process: str, dsn: str | None) -> None:
    """Have this process report every error that it logs with a stack; call it once, in `main`.

    Args:
        process: the name of the process.
        dsn: Sentry's address of the project; None: nothing is reported.
    """
    if dsn is None:
        return
    import sentry_sdk  # half a second of imports

    sentry_sdk.init(
        dsn=dsn,
        server_name=socket.gethostname(),
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        default_integrations=False,
        auto_enabling_integrations=False,
        before_send=_bare,  # type: ignore[arg-type]  # its types are of what it sends, ours are plain
    )

    def report(error: BaseException, event: structlog.types.EventDict) -> None:
        with sentry_sdk.new_scope() as scope:
            scope.set_tag("process", process)
            scope.set_tag("said", redacted(str(event.get("event", "")).partition("\n")[0], _MOST_WORDS)[:200])
            for name in _KEPT:
                if name in event:
                    scope.set_tag(name, str(event[name])[:200])
            scope.capture_exception(error)

    on_exception(report)
    before = sys.excepthook

    def last_words(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        report(error, {"event": "the process ends"})
        sentry_sdk.flush(2)
        before(kind, error, trace)

    sys.excepthook = last_words


def _bare(event: dict[str, Any], _hint: dict[str, Any]) -> dict[str, Any]:
    for unwanted in ("request", "user", "extra", "breadcrumbs", "modules", "contexts"):
        event.pop(unwanted, None)
    for error in event.get("exception", {}).get("values", []):
        ours = str(error.get("module") or "").partition(".")[0] in _OURS
        error["value"] = redacted(str(error.get("value") or ""), _MOST_WORDS) if ours else _UNTOLD
    return event
