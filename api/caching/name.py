"""What an entry of a cache is called: everything that could change the answer is in its name."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from api.errors import RequestInvalid
from core.principal import Principal
from retrieval.access import reads_as

Kind = Literal["answer", "stale", "asked", "search", "vector", "chat", "idempotency"]

PIPELINE = 1
"""Of whatever makes answers of requests: raised where the same request would be answered in another way."""

ALL = "all"
"""The name that every entry of a tenant carries."""


@dataclass(frozen=True, slots=True)
class Documents:
    """The state of a collection that an entry depends on."""

    collection_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Name:
    """Of one entry.

    Attributes:
        digest: hexadecimal, of all that the answer depends on.
        carried: what the entry is purged by: the tenant's all, its maker's key, its collections.
    """

    tenant_id: str
    kind: Kind
    digest: str
    carried: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{prefix(self.tenant_id)}{self.kind}:{self.digest}"


def prefix(tenant_id: str) -> str:
    """How all keys of a tenant's cache begin; the braces keep them on one node of a cluster."""
    return f"{{{tenant_id}}}:cache:"


def name_of(principal: Principal, kind: Kind, asked: Mapping[str, Any], documents: Sequence[Documents] = ()) -> Name:
    """Name the entry of a request.

    Args:
        asked: model, parameters, texts: JSON of whatever the client said, and of what settings made of it.
        documents: the collections that the answer is made from, at the versions that were seen before it was made.

    Raises: RequestInvalid: it is nested too deeply to be written down.
    """
    parts = {
        "pipeline": PIPELINE,
        "tenant": principal.tenant_id,
        "readers": reads_as(principal),
        "reach": principal.reach.row(),
        "kind": kind,
        "asked": asked,
        "documents": [[one.collection_id, one.version] for one in documents],
    }
    try:
        written = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # more can be read than written
        raise RequestInvalid("the request is nested too deeply for a cache; ask without one, or flatter") from None
    digest = hashlib.sha256(written).hexdigest()
    maker = [] if principal.key_id is None else [of_key(principal.key_id)]
    return Name(
        principal.tenant_id, kind, digest, (ALL, *maker, *(of_collection(one.collection_id) for one in documents))
    )


def of_key(key_id: str) -> str:
    """What is carried by the entries that were made for a key's request."""
    return f"key:{key_id}"


def of_collection(collection_id: str) -> str:
    """What is carried by the entries that were made from a collection."""
    return f"collection:{collection_id}"
