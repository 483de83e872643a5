"""Every Prometheus metric of a worker, in one place.

The numbers are counted as plain numbers where things happen (`tally`); names, help texts and labels exist only
here, when a scrape asks. So counting costs next to nothing, and the series of a shard that was taken away are gone
with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from driftline.core.pipeline import AlertKind
from driftline.engine.outage import Outage
from driftline.engine.runner import Runner
from driftline.engine.tally import Histogram, Tally
from driftline.engine.worker import Worker
from driftline.operate.kpi_series import KpiSeries
from driftline.operate.notify import Notifier
from driftline.operate.schedule import Sender

_KINDS: tuple[AlertKind, ...] = get_args(AlertKind)
Shards = Iterable[tuple[str, Runner]]


class WorkerCollector(Collector):
    """Reads a worker when Prometheus scrapes.

    Args:
        worker: returns the worker, or None while there is none.
        outage: returns what is known of Kafka's absence, or None while no one has looked.
    """

    def __init__(self, worker: Callable[[], Worker | None], outage: Callable[[], Outage | None]) -> None:
        self._worker = worker
        self._outage = outage

    def collect(self) -> Iterable[Metric]:
        worker, outage = self._worker(), self._outage()
        ready = GaugeMetricFamily(
            "driftline_ready", "1 if Kafka is available and every shard of this worker has recovered."
        )
        ready.add_metric([], float(worker is not None and worker.ready))
        yield ready
        if outage is not None:
            yield from _broker(outage)
        if worker is None:
            return
        shards = [(str(partition), runner) for partition, runner in sorted(worker.runners.items())]
        yield from _counters(shards)
        yield from _fold(shards)
        yield from _histograms(shards)
        yield from _recovery(shards)
        yield from _states(shards)
        yield from _reading(worker, shards)


def _broker(outage: Outage) -> Iterator[Metric]:
    up = GaugeMetricFamily("driftline_broker_up", "1 while Kafka is available to this worker.")
    up.add_metric([], float(not outage.on))
    count = CounterMetricFamily("driftline_broker_outages", "Number of times Kafka became unavailable.")
    count.add_metric([], outage.count)
    lasted = CounterMetricFamily("driftline_broker_outage_seconds", "Total time Kafka was unavailable.")
    lasted.add_metric([], outage.total_s)
    yield from (up, count, lasted)


_COUNTERS: Mapping[str, tuple[str, str | None, Callable[[Tally], Mapping[str, int]]]] = {
    "driftline_records": ("Records read, by topic.", "topic", lambda tally: tally.records),
    "driftline_scores": ("Scores published.", None, lambda tally: {"": tally.scores}),
    "driftline_outcomes": ("Outcomes published, by kind.", "kind", lambda tally: tally.outcomes),
    "driftline_rejected": ("Records rejected, by reason.", "reason", lambda tally: tally.rejected),
    "driftline_alerts": ("Alerts published, by kind.", "kind", lambda tally: tally.alerts),
    "driftline_failures": (
        "Commits and recoveries that failed and were retried.",
        None,
        lambda tally: {"": tally.failures},
    ),
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
    "driftline_label_delay_seconds": ("Time from event to label, in event time.", lambda tally: tally.label_delay_s),
    "driftline_score_latency_seconds": (
        "Wall time from the event's record time until its score can be read.",
        lambda tally: tally.score_latency_s,
    ),
    "driftline_score_latency_from_receipt_seconds": (
        "Wall time from receipt of the event until its score can be read.",
        lambda tally: tally.receipt_latency_s,
    ),
    "driftline_slice_records": (
        "Records per slice, processed and committed together.",
        lambda tally: tally.slice_records,
    ),
    "driftline_commit_seconds": ("Duration of commits.", lambda tally: tally.commit_s),
    "driftline_snapshot_seconds": (
        "Longest single pause of the shard for a snapshot.",
        lambda tally: tally.snapshot_s,
    ),
    "driftline_snapshot_bytes": ("Bytes written per snapshot.", lambda tally: tally.snapshot_bytes),
}


def _fold(shards: Shards) -> Iterator[Metric]:
    """Its rate is how full the shard is: one shard is one core."""
    family = CounterMetricFamily(
        "driftline_fold_seconds",
        "Time spent processing records; its rate is how full the shard is.",
        labels=["partition"],
    )
    for number, runner in shards:
        family.add_metric([number], runner.tally.fold_s)
    yield family
    full = GaugeMetricFamily(
        "driftline_full_ratio",
        "Share of the last minute in which the shard processed records; at 1 it falls behind.",
        labels=["partition"],
    )
    for number, runner in shards:
        if runner.tally.fullness.share is not None:
            full.add_metric([number], runner.tally.fullness.share)
    yield full


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
        "Slices replayed in the current or last recovery.",
        lambda tally: tally.recovery_slices,
    ),
    "driftline_recovery_records": (
        "Records replayed in the current or last recovery.",
        lambda tally: tally.recovery_records,
    ),
    "driftline_recovery_unverifiable_slices": (
        "Slices of that recovery made by other versions or arithmetic, so their digests could not be compared.",
        lambda tally: tally.recovery_unverifiable,
    ),
}


def _recovery(shards: Shards) -> Iterator[Metric]:
    for name, (text, read) in _RECOVERY.items():
        family = GaugeMetricFamily(name, text, labels=["partition"])
        for partition, runner in shards:
            family.add_metric([partition], read(runner.tally))
        yield family
    ready = GaugeMetricFamily("driftline_shard_ready", "1 if the shard has recovered.", labels=["partition"])
    for partition, runner in shards:
        ready.add_metric([partition], float(runner.ready))
    yield ready


def _states(shards: Shards) -> Iterator[Metric]:
    """What the shards' own states say."""
    pending = GaugeMetricFamily(
        "driftline_pending", "Pending events: scored, waiting for their label.", labels=["partition"]
    )
    early = GaugeMetricFamily("driftline_early_labels", "Early labels: waiting for their event.", labels=["partition"])
    labels = CounterMetricFamily(
        "driftline_labels",
        "Labels since the first record, by outcome; expired: events without a label.",
        labels=["partition", "fate"],
    )
    learned = GaugeMetricFamily("driftline_labels_learned", "Labels the model has learned from.", labels=["partition"])
    unanswered = GaugeMetricFamily(
        "driftline_labels_unanswered",
        "Labels of events without a prediction; metrics ignore them.",
        labels=["partition"],
    )
    frozen = GaugeMetricFamily("driftline_frozen", "1 while learning is frozen by an operator.", labels=["partition"])
    generation = GaugeMetricFamily("driftline_model_generation", "Generation of the model.", labels=["partition"])
    episodes = GaugeMetricFamily("driftline_open_episodes", "Open episodes.", labels=["partition", "kind"])
    watermark = GaugeMetricFamily("driftline_watermark_seconds", "Watermark, in epoch seconds.", labels=["partition"])
    drift = CounterMetricFamily(
        "driftline_drift", "Drifts since the first record, alerted or not.", labels=["partition", "signal", "detection"]
    )
    passed = CounterMetricFamily(
        "driftline_passed_over",
        "Valid records that were skipped, since the first record.",
        labels=["partition", "input", "kind"],
    )
    metric = GaugeMetricFamily(
        "driftline_metric", "Metrics of the served predictions.", labels=["partition", "metric", "span"]
    )
    maturity, past, guard, learning = _Maturity(), _History(), _Guard(), _Learning()
    ahead, kpis = _Ahead(), KpiSeries()
    for partition, runner in shards:
        live = runner.live
        if live is None:
            continue
        summary = live.shard.summary()
        maturity.add(partition, summary)
        past.add(partition, summary.get("history", {}))
        guard.add(partition, summary.get("guard"))
        learning.add(partition, summary.get("learning", {}), summary["counts"])
        ahead.add(partition, summary.get("forecast"), summary["counts"])
        kpis.add(partition, summary.get("kpi", {}))
        pending.add_metric([partition], summary["pending"])
        early.add_metric([partition], summary["early"])
        for fate, count in summary["labels"].items():
            if fate != "early":  # those are held now: a gauge
                labels.add_metric([partition, fate], count)
        learned.add_metric([partition], live.shard.learner.learned)
        unanswered.add_metric([partition], summary["unanswered"])
        frozen.add_metric([partition], float(live.shard.frozen))
        generation.add_metric([partition], live.shard.learner.generation)
        kinds = Counter(episode.sign.kind for episode in live.shard.episodes.open.values())
        for kind in _KINDS:
            episodes.add_metric([partition, kind], kinds[kind])
        if summary["watermark_ms"] is not None:
            watermark.add_metric([partition], summary["watermark_ms"] / 1000)
        for (signal, detection), count in sorted(live.shard.drifts.items()):
            drift.add_metric([partition, signal, detection], count)
        for (what, why), count in live.shard.passed.items():
            passed.add_metric([partition, what, why], count)
        spans = {"total": summary["metrics"], "window": summary["window_metrics"], "time": summary.get("span", {})}
        for span, values in spans.items():
            for name, value in values.items():
                if value is not None:
                    metric.add_metric([partition, name, span], value)
    yield from (pending, early, labels, learned, unanswered, frozen, generation, episodes, watermark, drift, passed)
    yield metric
    yield from maturity.families()
    yield from past.families()
    yield from guard.families()
    yield from learning.families()
    yield from ahead.families()
    yield from kpis.families()


