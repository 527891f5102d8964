"""Completion of commands and flags in a shell, by typer's own means."""

import enum

from typer.completion import completion_init, get_completion_script  # type: ignore[attr-defined]  # it shows both

COMPLETE_VARIABLE = "_STOKER_COMPLETE"
"""By which a shell's script asks for completions; what typer would make of `./stoker` is no name of a variable."""


class Shell(enum.StrEnum):
    """Shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def with_completion() -> None:
    """Have the command line answer a shell that asks."""
    completion_init()


def script(shell: Shell) -> str:
    """What the shell reads to complete `stoker`, also where it is called by a path."""
    return f"{get_completion_script(prog_name='stoker', complete_var=COMPLETE_VARIABLE, shell=shell.value)}\n"
