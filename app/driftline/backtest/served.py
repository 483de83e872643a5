"""Scores compared with the served ones, event by event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from driftline.backtest.candidate import Candidate
from driftline.codec.encode import Encoder
from driftline.core.output import Score
from driftline.core.pipeline import Pipeline
from driftline.engine.published import document_of, offset_of, output_id_of
from driftline.transport.port import Reader

READ_RECORDS_MAX = 2_000
DIFFERENCES_KEPT_MAX = 1_000


@dataclass
class Against:
    """What a candidate said, held against what was served.

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
    """The scores topic of a partition, read along with what a candidate says, event by event.

    Args:
        cut: the topic has lost its beginning.
    """

    def __init__(self, reader: Reader, pipeline: Pipeline, *, cut: bool) -> None:
        self._reader = reader
        self._topic = pipeline.topics.scores
        self._encode = Encoder(pipeline, 0).encode  # of its values only
        self._ahead: dict[int, bytes] = {}  # by the event's offset
        self._cut = cut
        self._first: int | None = None  # offset of the first event that has a score there
        self._until = -1
        self._ended = False

    async def reach(self, offset: int) -> None:
        """Read until the score of this event's offset is known, if there is one."""
        while self._until < offset and not self._ended:
            sources = await self._reader.read(self._topic, READ_RECORDS_MAX)
            self._ended = not sources
            for source in sources:
                place = offset_of((output_id_of(source) or "").rpartition("-")[0].rpartition("-")[2])
                if place is None:  # another program wrote it
                    continue
                if self._first is None:
                    self._first = place
                self._ahead[place] = source.value or b""
                self._until = max(self._until, place)

    def compare(self, score: Score, found: Against, *, exact: bool) -> None:
        """Compare one score: byte by byte for the live pipeline, else what it says."""
        offset = score.source.offset
        served = self._ahead.get(offset)
        if served is None:
            if self._cut and (self._first is None or offset < self._first):
                found.removed += 1
            else:
                found.missing += 1
            return
        found.compared += 1
        said = self._encode(score).value or b""
        if said == served:
            return
        one, other = document_of(served) or {}, document_of(said) or {}
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

    def forget(self, offset: int) -> None:
        """No candidate will ask for an event before this offset any more."""
        self._ahead = {place: value for place, value in self._ahead.items() if place >= offset}


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
        least = -1
        for candidate in self._candidates:
            scores, candidate.scores = candidate.scores or [], []
            if not scores:
                continue
            last = scores[-1].source.offset
            await served.reach(last)
            for score in scores:
                exact = candidate is self._live
                served.compare(score, self.against[id(candidate)], exact=exact)
            least = max(least, last)
        if least >= 0:
            served.forget(least + 1)