class _Ahead:
    """The series of pipelines that forecast."""

    def __init__(self) -> None:
        self._by_horizon = GaugeMetricFamily(
            "driftline_forecast",
            "Metrics of served forecasts since the first one, by steps ahead (all: over all of them).",
            labels=["partition", "metric", "horizon"],
        )
        self._by_segment = GaugeMetricFamily(
            "driftline_forecast_by_segment",
            "Metrics of served forecasts over all horizons, by segment.",
            labels=["partition", "metric", "segment"],
        )
        self._series = GaugeMetricFamily(
            "driftline_forecast_series", "Series whose past is kept.", labels=["partition"]
        )
        self._evicted = CounterMetricFamily(
            "driftline_forecast_series_evicted",
            "Series that were let go, the least recently observed first.",
            labels=["partition"],
        )
        self._observations = CounterMetricFamily(
            "driftline_forecast_observations",
            "Observations by where they fell in their series; missed_steps counts the steps that were left out.",
            labels=["partition", "place"],
        )

    def add(self, partition: str, summary: Mapping[str, Any] | None, counts: Mapping[str, int]) -> None:
        if summary is None:
            return
        self._series.add_metric([partition], summary["series"])
        self._evicted.add_metric([partition], summary["evicted"])
        for what, count in sorted(counts.items()):
            if what.startswith("forecast_"):
                self._observations.add_metric([partition, what.removeprefix("forecast_")], count)
        for name, value in summary["metrics"].items():
            if value is not None:
                self._by_horizon.add_metric([partition, name, "all"], value)
        for name, values in summary["by_horizon"].items():
            for number, value in enumerate(values, 1):
                if value is not None:
                    self._by_horizon.add_metric([partition, name, str(number)], value)
        for segment, board in summary.get("by_segment", {}).items():
            for name, value in board["metrics"].items():
                if value is not None:
                    self._by_segment.add_metric([partition, name, segment], value)

    def families(self) -> Iterator[Metric]:
        if self._series.samples:
            yield from (self._by_horizon, self._by_segment, self._series, self._evicted, self._observations)


