"""Recomputes one served score: by which model, from which features, and with River's explanation.

The state is recovered to the slice that scored the event, as recovery does it (digests and all), and a copy of it is
folded record by record up to the event itself: the copy's model is the one that served it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import msgspec
import orjson
from msgspec import Struct

from driftline.backtest.contribution import Weight, weights_of
from driftline.codec.encode import Encoder
from driftline.codec.inputs import Lanes
from driftline.codec.journal import Entry, SliceEntry
from driftline.codec.keyring import KeyRing
from driftline.codec.manifest import Manifest
from driftline.core.error import InputFileError, InputLostError
from driftline.core.fold.future import Judge
from driftline.core.fold.merge import Merge
from driftline.core.fold.step import step
from driftline.core.model.learner import Learner
from driftline.core.oracle import Oracle
from driftline.core.output import Score, Trip, Unserved
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout, input_place
from driftline.core.recommend.recommender import Recommender
from driftline.core.record import Event, InputRecord, Source
from driftline.core.river.ahead import Direct
from driftline.core.river.seasonal import SeasonalRegression
from driftline.core.shard.state import Shard
from driftline.core.state.freeze import Frozen, dump, load
from driftline.engine.fold import marks_of
from driftline.engine.published import Cause, cause_of, document_of
from driftline.engine.recovered import Recovered
from driftline.engine.recovery import Recovery
from driftline.transport.port import Broker, Place, Reader

READ_RECORDS_MAX = 2_000
HELD = "held"
TEXT_MAX = 8_000


class Explanation(Struct, frozen=True):
    """One event.

    Args:
        place: topic, partition and offset of the event.
        times: how many events with this id were scored, of which this is the last: it was seen again when its id was
            forgotten (`dedupe`).
        served: the score as it stands in the scores topic.
        derived: the score as it was derived again; None where it could not be.
        same: whether both are the same bytes.
        made_by: what made the served one and is another here, where both differ and that may be why; else empty.
        began: where the derivation began.
        version: of the model that served it: generation and learn calls.
        features: as the model saw them.
        weights: for linear models, the largest part first; and the rest, the intercept. For other models on the words
            of a text, by how much each word moved the log odds; the intercept is then None.
        river: River's own explanation, where the model has one.
        labelled: events of its pipeline wait for a label.
        outcome: how the wait for its label ended, as it stands in the outcomes topic; None while it waits, or where
            it has been deleted.
        outcomes_deleted: earlier outcomes of its shard have been deleted.
        alerts: of its shard, open when it was scored.
        review: of a prediction that was held, the latest record of the review topic: what a person decided, or that it
            still waits; None where it was not held, or the record has been deleted.
        reviewed_ms: when that was written.
        tripped: rungs of the guard that the prediction did not pass.
        unserved: what the model predicted, where something else was served.
        items: of a request, each candidate in the policy's order: what the model expected, the bonus for exploring it,
            its popularity and its propensity.
    """

    place: tuple[str, int, int]
    times: int
    served: dict[str, Any]
    derived: dict[str, Any]
    same: bool
    made_by: str
    began: str
    version: str
    features: dict[str, Any]
    weights: list[Weight]
    intercept: float | None
    river: str | None
    labelled: bool
    outcome: dict[str, Any] | None
    alerts: list[dict[str, Any]]
    tripped: tuple[Trip, ...] = ()
    unserved: tuple[Unserved, ...] = ()
    items: list[dict[str, Any]] = []
    outcomes_deleted: bool = False
    review: dict[str, Any] | None = None
    reviewed_ms: int | None = None


class _Item(Struct):
    item: str | int | float


class _Forecast(Struct):
    values: list[float | None] = []
    instead: list[str | None] = []


class _Served(Struct):
    """What of a score is looked into: the topic may hold records of others."""

    event_id: str | int | float
    output_id: str
    slate: list[_Item] = []
    forecast: _Forecast | None = None


def _has_form(document: Mapping[str, Any]) -> bool:
    try:
        msgspec.convert(document, _Served)
    except msgspec.ValidationError:
        return False
    return True


class _Found(Exception):  # noqa: N818 - it is not an error: it carries what was looked for
    def __init__(self, shard: Shard, event: Event, score: Score) -> None:
        self.shard = shard
        self.event = event
        self.score = score
        super().__init__()


class _Derivation(Recovery):
    """A recovery that ends at one event."""

    def __init__(self, broker: Broker, pipeline: Pipeline, shard: int, ring: KeyRing, cause: Cause) -> None:
        super().__init__(broker, pipeline, shard, ring)
        self._cause = cause
        self._ranged: Mapping[str, list[Source]] = {}
        self.began = "the journal's beginning"

    async def _snapshots(self) -> list[tuple[Manifest, Frozen]]:
        found = await super()._snapshots()
        return [one for one in found if one[0].positions.get(self._cause.name, 0) <= self._cause.number]

    async def restore(self, manifest: Manifest, frozen: Frozen) -> Recovered:
        state = await super().restore(manifest, frozen)
        self.began = f"the snapshot after slice {manifest.slice_number}"
        return state

    async def _follow(self, state: Recovered, entry: Entry) -> None:
        if isinstance(entry, SliceEntry) and state.folder is not None:
            part = entry.inputs.get(self._cause.name)
            if part is not None and part.start <= self._cause.number < part.stop:
                shard = state.folder.shard
                before = load(shard.pipeline, shard.number, dump(shard))
                await super()._follow(state, entry)  # proves that the slice is what it was
                oracle = Oracle(entry.raised or {})
                raise _derived(before, self._ranged, entry.ahead or {}, self._cause, oracle)
        await super()._follow(state, entry)

    async def _range(self, folder: Any, entry: SliceEntry) -> Mapping[str, list[Source]]:
        self._ranged = await super()._range(folder, entry)
        return self._ranged

    async def find(self) -> _Found:
        """The state just before the event, and its score."""
        try:
            await self.run()
        except _Found as found:
            return found
        raise InputFileError("the journal has no slice with this event; perhaps its topic was recreated")


def _derived(
    shard: Shard,
    ranged: Mapping[str, list[Source]],
    ahead: Mapping[str, Sequence[int]],
    cause: Cause,
    oracle: Oracle,
) -> Exception:
    """Fold the slice's records up to the event."""
    inputs = Lanes(shard.pipeline, shard.number, ranged)
    place = input_place(cause.name, shard.number)
    judge = Judge(shard.pipeline.limits.time_ahead_max_ms)
    judge.begin(shard.watermark_ms, marks=marks_of(ahead, inputs.of))
    merge: Merge[Source] = Merge(inputs.decoders, judge, inputs.controls)
    for name, sources in ranged.items():
        merge.push(inputs.of[name], sources)
    while (popped := merge.pop([True] * len(inputs.names))) is not None:
        record: InputRecord = popped[1]
        at = record.source
        if isinstance(record, Event) and (at.topic, at.partition, at.offset) == (*place, cause.number):
            kept = load(shard.pipeline, shard.number, dump(shard))
            for made in step(kept, record, oracle).outputs:
                if isinstance(made, Score):
                    return _Found(shard, record, made)
            break
        step(shard, record, oracle)
    return InputFileError("the event was read but not scored: see the rejected topic for the reason")


