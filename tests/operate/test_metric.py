"""The page that Prometheus scrapes: every family is there, its numbers move, and a revoked shard's series go."""

from __future__ import annotations

from collections.abc import Set

import orjson
from prometheus_client.parser import text_string_to_metric_families
from river import drift

from driftline.engine.outage import Outage
from driftline.operate.exposition import Exposition
from driftline.operate.metric import WorkerCollector
from tests.parity.rig import NOW_MS, Life, pipeline, produce
from tests.support import series
from tests.support.cluster import MemoryCluster

FAMILIES = {
    "driftline_build_info",
    "driftline_broker_outage_seconds",
    "driftline_broker_outages",
    "driftline_broker_up",
    "driftline_failures",
    "driftline_fold_seconds",
    "driftline_frozen",
    "driftline_full_ratio",
    "driftline_model_generation",
    "driftline_ready",
    "driftline_records",
    "driftline_scores",
    "driftline_outcomes",
    "driftline_labels_joined",
    "driftline_rejected",
    "driftline_alerts",
    "driftline_drift",
    "driftline_passed_over",
    "driftline_pending",
    "driftline_early_labels",
    "driftline_labels",
    "driftline_open_episodes",
    "driftline_labels_learned",
    "driftline_labels_unanswered",
    "driftline_watermark_seconds",
    "driftline_label_delay_seconds",
    "driftline_score_latency_seconds",
    "driftline_score_latency_from_receipt_seconds",
    "driftline_slice_records",
    "driftline_commit_seconds",
    "driftline_snapshot_seconds",
    "driftline_snapshot_bytes",
    "driftline_lag",
    "driftline_lag_to_end",
    "driftline_partitions_unread",
    "driftline_transaction_open_seconds",
    "driftline_recoveries",
    "driftline_recovery_seconds",
    "driftline_recovery_slices",
    "driftline_recovery_records",
    "driftline_recovery_unverifiable_slices",
    "driftline_shard_ready",
    "driftline_metric",
    "driftline_metric_by",
    "driftline_detectors_stopped",
    "driftline_label_coverage",
    "driftline_label_delay_quantile_seconds",
    "driftline_expected_accuracy",
    "driftline_expected_accuracy_reliable",
    "driftline_quarantine_held",
    "driftline_quarantine_labels",
    "driftline_quarantine_suspect",
    "driftline_unlearned",
}

FORECAST_FAMILIES = {
    "driftline_forecast",
    "driftline_forecast_by_segment",
    "driftline_forecast_series",
    "driftline_forecast_series_evicted",
    "driftline_forecast_observations",
}

Page = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def page(life: Life, more: Set[str] = frozenset()) -> Page:
    """The page's samples, by name and labels; `more` are the families of this pipeline alone."""
    name = life.worker.pipeline.name
    text = Exposition(name, [WorkerCollector(lambda: life.worker, lambda: life.worker.outage)]).page().decode()
    families = list(text_string_to_metric_families(text))
    assert {family.name for family in families if not family.name.startswith("process_")} == FAMILIES | more
    samples = [sample for family in families for sample in family.samples]
    assert {sample.labels.pop("pipeline") for sample in samples} == {name}
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}


