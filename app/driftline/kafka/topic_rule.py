"""Which topics a pipeline needs and with which settings, and what is wrong with those that are there.

Recovery folds the inputs again from where the last snapshot left off, so each setting here guards something:
the journal must never lose an entry, snapshots must not pile up, inputs must outlive the wait for labels, and
an output must be accepted whenever its input was, or its slice could never be committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

from driftline.codec.inputs import layout_of
from driftline.core.error import PartitionsChangedError
from driftline.core.pipeline import Pipeline
from driftline.core.shard.upload import PART_BYTES

Kind = Literal[
    "events", "labels", "control", "scores", "outcomes", "alerts", "rejected", "review", "journal", "snapshots"
]
INPUTS: tuple[Kind, ...] = ("events", "labels", "control")
SOURCES: tuple[Kind, ...] = ("events", "labels")
OUTPUTS: tuple[Kind, ...] = ("scores", "outcomes", "alerts", "rejected", "review")
OF_SHARDS: tuple[Kind, ...] = ("control", "alerts", "journal", "snapshots")
"""Topics with a partition for each shard; the others have as many as their producers and readers want."""

PARTITIONS = 4
UNLIMITED = -1
DAY_MS = 86_400_000
WAIT_MARGIN_MS = 7 * DAY_MS  # an outage of a week still finds the events whose labels it waits for
RETENTION_MS: Mapping[Kind, int] = {  # at least
    "scores": 7 * DAY_MS,
    "outcomes": 30 * DAY_MS,
    "rejected": 30 * DAY_MS,
    "review": 30 * DAY_MS,
    "alerts": 365 * DAY_MS,
}
# What a record takes beside its value: the batch's header, the key, our headers.
OVERHEAD_BYTES = 64 * 1024
MESSAGE_BYTES = 1_048_588  # Kafka's default
SNAPSHOT_MESSAGE_BYTES = 2 * 1024 * 1024  # a chunk of 512 KiB, and several in one batch
SNAPSHOT_CHUNK_BYTES = 512 * 1024 + OVERHEAD_BYTES
JOURNAL_ENTRY_BYTES = 256 * 1024 + OVERHEAD_BYTES  # an epoch holds the whole pipeline
CONTROL_BYTES = 4 * PART_BYTES // 3 + OVERHEAD_BYTES  # a part of a model file, as base64
LONG_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic as a pipeline needs it.

    Args:
        name: of the topic.
        kind: what the pipeline uses it for.
        partitions: how many.
        config: Kafka's topic settings that differ from, or must not follow, the broker's defaults.
    """

    name: str
    kind: Kind
    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as the broker has it.

    Args:
        partitions: how many.
        config: its settings, as far as the broker gives them; empty where it does not.
    """

    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicProblem:
    """Something about a topic that the engine cannot work with or, not `fatal`, that may lose data later."""

    topic: str
    message: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.topic}: {self.message}"


def names(pipeline: Pipeline) -> dict[Kind, str]:
    """The pipeline's topics by what they are for."""
    topics = pipeline.topics
    found: dict[Kind, str | None] = {
        "events": topics.events,
        "labels": topics.labels,
        "control": topics.control,
        "scores": topics.scores,
        "outcomes": topics.outcomes,
        "alerts": topics.alerts,
        "rejected": topics.rejected,
        "review": topics.review,
        "journal": topics.journal,
        "snapshots": topics.snapshots,
    }
    return {kind: name for kind, name in found.items() if name is not None}


def undelivered_topic(pipeline: Pipeline) -> str:
    """Where alerts go that no webhook took."""
    return f"{pipeline.name}.undelivered"


def plan(
    pipeline: Pipeline, partitions: int = PARTITIONS, retention_ms: int | None = None, shards: int | None = None
) -> list[TopicPlan]:
    """The topics that a pipeline needs.

    Args:
        pipeline: the pipeline.
        partitions: of events and labels, and of what is made of them.
        retention_ms: of inputs and outputs; None chooses by kind (the wait for labels and a week more, outputs
            often longer), -1 keeps all. Records of historic times need -1: the broker removes by record time,
            within minutes.
        shards: how many the pipeline has; None takes the number of its file.
    """
    shards = shards or pipeline.shards or 1
    wait_ms = 0 if pipeline.label is None else max(pipeline.label.wait_ms, pipeline.label.early_ms)
    return [
        TopicPlan(
            name, kind, shards if kind in OF_SHARDS else partitions, _config(kind, pipeline, wait_ms, retention_ms)
        )
        for kind, name in names(pipeline).items()
    ]


