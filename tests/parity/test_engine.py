"""The whole engine on memory: time that passes on idle inputs, writers that have no business here, and bad input."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import orjson
import pytest

from driftline.codec.journal import SliceEntry, encode_link, link
from driftline.codec.write import Write
from driftline.core.record import Tick
from driftline.transport.port import Place
from tests.parity.rig import (
    NOW_MS,
    STEP_MS,
    Life,
    check_at_least,
    check_exact,
    check_replay,
    documents,
    journal,
    pipeline,
    produce,
    slices,
)
from tests.support.cluster import MemoryCluster
from tests.support.memory import Moment, RefusedError

WAIT = {"wait": "60ms", "early": "30ms"}


class Held:
    """A hook that holds one request back until it is let go."""

    def __init__(self, chosen: Callable[[Moment], bool]) -> None:
        self._chosen = chosen
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, moment: Moment) -> None:
        if not self.reached.is_set() and self._chosen(moment):
            self.reached.set()
            await self.go_on.wait()


class Polls:
    """A hook that counts polls."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, moment: Moment) -> None:
        self.count += moment.step == "poll"


# -- ticks


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_time_passes_on_idle_inputs(delivery: str) -> None:
    """Events of 2023 wait 60 ms of event time; when nothing more comes, wall time ends their wait."""
    cluster, chosen = MemoryCluster(), pipeline(label=WAIT, delivery=delivery)
    cluster.create_for(chosen, 1)
    ids = produce(cluster, chosen, 1, labels=False)
    orphan = orjson.dumps({"id": "nobody", "y": 1})
    cluster.produce(chosen.topics.labels or "", 0, orphan, NOW_MS)
    async with Life(cluster, chosen) as life:
        outcomes = chosen.topics.outcomes
        await life.until(lambda: len(cluster.records(outcomes, 0)) == 2)
        ended = {one["event_id"]: one for one in documents(cluster, outcomes)}
        assert {name: one["kind"] for name, one in ended.items()} == {ids[0]: "expired", "nobody": "orphan"}
        positions = {name: one["output_id"] for name, one in ended.items()}
        assert positions == {ids[0]: f"{chosen.topics.events}-0-0-1", "nobody": f"{chosen.topics.labels}-0-0-0"}
        ticks = [entry for entry in slices(cluster, chosen) if entry.tick_ms is not None]
        assert 1 <= len(ticks) <= 2
        assert all(entry.inputs == {} for entry in ticks)
        assert ticks[-1].tick_ms == ticks[-1].watermark_ms == life.shard().watermark_ms
        assert NOW_MS + 30 < (ticks[0].tick_ms or 0) < NOW_MS + 30_000
        stamps = {source.record_time_ms for source in cluster.records(outcomes, 0)}
        assert stamps == {NOW_MS}  # as the inputs were stamped, so that the broker takes them
        await check_replay(cluster, chosen, life)
        more = produce(cluster, chosen, 20, first=10, delay_steps=0)  # the same second: in time
        await life.until_done()
        assert life.shard().counts["joined"] == len(more)
        await check_replay(cluster, chosen, life)
        await life.kill()
    async with Life(cluster, chosen) as second:
        await second.until_done()
        assert second.shard().counts["joined"] == 20
        await check_replay(cluster, chosen, second)


async def test_an_assumed_label_is_learned_at_a_tick() -> None:
    cluster, chosen = MemoryCluster(), pipeline(label={**WAIT, "missing": {"assume": 0}})
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 5, labels=False)
    async with Life(cluster, chosen) as life:
        await life.until(lambda: life.worker.ready and life.shard().counts.get("learned", 0) == 5)
        await life.until_done()
        assert Counter(one["kind"] for one in documents(cluster, chosen.topics.outcomes)) == {"assumed": 5}
        await check_replay(cluster, chosen, life)


