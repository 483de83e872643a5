"""Proof that a pipeline is deterministic: the same records give the same bits, in any process.

Synthetic records of the declared types are folded twice, in processes whose sets and hashes are ordered
differently (PYTHONHASHSEED), one of them frozen and thawed midway as a snapshot would. Every output is
digested, and the state at the end. Where they differ, the model's steps are looked at one by one for the first
that gives another state or output.

This module is the pure part: the records, the fold, the comparison. Starting processes is the command's
business.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from river import base, compose

from driftline.core.digest import DigestError, digest_of
from driftline.core.fold.step import step
from driftline.core.oracle import Oracle
from driftline.core.output import Outcome, Output, Rejected, Score
from driftline.core.pipeline import Assume, Feature, Pipeline
from driftline.core.record import Event, FeatureValue, Label, LabelValue, Record, Source
from driftline.core.shard.state import Shard
from driftline.core.state import freeze
from driftline.core.task import task_of

EVENT_COUNT = 1_000
_START_MS = 1_600_000_000_000
_WORDS = ("amber", "birch", "coral", "delta", "ember", "fjord", "grove", "harbor", "iris", "juniper", "kelp", "lotus")
_OMITTED = 0.05
_SERIES = 2  # of a pipeline that forecasts
_NAMED = ("a", "b")


class Trace(Struct, frozen=True):
    """What one process made of the records.

    Args:
        outputs: a digest of what each record made, in order.
        state: digest of the state at the end; None where a member of it cannot be compared.
        parts: digests of the shard's parts at the end, by name.
        steps: for the record that was requested: name, digest of state, digest of output of each model step.
        scored, failed, withheld: events scored; records whose scoring or learning raised; predictions not
            finite.
        failure: what the model raised first.
        events_per_s: see `author.capacity`; None where it was not measured.
    """

    outputs: list[str]
    state: str | None
    parts: dict[str, str]
    steps: list[tuple[str, str, str]]
    scored: int
    failed: int
    withheld: int
    failure: str | None
    events_per_s: float | None = None


class Verdict(Struct, frozen=True):
    """What two traces say.

    Args:
        record: number of the first record whose outputs differ, from 0; None when all are equal.
        parts: parts of the shard whose state differs at the end.
        comparable: whether both states could be digested.
    """

    record: int | None
    parts: tuple[str, ...]
    comparable: bool

    @property
    def equal(self) -> bool:
        """Equal in every output, and in state where it can be compared."""
        return self.record is None and not self.parts


def synthetic_records(pipeline: Pipeline, events: int = EVENT_COUNT, *, negative: bool = True) -> list[Record]:
    """Seeded events of the declared types, with their labels.

    Features that may be omitted sometimes are; labels come before their event, with it, late within the
    wait, too late, or never.

    Args:
        events: how many events, 1 or more.
        negative: whether numbers go below 0, which models of counts cannot take.
    """
    rng = random.Random(pipeline.seed)
    wait_ms = pipeline.label.wait_ms if pipeline.label else 0
    ahead = pipeline.forecast
    gap_ms = max(wait_ms // 200, 1_000) if ahead is None else max(ahead.step_ms // _SERIES, 1)
    timed: list[tuple[int, int, int, Record]] = []
    for number in range(events):
        time_ms = _START_MS + number * gap_ms
        form = pipeline.event
        read = [_value(feature, place, rng, negative) for place, feature in enumerate(form.read.values())]
        if ahead is not None:
            read = [
                _NAMED[number % _SERIES] if name in ahead.by and feature.type in ("key", "string") else value
                for (name, feature), value in zip(form.read.items(), read, strict=True)
            ]
        values, context = form.arrange(read)
        source = Source(pipeline.topics.events, 0, number, time_ms, None, None)
        timed.append((time_ms, 2, number, Event(source, time_ms, time_ms, f"event-{number}", values, context=context)))
        delay_ms = _delay_ms(wait_ms, gap_ms, rng)
        if pipeline.label is not None and pipeline.topics.labels is not None and delay_ms is not None:
            known_ms = time_ms + delay_ms
            source = Source(pipeline.topics.labels, 0, number, known_ms, None, None)
            label = Label(source, known_ms, known_ms, f"event-{number}", _label(pipeline, values, rng))
            timed.append((known_ms, 1, number, label))
    timed.sort(key=lambda entry: entry[:3])
    return [record for _, _, _, record in timed]


def _value(feature: Feature, place: int, rng: random.Random, negative: bool) -> FeatureValue:
    if feature.missing != "reject" and rng.random() < _OMITTED:
        return feature.fill
    match feature.type:
        case "boolean":
            return rng.random() < 0.4
        case "string" | "text":
            return rng.choice(_WORDS[: 3 + place % 9])
        case "key":
            return f"key-{rng.randint(0, 99)}"
        case "items":
            return msgspec.json.encode(["a", *_WORDS[:5]]).decode()
        case "slate":
            return None
        case "number":
            if place % 3 == 2:
                return float(rng.randint(0, 50))
            number = rng.gauss(place % 5, 1.0 + place % 4)
            return number if negative else abs(number)


def _delay_ms(wait_ms: int, gap_ms: int, rng: random.Random) -> int | None:
    """How long after its event a label comes; None for never. At 0 it is read before its event."""
    draw = rng.random()
    if draw < 0.3:
        return 0
    if draw < 0.8:
        return rng.randint(1, max(min(wait_ms, 20 * gap_ms), 1))
    if draw < 0.9:
        return wait_ms + rng.randint(1, 3) * gap_ms
    return None


def _label(pipeline: Pipeline, values: Sequence[FeatureValue], rng: random.Random) -> LabelValue:
    """A label that has something to do with the features, of the type that the task learns."""
    signal = rng.gauss(0, 0.5)
    for place, value in enumerate(values):
        if isinstance(value, str):
            signal += len(value) - 5
        elif value is not None:
            signal += float(value) * (0.5 if place % 2 else 1.0)
    missing = pipeline.label.missing if pipeline.label else "drop"
    return task_of(pipeline.task).synthetic(signal, missing.assume if isinstance(missing, Assume) else None)


def fold(
    pipeline: Pipeline, records: Sequence[Record], *, freeze_at: int | None = None, look_at: int | None = None
) -> Trace:
    """Fold the records into a fresh shard.

    Args:
        freeze_at: the record before which the shard is turned to bytes and back.
        look_at: the record before which the model's steps are digested.
    """
    shard, oracle = Shard(pipeline, 0), Oracle()
    outputs: list[str] = []
    steps: list[tuple[str, str, str]] = []
    made_all: list[Output] = []
    for number, record in enumerate(records):
        if number == freeze_at:
            shard = freeze.load(pipeline, 0, freeze.dump(shard))
        if number == look_at:
            steps = list(look(shard.learner.model, _features(shard, records[: number + 1])))
        made = step(shard, record, oracle).outputs
        outputs.append(" ".join(map(_hex, made)))  # each alone: what two outputs share is nothing that is written
        made_all += made
    if look_at is not None and look_at >= len(records):
        steps = list(look(shard.learner.model, _features(shard, records)))
    failures = [failure for failure in map(_failure, made_all) if failure is not None]
    scores = [made for made in made_all if isinstance(made, Score)]
    parts = {name: _hex(value) for name, value in sorted(vars(shard).items()) if name not in _GIVEN}
    return Trace(
        outputs=outputs,
        state=None if _UNKNOWN in parts.values() else _hex(parts),
        parts=parts,
        steps=steps,
        scored=len(scores),
        failed=len(failures),
        withheld=sum(map(_unfinite, scores)),
        failure=failures[0] if failures else None,
    )


def _unfinite(score: Score) -> bool:
    """Whether the model's prediction was not finite."""
    return any(trip.rung == "finite" for trip in score.tripped) if score.tripped else score.guard != "served"


