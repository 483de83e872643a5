"""A recovered shard at work, moment by moment."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from driftline.codec.journal import CHAIN_START
from driftline.codec.keyring import NO_KEYS
from driftline.core.error import InvariantError
from driftline.core.shard.state import Shard
from driftline.engine import live as module
from driftline.engine import turn
from driftline.engine.epoch import next_epoch
from driftline.engine.fold import TOGETHER, TOGETHER_MIN, Folder
from driftline.engine.live import STALL_S, Live, Tip
from driftline.engine.pace import Pacer
from driftline.engine.snapshot import SnapshotWriter
from driftline.engine.tally import Tally
from driftline.engine.turn import TURN_S
from driftline.transport.clock import REAL, Clock
from driftline.transport.port import Feed, Place
from tests.support.memory import MemoryBroker, MemoryCluster
from tests.support.small import NOW_MS, event_bytes, label_bytes, small, source


class _Ends:
    """A feed that knows of ends only, and is told them turn by turn."""

    def __init__(self, *turns: dict[str, bool]) -> None:
        self._turns = list(turns)
        self._asked: set[Place] = set()

    def at_end(self, place: Place) -> bool:
        if place in self._asked:
            self._turns.pop(0)
            self._asked.clear()
        self._asked.add(place)
        return self._turns[0].get(place.topic, True)


def ends(*turns: dict[str, bool]) -> Feed:
    """Of the feed, a shard at work asks nothing else here."""
    return cast(Feed, _Ends(*turns))


class Watch:
    """A clock that a test sets forward."""

    def __init__(self) -> None:
        self.later_s = 0.0

    def clock(self) -> Clock:
        return Clock(lambda: REAL.now_s() + self.later_s, lambda: REAL.wall_s() + self.later_s)


def live(watch: Watch | None = None) -> Live:
    pipeline = small()
    cluster = MemoryCluster()
    cluster.create_for(pipeline, 1)
    positions = dict.fromkeys(("p.control", "p.labels", "p.events"), 0)
    epoch = next_epoch(None, pipeline, positions, 0, reset=False)
    assert epoch is not None
    return Live(
        pipeline,
        Folder(Shard(pipeline, 0), positions),
        epoch,
        MemoryBroker(cluster, pipeline).publisher(0),
        SnapshotWriter(pipeline, 0, 0, NO_KEYS),
        Tally("p.events"),
        Tip(CHAIN_START, 0, 0),
        patience_s=0.0,
        clock=watch.clock() if watch is not None else REAL,
    )


async def test_an_input_that_gets_more_while_a_commit_waits_its_turn_makes_no_empty_slice() -> None:
    here = live()
    here.folder.receive("p.events", [source("p.events", 0, event_bytes(1))])
    nothing: Any = await here.next_slice(ends({}, {"p.labels": False}), Pacer())
    assert nothing is None
    assert here.slice_number == 0
    some = await here.next_slice(ends({}, {}), Pacer())
    assert some is not None
    assert some.folded.records == 1


async def test_time_passes_only_when_every_input_is_at_its_end_and_nothing_is_under_way() -> None:
    watch = Watch()
    here = live(watch)
    here.folder.receive("p.events", [source("p.events", 0, event_bytes(1))])
    await here.next_slice(ends({}, {}), Pacer())
    assert here.shard.next_deadline_ms is not None
    watch.later_s += 10**6
    for behind in ("p.control", "p.labels", "p.events"):
        assert await here.next_slice(ends({behind: False}), Pacer()) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Live, "busy", True)
        assert await here.next_slice(ends({}), Pacer()) is None
    here.folder.receive("p.labels", [source("p.labels", 0, label_bytes(2))])
    assert await here.next_slice(ends({"p.events": False}), Pacer()) is None
    here.folder.let_go()
    tick = await here.next_slice(ends({}), Pacer())
    assert tick is not None
    assert tick.folded.tick_ms is not None
    assert tick.folded.tick_ms > NOW_MS + 100_000
    assert tick.folded.made.outcomes == {"expired": 1}


async def test_commands_that_were_there_at_the_start_go_before_the_first_event() -> None:
    """However they are fetched. Later ones hold nobody back."""
    here = live()
    here.folder.receive("p.events", [source("p.events", 0, event_bytes(1))])
    waits: Any = {"p.control": False}
    assert await here.next_slice(ends(waits), Pacer()) is None
    command = b'{"command": "freeze"}'
    here.folder.receive("p.control", [source("p.control", 0, command), source("p.control", 1, command)])
    first = await here.next_slice(ends(waits, waits), Pacer())
    assert first is not None
    assert {topic: part.count for topic, part in first.folded.inputs.items()} == {"p.control": 2}
    assert await here.next_slice(ends(waits), Pacer()) is None
    here.folder.receive("p.control", [source("p.control", 2, command)])
    last = await here.next_slice(ends({}, {}), Pacer())
    assert last is not None
    assert {topic: part.count for topic, part in last.folded.inputs.items()} == {"p.control": 1, "p.events": 1}
    assert here.shard.counts["control_freeze"] == 3
    here.folder.receive("p.events", [source("p.events", 1, event_bytes(2))])
    after = await here.next_slice(ends(waits, waits), Pacer())
    assert after is not None
    assert after.folded.records == 1


async def test_where_labels_find_no_event_and_events_stopped_a_tick_says_that_none_is_unread() -> None:
    """Without it nothing tells labels whose events are late from those whose events nobody sent."""
    watch = Watch()
    here, offset = live(watch), 20

    def more_labels(count: int, at_ms: int) -> None:
        nonlocal offset
        sources = [source("p.labels", offset + n, label_bytes(10**6 + offset + n), at_ms + n) for n in range(count)]
        here.folder.receive("p.labels", sources)
        offset += count

    here.folder.receive("p.events", [source("p.events", 0, event_bytes(1))])
    more_labels(40, NOW_MS)
    assert await here.next_slice(ends({}, {}), Pacer()) is not None
    more_labels(1, NOW_MS + 31_000)
    assert await here.next_slice(ends({}, {}), Pacer()) is not None
    assert here.shard.awaits_events

    async def folded(*turns: dict[str, bool]) -> Any:
        more_labels(1, NOW_MS + 40_000)
        made: Any = await here.next_slice(ends(*turns), Pacer())
        here.folder.let_go()
        return made.folded

    assert (await folded({}, {}, {})).tick_ms is None, "an event came a moment ago"
    watch.later_s += STALL_S
    assert (await folded({"p.events": False}, {}, {})).tick_ms is None, "some are unread"
    tick = await folded({}, {}, {})
    assert tick.tick_ms == here.shard.now_ms == here.shard.strays.event_ms
    assert (await folded({}, {}, {})).tick_ms is None, "once a minute at most"


async def test_others_run_while_a_slice_is_folded_and_what_comes_then_is_of_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Above all the commit of the slice before: of one shard alone, nothing else would be folded meanwhile."""
    monkeypatch.setattr(module, "TOGETHER", 1)
    monkeypatch.setattr(turn, "TURN_S", -1.0)
    here = live()
    here.folder.receive("p.events", [source("p.events", number, event_bytes(number)) for number in range(5)])
    turns = 0

    async def other() -> None:
        nonlocal turns
        here.folder.receive("p.labels", [source("p.labels", 0, label_bytes(0, time_ms=NOW_MS - 1))])
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    first = await here.next_slice(ends({}, {}), Pacer())
    task.cancel()
    assert first is not None
    assert turns >= 4
    assert {name: part.count for name, part in first.folded.inputs.items()} == {"p.events": 5}
    assert here.folder.waiting == 1
    again = Folder(Shard(small(), 0), dict.fromkeys(("p.control", "p.labels", "p.events"), 0))
    sources = [source("p.events", number, event_bytes(number)) for number in range(5)]
    assert again.fold_range({"p.events": sources}).digest == first.folded.digest
    second = await here.next_slice(ends({}, {}), Pacer())
    assert second is not None
    assert {name: part.count for name, part in second.folded.inputs.items()} == {"p.labels": 1}


