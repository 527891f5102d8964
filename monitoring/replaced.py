"""Gauges whose series go again.

prometheus_client can't take a series back out of a folder that several processes share. Here one process tells all
series of a gauge at once, in a file of its own, and what it does not tell any more is gone.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from prometheus_client import REGISTRY, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

FILES = "*.series"

Series = Mapping[tuple[str, ...], float]


class ReplacedGauge(Collector):
    """Values by the labels' values; the last `replace` of whichever process is what there is."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._name = name
        self._documentation = documentation
        self.labels = tuple(labels)
        self._own: Series = {}
        REGISTRY.register(self)

    def replace(self, values: Series) -> None:
        """Tell these series and no others. Raises: OSError: the folder can't be written."""
        self._own = dict(values)
        if (file := self._file()) is not None:
            write_whole(file, json.dumps([[*labels, value] for labels, value in values.items()]))

    def describe(self) -> Iterable[Metric]:
        return [GaugeMetricFamily(self._name, self._documentation, labels=self.labels)]

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._documentation, labels=self.labels)
        for labels, value in self._told().items():
            family.add_metric(labels, value)
        return [family]

    def _told(self) -> Series:
        if (file := self._file()) is None:
            return self._own
        try:
            return {tuple(labels): value for *labels, value in json.loads(file.read_text())}
        except FileNotFoundError:
            return {}

    def _file(self) -> Path | None:
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        return None if folder is None else Path(folder) / FILES.replace("*", self._name)


def write_whole(file: Path, text: str) -> None:
    """Write a file that others read, so that they find the old text or the new one."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".")
    with os.fdopen(handle, "w") as out:
        out.write(text)
    os.replace(temporary, file)