async def test_nothing_is_journaled_while_nothing_waits() -> None:
    cluster, chosen = MemoryCluster(), pipeline(label=WAIT)
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 5, delay_steps=0)
    polls = Polls()
    async with Life(cluster, chosen, hook=polls) as life:
        await life.until_done()
        entries, before = len(journal(cluster, chosen)), polls.count
        await life.until(lambda: polls.count > before + 12)  # some 0.3 s: five times the wait
        assert len(journal(cluster, chosen)) == entries


def test_a_tick_is_of_the_shard_and_its_slice() -> None:
    assert Tick(3, 7, 5) == Tick(shard=3, slice_number=7, time_ms=5)


# -- other writers, without transactions


async def test_an_entry_off_the_chain_is_found_out_and_passed_over() -> None:
    cluster, chosen = MemoryCluster(), pipeline(delivery="at_least_once")
    cluster.create_for(chosen, 1)
    ids = produce(cluster, chosen, 300)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        stray = SliceEntry(99, {}, None, 0, "00", None, 1)
        place = Place(chosen.topics.journal, 0)
        cluster.append(place, [Write(*place, None, encode_link(link(stray, "f" * 32)))])
        ids += produce(cluster, chosen, 100, first=400)
        await life.until_done()
        assert life.runner().tally.recoveries == 2
        check_at_least(cluster, chosen, ids)
        assert life.shard().counts["learned"] == len(ids)
        await check_replay(cluster, chosen, life)


async def test_an_entry_off_the_chain_at_the_end_is_behind_us_after_a_start() -> None:
    cluster, chosen = MemoryCluster(), pipeline(delivery="at_least_once")
    cluster.create_for(chosen, 1)
    ids = produce(cluster, chosen, 100)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        await life.kill()
    place = Place(chosen.topics.journal, 0)
    cluster.append(
        place, [Write(*place, None, encode_link(link(SliceEntry(99, {}, None, 0, "00", None, 1), "f" * 32)))]
    )
    async with Life(cluster, chosen) as life:
        await life.until_done()
        ids += produce(cluster, chosen, 100, first=200)
        await life.until_done()
        assert life.runner().tally.recoveries == 1
        assert [one["event_id"] for one in documents(cluster, chosen.topics.scores)] == ids


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_a_shard_that_another_worker_had_meanwhile_is_recovered(delivery: str) -> None:
    """It comes back from a rebalance that was long enough for someone else to write."""
    cluster, chosen = MemoryCluster(), pipeline(delivery=delivery)
    cluster.create_for(chosen, 1)
    ids = produce(cluster, chosen, 200)
    async with Life(cluster, chosen, client="a") as a:
        await a.until_done()
        let_go, revoked = asyncio.Event(), a.worker.revoked

        async def slowly() -> None:
            await revoked()
            await let_go.wait()

        a.worker.revoked = slowly  # type: ignore[method-assign]  # a worker that hangs in its rebalance
        async with Life(cluster, chosen, client="b") as b:
            cluster.group(f"driftline-{chosen.name}").leave("a/0")  # its session ended
            await b.until_done()
            ids += produce(cluster, chosen, 100, first=300)
            await b.until_done()
            let_go.set()
            await a.until_done()
            assert a.runner().tally.recoveries == 2
            assert [one["event_id"] for one in documents(cluster, chosen.topics.scores)] == ids
            await check_replay(cluster, chosen, a)


