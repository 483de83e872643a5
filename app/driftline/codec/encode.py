"""Outputs to the bytes that are published, and the digest over them.

Values are JSON objects whose form is written down in `schemas/`. What is made here always fits: a value beyond
`limits.output_bytes_max` is replaced, by the same rule every time, with a stub that keeps its id and says why. A key
beyond `KEY_BYTES_MAX` is left out.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, assert_never

import orjson
from msgspec import UNSET, structs

from driftline.codec.value import (
    NOTHING,
    OutcomeValue,
    ReviewValue,
    ScoreValue,
    ServedValue,
    Stands,
    budget_of,
    explored,
    features_of,
    forecast_of,
    form_of,
    judged_of,
    priced_of,
    second_of,
    shown,
    slate_of,
    to_json,
    trips_of,
    unserved_of,
    written,
)
from driftline.codec.write import Write
from driftline.core.output import Alert, Decided, Outcome, Output, Prediction, Rejected, Review, Score
from driftline.core.pipeline import Pipeline
from driftline.core.place import OWN, output_partition
from driftline.core.record import Headers
from driftline.core.slate import read_feedback, read_reward
from driftline.core.task import task_of

KEY_BYTES_MAX = 4096
_HEADER_TEXT_MAX = 500
_STUB_ID_MAX = 1_000  # characters; limits.string_max may allow more than a record holds
_HEADER_FRAME_BYTES = 10  # the two lengths of a header, at most

_frame = struct.Struct(">BqiII").pack
_header_frame = struct.Struct(">Ii").pack


class Message(Write, frozen=True, gc=False):
    """One record to publish.

    Args:
        kind: which of the pipeline's topics it is for: scores, outcomes, alerts or rejected.
    """

    kind: str = ""


RANK = {"scores": 1, "outcomes": 2, "alerts": 3, "rejected": 4, "review": 5}


class Terms(NamedTuple):
    """What the compiled writer is to know of a pipeline and its topics.

    Args:
        features: makes what is written as an event's features of its values.
        score_places, outcome_places: partitions of the topics, by that of an input.
        value_max: bytes.
    """

    pipeline: str
    scores: str
    outcomes: str
    score_places: dict[int, int]
    outcome_places: dict[int, int]
    features: Callable[..., Any]
    value_max: int


class Encoder:
    """Encodes what the core makes of one shard of a pipeline.

    What is about a record goes to the partition that corresponds to the record's, and alerts to the one that has the
    shard's number: so the messages of an episode stay in order.

    Args:
        counts: partitions of the output topics; without, all goes to the partition that has the shard's number.
    """

    def __init__(self, pipeline: Pipeline, number: int, counts: Mapping[str, int] | None = None) -> None:
        topics = pipeline.topics
        self._scores, self._outcomes, self._alerts, self._rejects = (
            topics.scores,
            topics.outcomes,
            topics.alerts,
            topics.rejected,
        )
        self._reviews = topics.review or ""
        self._number, self._shards, self._counts = number, pipeline.shards or 1, counts or {}
        self._score_places, self._outcome_places, self._reject_places, self._review_places = (
            _Places(self._number, self._shards, self._counts.get(topic, 1) if self._counts else 0)
            for topic in (self._scores, self._outcomes, self._rejects, self._reviews)
        )
        self._features = features_of(pipeline)
        self._slates = task_of(pipeline.task).slates
        self._shown: Callable[[Prediction], Stands] = shown if not self._slates else lambda _: NOTHING
        self._by = pipeline.forecast.by if pipeline.forecast is not None else ()
        self._pipeline = pipeline.name
        self._budgeted = pipeline.decision is not None and pipeline.decision.budget is not None
        self._value_max = pipeline.limits.output_bytes_max
        self._forms: dict[type, Callable[[Any], Message]] = {
            Score: self._score,
            Decided: self._decided,
            Review: self._review,
            Outcome: self._outcome,
            Alert: self._alert,
            Rejected: self._rejected,
        }

        self.encode_all: Callable[[Sequence[Output]], list[Message]] = self.plainly
        form = form_of(pipeline)
        if writer is not None and form is not None and not (self._slates or self._budgeted):
            places = self._score_places, self._outcome_places
            terms = Terms(self._pipeline, self._scores, self._outcomes, *places, form, self._value_max)
            self.encode_all = writer(terms, self.encode).encode_all

    def plainly(self, outputs: Iterable[Output]) -> list[Message]:
        """Outputs as they are published, in order."""
        return [self.encode(output) for output in outputs]

    def encode(self, output: Output) -> Message:
        """One output as it is published."""
        message = self._forms[type(output)](output)
        value = message.value
        if value is not None and len(value) > self._value_max:
            return self._stub(output, message, len(value))
        return message

    def _score(self, score: Score) -> Message:
        source, version, decision = score.source, score.version, score.decision
        predicted, probability, probabilities = self._shown(score.prediction)
        value = ScoreValue(
            score.output_id,
            self._pipeline,
            score.event_id,
            score.time_ms,
            score.guard,
            f"{version.generation}.{version.learned}",
            score.learned,
            predicted,
            probability,
            probabilities,
            UNSET if decision is None else decision,
        )
        if self._slates:
            value.prediction = written(score.prediction.value)
            value.slate, value.explored = slate_of(score.prediction), explored(score.prediction)
        if score.tripped:
            value.tripped = trips_of(score.tripped)
            value.instead = score.instead or UNSET
        if score.forecast is not None:
            value.forecast = forecast_of(score.forecast, self._by)
        if score.budget is not None:
            value.budget = budget_of(score.budget)
        time_ms, key = source.record_time_ms, source.key
        if key is not None and len(key) > KEY_BYTES_MAX:
            key = None
        partition = self._score_places[source.partition]
        return Message(self._scores, partition, key, to_json(value), time_ms if time_ms > 0 else 0, (), "scores")

    def _decided(self, decided: Decided) -> Message:
        version, decision = decided.version, decided.decision
        predicted, probability, probabilities = shown(decided.prediction)
        value = ScoreValue(
            decided.output_id,
            self._pipeline,
            decided.event_id,
            decided.time_ms,
            decided.guard,
            f"{version.generation}.{version.learned}",
            decided.learned,
            predicted,
            probability,
            probabilities,
            UNSET if decision is None else decision,
        )
        value.tripped, value.instead = trips_of(decided.tripped), decided.instead or UNSET
        if decided.forecast is not None:
            value.forecast = forecast_of(decided.forecast, self._by)
        if decided.budget is not None:
            value.budget = budget_of(decided.budget)
        partition = self._score_places[decided.partition]
        return Message(self._scores, partition, _key(decided.key), to_json(value), decided.stamp_ms, kind="scores")

    def _review(self, review: Review) -> Message:
        held, version, served = review.held, review.held.version, review.served
        value = ReviewValue(
            review.output_id,
            self._pipeline,
            review.state,
            review.event_id,
            held.time_ms,
            f"{version.generation}.{version.learned}",
            held.learned,
            *shown(held.made),
            trips_of(held.tripped),
            self._features(held.features),
            held.deadline_ms,
            ServedValue(*shown(held.then), held.instead or UNSET),
            UNSET if held.last is None else written(held.last),
            UNSET if served is None else ServedValue(*shown(served)),
            review.by or UNSET,
            review.why or UNSET,
        )
        if held.ahead is not None and held.then_ahead is not None:
            value.forecast = forecast_of(held.ahead, self._by)
            value.at_deadline.forecast = forecast_of(held.then_ahead, self._by)
            if review.forecast is not None:
                value.served.forecast = forecast_of(review.forecast, self._by)
        partition = self._review_places[held.partition]
        return Message(self._reviews, partition, _key(held.key), to_json(value), review.stamp_ms, kind="review")

    def _outcome(self, outcome: Outcome) -> Message:
        prediction, features, version = outcome.prediction, outcome.features, outcome.version
        label, previous, detail = outcome.label, outcome.previous_label, outcome.detail
        label_time_ms, event_time_ms = outcome.label_time_ms, outcome.event_time_ms
        predicted, probability, probabilities = NOTHING if prediction is None else self._shown(prediction)
        value = OutcomeValue(
            outcome.output_id,
            self._pipeline,
            outcome.kind,
            outcome.event_id,
            UNSET if detail is None else detail[:_HEADER_TEXT_MAX],
            UNSET if version is None else event_time_ms,
            UNSET if features is None else self._features(features),
            predicted,
            probability,
            probabilities,
            UNSET if version is None else f"{version.generation}.{version.learned}",
            UNSET if label is None else label if type(label) is not float else written(label),
            UNSET if previous is None else written(previous),
        )
        if label_time_ms is not None:
            value.label_time_ms = label_time_ms
            if event_time_ms is not None:
                value.label_delay_ms = label_time_ms - event_time_ms
        if self._slates:
            _put_slate(value, outcome)
        elif outcome.unserved:
            value.unserved, value.second_model = unserved_of(outcome.unserved), second_of(outcome.unserved)
        if outcome.judged is not None:
            value.forecast = judged_of(outcome.judged, self._by)
        if outcome.priced:
            value.kpi = priced_of(outcome.priced)
        if self._budgeted and prediction is not None and isinstance(prediction.label, bool):
            value.decision = prediction.label
        key, stamp_ms = outcome.key, outcome.stamp_ms
        if key is not None and len(key) > KEY_BYTES_MAX:
            key = None
        partition = self._outcome_places[outcome.partition]
        return Message(self._outcomes, partition, key, to_json(value), stamp_ms, (), "outcomes")

    def _alert(self, alert: Alert) -> Message:
        value = {
            "output_id": alert.output_id,
            "pipeline": self._pipeline,
            "episode": alert.episode,
            "state": alert.state,
            "kind": alert.kind,
            "severity": alert.severity,
            "audience": list(alert.audience),
            "sentence": alert.sentence,
            "time_ms": alert.time_ms,
            "update": alert.update,
            "opened_ms": alert.opened_ms,
            "runbook": alert.runbook,
            "acknowledged": alert.acknowledged,
            "silenced": alert.silenced,
            "announced": alert.announced,
            "flapping": alert.flapping,
            "evidence": alert.evidence,
            "positions": alert.positions,
            "opened_at": alert.opened_at,
        }
        if alert.acknowledged_by:
            value["acknowledged_by"] = alert.acknowledged_by
        key, content = alert.episode.encode(), orjson.dumps(value)
        return Message(self._alerts, self._number, key, content, alert.stamp_ms, kind="alerts")

    def _rejected(self, rejected: Rejected) -> Message:
        source = rejected.source
        headers: Headers = (
            *source.headers,
            ("driftline.output_id", rejected.output_id.encode()),
            ("driftline.reason", rejected.reason.encode()),
            ("driftline.detail", _text(rejected.detail)),
            ("driftline.topic", source.topic.encode()),
            ("driftline.partition", b"%d" % source.partition),
            ("driftline.offset", b"%d" % source.offset),
        )
        value = source.value
        taken = sum(len(name.encode()) + len(text or b"") + _HEADER_FRAME_BYTES for name, text in source.headers)
        if taken + len(value or b"") > self._value_max:
            if taken > self._value_max // 2:  # the value says more of what was wrong than such headers
                headers, taken = headers[len(source.headers) :], 0
            headers = (*headers, ("driftline.truncated_bytes", b"%d" % len(value or b"")))
            value = value and value[: self._value_max - taken]
        key, time_ms = _key(source.key), max(source.record_time_ms, 0)
        partition = self._reject_places[source.partition]
        return Message(self._rejects, partition, key, value, time_ms, headers, kind="rejected")

    def _stub(self, output: Output, message: Message, size: int) -> Message:
        """What stands for a value that is too large: who it was, and why it is not here."""
        match output:
            case Score() | Decided() | Review() | Outcome():
                name = output.event_id
                who: dict[str, Any] = {"event_id": name[:_STUB_ID_MAX] if isinstance(name, str) else name}
            case Alert():
                who = {"episode": output.episode}
            case Rejected():
                who = {}
            case _:
                assert_never(output)
        value = {
            "output_id": output.output_id,
            "pipeline": self._pipeline,
            **who,
            "stub": f"{size} bytes exceed limits.output_bytes_max",
        }
        return structs.replace(message, value=orjson.dumps(value))


class _Places(dict[int, int]):
    """Partitions of an output topic, by that of an input which something is about.

    Args:
        number: of the shard, out of `shards`.
        count: of the topic's partitions; 0 where all goes to the one that has the shard's number.
    """

    def __init__(self, number: int, shards: int, count: int) -> None:
        super().__init__({OWN: number})
        self._number, self._shards, self._count = number, shards, count

    def __missing__(self, partition: int) -> int:
        number = self._number
        self[partition] = found = (
            output_partition(partition, number, self._shards, self._count) if self._count else number
        )
        return found


def _put_slate(value: OutcomeValue, outcome: Outcome) -> None:
    """What became of a request, or of a reward that found none."""
    value.label = value.previous_label = UNSET
    prediction, label = outcome.prediction, outcome.label
    if prediction is None:
        if isinstance(label, str):
            item, reward = read_reward(label)
            value.rewards = {item: reward}
        return
    value.prediction = written(prediction.value)
    value.slate, value.explored = slate_of(prediction), explored(prediction)
    if isinstance(label, str):
        feedback = read_feedback(label)
        value.rewards, value.estimates, value.policies = feedback.rewards, feedback.estimates, feedback.policies


class Digest:
    """A 16-byte digest over everything that is published of a slice, in order: topic, time, key, value, headers.

    Attributes:
        size: bytes of the values so far.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.size = 0

    def add(self, messages: Iterable[Message]) -> None:
        """Some more that is published."""
        content, size = framed(list(messages))
        self._hash.update(content)
        self.size += size

    def hex(self) -> str:
        """Of all that was added."""
        return self._hash.hexdigest()