async def test_as_many_records_are_folded_together_as_take_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Still(Watch):
        def clock(self) -> Clock:
            return Clock(lambda: self.later_s, REAL.wall_s, lambda: self.later_s)

    def folding(folder: Folder, *args: Any, **options: Any) -> Any:
        together.append(options["together"])
        watch.later_s += took_s
        return pieces(folder, *args, **options)

    together: list[int] = []
    took_s, watch, pieces = 0.0, Still(), Folder.pieces
    monkeypatch.setattr(Folder, "pieces", folding)
    here = live(watch)
    for number, spent_s in enumerate((0.0, TURN_S, 10 * TURN_S, 0.0)):
        took_s = spent_s
        first = 64 * number
        events = [source("p.events", first + place, event_bytes(first + place)) for place in range(64)]
        here.folder.receive("p.events", events)
        assert await here.next_slice(ends({}, {}), Pacer()) is not None
    assert together == [TOGETHER_MIN, TOGETHER, 64, TOGETHER_MIN], "unknown, in no time, in a turn, in ten"


def test_a_slice_that_was_broken_off_leaves_no_state_to_go_on_from() -> None:
    here = live()
    here.folder.receive("p.events", [source("p.events", number, event_bytes(number)) for number in range(5)])
    next(here.folder.pieces([True] * 3, 5, lambda size: False, together=2))
    with pytest.raises(InvariantError, match="broken off"):
        here.folder.let_go()
