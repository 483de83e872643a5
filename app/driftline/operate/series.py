"""Prometheus metrics of shards, each a row of a table: what it is called, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from driftline.engine.live import Live

T = TypeVar("T")
Values: TypeAlias = Iterable[tuple[tuple[str, ...], float]]
"""The values of a metric, each with those of its labels."""


class Seen(NamedTuple):
    """What is known of a shard that processes records.

    Args:
        summary: as `Shard.summary` makes it.
    """

    live: Live
    summary: Mapping[str, Any]


@dataclass(frozen=True)
class Series(Generic[T]):
    """A metric of every shard.

    Args:
        read: its values, from what is known of a shard.
        labels: besides the partition.
        counts: it is a counter, which only grows; else a gauge.
    """

    name: str
    text: str
    read: Callable[[T], Values]
    labels: tuple[str, ...]
    counts: bool

    def family(self, shards: Iterable[tuple[str, T]]) -> Metric:
        """The metric of these shards."""
        kind = CounterMetricFamily if self.counts else GaugeMetricFamily
        family = kind(self.name, self.text, labels=["partition", *self.labels])
        for partition, known in shards:
            for labels, value in self.read(known):
                family.add_metric([partition, *labels], value)
        return family


def gauge(name: str, text: str, read: Callable[[T], Values], *labels: str) -> Series[T]:
    return Series(name, text, read, labels, counts=False)


def counter(name: str, text: str, read: Callable[[T], Values], *labels: str) -> Series[T]:
    return Series(name, text, read, labels, counts=True)


def one(value: float | None) -> Values:
    """A metric without labels; None is not exposed."""
    return [] if value is None else [((), value)]


def each(values: Mapping[str, float | None]) -> Values:
    """A metric with one label, by its values."""
    return [((name,), value) for name, value in values.items() if value is not None]


def nested(values: Mapping[str, Mapping[str, float | None]]) -> Values:
    """A metric with two labels: the inner key, then the outer one."""
    return [((name, part), value) for part, inner in values.items() for (name,), value in each(inner)]
