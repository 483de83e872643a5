"""A backtest over a live run's topics gives what was served, and touches nothing."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import orjson
import pytest

from driftline.backtest.candidate import Candidate, Result, Spec
from driftline.backtest.run import Facts, Options
from driftline.backtest.score import CsvPart
from driftline.backtest.span import Bounds, Span, TopicSource
from driftline.backtest.topic import replay, state_digest
from driftline.codec.keyring import NO_KEYS
from driftline.core.error import InputFileError, InputLostError, RecoveryError
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.place import Layout
from driftline.core.record import Tick
from driftline.core.shard.state import Shard
from driftline.transport.port import Place
from tests.parity.rig import NOW_MS, STEP_MS, Death, Life, documents, pipeline, produce, run_through, tamper, worked
from tests.support.cluster import MemoryCluster
from tests.support.folding import step
from tests.support.memory import MemoryBroker

COUNT = 1_200


class Watch:
    """Counts how often it was told something; stops after so many times."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.left = stop_after

    def moved(self, done: int, total: int) -> None:
        assert 0 <= done <= total
        self.left -= 1

    def stopped(self) -> bool:
        return self.left < 0


def spec(chosen: Pipeline, name: str = "live", **changes: Any) -> Spec:
    return Spec(name, parse_pipeline({**chosen.resolved(), **changes}).resolved(), "file")


async def backtest(
    cluster: MemoryCluster,
    chosen: Pipeline,
    *specs: Spec,
    partition: int = 0,
    order: Any = "journal",
    span: Span | None = None,
    warm: bool = False,
    against: bool = True,
    bounds: Bounds | None = None,
    rows: Any = None,
    watch: Watch | None = None,
    **options: Any,
) -> tuple[list[Result], Facts]:
    """Replay one partition of the cluster."""
    topics = [name for name in (chosen.topics.labels, chosen.topics.events) if name is not None]
    ends = {name: cluster.log(Place(name, partition)).end for name in topics}
    whole = Bounds(dict.fromkeys(topics, 0), ends, dict.fromkeys(topics, 0))
    layout = Layout(cluster.partitions[chosen.topics.journal], cluster.partitions)
    source = TopicSource(chosen.resolved(), layout, order, span or Span(), warm, against, NO_KEYS)
    broker = MemoryBroker(cluster, chosen, client="backtest")
    return await replay(broker, partition, specs, source, bounds or whole, Options(**options), rows, watch or Watch())


def bounds_of(chosen: Pipeline, events: tuple[int, int], labels: tuple[int, int], over_ms: int | None = None) -> Bounds:
    """Of topics that are kept from their beginning."""
    names = (chosen.topics.labels or "", chosen.topics.events)
    starts, stops = (dict(zip(names, pair, strict=True)) for pair in zip(labels, events, strict=True))
    return Bounds(starts, stops, dict.fromkeys(names, 0), over_ms=over_ms)


