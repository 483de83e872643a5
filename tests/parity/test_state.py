"""A state that is saved to a file and restored: here, on another cluster, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from river import naive_bayes

from driftline.codec.inputs import Inputs
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.state import StateFileError
from driftline.codec.write import Write
from driftline.core.error import RecoveryError, StateMismatchError, StateUnreadableError
from driftline.core.fingerprint import readers, versions
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout
from driftline.engine.start import Start
from driftline.kafka.broker import KafkaBroker
from driftline.operate.joined import Meeting
from driftline.operate.restoring import Restoration, Restored, StateReader
from driftline.operate.saving import Saved, save
from driftline.operate.status import read_status
from driftline.operate.verify import Span, audit_shards
from driftline.transport.port import Place
from tests.parity.rig import NOW_MS, STEP_MS, Life, documents, epochs, pipeline, produce, run_through, state
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker
from tests.support.segment import segments_of

COUNT = 400
WAITING = 9
RING = KeyRing.of("a key that this deployment has")


def chosen_of(**sections: Any) -> Pipeline:
    return pipeline(
        **{"snapshot": {"every_records": 150}, "label": {"second": "correct", "correct_for": "1h"}, **sections}
    )


async def lived(chosen: Pipeline, *, partitions: int = 1, ring: KeyRing = NO_KEYS) -> MemoryCluster:
    """A cluster whose workers left a few events without their labels."""
    cluster = MemoryCluster()
    cluster.create_for(chosen, partitions)
    produce(cluster, chosen, COUNT, partitions=partitions)
    produce(cluster, chosen, WAITING * partitions, first=COUNT + 10, partitions=partitions, labels=False)
    await run_through(cluster, chosen, start=Start(ring=ring))
    return cluster


async def saved(cluster: MemoryCluster, chosen: Pipeline, path: Path, ring: KeyRing = NO_KEYS) -> list[Saved]:
    partitions = cluster.partitions[chosen.topics.events]
    return await save(MemoryBroker(cluster, chosen, client="saver"), chosen, partitions, ring, path)


async def restored(
    cluster: MemoryCluster,
    chosen: Pipeline,
    path: Path,
    *,
    ring: KeyRing = NO_KEYS,
    starts: Mapping[Place, int] | None = None,
    replace: bool = False,
) -> list[Restored]:
    partitions = cluster.partitions[chosen.topics.events]
    broker = MemoryBroker(cluster, chosen, client="restorer")
    places = [Place(topic, number) for topic in Inputs(chosen).topics for number in range(partitions)]
    reader = StateReader(path, ring)
    try:
        found = starts if starts is not None else await broker.beginnings(places)
        return await Restoration(broker, chosen, Layout(partitions), ring, reader, found, replace=replace).run()
    finally:
        reader.close()


def settle(cluster: MemoryCluster, chosen: Pipeline) -> None:
    """The labels that the last events of `lived` wait for."""
    partitions = cluster.partitions[chosen.topics.events]
    for number in range(COUNT + 10, COUNT + 10 + WAITING * partitions):
        value = orjson.dumps({"id": number, "y": number % 2})
        time_ms = NOW_MS + (COUNT + 30) * STEP_MS
        cluster.produce(chosen.topics.labels or "", number % partitions, value, time_ms)


async def verified(cluster: MemoryCluster, chosen: Pipeline, ring: KeyRing = NO_KEYS) -> int:
    """Slices that `driftline verify --outputs` folded again; all must be as they were."""
    partitions = cluster.partitions[chosen.topics.events]
    broker = MemoryBroker(cluster, chosen, client="auditor")
    audits = await audit_shards(broker, chosen, Layout(partitions), Span(outputs=True, ring=ring))
    for audit in audits:
        assert audit.difference is None
        assert audit.unverifiable == 0
    return sum(audit.slices for audit in audits)


async def summary_of(cluster: MemoryCluster, chosen: Pipeline) -> dict[str, Any]:
    async with Life(cluster, chosen) as life:
        await life.until_done()
        found = life.shard().summary()
        await life.kill()
    return found


async def test_another_cluster_goes_on_with_the_model_its_metrics_and_what_waits(tmp_path: Path) -> None:
    chosen, path = chosen_of(), tmp_path / "state"
    with segments_of(4):
        here = await lived(chosen)
        before = await summary_of(here, chosen)
        (one,) = await saved(here, chosen, path)
        assert one.unread == ""
        assert one.shard is not None
        assert one.shard.summary == before
        assert before["pending"] == WAITING
        there = MemoryCluster()
        there.create_for(chosen, 1)
        (put,) = await restored(there, chosen, path)
        assert (put.waiting, put.learned, put.notes) == (WAITING, COUNT, [])
        async with Life(there, chosen) as life:
            await life.until_done()
            after = life.shard().summary()
            assert after == before
            settle(there, chosen)
            produce(there, chosen, 100, first=2_000)
            await life.until_done()
            assert life.shard().counts["joined"] == COUNT + WAITING + 100
            assert len(life.shard().pending) == 0
            survivor = state(life.shard())
            await life.kill()
        assert [(one.reason, one.state) for one in epochs(there, chosen)] == [("restored", "restored")]
        assert await verified(there, chosen) > 0
        async with Life(there, chosen) as life:
            await life.until_done()
            assert state(life.shard()) == survivor
            await life.stop()
        # And from the restored state itself, where every snapshot after it is gone.
        place = Place(chosen.topics.snapshots, 0)
        for source in there.records(place.topic, 0):
            if not (source.key or b"").startswith(b"2/"):
                there.append(place, [Write(*place, source.key, None)])
        async with Life(there, chosen) as life:
            await life.until_done()
            assert life.runner().tally.recovery_unverifiable == 0
            assert state(life.shard()) == survivor


async def test_versions_that_cannot_read_it_say_so_and_keep_it_and_save_leads_from_one_to_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the worker says is what works: `state save` there, `state restore --replace` here."""
    chosen, path = chosen_of(), tmp_path / "state"
    cluster = await lived(chosen)
    before = await summary_of(cluster, chosen)
    for topic in Inputs(chosen).topics:
        cluster.delete_before(Place(topic, 0), cluster.log(Place(topic, 0)).end)
    older = dict(versions())
    with monkeypatch.context() as later:
        later.setitem(versions(), "python", "3.99.1")
        for start in (Start(), Start(gap_continue=True)):
            async with Life(cluster, chosen, start=start) as life:
                error = await life.fails()
            assert isinstance(error, StateUnreadableError)
            text = str(error)
            assert "the snapshot of shard 0 after slice" in text
            assert f"was made by Python {older['python']}, this is Python 3.99.1" in text
            assert f"versions that can read it: {readers(older)}" in text
            assert "`driftline state save`" in text
            assert "`driftline state restore --replace`" in text
        (copied,) = await saved(cluster, chosen, tmp_path / "copied")
        assert "was made by Python" in copied.unread
        assert copied.shard is not None
        assert copied.shard.manifest.versions == older
    assert epochs(cluster, chosen)[-1].state == "fresh", "nothing was thrown away"
    (one,) = await saved(cluster, chosen, path)
    assert one.unread == ""
    with monkeypatch.context() as later:
        later.setitem(versions(), "python", "3.99.1")
        for file in (path, tmp_path / "copied"):
            (put,) = await restored(cluster, chosen, file, replace=True)
            assert put.notes == [
                f"it was made by Python {older['python']}, this is Python 3.99.1; its model was tested on 100 "
                "synthetic events"
            ]
            async with Life(cluster, chosen) as life:
                await life.until_done()
                assert life.shard().summary() == before
                await life.kill()
        settle(cluster, chosen)
        async with Life(cluster, chosen) as life:
            await life.until_done()
            assert life.shard().counts["joined"] == COUNT + WAITING
            await life.stop()
        assert await verified(cluster, chosen) > 0
    assert [(one.number, one.state) for one in epochs(cluster, chosen)] == [
        (1, "fresh"),
        (2, "restored"),
        (3, "restored"),
    ]


