"""Tools of a response: functions, which are a chat's, and the search of documents, which is Stoker's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.errors import NotSupportedYet, RequestInvalid

MAX_STORES = 8
MAX_RESULTS = 50
_RESULTS = 20  # where a request says nothing, as with OpenAI
_MOST = 128
_RANKERS = (None, "auto", "none", "default-2024-08-21", "default-2024-11-15")
_OPTIONS = ("auto", "none", "required")
_UNFILLED = dict.fromkeys(("description", "allowed_callers", "async", "defer_loading", "output_schema"))


@dataclass(frozen=True, slots=True)
class FileSearch:
    """A search of documents before the model is asked.

    Attributes:
        stores: ids of vector stores, which are collections.
        most: passages at most.
        filters: the typed tree of `retrieval.expression`.
        score_threshold: passages below are left out.
        dense_weight: what nearness of meaning counts beside equal words, 0 to 1; None: as each collection has it.
    """

    stores: tuple[str, ...]
    most: int = _RESULTS
    filters: Any = None
    score_threshold: float | None = None
    dense_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """What a request says of its tools.

    Attributes:
        chat: the fields of a chat that say the same of functions.
        search: None: no documents are searched.
        shown: the tools, and the choice, as the response repeats them.
    """

    chat: dict[str, Any]
    search: FileSearch | None
    shown: list[dict[str, Any]]
    shown_choice: Any


def read_tools(raw: object, choice: object) -> Tools:
    """Take `tools` and `tool_choice`.

    Raises: RequestInvalid; NotSupportedYet: a tool that this house does not have.
    """
    tools = [] if raw is None else raw
    if not isinstance(tools, list) or len(tools) > _MOST:
        raise RequestInvalid(f"tools must be a list of at most {_MOST} tools", "tools")
    functions, shown, search = [], [], None
    for at, tool in enumerate(tools):
        param = f"tools[{at}]"
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind == "function":
            function = _function(tool, param)
            functions.append({"type": "function", "function": function})
            shown.append({"type": "function", **_UNFILLED, "parameters": None, "strict": False, **function})
        elif kind == "file_search":
            if search is not None:
                raise RequestInvalid("name all vector stores in one file_search tool", param)
            search = _file_search(tool, param)
            shown.append(_shown_search(tool, search))
        elif isinstance(kind, str):
            raise NotSupportedYet(f"{param}: there is no tool {kind[:60]!r} here; use function or file_search", param)
        else:
            raise RequestInvalid(f'{param} must be an object such as {{"type": "file_search", ...}}', param)
    functions, named, searches = _choose(functions, choice)
    chat: dict[str, Any] = {}
    if functions:
        chat = {"tools": functions, "tool_choice": named}
    return Tools(chat, search if searches else None, shown, "auto" if choice is None else choice)


def _choose(functions: list[dict[str, Any]], choice: object) -> tuple[list[dict[str, Any]], Any, bool]:
    """The functions that may be called, how a chat says which, and whether documents are searched."""
    if choice is None or choice in _OPTIONS:
        return functions, choice or "auto", choice != "none"
    kind = choice.get("type") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or kind not in ("function", "file_search", "allowed_tools"):
        raise RequestInvalid(
            "tool_choice must be auto, none, required, or an object of type function, file_search or allowed_tools",
            "tool_choice",
        )
    if kind == "file_search":
        return functions, "auto", True
    if kind == "function":
        name = choice.get("name")
        if name not in _names(functions):
            raise RequestInvalid("tool_choice names no function of tools", "tool_choice.name")
        return functions, {"type": "function", "function": {"name": name}}, False
    allowed, mode = choice.get("tools"), choice.get("mode", "auto")
    if not isinstance(allowed, list) or not all(isinstance(one, dict) for one in allowed) or mode not in _OPTIONS:
        raise RequestInvalid(
            "tool_choice of allowed_tools has a mode, auto or required, and a list tools", "tool_choice"
        )
    names = {one.get("name") for one in allowed if one.get("type") == "function"}
    searches = any(one.get("type") == "file_search" for one in allowed)
    return [one for one in functions if one["function"]["name"] in names], mode, searches


def _names(functions: Sequence[Mapping[str, Any]]) -> set[str]:
    return {one["function"]["name"] for one in functions}


def _function(tool: Mapping[str, Any], param: str) -> dict[str, Any]:
    """A function as a chat has it; a chat's own nesting is taken too."""
    inner = tool.get("function")
    given = inner if isinstance(inner, dict) else tool
    name = given.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= 200:
        raise RequestInvalid(f"{param}.name must be the function's name", f"{param}.name")
    kinds = (("description", str), ("parameters", dict), ("strict", bool))
    for field, kind in kinds:
        if given.get(field) is not None and not isinstance(given[field], kind):
            raise RequestInvalid(f"{param}.{field} has the wrong type", f"{param}.{field}")
    return {"name": name, **{field: given[field] for field, _ in kinds if given.get(field) is not None}}


def _file_search(tool: Mapping[str, Any], param: str) -> FileSearch:
    stores = tool.get("vector_store_ids")
    if not isinstance(stores, list) or not all(isinstance(one, str) for one in stores) or not stores:
        raise RequestInvalid(f"{param}.vector_store_ids must name a vector store", f"{param}.vector_store_ids")
    if len(stores) > MAX_STORES:
        raise RequestInvalid(f"{param}.vector_store_ids names at most {MAX_STORES}", f"{param}.vector_store_ids")
    most = tool.get("max_num_results")
    most = _RESULTS if most is None else most
    if not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= MAX_RESULTS:
        raise RequestInvalid(f"{param}.max_num_results goes from 1 to {MAX_RESULTS}", f"{param}.max_num_results")
    threshold, weight = _ranking(tool.get("ranking_options"), f"{param}.ranking_options")
    return FileSearch(tuple(dict.fromkeys(stores)), most, tool.get("filters"), threshold, weight)


def _ranking(raw: object, param: str) -> tuple[float | None, float | None]:
    """The threshold and the weight of meaning."""
    if raw is None:
        return None, None
    if not isinstance(raw, dict):
        raise RequestInvalid(f"{param} must be an object", param)
    if raw.get("ranker") not in _RANKERS:
        raise RequestInvalid(
            f"{param}.ranker is auto or none: each collection says how it is ranked", f"{param}.ranker"
        )
    threshold = raw.get("score_threshold")
    if threshold is not None and not _is_number(threshold, 0, 1):
        raise RequestInvalid(f"{param}.score_threshold is a number from 0 to 1", f"{param}.score_threshold")
    hybrid = raw.get("hybrid_search")
    if hybrid is None:
        return threshold, None
    weights: list[Any] = []
    if isinstance(hybrid, dict):
        weights = [hybrid.get(name) for name in ("embedding_weight", "text_weight")]
    if not all(_is_number(weight, 0, 1e9) for weight in weights) or not sum(weights):
        raise RequestInvalid(
            f"{param}.hybrid_search has embedding_weight and text_weight, not both 0", f"{param}.hybrid_search"
        )
    return threshold, float(weights[0] / sum(weights))


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _shown_search(tool: Mapping[str, Any], search: FileSearch) -> dict[str, Any]:
    return {
        "type": "file_search",
        "vector_store_ids": list(search.stores),
        "max_num_results": search.most,
        "filters": tool.get("filters"),
        "ranking_options": tool.get("ranking_options") or {"ranker": "auto", "score_threshold": 0.0},
    }
