"""Whether models can be fetched here: the hub (`HF_ENDPOINT`) is asked once, in the background."""

import http.client
import os
import threading
import time
import urllib.error
import urllib.request

_WITHIN_S = 2.0
_YES = {"1", "ON", "YES", "TRUE"}
_NOT_LET_THROUGH = {403, 407}


def endpoint() -> str:
    """The hub's address, as its own libraries take it."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def is_off() -> bool:
    """Whether somebody has said that no hub is to be asked."""
    return any(os.environ.get(name, "").upper() in _YES for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


class Look:
    """One look at the hub, which begins at once; whoever wants the answer waits for what is left of its time."""

    def __init__(self, within_s: float = _WITHIN_S) -> None:
        self._end_s = time.monotonic() + within_s
        self._within_s = within_s
        self._answers = False
        # A thread, for looking up a name has no deadline of its own; nobody waits for it at the end.
        self._thread = threading.Thread(target=self._ask, daemon=True)
        if not is_off():
            self._thread.start()

    def in_reach(self) -> bool:
        """Whether the hub has answered in time. Any answer counts but a proxy's refusal and an error of the server."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, self._end_s - time.monotonic()))
        return self._answers

    def _ask(self) -> None:
        if not endpoint().startswith(("https://", "http://")):
            return
        try:
            asked = urllib.request.Request(endpoint(), method="HEAD")  # noqa: S310  # looked at above
            with urllib.request.urlopen(asked, timeout=self._within_s):  # noqa: S310
                self._answers = True
        except urllib.error.HTTPError as error:
            self._answers = error.code < 500 and error.code not in _NOT_LET_THROUGH
        except (OSError, ValueError, http.client.HTTPException):
            self._answers = False
