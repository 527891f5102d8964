"""What retrieval refuses; nothing here knows of HTTP.

RetrievalError
├── CollectionNotFound
├── CollectionExists
├── CollectionShared        it holds documents that the caller may not read, so the caller may not delete it
├── CollectionMoved         it changed while it was being exported
├── CollectionExpired       nobody used it for as long as it lasts
├── ReindexRunning          the collection is being indexed anew already
├── ReindexNotFound         it is not
├── EvaluationNotFound      it is not evaluated every day
├── DocumentNotFound        no such document, or not this version of it
├── DocumentTaken           the name belongs to a document that the caller may not read
├── JobNotFound
├── InputInvalid            a name, metadata or query that can't be taken; `param` names the field
│   ├── FilterInvalid       a filter that doesn't compile
│   └── AddressRefused      an address that may not be reached, or that can be read in more than one way
├── FetchFailed             what is at an address can't be had; asking again would not help
├── FetchPostponed          it can't be had now
├── DocumentRejected        this file can't be ingested, now or later; the message says what to do
├── SpaceMismatch           nobody serves the embedding model that the collection was made with
│   ├── SpaceHosted         it is a hosted one, and the texts may not leave the house
│   └── SpaceRefused        it is a hosted one, and the gateway does not let us: no key, no money, no such model
├── IndexRefused            Milvus understood and said no
├── ErrandLost              another worker or a cancel has taken the errand: stop
└── LeaseLost               another worker or a cancel has taken the document: stop writing

A part being away is `core.dependency.DependencyError`.
"""

from collections.abc import Iterable

from core.visible import visible

_LONGEST_REASON = 1000  # characters


class RetrievalError(Exception):
    """The root of what retrieval raises on its own account."""


class CollectionNotFound(RetrievalError):
    def __init__(self, name: str) -> None:
        super().__init__(f"There is no collection {name!r}.")
        self.name = name


class CollectionExists(RetrievalError):
    def __init__(self, name: str) -> None:
        super().__init__(f"There already is a collection {name!r}.")
        self.name = name


class CollectionShared(RetrievalError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The collection {name!r} holds documents that you may not read: have a manager delete it.")


class CollectionMoved(RetrievalError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The collection {name!r} changed while it was being exported: export it again.")


class CollectionExpired(RetrievalError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The vector store {name!r} has expired, and its documents are gone: delete it, make another.")


class ReindexRunning(RetrievalError):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"The collection {name!r} is being indexed anew: wait until it is done, or cancel it with DELETE "
            f"/v1/collections/{name}/reindex."
        )


class ReindexNotFound(RetrievalError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The collection {name!r} is not being indexed anew.")


class EvaluationNotFound(RetrievalError):
    def __init__(self, name: str) -> None:
        super().__init__(f"The collection {name!r} is not evaluated every day; PUT a judged set to have that.")
        self.name = name


class DocumentNotFound(RetrievalError):
    def __init__(self, document_id: str, version: int | None = None) -> None:
        which = f"version {version} of document" if version is not None else "document"
        super().__init__(f"There is no {which} {document_id!r}.")
        self.document_id = document_id


class DocumentTaken(RetrievalError):
    def __init__(self, filename: str) -> None:
        super().__init__(f"The name {filename!r} belongs to a document that you may not read: choose another one.")


class JobNotFound(RetrievalError):
    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r}.")
        self.job_id = job_id


class InputInvalid(RetrievalError):
    """Something the caller sent can't be taken.

    Attributes:
        param: the field it came in.
    """

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class FilterInvalid(InputInvalid):
    """The filter doesn't compile; the message says where and what would."""

    def __init__(self, message: str) -> None:
        super().__init__("filter", message)


class AddressRefused(InputInvalid):
    """No connection is made; the message says what may be reached, and who may change that."""

    def __init__(self, message: str) -> None:
        super().__init__("url", message)


class FetchFailed(RetrievalError):
    """The message is for the person who named the address."""


class FetchPostponed(RetrievalError):
    """The same, for now.

    Attributes:
        retry_after_s: as the server wished; None: it did not say.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DocumentRejected(RetrievalError):
    """The file can't be ingested.

    Attributes:
        reason: for the person who sent it, one line; what it quotes of the file may have been anything.
    """

    def __init__(self, reason: str) -> None:
        self.reason = " ".join(visible(reason).split())[:_LONGEST_REASON]
        super().__init__(self.reason)


class SpaceMismatch(RetrievalError):
    """Texts can't be embedded into a collection's space, and asking again does not help."""

    def __init__(self, collection_space: str, served: Iterable[str]) -> None:
        there = ", ".join(repr(name) for name in served) or "nothing"
        super().__init__(
            f"The collection was made with the embedding model {collection_space!r}, but {there} is being served: "
            f"start the embedding server with {collection_space!r}, or move the collection with ./stoker collections "
            "reindex NAME --model MODEL."
        )


class SpaceHosted(SpaceMismatch):
    def __init__(self, space: str) -> None:
        RetrievalError.__init__(
            self,
            f"The collection's embedding model {space!r} is a hosted one, and what may not leave the house is not "
            "sent to it: search with mode lexical, or move the collection to a model of this house with ./stoker "
            "collections reindex NAME --model MODEL.",
        )


class SpaceRefused(SpaceMismatch):
    """The message says what a person has to do."""

    def __init__(self, reason: str) -> None:
        RetrievalError.__init__(self, reason)


class IndexRefused(RetrievalError):
    """Milvus refused a call; a bug of ours or a limit of the server, never the caller's words.

    Its own text is for the log: it is the cause of this error.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__("The vector index refused this call; the log holds its reason.")
        self.reason = str(cause)


class ErrandLost(RetrievalError):
    """The fence has moved on, or nobody wants it any more."""


class LeaseLost(RetrievalError):
    """The fence has moved on."""