@pytest.mark.parametrize("first_to_land", ["zombie", "heir"])
async def test_a_zombie_without_fencing_is_found_out(first_to_land: str) -> None:
    """Two owners for a while: the journal's chain says whose slices hold, and both learn it from an offset."""
    cluster, chosen = MemoryCluster(), pipeline(delivery="at_least_once")
    cluster.create_for(chosen, 1)
    ids = produce(cluster, chosen, 800)
    entries = chosen.topics.journal

    def late(moment: Moment) -> bool:
        to_journal = moment.step == "batch" and moment.place is not None and moment.place.topic == entries
        return to_journal and len(cluster.records(entries, 0)) > 3

    held, heirs = Held(late), Held(late)
    async with Life(cluster, chosen, client="b", hook=held) as zombie:
        await zombie.until(held.reached.is_set)
        async with Life(cluster, chosen, client="a", hook=heirs) as heir:  # goes before it in the order of members
            cluster.group(f"driftline-{chosen.name}").leave("b/0")
            await heir.until(heirs.reached.is_set)
            count = len(cluster.records(entries, 0))
            first, second = (held, heirs) if first_to_land == "zombie" else (heirs, held)
            first.go_on.set()
            await heir.until(lambda: len(cluster.records(entries, 0)) > count)
            second.go_on.set()
            await heir.until_done()
            ids += produce(cluster, chosen, 100, first=900)
            await heir.until_done()
            assert heir.runner().tally.recoveries >= 2
            check_at_least(cluster, chosen, ids)
            assert heir.shard().counts["learned"] == len(ids)
            await check_replay(cluster, chosen, heir)


# -- bad input


async def test_bad_input_goes_through_the_engine_and_stops_nothing() -> None:
    """Bad records among good ones: each rejected once and counted, every good one served, and all of it replays."""
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    events, labels = chosen.topics.events, chosen.topics.labels or ""
    good = orjson.dumps({"id": 1, "x": 1, "z": 1, "word": "a"})
    bad: dict[str, list[bytes | None]] = {
        "not_json": [
            b"{",
            b"\xff\xfe",
            b"[" * 100_000,
            good.replace(b"1", b"1e999"),
        ],
        "empty": [b""],
        "too_large": [b"x" * 2_000_000],
        "not_object": [b"[]"],
        "id_missing": [good.replace(b'"id"', b'"no"')],
        "feature_missing": [good.replace(b'"x"', b'"no"'), good.replace(b'"x":1', b'"x":NaN')],
        "feature_type": [
            good.replace(b'"x":1', b'"x":"1"'),
            good.replace(b'"x":1', b'"x":' + b"[" * 1_000 + b"]" * 1_000),
        ],
        "number_too_large": [good.replace(b'"x":1', b'"x":1e16')],
        "duplicate_event": [orjson.dumps({"id": 5, "x": 1, "z": 1, "word": "a"})],
    }
    bad_labels: dict[str, list[bytes | None]] = {
        "label_type": [b'{"id": 1, "y": "maybe"}'],
        "label_missing": [b'{"id": 1}'],
    }
    ids = produce(cluster, chosen, 50)
    time_ms = NOW_MS + 100 * STEP_MS
    for topic, told in ((events, bad), (labels, bad_labels)):
        for values in told.values():
            for value in values:
                large = Place(topic, 0)
                cluster.log(large).batch_bytes_max = 10_000_000
                cluster.produce(topic, 0, value, time_ms)
    for topic in (events, labels):
        cluster.produce(topic, 0, None, time_ms)
    cluster.produce(labels, 0, b'{"id": 5, "y": 1}', time_ms)  # a second label
    cluster.produce(labels, 0, b'{"id": "nobody", "y": 1}', time_ms)  # of no event
    ids += produce(cluster, chosen, 50, first=200)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        rejected = cluster.records(chosen.topics.rejected, 0)
        reasons = Counter(dict(source.headers)["driftline.reason"] for source in rejected)
        wanted = {**bad, **bad_labels}
        assert reasons == {(reason or "").encode(): len(values) for reason, values in wanted.items()}
        assert life.runner().tally.rejected == {reason: len(values) for reason, values in wanted.items()}
        assert {what: life.shard().counts[f"passed_{what}_tombstone"] for what in ("events", "labels")} == {
            "events": 1,
            "labels": 1,
        }
        kinds = Counter(one["kind"] for one in documents(cluster, chosen.topics.outcomes))
        assert kinds == {"joined": len(ids), "duplicate": 1}
        assert len(life.shard().early) == 1
        scored = [one["event_id"] for one in documents(cluster, chosen.topics.scores)]
        assert scored == ids
        await check_replay(cluster, chosen, life)
        await life.stop()