async def test_a_model_that_does_not_work_under_these_versions_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another River's objects may be read and still not work."""
    features = {"features": {"x": "number", "z": "number"}}
    chosen, path = chosen_of(model="Select('x', 'z') | GaussianNB()", event=features), tmp_path / "state"
    await saved(await lived(chosen), chosen, path)
    there = MemoryCluster()
    there.create_for(chosen, 1)
    monkeypatch.setitem(versions(), "river", "0.99.0")
    begin: Any = naive_bayes.GaussianNB.__init__
    learn: Any = naive_bayes.GaussianNB.learn_one

    def begin_anew(self: Any) -> None:
        """As of a release whose objects have one attribute more."""
        begin(self)
        self.priors = {}

    def learn_anew(self: Any, x: dict[str, Any], y: object) -> None:
        self.priors[y] = self.priors.get(y, 0) + 1
        learn(self, x, y)

    monkeypatch.setattr(naive_bayes.GaussianNB, "__init__", begin_anew)
    monkeypatch.setattr(naive_bayes.GaussianNB, "learn_one", learn_anew)
    with pytest.raises(StateFileError, match="its model raised .*restore it under River 0.26"):
        await restored(there, chosen, path)
    assert there.log(Place(chosen.topics.journal, 0)).end == 0
    assert there.log(Place(chosen.topics.snapshots, 0)).end == 0


