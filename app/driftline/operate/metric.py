"""Every Prometheus metric of a worker, in one place.

The numbers are counted as plain numbers where things happen (`tally`), or are part of a shard's state (its summary);
names, help texts and labels exist only in the tables here, when a scrape asks. So counting costs next to nothing, and
the series of a shard that was taken away are gone with it. To add a metric, add a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from driftline.core.pipeline import AlertKind
from driftline.engine.outage import Outage
from driftline.engine.runner import Runner
from driftline.engine.tally import Histogram, Tally
from driftline.engine.worker import Worker
from driftline.operate.kpi_series import KPIS
from driftline.operate.notify import Notifier
from driftline.operate.schedule import Sender
from driftline.operate.series import Seen, Series, Values, counter, each, gauge, nested, one

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
        shards = [(str(number), runner) for number, runner in sorted(worker.runners.items())]
        yield from (series.family(shards) for series in _COUNTERS)
        yield from _histograms(shards)
        yield from (series.family(shards) for series in _RECOVERY)
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


_COUNTERS: Final[Sequence[Series[Runner]]] = (
    counter("driftline_records", "Records read, by topic.", lambda runner: each(runner.tally.records), "topic"),
    counter("driftline_scores", "Scores published.", lambda runner: one(runner.tally.scores)),
    counter("driftline_outcomes", "Outcomes published, by kind.", lambda runner: each(runner.tally.outcomes), "kind"),
    counter("driftline_rejected", "Records rejected, by reason.", lambda runner: each(runner.tally.rejected), "reason"),
    counter("driftline_alerts", "Alerts published, by kind.", lambda runner: each(runner.tally.alerts), "kind"),
    counter(
        "driftline_failures",
        "Commits and recoveries that failed and were retried.",
        lambda runner: one(runner.tally.failures),
    ),
    counter("driftline_recoveries", "Recoveries of the shard's state.", lambda runner: one(runner.tally.recoveries)),
    counter(
        "driftline_labels_joined", "Labels joined to their event.", lambda runner: one(runner.tally.outcomes["joined"])
    ),
    counter(
        "driftline_fold_seconds",
        "Time spent processing records; its rate is how full the shard is.",  # one shard is one core
        lambda runner: one(runner.tally.fold_s),
    ),
    gauge(
        "driftline_full_ratio",
        "Share of the last minute in which the shard processed records; at 1 it falls behind.",
        lambda runner: one(runner.tally.fullness.share),
    ),
)

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


def _histograms(shards: Shards) -> Iterator[Metric]:
    for name, (text, read) in _HISTOGRAMS.items():
        family = HistogramMetricFamily(name, text, labels=["partition"])
        for partition, runner in shards:
            histogram = read(runner.tally)
            family.add_metric([partition], buckets=histogram.buckets(), sum_value=histogram.total)
        yield family


_RECOVERY: Final[Sequence[Series[Runner]]] = (
    gauge("driftline_recovery_seconds", "Duration of the last recovery.", lambda runner: one(runner.tally.recovery_s)),
    gauge(
        "driftline_recovery_slices",
        "Slices replayed in the current or last recovery.",
        lambda runner: one(runner.tally.recovery_slices),
    ),
    gauge(
        "driftline_recovery_records",
        "Records replayed in the current or last recovery.",
        lambda runner: one(runner.tally.recovery_records),
    ),
    gauge(
        "driftline_recovery_unverifiable_slices",
        "Slices of that recovery made by other versions or arithmetic, so their digests could not be compared.",
        lambda runner: one(runner.tally.recovery_unverifiable),
    ),
    gauge("driftline_shard_ready", "1 if the shard has recovered.", lambda runner: one(runner.ready)),
)


def _states(shards: Shards) -> Iterator[Metric]:
    """What the shards' own states say."""
    seen = [
        (number, Seen(runner.live, runner.live.shard.summary())) for number, runner in shards if runner.live is not None
    ]
    for table, needs in (
        (_STATE, None),
        (_HISTORY, "history"),
        (_GUARD, "guard"),
        (_LEARNING, None),
        (_FORECAST, "forecast"),
        (KPIS, "kpi"),
    ):
        if needs is None or any(one.summary.get(needs) for _, one in seen):
            yield from (series.family(seen) for series in table)
    if any((one.summary.get("guard") or {}).get("second_model") for _, one in seen):
        yield from (series.family(seen) for series in _SECOND)


def _labels(seen: Seen) -> Values:
    return each({fate: count for fate, count in seen.summary["labels"].items() if fate != "early"})  # held now: a gauge


def _episodes(seen: Seen) -> Values:
    kinds = Counter(episode.sign.kind for episode in seen.live.shard.episodes.open.values())
    return each({kind: kinds[kind] for kind in _KINDS})