async def lived(chosen: Pipeline, partitions: int = 2) -> tuple[MemoryCluster, dict[int, str], dict[int, Any]]:
    """A run with two crashes and, in between, another worker: its cluster, final states and metrics."""
    cluster = MemoryCluster()
    cluster.create_for(chosen, partitions)
    produce(cluster, chosen, COUNT // 2, partitions=partitions)
    death = Death("committed", 3, arrives=True)
    async with Life(cluster, chosen, client="one", hook=death) as first:
        await first.until_dead(death)
    produce(cluster, chosen, COUNT // 2, first=COUNT // 2, partitions=partitions)
    death = Death("batch", 9)
    async with Life(cluster, chosen, client="two", hook=death) as second:
        await second.until_dead(death)
    async with Life(cluster, chosen, client="three") as third:
        await third.until_done()
        states = {number: state_digest(third.shard(number)) for number in third.worker.runners}
        metrics = {number: third.shard(number).evaluation.values() for number in third.worker.runners}
        await third.stop()
    return cluster, states, metrics


async def test_journal_order_gives_what_was_served_bit_for_bit() -> None:
    chosen = pipeline("served", snapshot={"every_records": 300})
    cluster, states, metrics = await lived(chosen)
    before = {place: log.end for place, log in cluster.logs.items()}
    alerts = len(documents(cluster, chosen.topics.alerts))
    found = 0
    for partition in (0, 1):
        (live,), facts = await backtest(cluster, chosen, spec(chosen), partition=partition)
        assert live.live
        assert live.state == {partition: states[partition]}
        assert live.metrics == metrics[partition]
        assert (live.against.compared, live.against.differing, live.against.missing) == (COUNT // 2, 0, 0)
        assert facts.rows == COUNT
        assert live.tally.total.sums[0, 0] == COUNT // 2
        found += live.alert_count
    assert found == alerts
    assert {place: log.end for place, log in cluster.logs.items()} == before


async def test_how_it_was_delivered_makes_it_no_other_pipeline() -> None:
    chosen = pipeline("delivered")
    cluster, states, _ = await lived(chosen, 1)
    other = "at_least_once" if chosen.delivery == "exactly_once" else "exactly_once"
    (live,), _ = await backtest(cluster, chosen, spec(chosen, delivery=other))
    assert live.live
    assert live.state == {0: states[0]}


async def test_a_served_score_that_differs_is_listed() -> None:
    chosen = pipeline("tampered")
    cluster, _, _ = await lived(chosen, 1)
    place = Place(chosen.topics.scores, 0)
    source = cluster.records(chosen.topics.scores, 0)[100]
    document = orjson.loads(source.value or b"")
    tamper(cluster, place, source.offset, orjson.dumps({**document, "probability": 0.125}))
    (live,), _ = await backtest(cluster, chosen, spec(chosen))
    assert (live.against.compared, live.against.differing) == (COUNT, 1)
    (example,) = live.against.examples
    assert example["event_id"] == document["event_id"]
    assert example["served"] == 0.125
    assert example["backtested"] == document["probability"]
    assert live.against.largest == abs(document["probability"] - 0.125)


async def test_served_scores_that_are_not_kept_any_more_are_told_apart() -> None:
    chosen = pipeline("removed")
    cluster, _, _ = await lived(chosen, 1)
    kept = cluster.records(chosen.topics.scores, 0)[700]
    cluster.delete_before(Place(chosen.topics.scores, 0), kept.offset)
    (live,), _ = await backtest(cluster, chosen, spec(chosen))
    assert (live.against.compared, live.against.missing, live.against.removed) == (COUNT - 700, 0, 700)
    assert live.against.differing == 0


async def test_another_candidate_gets_the_same_records_in_the_journaled_order() -> None:
    """A twin under another name is folded from the records alone, not by the journal's digests: same scores."""
    chosen = pipeline("twin")
    cluster, _, metrics = await lived(chosen, 1)
    twin = spec(chosen, "twin", metric_window=77)
    rival = spec(chosen, "rival", model="(Select('x', 'z') | StandardScaler()) + Select('word') | GaussianNB()")
    live, same, other = (await backtest(cluster, chosen, spec(chosen), twin, rival))[0]
    assert live.live
    assert not same.live
    assert same.against.differing == 0
    assert same.metrics == metrics[0] == live.metrics
    assert other.against.differing > COUNT // 2
    assert other.metrics != metrics[0]
    assert (same.tally.total.sums == live.tally.total.sums).all()


async def test_without_the_live_pipeline_only_the_others_are_folded() -> None:
    chosen = pipeline("others")
    cluster, _, metrics = await lived(chosen, 1)
    (twin,), facts = await backtest(cluster, chosen, spec(chosen, "twin", metric_window=77))
    assert twin.metrics == metrics[0]
    assert facts.rows == 2 * COUNT


async def test_warm_starts_from_a_snapshot_and_ends_in_the_same_state() -> None:
    chosen = pipeline("warm", snapshot={"every_records": 300})
    cluster, states, _ = await lived(chosen, 1)
    (live,), facts = await backtest(cluster, chosen, spec(chosen), warm=True)
    assert facts.start.startswith("from the snapshot after slice")
    assert facts.rows < 2 * COUNT
    assert live.state == {0: states[0]}
    assert live.against.differing == 0


async def test_warm_in_time_order_goes_on_as_the_worker_did() -> None:
    chosen = pipeline("warm-time", snapshot={"every_records": 300})
    cluster, _, metrics = await lived(chosen, 2)
    bounds = bounds_of(chosen, (580, COUNT // 2), (580, COUNT // 2))
    (one,), facts = await backtest(
        cluster,
        chosen,
        spec(chosen),
        warm=True,
        order="time",
        partition=1,
        span=Span(from_offset=580),
        bounds=bounds,
    )
    assert facts.start.startswith("from the snapshot after slice")
    assert 0 < facts.rows < COUNT
    assert one.against.compared == 20
    assert one.against.differing == one.against.missing == 0
    assert one.metrics == metrics[1]
    assert one.tally.total.sums[0, 0] == 20


async def test_span_counts_just_the_events_in_it_for_every_candidate() -> None:
    """Those of its last events too, whose labels come behind it; all know what the served model knew."""
    chosen = pipeline("span")
    cluster, _, _ = await lived(chosen, 1)
    begin_ms, end_ms = NOW_MS + 400 * STEP_MS, NOW_MS + 900 * STEP_MS
    twin = spec(chosen, "twin", metric_window=77)
    records = cluster.records(chosen.topics.events, 0)
    places = [one.offset for one in records if begin_ms <= one.record_time_ms < end_ms]
    bounds = bounds_of(chosen, (places[0], places[-1] + 1), (0, COUNT))
    span = Span(begin_ms, end_ms)
    (live, other), facts = await backtest(cluster, chosen, spec(chosen), twin, span=span, bounds=bounds)
    for one in (live, other):
        assert (one.against.compared, one.against.differing, one.against.missing) == (len(places), 0, 0)
        assert one.first_ms == begin_ms
        assert begin_ms < (one.last_ms or 0) < end_ms
        assert one.tally.total.sums[0, 0] == len(places)
        assert one.pending == 0
    assert (live.tally.total.sums == other.tally.total.sums).all()
    assert (live.alert_count, live.drifts) == (other.alert_count, other.drifts)
    assert facts.start == "cold, at the beginning of the topics"
    assert facts.rows < 2 * COUNT  # what lies behind is not read


@pytest.mark.parametrize("order", ["journal", "time"])
async def test_a_range_alone_is_read_and_begins_cold_for_all(order: str) -> None:
    """What was served is not asked for, so the live pipeline is a candidate like any other."""
    chosen = pipeline("alone")
    cluster, _, _ = await lived(chosen, 1)
    bounds = bounds_of(chosen, (800, 900), (800, 1_000))
    twin = spec(chosen, "twin", metric_window=77)
    span = Span(from_offset=800, to_offset=900)
    (one, other), facts = await backtest(
        cluster, chosen, spec(chosen), twin, span=span, bounds=bounds, order=order, against=False
    )
    assert not one.live
    assert facts.start == "cold"
    assert one.tally.total.sums[0, 0] == other.tally.total.sums[0, 0] == 100
    assert (one.tally.total.sums == other.tally.total.sums).all()
    assert one.pending == 0
    assert 200 <= facts.rows <= 300


async def test_a_wait_that_was_over_ends_in_a_range_too() -> None:
    """The last events of a range have no later one behind them whose time would end their wait."""
    chosen = pipeline("over", label={"missing": {"assume": 0}})
    cluster = await worked(chosen, COUNT, labels_every=2)
    span = Span(from_offset=100, to_offset=200)
    for order in ("journal", "time"):
        for over_ms, counted in ((None, 50), (NOW_MS + 200 * STEP_MS + 3_600_000, 100)):
            bounds = bounds_of(chosen, (100, 200), (50, 104), over_ms)
            (one,), _ = await backtest(
                cluster, chosen, spec(chosen), span=span, bounds=bounds, order=order, against=False
            )
            assert (one.tally.total.sums[0, 0], one.pending) == (counted, 100 - counted), (order, over_ms)
    bounds, watch = bounds_of(chosen, (100, 200), (50, 100), NOW_MS + 200 * STEP_MS + 3_600_000), Watch(2)
    (one,), _ = await backtest(cluster, chosen, spec(chosen), span=span, bounds=bounds, against=False, watch=watch)
    assert one.pending > 0  # whoever was stopped does not know how waits end


@pytest.mark.parametrize("order", ["journal", "time"])
async def test_what_was_served_in_a_late_range_is_known_from_a_snapshot(order: str) -> None:
    """What was served is the same as if all of the journal had been folded, and others go on from there too."""
    chosen = pipeline("late", snapshot={"every_records": 300})
    cluster, _, _ = await lived(chosen, 1)
    span, bounds = Span(from_offset=1_150), bounds_of(chosen, (1_150, COUNT), (1_150, COUNT))
    twin = spec(chosen, "twin", metric_window=77)
    (live, other), facts = await backtest(cluster, chosen, spec(chosen), twin, span=span, bounds=bounds, order=order)
    assert live.live is (order == "journal")
    for one in (live, other):
        if order == "journal":
            assert (one.against.compared, one.against.differing, one.against.missing) == (50, 0, 0)
        assert one.tally.total.sums[0, 0] == 50
        assert one.counts["scored"] <= (50 if order == "time" else 100)
    assert (live.tally.total.sums == other.tally.total.sums).all()
    assert facts.start.startswith("from the snapshot after slice")
    assert 100 < facts.rows < 900


async def test_a_candidate_that_no_snapshot_suits_takes_all_to_the_beginning() -> None:
    chosen = pipeline("apart", snapshot={"every_records": 300})
    cluster, _, _ = await lived(chosen, 1)
    span, bounds = Span(from_offset=1_150), bounds_of(chosen, (1_150, COUNT), (1_150, COUNT))
    rival = spec(chosen, "rival", seed=7)
    (live, other), facts = await backtest(cluster, chosen, spec(chosen), rival, span=span, bounds=bounds)
    assert facts.start == "cold, at the beginning of the topics"
    assert facts.rows == 2 * COUNT
    assert live.against.differing == 0
    assert live.tally.total.sums[0, 0] == other.tally.total.sums[0, 0] == 50


async def test_what_was_served_before_what_is_kept_says_what_to_do() -> None:
    chosen = pipeline("gone")
    cluster, _, _ = await lived(chosen, 1)
    cluster.delete_before(Place(chosen.topics.snapshots, 0), 10**6)
    cluster.delete_before(Place(chosen.topics.events, 0), 200)
    span, bounds = Span(from_offset=900), bounds_of(chosen, (900, COUNT), (900, COUNT))
    with pytest.raises(InputLostError, match="Drop --against live") as raised:
        await backtest(cluster, chosen, spec(chosen), span=span, bounds=bounds)
    assert "--on-gap" not in str(raised.value)
    (one,), _ = await backtest(cluster, chosen, spec(chosen), span=span, bounds=bounds, against=False)
    assert one.tally.total.sums[0, 0] == COUNT - 900


@pytest.mark.parametrize("order", ["journal", "time"])
async def test_nobody_but_the_live_pipeline_begins_held(order: str) -> None:
    """An operator's freeze was meant for the live model, in a snapshot too."""
    chosen = pipeline("held", snapshot={"every_records": 300})
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    first, count = COUNT // 2, 100
    produce(cluster, chosen, first)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        cluster.produce(chosen.topics.control, 0, b'{"command":"freeze"}', NOW_MS)
        await life.until_done()
        await life.stop()
    produce(cluster, chosen, count, first=first)
    await run_through(cluster, chosen)
    span, bounds = Span(from_offset=first), bounds_of(chosen, (first, first + count), (first, first + count))
    twin = spec(chosen, "twin", metric_window=77)
    results, facts = await backtest(cluster, chosen, spec(chosen), twin, span=span, bounds=bounds, order=order)
    one, other = results
    assert facts.start.startswith("from the snapshot")
    assert other.counts["learned"] == count
    assert other.against.differing > count // 2
    if order == "journal":
        assert one.live
        assert one.steered
        assert one.against.differing == 0
        assert "learned" not in one.counts
    else:
        assert facts.uncommanded


@pytest.mark.parametrize("order", ["journal", "time"])
async def test_a_pipeline_without_labels(order: str) -> None:
    chosen = parse_pipeline(
        {
            "pipeline": "bare",
            "task": "anomaly",
            "event": {"id": "id", "features": {"x": "number", "z": "number"}},
            "model": "HalfSpaceTrees(seed=1)",
            "limits": {"slice_records_max": 100},
        }
    )
    cluster = await worked(chosen, COUNT, labels=False)
    events = chosen.topics.events
    bounds = Bounds({events: 500}, {events: 600}, {events: 0})
    twin = spec(chosen, "twin", dedupe={"max": 5_000})
    for against in (False, True):
        span = Span(from_offset=500, to_offset=600)
        results, _ = await backtest(
            cluster, chosen, spec(chosen), twin, order=order, span=span, bounds=bounds, against=against
        )
        assert [one.scored for one in results] == [100, 100]
        if against:
            assert [one.against.differing for one in results] == [0, 0]


async def test_a_snapshot_from_before_what_is_kept_is_of_no_use() -> None:
    chosen = pipeline("stale", snapshot={"every_records": 300})
    cluster, _, _ = await lived(chosen, 1)
    cluster.delete_before(Place(chosen.topics.labels or "", 0), COUNT - 1)
    labels, events = chosen.topics.labels or "", chosen.topics.events
    bounds = Bounds(
        {labels: COUNT - 1, events: COUNT - 1}, {labels: COUNT, events: COUNT}, {labels: COUNT - 1, events: 0}
    )
    span = Span(from_offset=COUNT - 1)
    with pytest.raises(RecoveryError, match="has no snapshot before offset"):
        await backtest(cluster, chosen, spec(chosen), span=span, bounds=bounds, warm=True)


async def test_no_snapshot_before_a_range_names_the_oldest_that_is_kept() -> None:
    chosen = pipeline("early", snapshot={"every_records": 300})
    cluster, _, _ = await lived(chosen, 1)
    span, bounds = Span(from_offset=10), bounds_of(chosen, (10, COUNT), (10, COUNT))
    with pytest.raises(RecoveryError, match=r"no snapshot before offset 10 of .*; its oldest is at offset [\d,]+ \(20"):
        await backtest(cluster, chosen, spec(chosen), span=span, bounds=bounds, warm=True)


@pytest.mark.parametrize("whole", [False, True])
async def test_no_more_labels_are_read_than_a_range_waits_for(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftline.backtest.replay.READ_RECORDS_MAX", 50)
    chosen = pipeline("enough")
    cluster, _, _ = await lived(chosen, 1)
    bounds = bounds_of(chosen, (0, 100), (0, COUNT))
    span = Span() if whole else Span(to_offset=100)
    (one,), facts = await backtest(cluster, chosen, spec(chosen), order="time", span=span, bounds=bounds)
    assert one.tally.total.sums[0, 0] == 100
    assert one.pending == 0
    assert (facts.rows == 100 + COUNT) is whole


async def test_time_order_is_a_catching_up_worker(tmp_path: Path) -> None:
    """All that a worker that finds the whole backlog serves, a backtest in time order gives."""
    chosen = pipeline("backlog")
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, COUNT)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        metrics = life.shard().evaluation.values()
        await life.stop()
    with (tmp_path / "scores.csv").open("w", newline="") as file:
        (one,), facts = await backtest(cluster, chosen, spec(chosen), order="time", rows=CsvPart(file))
    assert one.against.differing == 0
    assert one.metrics == metrics
    assert facts.rows == 2 * COUNT
    with (tmp_path / "scores.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == COUNT


async def test_bounds_are_all_that_is_read() -> None:
    chosen = pipeline("bounds")
    cluster, _, _ = await lived(chosen, 1)
    bounds = bounds_of(chosen, (100, 160), (100, 150))
    (one,), facts = await backtest(cluster, chosen, spec(chosen), order="time", bounds=bounds)
    assert facts.rows == 110
    assert facts.size_bytes > 0
    assert one.counts["scored"] == 60


async def test_journal_that_is_empty_says_what_to_do() -> None:
    chosen = pipeline("empty")
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    with pytest.raises(InputFileError, match="--order time"):
        await backtest(cluster, chosen, spec(chosen))


async def test_journal_that_has_lost_its_beginning_says_what_to_do() -> None:
    chosen = pipeline("headless")
    cluster = await worked(chosen, COUNT)
    cluster.delete_before(Place(chosen.topics.journal, 0), 3)
    span, bounds = Span(from_offset=900), bounds_of(chosen, (900, COUNT), (900, COUNT))
    for against in (False, True):
        with pytest.raises(InputLostError, match=r"Ignore the journal with --order time$"):
            await backtest(cluster, chosen, spec(chosen), span=span, bounds=bounds, against=against)


async def test_topic_that_retention_cut_says_what_to_do() -> None:
    chosen = pipeline("cut", snapshot={"every_records": 300})
    cluster, states, _ = await lived(chosen, 1)
    cluster.delete_before(Place(chosen.topics.events, 0), 200)
    with pytest.raises(InputLostError, match="--warm"):
        await backtest(cluster, chosen, spec(chosen))
    (live,), _ = await backtest(cluster, chosen, spec(chosen), warm=True)
    assert live.state == {0: states[0]}


async def test_no_snapshot_to_start_from_is_an_error() -> None:
    chosen = pipeline("none")
    cluster, _, _ = await lived(chosen, 1)
    cluster.delete_before(Place(chosen.topics.snapshots, 0), 10**6)
    for order in ("journal", "time"):
        with pytest.raises((RecoveryError, InputLostError)):
            await backtest(cluster, chosen, spec(chosen), warm=True, order=order)


@pytest.mark.parametrize("order", ["journal", "time"])
async def test_warm_refuses_another_model(order: str) -> None:
    chosen = pipeline("refuse", snapshot={"every_records": 300})
    cluster, _, _ = await lived(chosen, 1)
    with pytest.raises(InputFileError, match="other cannot start from .* differs in seed"):
        await backtest(cluster, chosen, spec(chosen), spec(chosen, "other", seed=7), warm=True, order=order)


async def test_stopped_replay_gives_what_it_has() -> None:
    chosen = pipeline("stopped")
    cluster, _, _ = await lived(chosen, 1)
    (live,), _ = await backtest(cluster, chosen, spec(chosen), watch=Watch(3))
    assert 0 < live.tally.total.sums[0, 0] < COUNT


def test_a_candidate_that_fails_does_not_stop_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = pipeline("fails")
    one = Candidate("one", chosen)

    def raises(shard: Shard, record: Any, oracle: Any) -> Any:
        raise ValueError("no")

    monkeypatch.setattr("driftline.backtest.candidate.step", raises)
    one.fold([Tick(0, 1, 1)])
    monkeypatch.setattr("driftline.backtest.candidate.step", step)
    assert one.finish().failure == "at record 1: ValueError: no"
