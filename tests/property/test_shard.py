"""A shard against a plain bookkeeper, for any course of events: who is joined, who expires, who is told off.

The bookkeeper knows nothing of models: it keeps dicts of deadlines and says which outputs each record must make. Beside
the shard under test lives a twin that is frozen and thawed at every chance, and must never differ.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from driftline.codec.encode import Encoder
from driftline.core.output import Outcome, Output, Rejected, Score
from driftline.core.pipeline import Pipeline
from driftline.core.record import CommandName, Record, Tick
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import dump, frozen_digest, load
from tests.support.folding import step
from tests.support.small import NOW_MS, control, event, kinds, label, malformed, small

WAIT_MS, EARLY_MS, HORIZON_MS = 20, 10, 50
PENDING_MAX, EARLY_MAX, ID_MAX = 4, 3, 5

IDS = st.integers(0, 6)
STEPS = st.integers(-8, 8) | st.sampled_from([0, 0, WAIT_MS, HORIZON_MS])


def pipeline(assumed: bool) -> Pipeline:
    return small(
        label={
            "wait": f"{WAIT_MS}ms",
            "early": f"{EARLY_MS}ms",
            "pending_max": PENDING_MAX,
            "early_max": EARLY_MAX,
            "missing": {"assume": 0} if assumed else "drop",
        },
        dedupe={"horizon": f"{HORIZON_MS}ms", "max": ID_MAX},
        metrics=["Accuracy"],
    )


class Bookkeeper:
    """What must come out, by the rules alone."""

    def __init__(self, assumed: bool) -> None:
        self.ended = "assumed" if assumed else "expired"
        self.watermark: int | None = None
        self.pending: dict[int, int] = {}
        self.early: dict[int, int] = {}
        self.seen: dict[int, tuple[int, str]] = {}

    @property
    def now(self) -> int:
        return self.watermark or 0

    def advance(self, time_ms: int) -> list[str]:
        if self.watermark is not None and time_ms <= self.watermark:
            return []
        if self.watermark is None:
            self.begin_at(time_ms)
        self.watermark = time_ms
        gone = [name for name, deadline in self.pending.items() if deadline < time_ms]
        for name in gone:
            del self.pending[name]
            self.settle(name, "expired")
        orphans = [name for name, deadline in self.early.items() if deadline < time_ms]
        for name in orphans:
            del self.early[name]
        self.seen = {name: (at, fate) for name, (at, fate) in self.seen.items() if at >= time_ms - HORIZON_MS}
        return [self.ended] * len(gone) + ["orphan"] * len(orphans)

    def begin_at(self, time_ms: int) -> None:
        self.pending = {name: deadline + time_ms for name, deadline in self.pending.items()}
        self.early = {name: deadline + time_ms for name, deadline in self.early.items()}
        self.seen = {name: (at + time_ms, fate) for name, (at, fate) in self.seen.items()}

    def settle(self, name: int, fate: str) -> None:
        if name in self.seen:
            self.seen[name] = (self.seen[name][0], fate)

    def event(self, name: int, time_ms: int, ahead: bool) -> list[str]:
        made = [] if ahead else self.advance(time_ms)
        if name in self.seen or name in self.pending:
            return [*made, "duplicate_event"]
        self.seen[name] = (self.now, "waiting")
        while len(self.seen) > ID_MAX:
            del self.seen[next(iter(self.seen))]
        made.append("Score")
        if name in self.early:
            del self.early[name]
            self.settle(name, "labelled")
            return [*made, "joined"]
        self.pending[name] = self.now + WAIT_MS
        if len(self.pending) > PENDING_MAX:
            oldest = next(iter(self.pending))
            del self.pending[oldest]
            self.settle(oldest, "expired")
            made.append(self.ended)
        return made

    def label(self, name: int, time_ms: int, ahead: bool) -> list[str]:
        made = [] if ahead else self.advance(time_ms)
        if name in self.pending:
            del self.pending[name]
            self.settle(name, "labelled")
            return [*made, "joined"]
        fate = self.seen.get(name, (0, None))[1]
        if fate is not None and fate != "waiting":
            return [*made, "duplicate" if fate == "labelled" else "late"]
        if name in self.early:
            return [*made, "duplicate"]
        self.early[name] = self.now + EARLY_MS
        if len(self.early) > EARLY_MAX:
            del self.early[next(iter(self.early))]
            made.append("orphan")
        return made


class Course(RuleBasedStateMachine):
    @initialize(assumed=st.booleans())
    def begin(self, assumed: bool) -> None:
        self.pipeline = pipeline(assumed)
        self.shard = Shard(self.pipeline, 0)
        self.twin = Shard(self.pipeline, 0)
        self.book = Bookkeeper(assumed)
        self.encode = Encoder(self.pipeline, 0).encode
        self.time_ms = NOW_MS
        self.offsets = {"p.events": 0, "p.labels": 0, "p.control": 0}
        self.ticks = 0
        self.output_ids: set[str] = set()
        self.outputs: list[Output] = []
        self.records = 0

    def _next(self, topic: str) -> int:
        self.offsets[topic] += 1
        return self.offsets[topic] - 1

    def _fold(self, record: Record, wanted: list[str]) -> None:
        made, by_twin = step(self.shard, record), step(self.twin, record)
        assert kinds(made) == wanted
        assert [self.encode(output) for output in made] == [self.encode(output) for output in by_twin]
        ids = [output.output_id for output in made]
        assert len(set(ids)) == len(ids)
        assert not self.output_ids.intersection(ids)
        self.output_ids.update(ids)
        self.outputs += made
        self.records += not isinstance(record, Tick)

    @rule(name=IDS, after=STEPS, ahead=st.booleans(), x=st.floats(-5, 5))
    def event(self, name: int, after: int, ahead: bool, x: float) -> None:
        time_ms = self.time_ms + after
        self.time_ms = max(self.time_ms, time_ms)
        record = event(name, time_ms, x, offset=self._next("p.events"), ahead=ahead)
        self._fold(record, self.book.event(name, time_ms, ahead))

    @rule(name=IDS, after=STEPS, ahead=st.booleans(), value=st.booleans())
    def label(self, name: int, after: int, ahead: bool, value: bool) -> None:
        time_ms = self.time_ms + after
        self.time_ms = max(self.time_ms, time_ms)
        record = label(name, value, time_ms, offset=self._next("p.labels"), ahead=ahead)
        self._fold(record, self.book.label(name, time_ms, ahead))

    @rule(after=STEPS)
    def tick(self, after: int) -> None:
        self.ticks += 1
        time_ms = self.time_ms + after
        self.time_ms = max(self.time_ms, time_ms)
        self._fold(Tick(0, self.ticks, time_ms), self.book.advance(time_ms))

    @rule()
    def malformed(self) -> None:
        self._fold(malformed("not_json", offset=self._next("p.events")), ["not_json"])

    @rule(command=st.sampled_from(("freeze", "unfreeze", "reset")))
    def control(self, command: CommandName) -> None:
        self._fold(control(command, offset=self._next("p.control")), [])

    @rule()
    def thaw(self) -> None:
        self.twin = load(self.pipeline, 0, dump(self.twin))

    @invariant()
    def everything_is_bounded_and_agrees_with_the_book(self) -> None:
        shard, book = self.shard, self.book
        assert shard.watermark_ms == book.watermark
        assert len(shard.pending) == len(book.pending) <= PENDING_MAX
        assert len(shard.early) == len(book.early) <= EARLY_MAX
        assert shard.pending.remembered_count <= ID_MAX
        deadlines = [*book.pending.values(), *book.early.values()] if book.watermark is not None else []
        assert shard.next_deadline_ms == min(deadlines, default=None)

    @invariant()
    def everything_is_counted(self) -> None:
        counts = self.shard.counts
        made = kinds(self.outputs)
        for name in ("joined", "expired", "assumed", "orphan", "duplicate", "late"):
            assert counts.get(name, 0) == made.count(name)
        assert counts.get("scored", 0) == sum(isinstance(output, Score) for output in self.outputs)
        rejected = [output.reason for output in self.outputs if isinstance(output, Rejected)]
        for reason in ("duplicate_event", "not_json"):
            assert counts.get(f"rejected_{reason}", 0) == rejected.count(reason)

    @invariant()
    def every_scored_event_waits_or_has_one_ending(self) -> None:
        ended = [output for output in self.outputs if isinstance(output, Outcome) and output.prediction is not None]
        scored = [output for output in self.outputs if isinstance(output, Score)]
        assert len(scored) == len(ended) + len(self.shard.pending)

    def teardown(self) -> None:
        if hasattr(self, "shard"):
            first, second = (frozen_digest(self.pipeline, 0, dump(one)) for one in (self.shard, self.twin))
            assert first == second


TestCourse = Course.TestCase
TestCourse.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
