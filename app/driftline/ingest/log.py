"""Two files of JSON lines as the two topics of a pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from pathlib import Path

from driftline.codec.decode import MISSING, find
from driftline.codec.inputs import Inputs
from driftline.codec.json import parse_json
from driftline.codec.wire import Wire
from driftline.core.error import InputFileError
from driftline.core.fold.future import FOLLOWERS, Judge, in_time
from driftline.core.fold.merge import Merge
from driftline.core.pipeline import Pipeline, parse_path
from driftline.core.record import InputRecord, Malformed, Passed, Source
from driftline.core.timestamp import parse_time
from driftline.ingest.history import BATCH_ROWS, as_it_is
from driftline.ingest.rows import Bad, open_bytes


@dataclass(frozen=True, slots=True)
class LogSource:
    """`--events` and `--labels`: one file a topic.

    Args:
        labels: None for a pipeline without labels.
        time, label_time: fields that hold the records' own times, for pipelines that name none.
    """

    events: Path
    labels: Path | None
    time: str | None = None
    label_time: str | None = None
    limit: int | None = None

    @property
    def names(self) -> list[str]:
        return [str(path) for path in (self.events, self.labels) if path is not None]

    def open(self, pipeline: Pipeline) -> LogHistory:
        return LogHistory(self, pipeline)


class LogHistory:
    """Two files of JSON lines as the two topics of a pipeline.

    Attributes:
        total, done: lines.
        disordered: lines, of events or of labels, earlier than one before them in their file.
    """

    unlabelled = 0
    counted = False
    start_ms = 0
    step_ms = 1

    def __init__(self, asked: LogSource, pipeline: Pipeline) -> None:
        self._asked = asked
        self._pipeline = pipeline
        self._inputs = Inputs(pipeline)
        self.judge = Judge(pipeline.limits.time_ahead_max_ms)
        self._merge: Merge[InputRecord] = Merge([as_it_is] * len(self._inputs.topics), self.judge)
        self.bad = Bad()
        self.done = 0
        self.disordered = 0
        label = pipeline.label
        if pipeline.event.time is None and asked.time is None:
            raise InputFileError(
                f"{asked.events}: JSON lines carry no record time, and {pipeline.name} has no event.time: name the "
                "field "
                "with --time FIELD, or set event.time in the pipeline file"
            )
        if label is not None and asked.labels is None:
            raise InputFileError(f"pipeline {pipeline.name} learns from labels: add --labels FILE")
        if label is not None and label.time is None and asked.label_time is None:
            raise InputFileError(
                f"{asked.labels}: JSON lines carry no record time, and {pipeline.name} has no label.time: "
                "name the field with --label-time FIELD, or set label.time in the pipeline file"
            )
        files = [asked.events] if label is None or asked.labels is None else [asked.labels, asked.events]
        self.total = sum(map(_count_lines, files))
        times = [asked.time] if len(files) == 1 else [asked.label_time, asked.time]
        self._lanes = [
            self._counted(self._lane(rank, path, time))
            for rank, (path, time) in enumerate(zip(files, times, strict=True), 1)
        ]

    @property
    def ahead(self) -> int:
        return sum(map(len, self.judge.found.values()))

    @property
    def ahead_rows(self) -> list[str]:
        return self.judge.named

    def batches(self) -> Iterator[list[InputRecord]]:
        """The records, merged, some hundreds at a time."""
        merge = self._merge
        at_end = [True, *(False for _ in self._lanes)]
        taken: list[InputRecord] = []
        while True:
            popped = merge.pop(at_end)
            if popped is not None:
                taken.append(popped[1])
                if len(taken) >= BATCH_ROWS:
                    yield taken
                    taken = []
                continue
            if all(at_end):
                yield taken
                return
            for rank, lane in enumerate(self._lanes, 1):
                if merge.waiting(rank) <= FOLLOWERS and not at_end[rank]:
                    more = list(islice(lane, BATCH_ROWS))
                    merge.push(rank, more)
                    at_end[rank] = not more

    def _counted(self, lane: Iterator[InputRecord]) -> Iterator[InputRecord]:
        """The records of a file; those earlier than one before them are counted."""
        latest_ms = -1
        for record, time_ms, is_ahead in in_time(lane, attrgetter("order_ms"), self._pipeline.limits.time_ahead_max_ms):
            if not is_ahead and time_ms >= latest_ms:
                latest_ms = time_ms
            # One that is rejected may have no time.
            elif is_ahead or isinstance(record, Passed):
                pass
            elif record.source.record_time_ms >= 0 or not isinstance(record, Malformed):
                self.disordered += 1
            yield record

    def _lane(self, rank: int, path: Path, time: str | None) -> Iterator[InputRecord]:
        keys = parse_path(time) if time is not None else None
        topic, is_event = self._inputs.topics[rank], rank == len(self._inputs.topics) - 1
        label = self._pipeline.label
        wire = Wire(self._pipeline.event if is_event or label is None else label)
        offset = 0
        with open_bytes(path) as file:
            for line, text in enumerate(file, 1):
                if is_event and self._asked.limit is not None and offset >= self._asked.limit:
                    return
                value = text.removeprefix(b"\xef\xbb\xbf").strip()
                self.done += 1
                if not value:
                    continue
                time_ms = -1
                if keys is not None:
                    try:
                        found = find(parse_json(value), keys)
                        if found is MISSING:
                            raise ValueError("there is no such field")
                        time_ms = parse_time(found)
                    except ValueError as error:
                        self.bad.add(line, f"{path.name}: no time in {time!r} ({error})")
                        continue
                try:
                    key, value, headers = wire.read(value)
                except ValueError as error:
                    self.bad.add(line, f"{path.name}: {error}")
                    continue
                yield self._inputs.decoders[rank](Source(topic, 0, offset, time_ms, key, value, headers))
                offset += 1


def _count_lines(path: Path) -> int:
    with open_bytes(path) as file:
        return sum(1 for _ in file)