def _watermark(seen: Seen) -> Values:
    watermark_ms = seen.summary["watermark_ms"]
    return one(None if watermark_ms is None else watermark_ms / 1000)


def _metrics(seen: Seen) -> Values:
    found = seen.summary
    return nested({"total": found["metrics"], "window": found["window_metrics"], "time": found.get("span", {})})


def _label_delays(seen: Seen) -> Values:
    delays_ms = seen.summary["label_delay_ms"]
    return each({share: None if delay_ms is None else delay_ms / 1000 for share, delay_ms in delays_ms.items()})


def _expected(seen: Seen, what: str) -> Values:
    expected = seen.summary.get("expected")
    return one(expected[what]) if expected is not None and expected["accuracy"] is not None else []


def _split(seen: Seen) -> Values:
    for by in ("age", "segment"):
        for (name, part), value in nested(seen.summary.get(f"by_{by}", {})):
            yield (name, by, part), value


_STATE: Final[Sequence[Series[Seen]]] = (
    gauge(
        "driftline_pending",
        "Pending events: scored, waiting for their label.",
        lambda seen: one(seen.summary["pending"]),
    ),
    gauge("driftline_early_labels", "Early labels: waiting for their event.", lambda seen: one(seen.summary["early"])),
    counter(
        "driftline_labels",
        "Labels since the first record, by outcome; expired: events without a label.",
        _labels,
        "fate",
    ),
    gauge(
        "driftline_labels_learned",
        "Labels the model has learned from.",
        lambda seen: one(seen.live.shard.learner.learned),
    ),
    gauge(
        "driftline_labels_unanswered",
        "Labels of events without a prediction; metrics ignore them.",
        lambda seen: one(seen.summary["unanswered"]),
    ),
    gauge("driftline_frozen", "1 while learning is frozen by an operator.", lambda seen: one(seen.live.shard.frozen)),
    gauge(
        "driftline_model_generation",
        "Generation of the model.",
        lambda seen: one(seen.live.shard.learner.generation),
    ),
    gauge("driftline_open_episodes", "Open episodes.", _episodes, "kind"),
    gauge(
        "driftline_detectors_stopped",
        "Drift detectors that raised and find nothing any more.",
        lambda seen: one(len(seen.summary.get("stopped_detectors", ()))),
    ),
    gauge("driftline_watermark_seconds", "Watermark, in epoch seconds.", _watermark),
    counter(
        "driftline_drift",
        "Drifts since the first record, alerted or not.",
        lambda seen: sorted(seen.live.shard.drifts.items()),
        "signal",
        "detection",
    ),
    counter(
        "driftline_passed_over",
        "Valid records that were skipped, since the first record.",
        lambda seen: seen.live.shard.passed.items(),
        "input",
        "kind",
    ),
    gauge("driftline_metric", "Metrics of the served predictions.", _metrics, "metric", "span"),
    gauge(
        "driftline_label_coverage",
        "Labelled share of events whose wait is over; absent until there are any.",
        lambda seen: one(seen.summary["coverage"]),
    ),
    gauge(
        "driftline_label_delay_quantile_seconds",
        "Delay within which this share of all labels so far came, accurate to 7%.",
        _label_delays,
        "share",
    ),
    gauge(
        "driftline_expected_accuracy",
        "Accuracy expected from the latest predictions, before their labels.",
        lambda seen: _expected(seen, "accuracy"),
    ),
    gauge(
        "driftline_expected_accuracy_reliable",
        "1 if the expected accuracy is reliable: calibrated, no new drift.",
        lambda seen: _expected(seen, "reliable"),
    ),
    gauge("driftline_metric_by", "Metrics by segment and by label age.", _split, "metric", "by", "part"),
)


def _history(what: str) -> Callable[[Seen], Values]:
    return lambda seen: each({by: held[what] for by, held in seen.summary.get("history", {}).items()})


_HISTORY: Final = (
    gauge("driftline_history_keys", "Keys whose past is kept.", _history("keys"), "by"),
    gauge("driftline_history_keys_max", "Most keys that are kept.", _history("keys_max"), "by"),
    counter(
        "driftline_history_evicted",
        "Keys that were evicted as the least recently used.",
        _history("evicted"),
        "by",
    ),
    counter("driftline_history_late", "Events and labels that were too old for a window.", _history("late"), "by"),
    counter("driftline_history_without_key", "Events that lack a field of the key.", _history("without_key"), "by"),
)
"""Of history features, by the fields that the past is kept by."""


def _guard(read: Callable[[Mapping[str, Any]], Values]) -> Callable[[Seen], Values]:
    return lambda seen: read(seen.summary["guard"]) if "guard" in seen.summary else []