async def test_a_running_pipeline_is_saved_to_where_its_journal_ended(tmp_path: Path) -> None:
    chosen, path = chosen_of(snapshot={"every_records": 100_000}), tmp_path / "state"
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, COUNT)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        (one,) = await saved(cluster, chosen, path)
        assert one.shard is not None
        assert one.shard.summary == life.shard().summary()
        assert one.shard.manifest.positions == dict(life.live().committed)
        produce(cluster, chosen, 50, first=2_000)
        await life.until_done()
        assert life.shard().counts["learned"] == COUNT + 50, "the worker has gone on"
        await life.kill()


async def saved_and_gone_on(chosen: Pipeline, path: Path) -> MemoryCluster:
    """A cluster whose state was saved, and whose worker took 120 more events and their labels in since."""
    cluster = await lived(chosen)
    await saved(cluster, chosen, path)
    produce(cluster, chosen, 120, first=2_000)
    await run_through(cluster, chosen)
    return cluster


async def test_a_state_is_put_back_where_inputs_go_on(tmp_path: Path) -> None:
    """As after a bad week: the model is the one of the backup, and nothing that was scored is scored again."""
    chosen, path = chosen_of(), tmp_path / "state"
    cluster = await saved_and_gone_on(chosen, path)
    with pytest.raises(RecoveryError, match="already holds a state .*--replace"):
        await restored(cluster, chosen, path)
    (put,) = await restored(cluster, chosen, path, replace=True)
    assert put.positions == {topic: cluster.log(Place(topic, 0)).end for topic in Inputs(chosen).topics}
    async with Life(cluster, chosen) as life:
        await life.until_done()
        assert life.shard().counts["learned"] == COUNT
        produce(cluster, chosen, 30, first=3_000)
        await life.until_done()
        assert life.shard().counts["learned"] == COUNT + 30
        survivor = state(life.shard())
        await life.kill()
    assert await verified(cluster, chosen) > 0
    async with Life(cluster, chosen) as life:
        await life.until_done()
        assert state(life.shard()) == survivor
    ids = [one["event_id"] for one in documents(cluster, chosen.topics.scores)]
    assert len(ids) == len(set(ids)) == COUNT + WAITING + 150