async def test_control_goes_to_its_journaled_place() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 2)
    ids = produce(cluster, chosen, 100, partitions=2)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        for partition in (0, 1):
            cluster.produce(chosen.topics.control, partition, b'{"command": "freeze"}', NOW_MS)
        await life.until_done()
        ids += produce(cluster, chosen, 100, first=200, partitions=2)
        await life.until_done()
        check_exact(cluster, chosen, ids)
        assert [life.shard(p).learner.learned for p in (0, 1)] == [50, 50]
        await check_replay(cluster, chosen, life)
        await life.kill()
    async with Life(cluster, chosen) as second:
        await second.until_done()
        assert [second.shard(p).frozen for p in (0, 1)] == [True, True]
        await check_replay(cluster, chosen, second)


# -- starting and stopping


async def test_a_slice_that_can_never_be_committed_is_tried_less_and_less_often() -> None:
    async def refuse(moment: Moment) -> None:
        if moment.step == "batch" and moment.place == Place(chosen.topics.scores, 0):
            raise RefusedError("never")

    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 10)
    async with Life(cluster, chosen, hook=refuse) as life:
        await life.until(lambda: 0 in life.worker.runners and life.runner().tally.failures >= 3)
        assert life.runner().tally.recoveries == 3
    assert documents(cluster, chosen.topics.scores) == []
    assert slices(cluster, chosen) == []


async def test_a_worker_that_is_stopped_before_it_runs_does_not_begin() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    life = Life(cluster, chosen)
    life.worker.stop()
    async with life:
        await life.stop()
    assert cluster.group(f"driftline-{chosen.name}").members == ()


# -- times far ahead


@pytest.mark.parametrize("far_ms", [4_102_358_400_000, NOW_MS + 20 * 86_400_000], ids=["2099", "some weeks"])
async def test_a_time_far_ahead_ends_nobodys_wait(far_ms: int) -> None:
    """In both of a record's times, in a backlog and live; a replay has it from the journal."""
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    events, labels = chosen.topics.events, chosen.topics.labels or ""
    ids = produce(cluster, chosen, 150)
    far = orjson.dumps({"id": 9_000, "x": 1.0, "z": 0.5, "word": "a"})
    offset = cluster.produce(events, 0, far, far_ms)
    about = cluster.produce(labels, 0, orjson.dumps({"id": 9_000, "y": 1}), far_ms + 1)
    ids += produce(cluster, chosen, 150, first=150)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        counts = life.shard().counts
        assert counts["joined"] == len(ids) + 1
        assert counts["time_ahead"] == 2
        assert not counts.keys() & {"expired", "orphan", "late"}
        assert (life.shard().watermark_ms or 0) < NOW_MS + 400 * STEP_MS
        named = [
            (topic, offsets) for entry in slices(cluster, chosen) for topic, offsets in (entry.ahead or {}).items()
        ]
        assert sorted(named) == [(events, [offset]), (labels, [about])]
        assert max(one.record_time_ms for one in cluster.records(chosen.topics.scores, 0)) < far_ms
        await check_replay(cluster, chosen, life)
        await life.kill()
    produce(cluster, chosen, 20, first=400)
    async with Life(cluster, chosen) as second:
        await second.until_done()
        assert second.shard().counts["joined"] == len(ids) + 21
        await check_replay(cluster, chosen, second)


async def test_a_pause_of_a_month_moves_time() -> None:
    cluster, chosen = MemoryCluster(), pipeline()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 50, labels_every=2)
    month = 30 * 86_400_000 // STEP_MS
    produce(cluster, chosen, 50, first=month)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        counts = life.shard().counts
        assert (counts["joined"], counts["expired"]) == (25 + 50, 25)
        assert "time_ahead" not in counts
        assert all(not entry.ahead for entry in slices(cluster, chosen))
        await check_replay(cluster, chosen, life)