def value(samples: Page, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


def test_a_page_without_a_worker_says_so() -> None:
    outage = Outage()
    page = Exposition("p", [WorkerCollector(lambda: None, lambda: outage)]).page

    def ours() -> list[str]:
        lines = page().decode().splitlines()
        return [line for line in lines if line.startswith("driftline_") and "build" not in line]

    assert ours()[:2] == ['driftline_ready{pipeline="p"} 0.0', 'driftline_broker_up{pipeline="p"} 1.0']
    outage.failed("it is away")
    assert ours()[1:3] == ['driftline_broker_up{pipeline="p"} 0.0', 'driftline_broker_outages_total{pipeline="p"} 1.0']


async def test_numbers_move_with_what_happens() -> None:
    split = {"segment": "word", "ages": ["1s", "1h"]}
    chosen = pipeline(snapshot={"every_records": 100}, metric_by=split, metric_span="30d")
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    count = len(produce(cluster, chosen, 400))
    cluster.produce(chosen.topics.events, 0, b"{", NOW_MS)
    cluster.produce(chosen.topics.labels or "", 0, None, NOW_MS)
    events, labels = chosen.topics.events, chosen.topics.labels or ""
    async with Life(cluster, chosen) as life:
        await life.until_done()
        cluster.produce(chosen.topics.control, 0, b'{"command":"freeze"}', NOW_MS)
        await life.until_done()
        samples = page(life)
        await life.stop()
    one = {"partition": "0"}
    assert value(samples, "driftline_ready") == 1
    assert value(samples, "driftline_shard_ready", **one) == 1
    assert value(samples, "driftline_records_total", topic=events, **one) == count + 1
    assert value(samples, "driftline_records_total", topic=labels, **one) == count + 1
    assert value(samples, "driftline_passed_over_total", input="labels", kind="tombstone", **one) == 1
    assert value(samples, "driftline_scores_total", **one) == count
    assert value(samples, "driftline_labels_joined_total", **one) == count
    assert value(samples, "driftline_outcomes_total", kind="joined", **one) == count
    assert value(samples, "driftline_rejected_total", reason="not_json", **one) == 1
    assert value(samples, "driftline_labels_learned", **one) == count
    assert value(samples, "driftline_pending", **one) == 0
    assert value(samples, "driftline_frozen", **one) == 1
    assert value(samples, "driftline_model_generation", **one) == 0
    assert value(samples, "driftline_label_delay_seconds_count", **one) == count
    assert value(samples, "driftline_label_delay_seconds_sum", **one) == count * 7
    assert value(samples, "driftline_score_latency_seconds_count", **one) == count
    assert value(samples, "driftline_score_latency_from_receipt_seconds_count", **one) == count
    assert value(samples, "driftline_slice_records_sum", **one) == 2 * count + 3
    assert value(samples, "driftline_commit_seconds_count", **one) >= 8
    assert value(samples, "driftline_snapshot_bytes_count", **one) >= 1
    assert value(samples, "driftline_lag", topic=events, **one) == 0
    assert value(samples, "driftline_recoveries_total", **one) == 1
    assert 0 < value(samples, "driftline_metric", metric="Accuracy", span="total", **one) <= 1
    assert value(samples, "driftline_metric", metric="label_count", span="total", **one) == count
    assert value(samples, "driftline_metric", metric="label_count", span="time", **one) == count
    assert ("driftline_label_coverage", (("partition", "0"),)) not in samples, "no wait is over"
    assert value(samples, "driftline_labels_total", fate="joined", **one) == count
    assert value(samples, "driftline_labels_total", fate="orphan", **one) == 0
    assert 7 <= value(samples, "driftline_label_delay_quantile_seconds", share="0.5", **one) < 7.5
    assert 0.5 <= value(samples, "driftline_expected_accuracy", **one) <= 1
    assert value(samples, "driftline_expected_accuracy_reliable", **one) in {0, 1}
    ages = ("< 1000 ms", "< 3600000 ms", ">= 3600000 ms")
    by_age = [value(samples, "driftline_metric_by", metric="label_count", by="age", part=age, **one) for age in ages]
    assert by_age == [0, count, 0]
    segments = [
        value(samples, "driftline_metric_by", metric="label_count", by="segment", part=word, **one) for word in "abc"
    ]
    assert sum(segments) == count


async def test_a_detector_that_raised_is_counted() -> None:
    cluster, chosen = MemoryCluster(), pipeline(drift={"error": "ADWIN()"})
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 20)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        assert value(page(life), "driftline_detectors_stopped", partition="0") == 0
        live = life.worker.runners[0].live
        assert live is not None
        live.shard.monitors.every()[0].detector = drift.NoDrift()  # as it does once its detector has raised
        assert value(page(life), "driftline_detectors_stopped", partition="0") == 1


async def test_a_recovery_is_told() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    count = len(produce(cluster, chosen, 300))
    async with Life(cluster, chosen) as life:
        await life.until_done()
    async with Life(cluster, chosen, client="two") as life:
        await life.until_done()
        samples = page(life)
    assert value(samples, "driftline_recovery_records", partition="0") == 2 * count
    assert value(samples, "driftline_recovery_slices", partition="0") >= 6
    assert value(samples, "driftline_recovery_unverifiable_slices", partition="0") == 0
    assert value(samples, "driftline_recovery_seconds", partition="0") > 0


async def test_series_of_a_revoked_shard_disappear() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 2)
    produce(cluster, chosen, 50, partitions=2)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        before = page(life)
        async with Life(cluster, chosen, client="two") as other:
            await other.until(lambda: len(other.worker.runners) == 1 and other.worker.ready)
            await life.until(lambda: len(life.worker.runners) == 1 and life.worker.ready)
            after = page(life)
            taken = next(iter(other.worker.runners))
    assert partitions(before) == {"0", "1"}
    assert partitions(after) == {"0", "1"} - {str(taken)}


def partitions(samples: Page) -> set[str]:
    return {dict(labels)["partition"] for _, labels in samples if "partition" in dict(labels)}


async def test_forecasts_are_shown_by_horizon() -> None:
    chosen = series.pipeline(horizons=2)
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    for day in range(40):
        time_ms = NOW_MS + day * series.DAY_MS
        seen = {"id": f"e{day}", "time": time_ms, "item": "pear", "demand": 10.0 + day % 7 + day % 2, "promo": 0}
        cluster.produce(chosen.topics.events, 0, orjson.dumps(seen), time_ms)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        samples = page(life, FORECAST_FAMILIES)
        live = life.worker.runners[0].live
        assert live is not None
        by_horizon = live.shard.summary()["forecast"]["by_horizon"]["MAE"]
    assert value(samples, "driftline_forecast_series", partition="0") == 1
    assert value(samples, "driftline_forecast_observations_total", partition="0", place="first") == 1
    assert value(samples, "driftline_forecast_observations_total", partition="0", place="next") == 39
    shown = [value(samples, "driftline_forecast", partition="0", metric="MAE", horizon=one) for one in ("1", "2")]
    assert shown == by_horizon
    assert shown[0] > 0
