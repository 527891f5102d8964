"""What deployments are called, by the router, by what watches GPUs and by Prometheus's configuration alike."""

from collections.abc import Iterable, Iterator


def deployment_names(entries: Iterable[tuple[str, str | None]]) -> Iterator[str]:
    """The names of one source's entries: of the file, or of what `./stoker up` runs.

    Sources are counted apart, so that a name hangs on nothing that stands elsewhere.

    Args:
        entries: in their order, each with its group and its `model_info.id`; without one it is counted: `GROUP-1`.
    """
    counted: dict[str, int] = {}
    for group, id_ in entries:
        counted[group] = counted.get(group, 0) + 1
        yield id_ or f"{group}-{counted[group]}"
