"""Without a key, a state that would end the worker at its next record is not put to work."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs
from river import drift

from driftline.cli.shards import remarks
from driftline.codec.keyring import NO_KEYS
from driftline.codec.manifest import (
    chunk_key,
    encode_index,
    encode_manifest,
    manifest_key,
    split,
    state_digest,
)
from driftline.codec.state import SavedShard, StateFileError
from driftline.codec.write import Write
from driftline.core.digest import digest_of
from driftline.core.error import SnapshotError
from driftline.core.fingerprint import versions
from driftline.core.shard.state import Shard
from driftline.core.signal import Signal
from driftline.core.state.freeze import Frozen, dump, dump_rest, load, view_of
from driftline.engine.snapshot import read_shelf
from driftline.engine.trial import check_works
from driftline.operate.restoring import StateReader, thaw
from driftline.operate.status import ShardStatus
from driftline.transport.port import Place
from tests.parity.rig import NOW_MS, Life, pipeline, produce, worked
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker
from tests.support.small import event, fold, label, small


def nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


def begun_as_text(shard: Any) -> None:
    shard.watermark_ms, shard.begun_ms = NOW_MS, "then"


HOSTILE: dict[str, Callable[[Any], object]] = {
    "a text is counted up": lambda shard: shard.counts.update(scored="many"),
    "no entry can be written": lambda shard: shard.counts.update(scored=10**400),
    "no snapshot can be written": lambda shard: shard.counts.update(zero=nested(400)),
    "time is text": lambda shard: setattr(shard, "watermark_ms", "now"),
    "time has no end": lambda shard: setattr(shard, "watermark_ms", 2**80),
    "the beginning is text": begun_as_text,
    "a record's time is too large": lambda shard: setattr(shard, "stamp_ms", 2**70),
    "attributes are missing": lambda shard: vars(shard.maturity).clear(),
    "a generation has too many digits": lambda shard: setattr(shard.learner, "generation", 10**6_000),
}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression", "anomaly"])
def test_a_state_of_ours_passes_and_stays_as_it_is(task: str) -> None:
    shard = Shard(small(task), 0)
    before = digest_of(shard)
    check_works(shard)
    assert digest_of(shard) == before


@pytest.mark.parametrize("name", HOSTILE)
def test_one_that_would_end_the_worker_does_not(name: str) -> None:
    shard = Shard(small(), 0)
    HOSTILE[name](shard)
    with pytest.raises(SnapshotError):
        check_works(shard)


def watched() -> Shard:
    """One with a detector in Rust and a metric of River's, which have seen some labels."""
    chosen = small(drift={"error": "ADWIN()", "warmup_labels": 1}, metrics=["ROCAUC", "MacroF1"])
    shard = Shard(chosen, 0)
    for number in range(600):
        fold(shard, event(str(number), offset=number), label(str(number), number % 7 == 0, offset=number))
    return shard


def overwritten(shard: Shard, at: int, content: bytes) -> None:
    """Put other bytes into the state of its detector's part in Rust."""
    (monitor,) = shard.monitors.direct[Signal.ERROR]
    part = vars(monitor.detector)["_helper"]
    state = bytearray(part.__getstate__())
    state[at : at + len(content)] = content
    part.__setstate__(bytes(state))


def test_a_part_in_rust_that_panics_does_not_end_the_worker() -> None:
    """Panics are no `Exception`; one at the first value was the worker's end, at each start."""
    shard = watched()
    overwritten(shard, 8, bytes(4))  # it looks for a drift every 0 values
    check_works(shard)
    assert isinstance(shard.monitors.direct[Signal.ERROR][0].detector, drift.ADWIN), "the trial is on a copy"


def test_a_part_in_rust_that_panics_later_does_not_end_the_worker() -> None:
    """As a state that bides its time: the trial passes, and the detector finds nothing once it has panicked."""
    shard = watched()
    overwritten(shard, 8, bytes(4))
    for number in range(600, 700):
        fold(shard, event(str(number), offset=number), label(str(number), True, offset=number))
    assert shard.evaluation.label_count == 700
    assert isinstance(shard.monitors.direct[Signal.ERROR][0].detector, drift.NoDrift)
    note = {"stopped_detectors": shard.summary()["stopped_detectors"]}
    (told,) = remarks([ShardStatus(0, {}, {}, 0, 1, note)], "cards.control")
    assert "these detectors raised and find nothing any more: error." in told


def test_a_detector_that_works_is_not_called_stopped() -> None:
    assert "stopped_detectors" not in watched().summary()
    assert "stopped_detectors" not in Shard(small(drift={"error": "NoDrift()"}), 0).summary()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda metric: metric.__dict__.clear(),
        lambda metric: setattr(metric, "cm", None),
    ],
    ids=["without attributes", "without counts"],
)
def test_a_metric_that_raises_passes_the_label_over(spoil: Callable[[Any], object]) -> None:
    shard = watched()
    track = cast(Any, shard.evaluation.tracks["MacroF1"])
    spoil(track.metric)
    spoil(track.fresh)
    before = track.skipped_count
    fold(shard, event("next", offset=600), label("next", True, offset=600))
    assert track.skipped_count == before + 1
    assert shard.evaluation.values()["MacroF1"] is None
    assert shard.evaluation.window_values()["MacroF1"] is None