async def explain(
    broker: Broker, pipeline: Pipeline, layout: Layout, partitions: Sequence[int], event_id: str, ring: KeyRing
) -> Explanation:
    """Derive one event's score again.

    Args:
        partitions: of the scores, to look for it in, the likeliest first.
        event_id: as text; a whole number is found by its digits too.

    Raises:
        InputFileError: there is no score of such an event.
    """
    wanted = orjson.dumps(event_id).decode()[1:-1]  # as it stands in a record: with its signs escaped
    for partition in partitions:
        scores = [
            (document, source.value or b"")
            async for document, source in _records(broker, pipeline.topics.scores, partition, wanted)
            if str(document.get("event_id")) == event_id
            and _has_form(document)
            and _cause(pipeline, layout, partition, document) is not None
        ]
        if scores:
            times = len({document["output_id"] for document, _ in scores})  # at least once may write one twice
            return await _explain(broker, pipeline, layout, partition, *scores[-1], times, ring)
    raise InputFileError(
        f"{pipeline.topics.scores} has no score of event {event_id!r}: it was never scored, was rejected, or its "
        "score is no "
        "longer retained"
    )


def _cause(pipeline: Pipeline, layout: Layout, partition: int, document: Mapping[str, Any]) -> Cause | None:
    """The event that a score in this partition is about; None if the record is not one of our scores."""
    shard, output_id = layout.shard_of(partition), str(document.get("output_id"))
    return cause_of(output_id, shard, layout.shards, [pipeline.topics.events])