def _config(kind: Kind, pipeline: Pipeline, wait_ms: int, retention_ms: int | None) -> dict[str, str]:
    if kind == "snapshots":
        return {
            "cleanup.policy": "compact",
            "segment.bytes": str(16 * 1024 * 1024),  # only closed segments are compacted
            "segment.ms": str(10 * 60_000),
            "min.cleanable.dirty.ratio": "0.1",
            "delete.retention.ms": str(60_000),
            "max.message.bytes": str(SNAPSHOT_MESSAGE_BYTES),
        }
    if kind in ("journal", "control"):
        return {"cleanup.policy": "delete", "retention.ms": str(UNLIMITED), "retention.bytes": str(UNLIMITED)}
    # An output carries its input's time: it is kept as long as that, or what is scored late would be gone at once.
    chosen = max(RETENTION_MS.get(kind, 0), wait_ms + WAIT_MARGIN_MS) if retention_ms is None else retention_ms
    config = {
        "cleanup.policy": "delete",
        "message.timestamp.type": "CreateTime",
        "retention.ms": str(chosen),
        "retention.bytes": str(UNLIMITED),
    }
    if kind in OUTPUTS:
        # An output carries its input's time: whatever the input took, the output must take.
        config["message.timestamp.after.max.ms"] = str(LONG_MAX)
        config["message.timestamp.before.max.ms"] = str(LONG_MAX)
        needed = pipeline.limits.output_bytes_max
    else:
        needed = pipeline.limits.record_bytes_max
    config["max.message.bytes"] = str(max(MESSAGE_BYTES, needed + OVERHEAD_BYTES))
    return config


def judge(pipeline: Pipeline, states: Mapping[str, TopicState], *, may_appear: bool = False) -> list[TopicProblem]:
    """What is wrong with the topics, given how they are.

    Args:
        pipeline: whose topics.
        states: the topics that exist, by name.
        may_appear: a missing topic is not a problem, since it appears on first use.
    """
    wanted = names(pipeline)
    problems: list[TopicProblem] = []
    if not may_appear:
        problems += [
            TopicProblem(
                name, f"is missing; create it with `driftline topics create -p FILE` ({kind}), or let this user see it"
            )
            for kind, name in wanted.items()
            if name not in states
        ]
    problems += _shared(pipeline, wanted, states)
    for kind, name in wanted.items():
        if name in states and states[name].config:
            problems += _judge_config(kind, name, states[name].config, pipeline)
    return problems + _narrower(wanted, states) + _shorter(wanted, states)


def _shared(pipeline: Pipeline, wanted: Mapping[Kind, str], states: Mapping[str, TopicState]) -> list[TopicProblem]:
    """Partitions that the shards cannot share: too few of a topic, or labels that come to other shards than events."""
    counts = {name: states[name].partitions for name in wanted.values() if name in states}
    try:
        shards = layout_of(pipeline, counts).shards
    except PartitionsChangedError as error:
        return [TopicProblem(wanted["journal"], str(error))]
    add = "add some with your broker's tools (kafka-topics --alter)"
    problems = [
        TopicProblem(
            name,
            f"has {counts[name]} partition{'s' * (counts[name] > 1)} and {pipeline.name} has {shards} shards, which "
            f"need one each: {add}, or delete the topic if it holds nothing yet and run `driftline topics create` "
            "again",
        )
        for name in wanted.values()
        if counts.get(name, shards) < shards
    ]
    events, labels = counts.get(wanted["events"]), counts.get(wanted.get("labels", ""))
    if problems or shards == 1 or not events or not labels or events == labels:
        return problems
    if events % shards or labels % shards:
        text = (
            f"has {labels} partitions and {wanted['events']} has {events}: with {shards} shards a label would come to "
            f"another shard than its event. Give both the same number, or one that {shards} divides: {add}"
        )
        problems.append(TopicProblem(wanted["labels"], text))
    return problems


