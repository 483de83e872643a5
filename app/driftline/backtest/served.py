"""Scores compared with the served ones, event by event."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from driftline.backtest.candidate import Candidate
from driftline.codec.encode import Encoder
from driftline.core.output import Score
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout, output_partition
from driftline.core.record import Event, Source
from driftline.core.slate import SlateError, shown_text
from driftline.engine.published import document_of, offset_of, output_id_of
from driftline.transport.port import Place, Reader

READ_RECORDS_MAX = 2_000
DIFFERENCES_KEPT_MAX = 1_000
KEPT_MAX = 50_000  # more than are read ahead of what is folded


@dataclass
class Against:
    """What a candidate predicted, compared with what was served.

    Args:
        compared: scores of both.
        missing: of the candidate, without a served one.
        removed: of events before the first whose score is still kept.
        differing: all that differ; the first of them are in `examples`.
        largest: difference between two values.
    """

    compared: int = 0
    missing: int = 0
    removed: int = 0
    differing: int = 0
    largest: float = 0.0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def merge(self, other: Against) -> None:
        """Add another partition's."""
        for name in ("compared", "missing", "removed", "differing"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = max(self.largest, other.largest)
        self.examples = [*self.examples, *other.examples][:DIFFERENCES_KEPT_MAX]


class Served:
    """The scores of a shard, read along with what a candidate says, event by event.

    Args:
        reader: opened at the shard's partitions of the scores.
        layout, shard: which those are.
        cut: partitions that have lost their beginning.
    """

    def __init__(
        self, reader: Reader, pipeline: Pipeline, layout: Layout, shard: int, cut: Collection[Place] = ()
    ) -> None:
        self._reader = reader
        self._topic, self._layout, self._shard = pipeline.topics.scores, layout, shard
        self._encode = Encoder(pipeline, shard).encode  # of its values only
        self._ahead: dict[tuple[int, int], bytes] = {}  # by the event's partition and offset
        self._cut = cut
        self._first: dict[int, int] = {}  # of each partition of the events: offset of the first that has a score
        self.until: dict[int, int] = {}
        self._ended: set[Place] = set()

    def _place(self, partition: int) -> Place:
        """Where the scores of a partition of the events are."""
        count = self._layout.counts.get(self._topic, self._layout.shards)
        return Place(self._topic, output_partition(partition, self._shard, self._layout.shards, count))

    async def reach(self, partition: int, offset: int) -> None:
        """Read until the score of this event is known, if there is one."""
        place = self._place(partition)
        while self.until.get(partition, -1) < offset and place not in self._ended:
            sources = await self._reader.read(place, READ_RECORDS_MAX)
            if not sources:
                self._ended.add(place)
            for source in sources:
                numbers = (output_id_of(source) or "").rsplit("-", 3)[1:3]
                of, at = (offset_of(text) for text in numbers) if len(numbers) == 2 else (None, None)
                if of is None or at is None:  # another program wrote it
                    continue
                self._first.setdefault(of, at)
                self._ahead[of, at] = source.value or b""
                self.until[of] = max(self.until.get(of, -1), at)

    def compare(self, score: Score, found: Against, *, exact: bool) -> None:
        """Compare one score: byte by byte for the live pipeline, else what it says."""
        partition, offset = score.source.partition, score.source.offset
        served = self._ahead.get((partition, offset))
        if served is None:
            first = self._first.get(partition)
            if self._place(partition) in self._cut and (first is None or offset < first):
                found.removed += 1
            else:
                found.missing += 1
            return
        found.compared += 1
        derived = self._encode(score).value or b""
        if derived == served:
            return
        one, other = document_of(served) or {}, document_of(derived) or {}
        kept = ("prediction", "probability", "probabilities", "decision", "guard")
        if not exact and all(one.get(name) == other.get(name) for name in kept):
            return
        found.differing += 1
        values: list[Any] = [document.get("probability", document.get("prediction")) for document in (one, other)]
        if all(isinstance(value, int | float) for value in values):
            found.largest = max(found.largest, abs(values[0] - values[1]))
        if len(found.examples) < DIFFERENCES_KEPT_MAX:
            found.examples.append(
                {
                    "event_id": score.event_id,
                    "partition": score.source.partition,
                    "offset": offset,
                    "served": values[0],
                    "backtested": values[1],
                }
            )

    def score_of(self, source: Source) -> bytes | None:
        """The score of an event that was reached, while it is kept: the last `KEPT_MAX` are."""
        while len(self._ahead) > KEPT_MAX:
            del self._ahead[next(iter(self._ahead))]
        return self._ahead.get((source.partition, source.offset))

    def forget(self, reached: Mapping[int, int]) -> None:
        """No candidate will ask for an event before these offsets any more, by partition."""
        self._ahead = {place: value for place, value in self._ahead.items() if place[1] >= reached.get(place[0], 0)}


class Shown:
    """What was shown of each request, for candidates that learn from it and are judged by it: the live pipeline chose.

    Args:
        served: reads the scores; nobody else uses it.
        partitions: of the events, by input.
    """

    def __init__(self, served: Served, partitions: Mapping[str, int]) -> None:
        self._served, self._partitions = served, partitions

    async def reach(self, found: Mapping[str, Sequence[Source]]) -> None:
        """Read what was shown of these requests, by input."""
        for name, sources in found.items():
            if sources and name in self._partitions:
                await self._served.reach(self._partitions[name], sources[-1].offset)

    def into(self, pipeline: Pipeline) -> Callable[[Event], Event]:
        """A function that puts the slate that was served into a request as a candidate reads it.

        Where none was, it is empty: nothing is learned of such a request.
        """
        form, length_max = pipeline.recommend, pipeline.limits.string_max
        if form is None:
            return lambda event: event
        place, count_max = pipeline.event.names.index(form.shown), form.candidates_max

        def put(event: Event) -> Event:
            if event.features[place] is not None:
                return event
            score = document_of(self._served.score_of(event.source) or b"") or {}
            try:
                text = shown_text(score.get("slate", []), length_max, count_max)
            except SlateError:  # another program wrote it
                text = shown_text([], 1, 1)
            return structs.replace(event, features=(*event.features[:place], text, *event.features[place + 1 :]))

        return put


class Watched:
    """Holds the candidates' scores against the served ones after each slice or batch."""

    def __init__(self, served: Served | None, candidates: Sequence[Candidate], live: Candidate | None) -> None:
        self._served = served
        self._candidates = candidates
        self._live = live
        self.against = {id(candidate): Against() for candidate in candidates}
        if served is not None:
            for candidate in candidates:
                candidate.scores = []

    async def settle(self) -> None:
        """Compare what came since the last call."""
        served = self._served
        if served is None:
            return
        reached: dict[int, int] = {}
        for candidate in self._candidates:
            scores, candidate.scores = candidate.scores or [], []
            if not scores:
                continue
            last = {score.source.partition: score.source.offset for score in scores}
            for partition, offset in last.items():
                await served.reach(partition, offset)
                reached[partition] = max(reached.get(partition, 0), offset + 1)
            for score in scores:
                exact = candidate is self._live
                served.compare(score, self.against[id(candidate)], exact=exact)
        if reached:
            served.forget(reached)
