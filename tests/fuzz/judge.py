"""What must hold of a shard, whatever it is fed. Asserted after every single input.

* Decoding and folding raise nothing.
* Every input is accounted for: an event makes a score or is rejected, a label makes an outcome, is held or is rejected,
  a command is obeyed or rejected; a rejected one has a reason of the closed list, and is counted under it.
* The watermark never goes back. No collection grows beyond its bound.
* What the shard counted is what it put out; every scored event waits, or its wait ended once.
* Output ids never repeat. Every output fits its topic (`limits.output_bytes_max` and what `driftline topics check`
  allows for keys and headers), has a timestamp that Kafka takes, and fits its schema.
* A second shard, fed the same and pickled at any moment, puts out the same bytes, and is one that a worker without a
  key puts to work.
"""

from __future__ import annotations

import time
from collections import Counter

from driftline.codec.decode import REASONS
from driftline.codec.encode import Encoder, Message
from driftline.codec.inputs import Inputs
from driftline.core.output import Outcome, Output, Rejected, Score
from driftline.core.pipeline import Pipeline
from driftline.core.record import Control, Event, InputRecord, Label, Malformed, Passed, Source, Tick
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import dump, load
from driftline.core.timestamp import TIME_MAX_MS
from driftline.engine.trial import check_works
from driftline.kafka.topic_rule import OVERHEAD_BYTES
from tests.support.folding import step
from tests.support.published import digest
from tests.support.schema import check, document_of

BATCH_BYTES = 61 + 10  # what Kafka adds to a batch, and to a record
HEADER_BYTES = 6  # the two lengths of a header, at most
SCHEMA_EVERY = 100


class Judge:
    """Feeds a shard, and its twin, and looks after each input.

    Args:
        every_schema: hold each output against its schema; otherwise each new form of one, and some of the others.

    Attributes:
        reasons: inputs by what became of them.
        slowest_s: the longest that one input took, in CPU time, and which.
    """

    def __init__(self, pipeline: Pipeline, *, every_schema: bool = True) -> None:
        self.pipeline = pipeline
        self.shard, self.twin = Shard(pipeline, 0), Shard(pipeline, 0)
        self.reasons: Counter[str] = Counter()
        self.slowest_s: tuple[float, object] = (0.0, None)
        self._inputs = Inputs(pipeline)
        self._encode = Encoder(pipeline, 0).encode
        self._bound = pipeline.limits.output_bytes_max + OVERHEAD_BYTES
        self._every_schema = every_schema
        self._slates = pipeline.recommend is not None
        self._forms: set[object] = set()
        self._outputs = 0
        self._counts: Counter[str] = Counter()
        self._ended = 0
        self._last_ids: set[str] = set()

    def feed(self, given: Source | Tick) -> list[Output]:
        """One input through everything."""
        watermark_ms = self.shard.watermark_ms
        begun_s = time.thread_time()
        record = given if isinstance(given, Tick) else self._inputs.decoders[self._inputs.rank[given.topic]](given)
        made = step(self.shard, record)
        messages = [self._encode(output) for output in made]
        took_s = time.thread_time() - begun_s
        if took_s > self.slowest_s[0]:
            self.slowest_s = (took_s, given)
        by_twin = [self._encode(output) for output in step(self.twin, record)]
        assert digest(messages) == digest(by_twin), "the twin says something else"
        assert messages == by_twin
        self._look_at_state(watermark_ms)
        self._look_at_outputs(made, messages)
        if not isinstance(record, Tick):
            self._account(record, made)
        return made

    def pickle_twin(self, *, tried: bool = False) -> None:
        """Put another in the twin's place, made of its bytes; and try that as a worker without a key does."""
        self.twin = load(self.pipeline, 0, dump(self.twin))
        if tried and self.twin.now_ms <= TIME_MAX_MS:  # a worker lets no record move time further
            check_works(self.twin)

    def _account(self, record: InputRecord, made: list[Output]) -> None:
        """Each input has one fate."""
        own = [one for one in made if isinstance(one, Score | Rejected) and one.source == record.source]
        rejected = [one for one in own if isinstance(one, Rejected)]
        match record:
            case Malformed():
                assert [one.reason for one in rejected] == [record.reason]
                assert len(own) == 1
            case Event():
                seen = self.pipeline.forecast is not None and any(isinstance(one, Outcome) for one in made)
                assert len(own) == 1 or (seen and not own), "an event is scored or rejected, once"
            case Label():
                about = [one for one in made if isinstance(one, Outcome) and one.event_id == record.event_id]
                waits = record.event_id in self.shard.early or self._slates  # rewards wait for the end of their event's
                assert rejected or about or waits, "a label is lost"
                assert len(rejected) <= 1
            case Control():
                assert len(own) == len(rejected) <= 1
            case Passed():
                assert not own
        for one in rejected:
            assert one.reason in REASONS
            self.reasons[f"rejected {one.reason}"] += 1
        if not rejected:
            self.reasons[f"accepted {type(record).__name__.lower()}"] += 1

    def _look_at_state(self, watermark_ms: int | None) -> None:
        shard, label = self.shard, self.pipeline.label
        assert watermark_ms is None or (shard.watermark_ms is not None and shard.watermark_ms >= watermark_ms)
        if label is not None:
            assert len(shard.pending) <= label.pending_max
            assert len(shard.early) <= label.early_max
        assert shard.pending.remembered_count <= self.pipeline.dedupe.id_max
        assert len(shard.classes) <= self.pipeline.limits.classes_max

    def _look_at_outputs(self, made: list[Output], messages: list[Message]) -> None:
        ids = {one.output_id for one in made}
        assert len(ids) == len(made)
        assert not ids & self._last_ids
        self._last_ids = ids
        for output, message in zip(made, messages, strict=True):
            match output:
                case Score():
                    self._counts["scored"] += 1
                case Outcome():
                    self._counts[output.kind] += 1
                    self._ended += output.prediction is not None
                case Rejected():
                    self._counts[f"rejected_{output.reason}"] += 1
            self._fits(message)
        counts = self.shard.counts
        assert all(counts.get(name, 0) == count for name, count in self._counts.items()), (counts, self._counts)
        if self.pipeline.label is not None:
            assert self._counts["scored"] == self._ended + len(self.shard.pending), "an event is lost, or ended twice"

    def _fits(self, message: Message) -> None:
        headers = sum(len(name.encode()) + len(value or b"") + HEADER_BYTES for name, value in message.headers)
        size = BATCH_BYTES + len(message.key or b"") + len(message.value or b"") + headers
        assert size <= self._bound, f"{size} bytes of {message.kind} are more than {self._bound}"
        assert message.timestamp_ms is not None
        assert 0 <= message.timestamp_ms < 2**63
        self._outputs += 1
        document = document_of(message)
        form = (message.kind, tuple((name, type(value)) for name, value in sorted(document.items())))
        if self._every_schema or form not in self._forms or self._outputs % SCHEMA_EVERY == 0:
            if len(self._forms) < 10_000:
                self._forms.add(form)
            check(message)
