"""Names that the installed vLLM itself knows, asked of it: a list of our own would be wrong with its next version."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    from inference.settings import VllmSettings

_PLUGINS = {"tool_call_parser": "--tool-parser-plugin", "reasoning_parser": "--reasoning-parser-plugin"}
"""A plugin brings names of its own, which only the server learns."""


def unknown(settings: "VllmSettings", known: Callable[[str], Collection[str]]) -> list[str]:
    """Names in the settings that vLLM would refuse, each with those that it takes.

    Args:
        settings: what is wanted.
        known: the names for a setting; asked only where that setting is used, for it loads vLLM for seconds.
    """
    problems: list[str] = []
    for setting in ("tool_call_parser", "reasoning_parser", "quantization", "speculative_method"):
        wanted = getattr(settings, setting)
        if wanted is None or _brings(settings.extra_args, _PLUGINS.get(setting)):
            continue
        names = known(setting)
        if wanted not in names:
            problems.append(f"{setting}: this vLLM has no {wanted}: take one of {', '.join(sorted(names))}")
    return problems


def known(setting: str) -> Collection[str]:
    """All names that the installed vLLM takes for a setting; imports the part of vLLM that has them."""
    if setting == "tool_call_parser":
        from vllm.tool_parsers import ToolParserManager  # type: ignore[import-not-found]

        return list(ToolParserManager.list_registered())
    if setting == "reasoning_parser":
        from vllm.reasoning import ReasoningParserManager  # type: ignore[import-not-found]

        return list(ReasoningParserManager.list_registered())
    if setting == "quantization":
        from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS  # type: ignore[import-not-found]

        return list(QUANTIZATION_METHODS)
    from vllm.config.speculative import SpeculativeMethod  # type: ignore[import-not-found]

    return list(get_args(SpeculativeMethod))


def _brings(words: list[str], plugin: str | None) -> bool:
    return plugin is not None and any(word.partition("=")[0].replace("_", "-") == plugin for word in words)
