"""Puts the fast searcher into Milvus Lite, in the process of its server, and mends how collections are opened there.

Milvus Lite opens a collection when it is first asked for, without a lock: two first calls at once open it twice, and
what one of the two writes the other does not know. It also forgets at each start which collections were loaded, so that
the first search of each would load it.
"""

import logging
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from milvus_lite.db import MilvusLite
from milvus_lite.engine.collection import Collection
from milvus_lite.exceptions import MilvusLiteError
from milvus_lite.schema.types import DataType

from retrieval.lite.filters import Unsupported
from retrieval.lite.searcher import Search, search
from retrieval.lite.view import View

_log = logging.getLogger(__name__)

KNOWN = "3.2.2"  # whose insides this was written for, and compared with
_VIEW = "_stoker_view"

SearchMethod = Callable[..., list[list[dict[str, Any]]]]


def install() -> str | None:
    """Make each collection search by its view, be opened once and be loaded from the start.

    Returns: why not, where another Milvus Lite is installed.
    """
    found = version("milvus-lite")
    if found != KNOWN:
        return f"Milvus Lite {found} searches by itself: the fast searcher knows {KNOWN}"
    _install_search()
    _install_opening()
    return None


def _install_search() -> None:
    slow: SearchMethod = Collection.search
    flush, refresh, drop = Collection._trigger_flush, Collection._refresh_segment_cache, Collection.drop_partition
    merge = Collection._bg_compact_and_index

    def search_fast(collection: Collection, *args: Any, **kwargs: Any) -> list[list[dict[str, Any]]]:
        asked = _asked(collection, *args, **kwargs)
        if asked is not None:
            try:
                return search(view_of(collection), asked)
            except (Unsupported, pa.ArrowException):
                pass
        return slow(collection, *args, **kwargs)

    def flush_seen(collection: Collection) -> None:
        view_of(collection).flush(lambda: flush(collection))

    def refresh_and_publish(collection: Collection) -> None:
        refresh(collection)
        if _VIEW in collection.__dict__:
            view_of(collection).publish()

    def drop_and_publish(collection: Collection, partition_name: str) -> None:
        drop(collection, partition_name)
        with collection._maintenance_lock:
            view_of(collection).publish()

    def merge_and_warm(collection: Collection) -> None:
        merge(collection)
        _warm(collection)

    Collection.search = search_fast
    Collection._trigger_flush = flush_seen
    Collection._refresh_segment_cache = refresh_and_publish
    Collection.drop_partition = drop_and_publish
    Collection._bg_compact_and_index = merge_and_warm


def _install_opening() -> None:
    get, start = MilvusLite.get_collection, MilvusLite.__init__
    opening: dict[Any, threading.RLock] = {}

    def get_once(database: MilvusLite, name: str, *args: Any, **kwargs: Any) -> Collection:
        with opening.setdefault((id(database), name), threading.RLock()):
            return get(database, name, *args, **kwargs)

    def start_and_warm(database: MilvusLite, *args: Any, **kwargs: Any) -> None:
        start(database, *args, **kwargs)
        threading.Thread(target=warm_up, args=(database,), name="warm-up", daemon=True).start()

    MilvusLite.get_collection = get_once
    MilvusLite.__init__ = start_and_warm


def warm_up(database: MilvusLite) -> None:
    """Load every collection, so that no search has to; one that is dropped or broken meanwhile is left out."""
    for name in database.list_collections():
        try:
            collection = database.get_collection(name)
            if collection.list_indexes():
                collection.load()
                _warm(collection)
        except (MilvusLiteError, OSError, RuntimeError) as error:
            _log.warning("%s is not loaded before it is asked for: %s", name, error)


def _warm(collection: Collection) -> None:
    if collection.load_state == "loaded":
        kinds = {field.name: field.dtype for field in collection.schema.fields}
        indexed = collection.list_indexes()
        sparse = [name for name in indexed if kinds[name] == DataType.SPARSE_FLOAT_VECTOR]
        dense = [name for name in indexed if kinds[name] == DataType.FLOAT_VECTOR]
        view_of(collection).warm(sparse, dense)


def view_of(collection: Collection) -> View:
    """The one view of a collection."""
    view: View = collection.__dict__.get(_VIEW) or collection.__dict__.setdefault(_VIEW, View(collection))
    return view


def _asked(
    collection: Collection,
    query_vectors: list[Any],
    top_k: int = 10,
    metric_type: str | None = None,
    partition_names: list[str] | None = None,
    expr: str | None = None,
    output_fields: list[str] | None = None,
    anns_field: str | None = None,
    timezone: str | None = None,
    search_params: dict[str, Any] | None = None,
    **special: Any,
) -> Search | None:
    """What is looked for; None: something that Milvus Lite does better itself."""
    if not query_vectors or top_k <= 0 or output_fields is None or not special.items() <= _USUAL.items():
        return None
    collection._require_loaded()
    fields = {field.name: field for field in collection.schema.fields}
    name = collection._resolve_anns_field(anns_field)
    field, metric = fields[name], collection.resolve_search_metric(name, metric_type)
    shown = [each for each in output_fields if each in fields and not fields[each].is_primary]
    if field.nullable or collection.schema.enable_dynamic_field or not set(output_fields) <= fields.keys():
        return None
    queries: Any
    if field.dtype == DataType.FLOAT_VECTOR and metric in ("COSINE", "IP"):
        queries = np.asarray(query_vectors, np.float32)
        if queries.ndim != 2 or queries.shape[1] != field.dim:
            return None
    elif field.dtype == DataType.SPARSE_FLOAT_VECTOR and metric == "IP":
        collection._validate_sparse_tuning(name, metric, search_params or {})
        queries = collection._prepare_sparse_queries(query_vectors, name)
    else:
        return None
    compiled = collection._compile_filter(expr, timezone=timezone) if expr else None
    expression = None if compiled is None else compiled.ast
    return Search(name, metric, queries, top_k, partition_names or None, expression, shown, search_params)


_USUAL: dict[str, Any] = {
    "group_by_field": None,
    "group_size": 1,
    "strict_group_size": False,
    "radius": None,
    "range_filter": None,
    "offset": 0,
    "ranker": None,
}
