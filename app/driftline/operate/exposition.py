"""The page that Prometheus scrapes: what the collectors find, with the pipeline's name on every sample.

A Prometheus scrapes workers of many pipelines. Who asks "whose lag?" should not need to know which host serves what, so
the name is a label of each sample, put on here once: no family can be without it. Beside the worker's own families come
those of the process (`process_*`, as every client of Prometheus has them), and `driftline_build_info`, whose labels say
what runs.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from driftline import __version__
from driftline.core.wording import escaped

CONTENT_TYPE = CONTENT_TYPE_LATEST.partition(";")[0]
LABEL = "pipeline"


class Exposition(Collector):
    """All families of a worker's process, and the page of them.

    Args:
        pipeline: its name.
        collectors: what finds the worker's families, fresh ones at each call.
    """

    def __init__(self, pipeline: str, collectors: Iterable[Collector]) -> None:
        self._pipeline = pipeline
        self._collectors = [Build(), ProcessCollector(registry=None), *collectors]
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def page(self) -> bytes:
        """The families in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        for collector in self._collectors:
            for family in collector.collect():
                family.samples = [one._replace(labels=self._labels(one.labels)) for one in family.samples]
                yield family

    def _labels(self, given: Mapping[str, str]) -> dict[str, str]:
        """The labels of a sample. Values of features are among them, and whoever looks at the page does so in a
        terminal: no control characters."""
        return {LABEL: self._pipeline, **{name: escaped(value) for name, value in given.items()}}


class Build(Collector):
    """What runs, as labels of a number that is always 1."""

    def __init__(self) -> None:
        self._versions = {
            "version": __version__,
            "river": version("river"),
            "python": platform.python_version(),
        }

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "driftline_build_info", "Always 1; the labels say what runs.", labels=list(self._versions)
        )
        family.add_metric(list(self._versions.values()), 1.0)
        yield family