def _key(key: bytes | None) -> bytes | None:
    return key if key is None or len(key) <= KEY_BYTES_MAX else None


def _text(text: str) -> bytes:
    return text[:_HEADER_TEXT_MAX].encode("utf-8", "replace")


def plain_framed(messages: list[Message]) -> tuple[bytes, int]:
    """What a digest is made over, and the bytes of the values."""
    parts: list[bytes] = []
    rank, frame, size = RANK, _frame, 0
    for message in messages:
        key, value, headers = message.key, message.value or b"", message.headers
        value_size = len(value)
        size += value_size
        parts += (
            frame(
                rank[message.kind],
                message.timestamp_ms,
                -1 if key is None else len(key),
                value_size if message.value is not None else 0xFFFFFFFF,
                len(headers),
            ),
            key or b"",
            value,
        )
        for name, header in headers:
            title = name.encode()
            parts += (_header_frame(len(title), -1 if header is None else len(header)), title, header or b"")
    return b"".join(parts), size


framed: Callable[[list[Message]], tuple[bytes, int]] = plain_framed
writer: Callable[[Terms, Callable[[Output], Message]], Any] | None = None
try:
    from driftline.codec._usual import Writer
    from driftline.codec._usual import framed as compiled_framed

    framed, writer = compiled_framed, Writer
except ImportError:  # no compiler was there when it was installed
    pass
is_compiled = writer is not None