async def test_before_its_first_slice_a_restored_state_is_told_of_as_it_is(tmp_path: Path) -> None:
    """`status` has its numbers, and `produce` counts from there what became of its labels."""
    chosen, path = chosen_of(), tmp_path / "state"
    cluster = await saved_and_gone_on(chosen, path)
    (put,) = await restored(cluster, chosen, path, replace=True)
    broker = cast("KafkaBroker", MemoryBroker(cluster, chosen, client="asks"))  # memory keeps the same port
    broker.ring = NO_KEYS
    (shown,) = await read_status(broker, chosen, Layout(1))
    assert shown.note is not None
    assert (shown.note["counts"]["learned"], shown.note["pending"]) == (COUNT, WAITING)
    assert shown.positions == put.positions == shown.note["positions"]
    meeting = Meeting(broker, chosen, Layout(1))
    assert await meeting.begin()
    async with Life(cluster, chosen) as life:
        produce(cluster, chosen, 30, first=3_000)
        await life.until_done()
        met = await meeting.end()
        await life.stop()
    assert met is not None
    assert (met.joined, met.behind) == (30, 0)


async def test_another_number_of_partitions_keeps_the_models(tmp_path: Path) -> None:
    chosen, path = chosen_of(), tmp_path / "state"
    here = await lived(chosen, partitions=2)
    await saved(here, chosen, path)
    there = MemoryCluster()
    there.create_for(chosen, 3)
    put = await restored(there, chosen, path)
    assert [one.source for one in put] == [0, 1, 0]
    assert all("dropped, since keys map to other shards" in one.notes[0] for one in put)
    assert [one.waiting for one in put] == [0, 0, 0]
    produce(there, chosen, 90, first=3_000, partitions=3)
    async with Life(there, chosen) as life:
        await life.until_done()
        for number in range(3):
            assert life.shard(number).counts["learned"] == COUNT // 2 + 30
            assert life.shard(number).episodes.prefix == f"parity-{number}-"
        await life.stop()
    assert await verified(there, chosen) > 0


async def test_a_start_may_be_chosen_and_another_pipeline_is_refused(tmp_path: Path) -> None:
    chosen, path = chosen_of(), tmp_path / "state"
    await saved(await lived(chosen), chosen, path)
    there = MemoryCluster()
    other = chosen_of(
        metrics=["Accuracy"], decision={"threshold": 0.9}, topics={"events": "moved", "scores": "elsewhere"}
    )
    there.create_for(other, 1)
    produce(there, other, 40, first=5_000)
    starts = {Place(topic, 0): there.log(Place(topic, 0)).end for topic in Inputs(other).topics}
    (put,) = await restored(there, other, path, starts=starts)
    assert put.positions["moved"] == 40
    async with Life(there, other) as life:
        await life.until_done()
        assert life.shard().counts["learned"] == COUNT
        assert life.shard().summary()["metrics"].keys() == {"Accuracy", "label_count"}
    with pytest.raises(StateMismatchError, match="seed differ"):
        await restored(there, chosen_of(seed=5, topics={"events": "moved"}), path, replace=True)


# -- read with suspicion


async def test_a_file_that_is_not_what_it_says_is_refused(tmp_path: Path) -> None:
    """Every byte is looked at before one is unpickled."""
    chosen, path = chosen_of(), tmp_path / "state"
    with segments_of(4):
        await saved(await lived(chosen), chosen, path)
    whole = path.read_bytes()
    StateReader(path, NO_KEYS).close()
    body = whole.index(b"\n") + 1
    step = max(1, (len(whole) - body) // 60)
    changed = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(body, len(whole), step)]
    for spoilt in (*changed, whole[:-1], whole + b"x", whole[:body]):
        path.write_bytes(spoilt)
        with pytest.raises(StateFileError, match="damaged|extra bytes"):
            StateReader(path, NO_KEYS)
    for spoilt in (b"", b"\n", b"{}\n", b"[" * 100_000, whole[body:], b'{"kind": "driftline model"}\n'):
        path.write_bytes(spoilt)
        with pytest.raises(StateFileError, match="not a state file"):
            StateReader(path, NO_KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {"shards": []},
        {"shards": 5},
        {"partitions": 0},
        {"partitions": -1},
        {"format": 2},
        {"saved_ms": "now"},
        {"size_bytes": 2**64 - 1},
        {"size_bytes": 2**53},
        {"segment_bytes": 2**53},  # no file can be sought there
    ],
)
async def test_a_first_line_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    chosen, path = chosen_of(), tmp_path / "state"
    await saved(await lived(chosen), chosen, path)
    line, _, rest = path.read_bytes().partition(b"\n")
    document = orjson.loads(line)
    if change.keys() <= {"size_bytes", "segment_bytes"}:
        document["shards"][0]["manifest"] |= change
    path.write_bytes(orjson.dumps({**document, **change}) + b"\n" + rest)
    with pytest.raises(StateFileError, match="state file"):
        StateReader(path, NO_KEYS)