_GUARD: Final = (
    counter(
        "driftline_guard_trips",
        "Predictions that did not pass a rung of the guard, by rung and action.",
        _guard(lambda guard: [(tuple(what.split()), count) for what, count in guard["tripped"].items()]),
        "rung",
        "action",
    ),
    counter(
        "driftline_guard_fallbacks",
        "Predictions that were replaced, by what was served instead.",
        _guard(lambda guard: each(guard["instead"])),
        "instead",
    ),
    gauge(
        "driftline_guard_series",
        "Series whose last values the guard remembers.",
        _guard(lambda guard: one(guard["series"])),
    ),
    gauge("driftline_guard_held", "Predictions that wait for a review.", _guard(lambda guard: one(guard["held"]))),
)


def _second(read: Callable[[Mapping[str, Any]], Values]) -> Callable[[Seen], Values]:
    """Of the guard's second model; nothing without one."""

    def values(seen: Seen) -> Values:
        second = (seen.summary.get("guard") or {}).get("second_model")
        return [] if second is None else read(second)

    return values


_SECOND: Final = (
    gauge(
        "driftline_guard_model_error",
        "Mean error of the pipeline's model and of the guard's second one, on labels of which both had an answer.",
        _second(lambda second: each({"first": second["first_error"], "second": second["error"]})),
        "model",
    ),
    counter(
        "driftline_guard_compared_labels",
        "Labels of which both models had an answer.",
        _second(lambda second: one(second["labels"])),
    ),
    counter(
        "driftline_guard_second_failures",
        "Calls at which the guard's second model raised, or had no finite answer.",
        _second(lambda second: one(second["failed"])),
    ),
)


def _learning(seen: Seen) -> Mapping[str, Any]:
    found: Mapping[str, Any] = seen.summary.get("learning", {})
    return found


_LEARNING: Final[Sequence[Series[Seen]]] = (
    gauge(
        "driftline_quarantine_held",
        "Labels that are held back from learning.",
        lambda seen: one(_learning(seen).get("held", 0)),
    ),
    gauge(
        "driftline_quarantine_suspect",
        "1 while labels contradict the model more often than usual.",
        lambda seen: one(_learning(seen).get("suspect", False)),
    ),
    counter(
        "driftline_quarantine_labels",
        "Labels that were held back from learning, and what became of them.",
        lambda seen: each(_learning(seen).get("quarantine", {})),
        "fate",
    ),
    counter(
        "driftline_unlearned",
        "Pairs that were not learned because learning was frozen.",
        lambda seen: one(seen.summary["counts"].get("unlearned", 0)),
    ),
)


def _forecast(read: Callable[[Mapping[str, Any]], Values]) -> Callable[[Seen], Values]:
    return lambda seen: read(seen.summary["forecast"]) if "forecast" in seen.summary else []


def _by_horizon(board: Mapping[str, Any]) -> Values:
    yield from nested({"all": board["metrics"]})
    for name, values in board["by_horizon"].items():
        yield from (((name, str(ahead)), value) for ahead, value in enumerate(values, 1) if value is not None)


def _observations(seen: Seen) -> Values:
    if "forecast" not in seen.summary:
        return []
    counts = sorted(seen.summary["counts"].items())
    prefix = "forecast_"
    return each({what.removeprefix(prefix): count for what, count in counts if what.startswith(prefix)})


_FORECAST: Final = (
    gauge(
        "driftline_forecast",
        "Metrics of served forecasts since the first one, by steps ahead (all: over all of them).",
        _forecast(_by_horizon),
        "metric",
        "horizon",
    ),
    gauge(
        "driftline_forecast_by_segment",
        "Metrics of served forecasts over all horizons, by segment.",
        _forecast(lambda board: nested({name: one["metrics"] for name, one in board.get("by_segment", {}).items()})),
        "metric",
        "segment",
    ),
    gauge("driftline_forecast_series", "Series whose past is kept.", _forecast(lambda board: one(board["series"]))),
    counter(
        "driftline_forecast_series_evicted",
        "Series that were let go, the least recently observed first.",
        _forecast(lambda board: one(board["evicted"])),
    ),
    counter(
        "driftline_forecast_observations",
        "Observations by where they fell in their series; missed_steps counts the steps that were left out.",
        _observations,
        "place",
    ),
)


def _reading(worker: Worker, shards: Shards) -> Iterator[Metric]:
    """How far the inputs are read, and what keeps them from being read; nothing of what is not known now."""
    of = ["partition", "topic"]
    lag = GaugeMetricFamily(
        "driftline_lag", "Offsets up to the last stable offset that are not processed yet, by topic.", labels=of
    )
    to_end = GaugeMetricFamily(
        "driftline_lag_to_end",
        "Offsets up to the end that are not processed yet, including open transactions.",
        labels=of,
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