class _Guard:
    """The series of pipelines with a guard."""

    def __init__(self) -> None:
        self._trips = CounterMetricFamily(
            "driftline_guard_trips",
            "Predictions that did not pass a rung of the guard, by rung and action.",
            labels=["partition", "rung", "action"],
        )
        self._instead = CounterMetricFamily(
            "driftline_guard_fallbacks",
            "Predictions that were replaced, by what was served instead.",
            labels=["partition", "instead"],
        )
        self._series = GaugeMetricFamily(
            "driftline_guard_series", "Series whose last values the guard remembers.", labels=["partition"]
        )

        self._held = GaugeMetricFamily(
            "driftline_guard_held", "Predictions that wait for a review.", labels=["partition"]
        )

    def add(self, partition: str, guard: Mapping[str, Any] | None) -> None:
        if guard is None:
            return
        self._held.add_metric([partition], guard["held"])
        for what, count in guard["tripped"].items():
            self._trips.add_metric([partition, *what.split()], count)
        for what, count in guard["instead"].items():
            self._instead.add_metric([partition, what], count)
        self._series.add_metric([partition], guard["series"])

    def families(self) -> Iterator[Metric]:
        if self._series.samples:
            yield from (self._trips, self._instead, self._series, self._held)


class _Learning:
    """The series of labels that are held back from learning, or were."""

    def __init__(self) -> None:
        self._held = GaugeMetricFamily(
            "driftline_quarantine_held", "Labels that are held back from learning.", labels=["partition"]
        )
        self._suspect = GaugeMetricFamily(
            "driftline_quarantine_suspect",
            "1 while labels contradict the model more often than usual.",
            labels=["partition"],
        )
        self._labels = CounterMetricFamily(
            "driftline_quarantine_labels",
            "Labels that were held back from learning, and what became of them.",
            labels=["partition", "fate"],
        )
        self._unlearned = CounterMetricFamily(
            "driftline_unlearned", "Pairs that were not learned because learning was frozen.", labels=["partition"]
        )

    def add(self, partition: str, learning: Mapping[str, Any], counts: Mapping[str, int]) -> None:
        self._held.add_metric([partition], learning.get("held", 0))
        self._suspect.add_metric([partition], float(learning.get("suspect", False)))
        for fate, count in learning.get("quarantine", {}).items():
            self._labels.add_metric([partition, fate], count)
        self._unlearned.add_metric([partition], counts.get("unlearned", 0))

    def families(self) -> Iterator[Metric]:
        yield from (self._held, self._suspect, self._labels, self._unlearned)