async def test_with_a_key_only_a_signed_file_is_restored(tmp_path: Path) -> None:
    chosen, path = chosen_of(), tmp_path / "state"
    here = await lived(chosen, ring=RING)
    await saved(here, chosen, path, RING)
    rotated = KeyRing.of("the key that comes after it,a key that this deployment has")
    for ring in (RING, rotated, NO_KEYS):
        StateReader(path, ring).close()
    with pytest.raises(StateFileError, match="not signed with a key of this deployment"):
        StateReader(path, KeyRing.of("a key of another deployment"))
    line, _, rest = path.read_bytes().partition(b"\n")
    path.write_bytes(orjson.dumps({**orjson.loads(line), "saved_ms": 1}) + b"\n" + rest)
    with pytest.raises(StateFileError, match="not signed"):
        StateReader(path, RING)
    there = MemoryCluster()
    there.create_for(chosen, 1)
    await saved(here, chosen, path, RING)
    await restored(there, chosen, path, ring=rotated)
    async with Life(there, chosen, start=Start(ring=rotated)) as life:
        await life.until_done()
        assert life.shard().counts["learned"] == COUNT
        await life.stop()
    assert await verified(there, chosen, rotated) == 0


async def test_a_restored_state_that_is_gone_says_what_to_do(tmp_path: Path) -> None:
    chosen, path = chosen_of(), tmp_path / "state"
    await saved(await lived(chosen), chosen, path)
    there = MemoryCluster()
    there.create_for(chosen, 1)
    await restored(there, chosen, path)
    place = Place(chosen.topics.snapshots, 0)
    key = there.records(place.topic, 0)[0].key
    there.append(place, [Write(*place, key, None)])
    async with Life(there, chosen) as life:
        error = await life.fails()
    assert isinstance(error, RecoveryError)
    assert "driftline state restore --replace" in str(error)


async def test_nothing_is_saved_where_nothing_was_learned(tmp_path: Path) -> None:
    chosen = chosen_of()
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    with pytest.raises(RecoveryError, match="no shard of parity has a state"):
        await saved(cluster, chosen, tmp_path / "state")
    assert list(tmp_path.iterdir()) == []


async def test_a_restored_state_outlives_the_key_that_was_there_then(tmp_path: Path) -> None:
    """The journal vouches for it, and the journal is taken over at a rotation."""
    chosen, path = chosen_of(), tmp_path / "state"
    await saved(await lived(chosen, ring=RING), chosen, path, RING)
    there = MemoryCluster()
    there.create_for(chosen, 1)
    await restored(there, chosen, path, ring=RING)
    later = "the key that comes after it"
    for ring in (RING, KeyRing.of(f"{later},a key that this deployment has"), KeyRing.of(later)):
        async with Life(there, chosen, start=Start(ring=ring)) as life:
            await life.until_done()
            assert life.shard().counts["learned"] == COUNT
            await life.stop()
    settle(there, chosen)
    async with Life(there, chosen, start=Start(ring=KeyRing.of(later))) as life:
        await life.until_done()
        assert life.shard().counts["joined"] == COUNT + WAITING
        await life.stop()
    assert await verified(there, chosen, KeyRing.of(later)) > 0
