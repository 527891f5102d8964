"""What answers are made from, out of a folder: the searcher over its catalog and index, and its texts."""

from collections.abc import Mapping
from dataclasses import dataclass

from api.answers.recipes import Said
from core.clock import Clock
from core.principal import Principal, Role
from core.reach import Reach
from edge.catalog import TENANT
from edge.index import FileIndex, Shelved
from edge.manifest import Manifest
from retrieval.errors import CollectionNotFound, DocumentNotFound
from retrieval.metadata_fields import MetadataFields
from retrieval.search import Embeds, Reranks, Searcher
from storage.sql import Database

HOLDER = Principal(TENANT, None, Role.MANAGER)
"""Whoever holds the folder: all that is in it was exported for them."""


@dataclass(frozen=True, slots=True)
class ShelvedCollection:
    """The one collection of a folder, and what it says of its answers."""

    name: str
    id: str
    reach: Reach
    said: Said

    @classmethod
    def of(cls, manifest: Manifest) -> "ShelvedCollection":
        about = manifest.collection
        reach = Reach(_set(about["providers"]), _set(about["regions"]))
        said = Said(about["answers"], about["prompt"], about["prompt_version"], reach)
        return cls(about["name"], about["id"], reach, said)

    def require(self, name: str) -> None:
        """Raises: CollectionNotFound: another one is asked for."""
        if name != self.name:
            raise CollectionNotFound(name)


class Texts:
    """The documents' texts."""

    def __init__(
        self, collection: ShelvedCollection, index: FileIndex, clock: Clock, expiry: Mapping[str, float]
    ) -> None:
        """Args: expiry: by document, from when on nobody sees it."""
        self._collection = collection
        self._index = index
        self._clock = clock
        self._expiry = expiry

    async def content(
        self,
        principal: Principal,
        collection_name: str,
        document_id: str,
        version: int | None = None,
    ) -> str:
        """The text that spans point into. Raises: CollectionNotFound, DocumentNotFound."""
        self._collection.require(collection_name)
        found = self.get(document_id, version)
        return self._index.text(found.at, found.until)

    def get(self, document_id: str, version: int | None = None) -> Shelved:
        """A document. Raises: DocumentNotFound: there is none, or it has expired."""
        found = self._index.by_id.get(document_id)
        if found is None or self._is_over(found) or version not in (None, found.version):
            raise DocumentNotFound(document_id, version)
        return found

    def live(self) -> list[Shelved]:
        """All that have not expired, by their ids."""
        return sorted((one for one in self._index.documents if not self._is_over(one)), key=lambda one: one.id)

    def _is_over(self, document: Shelved) -> bool:
        return self._expiry.get(document.id, float("inf")) <= self._clock.time()


class _Described:
    def __init__(self, collection: ShelvedCollection) -> None:
        self._collection = collection

    async def get(self, principal: Principal, name: str) -> ShelvedCollection:
        self._collection.require(name)
        return self._collection


class Sayings:
    """What the collection says of its answers, as `api.answers.recipes.Says`."""

    def __init__(self, collection: ShelvedCollection) -> None:
        self._collection = collection

    async def of(self, principal: Principal, collection: str) -> Said:
        """Raises: CollectionNotFound."""
        self._collection.require(collection)
        return self._collection.said


@dataclass(frozen=True, slots=True)
class EdgeLibrary:
    """As `api.answers.retrieving.Library`."""

    searcher: Searcher
    documents: Texts
    collections: _Described
    metadata_fields: MetadataFields

    @classmethod
    def of(
        cls,
        collection: ShelvedCollection,
        database: Database,
        index: FileIndex,
        embedder: Embeds,
        reranker: Reranks,
        clock: Clock,
        expiry: Mapping[str, float],
    ) -> "EdgeLibrary":
        return cls(
            Searcher(database, index, embedder, reranker, clock),
            Texts(collection, index, clock, expiry),
            _Described(collection),
            MetadataFields(database, clock),
        )


def _set(words: list[str] | None) -> frozenset[str] | None:
    return None if words is None else frozenset(words)