class _History:
    """The series of history features, by the fields that the past is kept by."""

    def __init__(self) -> None:
        of = ["partition", "by"]
        self._families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {
            "keys": GaugeMetricFamily("driftline_history_keys", "Keys whose past is kept.", labels=of),
            "keys_max": GaugeMetricFamily("driftline_history_keys_max", "Most keys that are kept.", labels=of),
            "evicted": CounterMetricFamily(
                "driftline_history_evicted", "Keys that were evicted as the least recently used.", labels=of
            ),
            "late": CounterMetricFamily(
                "driftline_history_late", "Events and labels that were too old for a window.", labels=of
            ),
            "without_key": CounterMetricFamily(
                "driftline_history_without_key", "Events that lack a field of the key.", labels=of
            ),
        }

    def add(self, partition: str, history: Mapping[str, Mapping[str, int]]) -> None:
        for by, held in history.items():
            for name, family in self._families.items():
                family.add_metric([partition, by], held[name])

    def families(self) -> Iterator[Metric]:
        yield from (family for family in self._families.values() if family.samples)


class _Maturity:
    """The series on how many labels have arrived, and the metrics split by it."""

    def __init__(self) -> None:
        of = ["partition"]
        self._coverage = GaugeMetricFamily(
            "driftline_label_coverage",
            "Labelled share of events whose wait is over; absent until there are any.",
            labels=of,
        )
        self._delay = GaugeMetricFamily(
            "driftline_label_delay_quantile_seconds",
            "Delay within which this share of all labels so far came, accurate to 7%.",
            labels=[*of, "share"],
        )
        self._expected = GaugeMetricFamily(
            "driftline_expected_accuracy",
            "Accuracy expected from the latest predictions, before their labels.",
            labels=of,
        )
        self._reliable = GaugeMetricFamily(
            "driftline_expected_accuracy_reliable",
            "1 if the expected accuracy is reliable: calibrated, no new drift.",
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


class NotifyCollector(Collector):
    """Reads the notifiers of a process when Prometheus scrapes."""

    def __init__(self, notifiers: Callable[[], Sequence[Notifier]], senders: Callable[[], Sequence[Sender]]) -> None:
        self._notifiers, self._senders = notifiers, senders

    def collect(self) -> Iterable[Metric]:
        results = CounterMetricFamily(
            "driftline_notifications", "Alerts by webhook and result.", labels=["webhook", "result"]
        )
        failed = CounterMetricFamily(
            "driftline_notification_failed_attempts", "Failed delivery attempts.", labels=["webhook"]
        )
        up = GaugeMetricFamily("driftline_notifier_up", "1 while alerts are read for the webhook.", labels=["webhook"])
        for notifier in self._notifiers():
            for result in ("delivered", "undelivered", "repeated", "unwanted", "grouped"):
                results.add_metric([notifier.name, result], notifier.results[result])
            failed.add_metric([notifier.name], notifier.failed_attempts)
            up.add_metric([notifier.name], float(notifier.running))
        digests = CounterMetricFamily(
            "driftline_digests", "Digests by schedule and result.", labels=["digest", "result"]
        )
        at_work = GaugeMetricFamily(
            "driftline_digest_up", "1 while this worker looks for digests that are due.", labels=["digest"]
        )
        sent = GaugeMetricFamily(
            "driftline_digest_last_sent_timestamp_seconds",
            "When the webhook last accepted a digest of this worker; absent before the first.",
            labels=["digest"],
        )
        for sender in self._senders():
            for result in ("delivered", "failed"):
                digests.add_metric([sender.name, result], sender.results[result])
            at_work.add_metric([sender.name], float(sender.running))
            if sender.sent_s is not None:
                sent.add_metric([sender.name], sender.sent_s)
        yield from (results, failed, up, digests, at_work, sent)


def _reading(worker: Worker, shards: Shards) -> Iterator[Metric]:
    """How far the inputs are read, and what keeps them from being read; nothing of what is not known now."""
    of = ["partition", "topic"]
    lag = GaugeMetricFamily("driftline_lag", "Unread offsets up to the last stable offset, by topic.", labels=of)
    to_end = GaugeMetricFamily(
        "driftline_lag_to_end", "Unread offsets up to the end, including open transactions.", labels=of
    )
    held = GaugeMetricFamily(
        "driftline_transaction_open_seconds",
        "How long another producer's open transaction has blocked reading.",
        labels=of,
    )
    wider = GaugeMetricFamily(
        "driftline_partitions_unread", "Partitions that were added and are not read.", labels=["topic"]
    )
    for place in [place for _, runner in shards for place in runner.places]:
        for family, found in (
            (lag, worker.lag(place)),
            (to_end, worker.lag_to_end(place)),
            (held, worker.lookout.open_s(place)),
        ):
            if found is not None:
                family.add_metric([str(place.partition), place.topic], found)
    for topic, count in worker.lookout.wider.items():
        wider.add_metric([topic], count - worker.lookout.partitions)
    yield from (lag, to_end, held, wider)
