"""Every Prometheus metric of a worker, in one place.

The numbers are counted as plain numbers where things happen (`tally`); names, help texts and labels exist only
here, when a scrape asks. So counting costs next to nothing, and the series of a shard that was taken away are gone
with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from app.codec.inputs import Inputs
from app.engine.port import Place
from app.engine.runner import Runner
from app.engine.tally import Histogram, Tally
from app.engine.worker import Worker

Shards = Iterable[tuple[str, Runner]]


class WorkerCollector(Collector):
    """Reads a worker when Prometheus scrapes.

    Args:
        worker: returns the worker, or None while there is none.
    """

    def __init__(self, worker: Callable[[], Worker | None]) -> None:
        self._worker = worker

    def collect(self) -> Iterable[Metric]:
        worker = self._worker()
        if worker is None:
            return
        shards = [(str(partition), runner) for partition, runner in sorted(worker.runners.items())]
        ready = GaugeMetricFamily("driftline_ready", "1 when every shard of this worker is recovered.")
        ready.add_metric([], float(worker.ready))
        yield ready
        yield from _counters(shards)
        yield from _histograms(shards)
        yield from _recovery(shards)
        yield from _states(shards)
        yield _lag(worker, shards)


_COUNTERS: Mapping[str, tuple[str, str | None, Callable[[Tally], Mapping[str, int]]]] = {
    "driftline_records": ("Records read, by topic.", "topic", lambda tally: tally.records),
    "driftline_scores": ("Scores published.", None, lambda tally: {"": tally.scores}),
    "driftline_outcomes": ("Outcomes published, by kind.", "kind", lambda tally: tally.outcomes),
    "driftline_rejected": ("Records rejected, by reason.", "reason", lambda tally: tally.rejected),
    "driftline_alerts": ("Alerts published, by kind.", "kind", lambda tally: tally.alerts),
    "driftline_recoveries": ("Recoveries of the shard's state.", None, lambda tally: {"": tally.recoveries}),
}


def _counters(shards: Shards) -> Iterator[Metric]:
    for name, (text, label, read) in _COUNTERS.items():
        family = CounterMetricFamily(name, text, labels=["partition", *([label] if label else [])])
        for partition, runner in shards:
            for value, count in read(runner.tally).items():
                family.add_metric([partition, *([value] if label else [])], count)
        yield family
    joined = CounterMetricFamily("driftline_labels_joined", "Labels joined to their event.", labels=["partition"])
    for partition, runner in shards:
        joined.add_metric([partition], runner.tally.outcomes["joined"])
    yield joined


_HISTOGRAMS: Mapping[str, tuple[str, Callable[[Tally], Histogram]]] = {
    "driftline_label_delay_seconds": ("Event time from event to label.", lambda tally: tally.label_delay_s),
    "driftline_score_latency_seconds": (
        "Wall time from the event's record time to its score being readable.",
        lambda tally: tally.score_latency_s,
    ),
    "driftline_score_latency_from_receipt_seconds": (
        "Wall time from receipt of the event to its score being readable.",
        lambda tally: tally.receipt_latency_s,
    ),
    "driftline_slice_records": ("Records folded and committed together.", lambda tally: tally.slice_records),
    "driftline_commit_seconds": ("Duration of commits.", lambda tally: tally.commit_s),
    "driftline_snapshot_seconds": ("Time that taking a snapshot held the shard up.", lambda tally: tally.snapshot_s),
    "driftline_snapshot_bytes": ("Size of snapshots.", lambda tally: tally.snapshot_bytes),
}


def _histograms(shards: Shards) -> Iterator[Metric]:
    for name, (text, read) in _HISTOGRAMS.items():
        family = HistogramMetricFamily(name, text, labels=["partition"])
        for partition, runner in shards:
            histogram = read(runner.tally)
            family.add_metric([partition], buckets=histogram.buckets(), sum_value=histogram.total)
        yield family


_RECOVERY: Mapping[str, tuple[str, Callable[[Tally], float]]] = {
    "driftline_recovery_seconds": ("Duration of the last recovery.", lambda tally: tally.recovery_s),
    "driftline_recovery_slices": (
        "Slices folded again in the recovery under way, or the last one.",
        lambda tally: tally.recovery_slices,
    ),
    "driftline_recovery_records": (
        "Records folded again in the recovery under way, or the last one.",
        lambda tally: tally.recovery_records,
    ),
    "driftline_recovery_unverifiable_slices": (
        "Slices of it whose digest says nothing here: other versions or arithmetic.",
        lambda tally: tally.recovery_unverifiable,
    ),
}


def _recovery(shards: Shards) -> Iterator[Metric]:
    for name, (text, read) in _RECOVERY.items():
        family = GaugeMetricFamily(name, text, labels=["partition"])
        for partition, runner in shards:
            family.add_metric([partition], read(runner.tally))
        yield family
    ready = GaugeMetricFamily("driftline_shard_ready", "1 when the shard is recovered.", labels=["partition"])
    for partition, runner in shards:
        ready.add_metric([partition], float(runner.ready))
    yield ready


def _states(shards: Shards) -> Iterator[Metric]:
    """What the shards' own states say."""
    pending = GaugeMetricFamily("driftline_pending", "Events that wait for their label.", labels=["partition"])
    early = GaugeMetricFamily("driftline_early_labels", "Labels that wait for their event.", labels=["partition"])
    learned = GaugeMetricFamily("driftline_labels_learned", "Learn calls of the model.", labels=["partition"])
    watermark = GaugeMetricFamily("driftline_watermark_seconds", "Watermark, epoch seconds.", labels=["partition"])
    drift = CounterMetricFamily(
        "driftline_drift", "Drifts since the first record, alerted or not.", labels=["partition", "signal", "detection"]
    )
    metric = GaugeMetricFamily(
        "driftline_metric", "Metrics of the served predictions.", labels=["partition", "metric", "span"]
    )
    maturity = _Maturity()
    for partition, runner in shards:
        live = runner.live
        if live is None:
            continue
        summary = live.shard.summary()
        maturity.add(partition, summary)
        pending.add_metric([partition], summary["pending"])
        early.add_metric([partition], summary["early"])
        learned.add_metric([partition], live.shard.learner.learned)
        if summary["watermark_ms"] is not None:
            watermark.add_metric([partition], summary["watermark_ms"] / 1000)
        for (signal, detection), count in sorted(live.shard.drifts.items()):
            drift.add_metric([partition, signal, detection], count)
        spans = {"total": summary["metrics"], "window": summary["window_metrics"], "time": summary.get("span", {})}
        for span, values in spans.items():
            for name, value in values.items():
                if value is not None:
                    metric.add_metric([partition, name, span], value)
    yield from (pending, early, learned, watermark, drift, metric)
    yield from maturity.families()


