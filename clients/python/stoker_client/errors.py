"""What goes wrong.

StokerError
├── Refused         the gateway answered with an error; its message names the remedy
├── Unreachable     nobody answered, or not in time
└── StreamBroken    an answer or a job's events ended before their end
"""


class StokerError(Exception):
    """The root of them."""


class Refused(StokerError):
    """An answer with an error.

    Attributes:
        status: of HTTP.
        code: such as `rate_limit_exceeded`; empty where there is none.
        param: the field at fault; empty where there is none.
        request_id: by which the gateway's log knows it.
        retry_after_s: after which another try may help; None: not said.
    """

    def __init__(
        self, status: int, message: str, code: str, param: str, request_id: str, retry_after_s: float | None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class Unreachable(StokerError): ...


class StreamBroken(StokerError): ...
