"""What Schemathesis must not do to the ground it stands on: its own key and tenant stay as they are."""

import os
from typing import Any

import schemathesis

_OWN = frozenset(filter(None, os.environ.get("STOKER_PROTECTED", "").split(",")))
_ABSENT = "absent"


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: "schemathesis.Case[Any]", kwargs: dict[str, Any]) -> None:
    """Have a change that names one of them name nothing, and let nobody look for addresses elsewhere."""
    if case.method.upper() in ("GET", "HEAD", "OPTIONS") or not case.path.startswith("/v1/admin/"):
        return
    for name, value in (case.path_parameters or {}).items():
        if value in _OWN:
            case.path_parameters[name] = _ABSENT
