"""What goes wrong with an edge's folder.

EdgeError
├── FolderRefused       it is no export, is damaged, or is of another version
├── ExportBroken        what was to be exported did not come whole
└── CentralSilent       a central gateway did not answer, or answered with something else
"""


class EdgeError(Exception):
    """Something that a person can mend.

    Attributes:
        message: what is wrong.
        remedy: what to do.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}; {remedy}")
        self.message = message
        self.remedy = remedy


class FolderRefused(EdgeError): ...


class ExportBroken(EdgeError): ...


class CentralSilent(Exception):
    """The text says why."""
