"""Trains a model on historical data: a worker's fold over a file, of which only the model is kept.

Events and labels take the way that they take live, so what comes out is the model that a worker would have after these
records: scored before learned, labels at their delay, reactions to drift included.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import UNSET

from driftline.backtest.candidate import Candidate, Result
from driftline.backtest.divergence import Reach
from driftline.backtest.run import REPORT_EVERY, HistorySource, Stop
from driftline.codec.keyring import KeyRing
from driftline.codec.parts import encode_model
from driftline.core.error import InputFileError
from driftline.core.fault import ModelRaisedError
from driftline.core.fingerprint import arithmetic_fingerprint, versions
from driftline.core.model.learner import Learner
from driftline.core.oracle import Oracle
from driftline.core.output import Prediction
from driftline.core.pipeline import Pipeline
from driftline.core.record import Event
from driftline.core.river.ahead import Given
from driftline.core.shard.state import Shard
from driftline.core.shard.upload import SIZE_MAX
from driftline.core.state.freeze import dump_model
from driftline.core.state.model_file import FORMAT, KIND, Trained, model_of, parse
from driftline.ingest.history import TableSource
from driftline.ingest.rows import Bad

_NOTHING = Prediction()
TRIED = 100  # of the last events: what the file gives for them is compared with what was kept


@dataclass(frozen=True, slots=True)
class Training:
    """A model file and how it came about.

    Args:
        content: of the file.
        rows, bad, bad_lines: read; of them unusable, and the first of those.
        rejected: events and labels that could be read, and were of no use to this pipeline.
        unlabelled: events without a label in the history.
    """

    content: bytes
    manifest: Trained
    result: Result
    rows: int
    bad: int
    bad_lines: tuple[str, ...]
    rejected: int
    unlabelled: int


def train(
    pipeline: Pipeline, source: HistorySource, ring: KeyRing, moved: Callable[[int, int], None]
) -> Training | None:
    """Fold a history, and make a model file of the model.

    Args:
        ring: keys of the deployment, of which the first signs.
        moved: called with rows done and to be done.

    Returns:
        None after Ctrl-C.

    Raises:
        InputFileError: the history cannot be read, nothing was learned, or the model cannot be used.
    """
    history = source.open(pipeline)
    candidate = Candidate(pipeline.name, pipeline)
    candidate.scores = []
    last: deque[Given] = deque(maxlen=TRIED)
    first_ms = last_ms = None
    reach = Reach(pipeline)
    with Stop() as stop:
        for number, batch in enumerate(history.batches()):
            candidate.fold(batch)
            if candidate.failed:
                break
            for record in batch:
                reach.read(candidate.shard, record)
                if isinstance(record, Event):
                    first_ms = record.time_ms if first_ms is None else min(first_ms, record.time_ms)
                    last_ms = record.time_ms if last_ms is None else max(last_ms, record.time_ms)
            last.extend(score.features for score in candidate.scores[-TRIED:])
            for score in candidate.scores:
                reach.scored(score)
            candidate.scores.clear()
            if number % REPORT_EVERY == 0:
                moved(history.done, history.total)
                if stop.asked:
                    return None
        moved(history.done, history.total)
    shard = candidate.shard
    result = candidate.finish()
    learned = result.counts.get("learned", 0)
    _check_result(result, learned, history.bad, source)
    content = encode_model(
        Trained(
            kind=KIND,
            format=FORMAT,
            pipeline=pipeline.resolved(),
            versions=versions(),
            arithmetic=arithmetic_fingerprint(),
            learned=learned,
            scored=result.counts.get("scored", 0),
            first_ms=first_ms,
            last_ms=last_ms,
            metrics={name: value for name, value in result.metrics.items() if name != "label_count"},
            size_bytes=0,
            sha256="",
            diverged=reach.diverged or UNSET,
        ),
        dump_model(shard.learner.model),
        ring,
    )
    if len(content) > SIZE_MAX:
        raise InputFileError(
            f"the model has {len(content):,} bytes, but the limit for loading is {SIZE_MAX:,} (64 MiB); use a "
            "smaller one"
        )
    if shard.forecasts is not None:  # the model sees more than an event's features
        last = deque([shard.forecasts.latest] if shard.forecasts.latest is not None else [])
    manifest = _proved(shard, content, last)
    rejected = sum(count for what, count in result.counts.items() if what.startswith("rejected_"))
    unlabelled = history.unlabelled if isinstance(source, TableSource) else _unanswered(result)
    bad = history.bad
    return Training(content, manifest, result, history.done, bad.count, tuple(bad.lines), rejected, unlabelled)


def _unanswered(result: Result) -> int:
    """Events whose label came neither within the wait nor later."""
    return max(0, result.pending + result.counts.get("expired", 0) - result.counts.get("late", 0))


def _check_result(result: Result, learned: int, bad: Bad, source: HistorySource) -> None:
    if result.failure is not None:
        raise InputFileError(result.failure)
    if not result.records:
        raise InputFileError(f"no records in {' and '.join(source.names)}{bad.first}")
    if not learned:
        counts = result.counts
        raise InputFileError(
            f"nothing was learned: {counts.get('scored', 0):,} events, {counts.get('joined', 0):,} of them with a "
            f"label, {counts.get('failed', 0):,} labels for which the model raised. Check the ids, "
            "--label and label.wait."
            + (f" {bad.count:,} rows were skipped, the first: {bad.lines[0]}" if bad.count else "")
        )


def _proved(shard: Shard, content: bytes, last: deque[Given]) -> Trained:
    """Read the file as a shard would, and compare what it says of the last events.

    Raises:
        InputFileError: it says something else, or nothing usable.
    """
    manifest, frozen = parse(content)
    kept, again = shard.learner, Learner(shard.pipeline)
    again.load(model_of(shard.pipeline, frozen), frozen, manifest.learned)
    for values in last:
        first, repeated = _answer(kept, values), _answer(again, values)
        if first == _NOTHING:
            raise InputFileError(
                "after training, the model's predictions are not finite; scale its features, or lower its learning rate"
            )
        if first != repeated:
            raise InputFileError(
                "the model's predictions change after saving and restoring it, so it cannot be loaded; "
                "`driftline check` names the step"
            )
    return manifest


def _answer(learner: Learner, values: Given) -> Prediction | str:
    """What a model says, or raises: an event at which it always raises is rejected live as well."""
    try:
        made, _, _ = learner.score(values, "proof", Oracle())
    except ModelRaisedError as error:
        return str(error)
    return made or _NOTHING