_UNKNOWN = "?"
_GIVEN = frozenset({"pipeline", "number", "names", "places"})  # attributes of a shard that are not its state


def _hex(member: Any) -> str:
    try:
        return digest_of(member).hex()
    except DigestError:
        return _UNKNOWN


def _failure(made: Output) -> str | None:
    if isinstance(made, Rejected) and made.reason == "model_error":
        return made.detail
    if isinstance(made, Outcome) and made.kind == "failed":
        return made.detail
    return None


def _features(shard: Shard, records: Sequence[Record]) -> dict[str, FeatureValue]:
    """The features of the last event among the records."""
    for record in reversed(records):
        if isinstance(record, Event):
            return shard.learner.features_of(shard.history.complete(record, shard.now_ms).features)
    return {}


def compare(first: Trace, second: Trace) -> Verdict:
    """Where two traces of the same records differ."""
    record = None
    for number, (one, other) in enumerate(zip(first.outputs, second.outputs, strict=True)):
        if one != other:
            record = number
            break
    both = [name for name in first.parts if _UNKNOWN not in (first.parts[name], second.parts[name])]
    parts = tuple(name for name in both if first.parts[name] != second.parts[name])
    return Verdict(record, parts, len(both) == len(first.parts))


def first_difference(first: Sequence[tuple[str, str, str]], second: Sequence[tuple[str, str, str]]) -> str | None:
    """The first model step that has another state or gives another output, by its place in the model."""
    for (name, state, output), (_, other_state, other_output) in zip(first, second, strict=False):
        if output != other_output:
            return f"{name} (its output differs)"
        if state != other_state:
            return f"{name} (its state differs)"
    return None


def look(model: Any, features: dict[str, FeatureValue]) -> Iterator[tuple[str, str, str]]:
    """Name, digest of state and digest of output of each step of a model, in the order in which features pass."""
    yield from _look("model", copy.deepcopy(model), dict(features))[0]


def _look(name: str, part: Any, x: Any) -> tuple[list[tuple[str, str, str]], Any]:
    """The steps inside a part, and what the part makes of the features."""
    found: list[tuple[str, str, str]] = []
    if isinstance(part, compose.Pipeline):
        for key, inner in part.steps.items():
            steps, x = _look(f"{name} > {key}", inner, x)
            found += steps
        return found, x
    if isinstance(part, compose.TransformerUnion):
        made: dict[Any, Any] = {}
        for key, inner in part.transformers.items():
            steps, own = _look(f"{name} > {key}", inner, x)
            found += steps
            made.update(own if isinstance(own, dict) else {})
        return found, made
    answer = _answer(part, x)
    return [(name, _hex(part), _hex(answer))], answer if isinstance(part, base.BaseTransformer) else x


def _answer(part: Any, x: Any) -> Any:
    """What a step makes of the features, or what it raises."""
    names = (
        ("transform_one",)
        if isinstance(part, base.BaseTransformer)
        else ("predict_proba_one", "predict_one", "score_one")
    )
    for name in names:
        method = getattr(part, name, None)
        if method is None:
            continue
        try:
            return method(x)
        except NotImplementedError:
            continue
        except Exception as error:  # noqa: BLE001 - a step may raise anything; what it raised is its answer
            return f"{type(error).__name__}: {error}"
    return None