@pytest.mark.parametrize("counts", [{7: -1}, {7: 2**70}])
def test_a_curve_counts_whole_numbers(counts: Any) -> None:
    """One place of a curve that cannot be counted up would end the worker at the first score that falls there."""
    shard = watched()
    cast(Any, shard.evaluation.tracks["ROCAUC"]).metric.positives.update(counts)
    with pytest.raises(SnapshotError):
        check_works(shard)


def test_a_label_that_a_curve_never_counted_is_taken_back_in_peace() -> None:
    chosen = small(metrics=["ROCAUC"], label={"id": "id", "value": "y", "wait": "100s", "second": "correct"})
    shard = Shard(chosen, 0)
    fold(shard, event("1", offset=1), label("1", True, offset=1))
    metric = cast(Any, shard.evaluation.tracks["ROCAUC"]).metric
    metric.positives.clear()
    metric.positive_count = 0
    check_works(shard)
    fold(shard, label("1", False, offset=2))
    assert shard.evaluation.label_count == 1


@pytest.mark.parametrize("name", ["a text is counted up", "no snapshot can be written"])
async def test_a_worker_goes_on_from_what_is_before_it(name: str) -> None:
    chosen = pipeline("tried", snapshot={"every_records": 100})
    cluster = await worked(chosen, 300)
    await overwrite(cluster, HOSTILE[name])
    for first in (300, 400):
        produce(cluster, chosen, 100, first=first)
        async with Life(cluster, chosen, client=f"after {first}") as life:
            await life.until_done()
            assert life.shard().counts["learned"] == first + 100
            await life.stop()


async def overwrite(cluster: MemoryCluster, change: Callable[[Any], object]) -> None:
    """Put a snapshot in the place of the newest, as anyone who may write to the topic can."""
    chosen = pipeline("tried", snapshot={"every_records": 100})
    topic, broker = chosen.topics.snapshots, MemoryBroker(cluster, chosen, client="stranger")
    shelf = await read_shelf(broker.reader, Place(topic, 0), NO_KEYS)
    manifest, frozen = shelf.snapshots[0]
    shard = load(chosen, 0, frozen)
    change(shard)
    index = encode_index(shelf.rows[manifest.slot])
    head = index + dump_rest(shard, view_of(shard))
    chunks = list(split(head))
    manifest = structs.replace(
        manifest, chunks=len(chunks), size_bytes=len(head), digest=state_digest(head), index_bytes=len(index)
    )
    writes = [Write(topic, 0, chunk_key(manifest.slot, number), chunk, NOW_MS) for number, chunk in enumerate(chunks)]
    writes.append(Write(topic, 0, manifest_key(manifest.slot), encode_manifest(manifest, NO_KEYS), NOW_MS))
    cluster.append(Place(topic, 0), writes)


@pytest.mark.parametrize("name", ["a text is counted up", "no snapshot can be written"])
def test_a_state_file_with_such_a_state_is_refused(name: str) -> None:
    pipeline_now = small()
    shard = Shard(pipeline_now, 0)
    HOSTILE[name](shard)
    frozen = Frozen(dump_rest(shard, view_of(shard)), [])
    manifest = SimpleNamespace(partition=0, versions=versions(), pipeline=pipeline_now.resolved())
    reader = cast("StateReader", SimpleNamespace(shard=lambda saved: frozen))
    with pytest.raises(StateFileError, match="it holds counts"):
        thaw(reader, cast("SavedShard", SimpleNamespace(manifest=manifest)), pipeline_now, 0)


@pytest.mark.parametrize(
    ("part", "name"), [("reactor", "background"), ("quarantine", "older"), ("quarantine", "newer")]
)
def test_a_part_without_what_is_read_before_the_trial_is_refused(part: str, name: str) -> None:
    """It raised past those who skip a snapshot."""
    shard = Shard(small(), 0)
    delattr(getattr(shard, part), name)
    with pytest.raises(SnapshotError, match=f"AttributeError: .* '{name}'"):
        load(shard.pipeline, 0, dump(shard))


def test_a_state_file_that_raises_as_it_is_copied_is_refused() -> None:
    pipeline_now = small(metrics=["ROCAUC"])
    shard = Shard(pipeline_now, 0)
    rest = dump_rest(shard, view_of(shard)).replace(b"revertible", b"revertiblf")
    manifest = SimpleNamespace(partition=0, versions=versions(), pipeline=pipeline_now.resolved())
    reader = cast("StateReader", SimpleNamespace(shard=lambda saved: Frozen(rest, [])))
    with pytest.raises(StateFileError, match=r"does not work \(AttributeError"):
        thaw(reader, cast("SavedShard", SimpleNamespace(manifest=manifest)), pipeline_now, 0)