async def _explain(
    broker: Broker,
    pipeline: Pipeline,
    layout: Layout,
    partition: int,
    document: dict[str, Any],
    served: bytes,
    times: int,
    ring: KeyRing,
) -> Explanation:
    if (cause := _cause(pipeline, layout, partition, document)) is None:
        raise InputFileError(
            f"{document.get('output_id')!r:.100} does not refer to an event of {pipeline.topics.events}"
        )
    shard = layout.shard_of(partition)
    derivation = _Derivation(broker, pipeline, shard, ring, cause)
    try:
        found = await derivation.find()
    except InputLostError as error:
        raise InputLostError(error.lost, "Its score can no longer be recomputed; choose a later event") from error
    learner = found.shard.learner
    model, features = _seen(found.shard, found.score)
    weights, intercept = ([], None) if model is None else weights_of(model, features)
    form = pipeline.recommend
    aside = () if form is None else (form.candidates, form.shown)  # they are among the items
    derived = Encoder(found.shard.pipeline, found.shard.number).encode(found.score).value or b"{}"
    source = found.event.source
    ending = f"{source.topic}-{source.partition}-{source.offset}-1"  # how an event's wait ended is named by the event
    outcome = None
    outcomes = layout.places([pipeline.topics.outcomes], shard)
    for place in outcomes:
        async for found_there, _ in _records(broker, *place, ending):
            if found_there.get("output_id") == ending:
                outcome = found_there
    review, reviewed_ms = await _review(broker, pipeline, layout, shard, document)
    return Explanation(
        place=(source.topic, source.partition, source.offset),
        times=times,
        served=document,
        derived=orjson.loads(derived),
        same=derived == served,
        made_by="" if derived == served else derivation.strayed,
        began=derivation.began,
        version=str(found.score.version),
        features={name: value for name, value in features.items() if name not in aside},
        weights=weights,
        intercept=intercept,
        river=None if model is None else debugged(model, features),
        labelled=pipeline.label is not None,
        outcome=outcome,
        alerts=await _open_alerts(broker, Place(pipeline.topics.alerts, shard), cause),
        tripped=found.score.tripped,
        unserved=found.score.unserved if not isinstance(learner.model, Recommender) else (),
        items=_items(learner, found.score),
        outcomes_deleted=any((await broker.beginnings(outcomes)).values()),
        review=review,
        reviewed_ms=reviewed_ms,
    )


async def _review(
    broker: Broker, pipeline: Pipeline, layout: Layout, shard: int, served: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, int | None]:
    """What became of a prediction that was held, and when: the last record about this event, at this time."""
    found, time_ms = None, None
    if pipeline.topics.review is None or served.get("guard") != HELD:
        return found, time_ms
    for place in layout.places([pipeline.topics.review], shard):
        async for review, source in _records(broker, *place, orjson.dumps(served.get("event_id")).decode()):
            if all(review.get(name) == served.get(name) for name in ("event_id", "event_time_ms")):
                found, time_ms = review, source.record_time_ms
    return found, time_ms


def _seen(shard: Shard, score: Score) -> tuple[Any, Mapping[str, Any]]:
    """The model that answered, and what it saw: of a forecast, that of the first horizon; None where a model keeps the
    series itself."""
    learner, forecasts = shard.learner, shard.forecasts
    if forecasts is None:
        return learner.model, learner.features_of(score.features)
    if isinstance(learner.model, Direct) and forecasts.latest is not None and score.forecast is not None:
        return learner.model.models[0], forecasts.latest.rows[0]
    asked = forecasts.latest
    if isinstance(learner.model, SeasonalRegression) and asked is not None and asked.matrix is not None:
        return learner.model.explained(0, forecasts.columns, asked.matrix[0])
    return None, dict(zip(shard.pipeline.event.names, score.features, strict=True))


def _items(learner: Learner, score: Score) -> list[dict[str, Any]]:
    """What the policy knew of each candidate of a request, in its order; nothing of other tasks."""
    if not isinstance(learner.model, Recommender):
        return []
    return learner.model.reasons((*score.features, score.event_id))


def debugged(model: Any, features: Mapping[str, Any]) -> str | None:
    """River's own explanation; None where it has none, or fails at it."""
    ask = getattr(model, "debug_one", None)
    if ask is None:
        return None
    try:
        text = ask(dict(features))
    except Exception:  # noqa: BLE001 - River's debugging may raise anything; the rest of the explanation stands
        return None
    return str(text)[:TEXT_MAX] if text else None


async def _opened(broker: Broker, place: Place) -> Reader:
    """A reader at the beginning of what is retained."""
    reader = broker.reader()
    await reader.open({place: (await broker.beginnings([place]))[place]})
    return reader


async def _records(
    broker: Broker, topic: str, partition: int, text: str
) -> AsyncGenerator[tuple[dict[str, Any], Source], None]:
    """Records of an output topic that have some text in them: as documents, and as they stand."""
    place = Place(topic, partition)
    reader = await _opened(broker, place)
    wanted = text.encode()
    try:
        while sources := await reader.read(place, READ_RECORDS_MAX):
            for source in sources:
                value = source.value
                document = document_of(value) if value is not None and wanted in value else None
                if document is not None:
                    yield document, source
    finally:
        await reader.close()


async def _open_alerts(broker: Broker, place: Place, cause: Cause) -> list[dict[str, Any]]:
    """Alerts that were open when an event was scored, by the positions that each carries."""
    reader = await _opened(broker, place)
    episodes: dict[str, dict[str, Any]] = {}
    try:
        while sources := await reader.read(place, READ_RECORDS_MAX):
            for source in sources:
                alert = document_of(source.value)
                positions = alert.get("positions") if alert is not None else None
                stands = positions.get(cause.name, 0) if isinstance(positions, dict) else None
                if alert is None or type(stands) is not int or stands > cause.number:
                    continue
                episodes[str(alert.get("episode"))] = alert
    finally:
        await reader.close()
    return [alert for alert in episodes.values() if alert.get("state") != "resolved"]
