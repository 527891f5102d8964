"""What a command says when it can't go on.

CliError                message and remedy; printed without a traceback, exit code 1
├── ApiRefused          the server answered with an error
└── ApiUnreachable      no server answered
"""


class CliError(Exception):
    """An expected failure.

    Args:
        message: what went wrong.
        remedy: what the person can do about it.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class ApiRefused(CliError):
    """The server answered with an error.

    Attributes:
        status: HTTP status.
        code: the `code` of the error envelope, where there was one.
    """

    def __init__(self, status: int, message: str, code: str | None, remedy: str) -> None:
        super().__init__(message, remedy)
        self.status = status
        self.code = code


class ApiUnreachable(CliError):
    """Nobody answered at the server's address."""