def _judge_config(kind: Kind, name: str, config: Mapping[str, str], pipeline: Pipeline) -> list[TopicProblem]:
    problems = []

    def wrong(key: str, value: str, why: str, *, fatal: bool = True) -> None:
        problems.append(
            TopicProblem(
                name,
                f"{key} is {config.get(key)} and should be {value}: {why}; set it with kafka-configs --alter "
                f"--entity-type topics --entity-name {name} --add-config {key}={value}",
                fatal,
            )
        )

    policy = {part.strip() for part in config.get("cleanup.policy", "").split(",")}
    if kind == "snapshots" and policy != {"compact"}:
        wrong("cleanup.policy", "compact", "otherwise old snapshots pile up, or the only good one is removed")
    elif kind not in ("snapshots", "alerts") and "compact" in policy:
        wrong("cleanup.policy", "delete", "compaction removes records that recovery and readers need")
    if kind == "journal":
        for key in ("retention.ms", "retention.bytes"):
            if number_of(config, key) not in (UNLIMITED, None):
                wrong(key, str(UNLIMITED), "recovery needs every entry of the journal")
    if kind == "control":
        for key in ("retention.ms", "retention.bytes"):
            if number_of(config, key) not in (UNLIMITED, None):
                wrong(
                    key,
                    str(UNLIMITED),
                    "recovery and replay need every command, including loaded models",
                    fatal=False,
                )
    bytes_max = number_of(config, "max.message.bytes")
    needed = {"snapshots": SNAPSHOT_CHUNK_BYTES, "journal": JOURNAL_ENTRY_BYTES}.get(
        kind, pipeline.limits.output_bytes_max + OVERHEAD_BYTES
    )
    if kind not in INPUTS and bytes_max is not None and bytes_max < needed:
        wrong(
            "max.message.bytes",
            str(needed),
            "otherwise an output within limits.output_bytes_max is refused, and its slice can never be committed",
        )
    if kind == "control" and bytes_max is not None and bytes_max < CONTROL_BYTES:
        wrong(
            "max.message.bytes", str(CONTROL_BYTES), "`driftline control load` writes records of this size", fatal=False
        )
    if kind in ("events", "labels") and pipeline.label is not None:
        retention_ms = number_of(config, "retention.ms")
        if retention_ms is not None and 0 <= retention_ms < pipeline.label.wait_ms:
            wrong(
                "retention.ms",
                str(pipeline.label.wait_ms + WAIT_MARGIN_MS),
                "it is shorter than label.wait, so a replay would miss records that are joined",
                fatal=False,
            )
    return problems


def _narrower(wanted: Mapping[Kind, str], states: Mapping[str, TopicState]) -> list[TopicProblem]:
    """Outputs that refuse a time that an input accepts."""
    problems = []
    for key in ("message.timestamp.after.max.ms", "message.timestamp.before.max.ms"):
        accepted = [
            value
            for kind in ("events", "labels")
            if (name := wanted.get(kind, "")) in states and (value := number_of(states[name].config, key)) is not None
        ]
        for kind in OUTPUTS:
            state = states.get(wanted.get(kind, ""))
            if state is None or not accepted or state.config.get("message.timestamp.type") == "LogAppendTime":
                continue
            value = number_of(state.config, key)
            if value is not None and value < max(accepted):
                why = (
                    f"{key} is {value} but an input's is {max(accepted)}: for a record that the input accepts, the "
                    "output could "
                    f"be refused, and its slice never be committed; set it to {LONG_MAX} with "
                    f"kafka-configs --alter --entity-type topics --entity-name {wanted[kind]} "
                    f"--add-config {key}={LONG_MAX}"
                )
                problems.append(TopicProblem(wanted[kind], why))
    return problems


def _shorter(wanted: Mapping[Kind, str], states: Mapping[str, TopicState]) -> list[TopicProblem]:
    """Outputs that are kept for a shorter time than the events that they are about."""

    def kept_ms(kind: Kind) -> float | None:
        state = states.get(wanted[kind])
        found = number_of(state.config, "retention.ms") if state is not None else None
        return inf if found is not None and found < 0 else found

    events_ms = kept_ms("events")
    if events_ms is None:
        return []
    value = UNLIMITED if events_ms == inf else int(events_ms)
    return [
        TopicProblem(
            wanted[kind],
            f"retention.ms is {int(mine_ms)} but that of {wanted['events']} is {value}: an output carries its event's "
            f"time, so outputs of late events are deleted at once; set it to {value} with kafka-configs --alter "
            f"--entity-type topics --entity-name {wanted[kind]} --add-config retention.ms={value}",
            fatal=False,
        )
        for kind in ("scores", "outcomes")
        if (mine_ms := kept_ms(kind)) is not None and mine_ms < events_ms
    ]


def number_of(config: Mapping[str, str], key: str) -> int | None:
    """A topic's setting as a number; None where the broker does not give it."""
    try:
        return int(config[key])
    except (KeyError, ValueError):
        return None