class _Maturity:
    """The series that tell how far labels have come in, and the metrics split by it."""

    def __init__(self) -> None:
        of = ["partition"]
        self._coverage = GaugeMetricFamily(
            "driftline_label_coverage", "Share of events with a label, of those whose wait is over.", labels=of
        )
        self._delay = GaugeMetricFamily(
            "driftline_label_delay_quantile_seconds", "Label delays of all labels so far.", labels=[*of, "quantile"]
        )
        self._expected = GaugeMetricFamily(
            "driftline_expected_accuracy", "Accuracy that the last predictions promise, before their labels.", labels=of
        )
        self._reliable = GaugeMetricFamily(
            "driftline_expected_accuracy_reliable",
            "1 when it can be relied on: calibrated, no new drift.",
            labels=of,
        )
        self._split = GaugeMetricFamily(
            "driftline_metric_by", "Metrics by segment and by label age.", labels=[*of, "metric", "by", "part"]
        )

    def add(self, partition: str, summary: Mapping[str, Any]) -> None:
        if summary["coverage"] is not None:
            self._coverage.add_metric([partition], summary["coverage"])
        for share, delay_ms in summary["label_delay_ms"].items():
            if delay_ms is not None:
                self._delay.add_metric([partition, share], delay_ms / 1000)
        expected = summary.get("expected")
        if expected is not None and expected["accuracy"] is not None:
            self._expected.add_metric([partition], expected["accuracy"])
            self._reliable.add_metric([partition], float(expected["reliable"]))
        for by in ("age", "segment"):
            for part, values in summary.get(f"by_{by}", {}).items():
                for name, value in values.items():
                    if value is not None:
                        self._split.add_metric([partition, name, by, part], value)

    def families(self) -> Iterator[Metric]:
        yield from (self._coverage, self._delay, self._expected, self._reliable, self._split)


def _lag(worker: Worker, shards: Shards) -> Metric:
    family = GaugeMetricFamily("driftline_lag", "Offsets not yet read, by topic.", labels=["partition", "topic"])
    topics = Inputs(worker.pipeline).topics
    for partition, _ in shards:
        for topic in topics:
            lag = worker.lag(Place(topic, int(partition)))
            if lag is not None:
                family.add_metric([partition, topic], lag)
    return family
