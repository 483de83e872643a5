"""Topics are planned for what the engine needs, made once, and judged where they are not so."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    RequestTimedOutError,
)

from driftline.config import load_settings
from driftline.core.error import BrokerError, PartitionsChangedError, TopicError, UnreachableError
from driftline.core.pipeline import Pipeline
from driftline.devbroker.embedded import EmbeddedNode
from driftline.devbroker.kafka import KafkaNode
from driftline.devbroker.node import wait_for
from driftline.kafka import topic, topic_rule
from driftline.kafka.topic_rule import LONG_MAX, OF_SHARDS, TopicState, judge, names, plan
from driftline.transport.port import EMBEDDED_TOPIC
from tests.support.pipelines import pipeline, settings

DAY_MS = 86_400_000
ONE_FEATURE = {"id": "id", "features": {"amount": "number"}}
DEFAULTS = {
    "cleanup.policy": "delete",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": "3600000",
    "message.timestamp.before.max.ms": str(LONG_MAX),
    "retention.ms": "604800000",
    "retention.bytes": "-1",
}


def planned(of: Pipeline, **changes: Mapping[str, str]) -> dict[str, TopicState]:
    """The topics of a pipeline as `plan` makes them on a broker with Kafka's defaults, some settings changed."""
    return {
        one.name: TopicState(one.partitions, {**DEFAULTS, **one.config, **changes.get(one.kind, {})})
        for one in plan(of)
    }


def test_plan_keeps_what_recovery_needs() -> None:
    configs = {one.kind: one.config for one in plan(pipeline())}
    assert configs["journal"] == {
        "cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1",
    }  # fmt: skip
    assert configs["snapshots"]["cleanup.policy"] == "compact"
    assert int(configs["snapshots"]["segment.bytes"]) <= 64 * 1024 * 1024
    assert int(configs["events"]["retention.ms"]) == 14 * DAY_MS  # the wait of 7 days, and a week
    # An output carries its event's time: kept for a shorter time, what is scored late would be gone at once.
    assert configs["scores"]["retention.ms"] == configs["events"]["retention.ms"]
    assert int(configs["outcomes"]["retention.ms"]) == 30 * DAY_MS
    assert configs["scores"]["message.timestamp.after.max.ms"] == str(LONG_MAX)
    assert configs["alerts"]["cleanup.policy"] == "delete"


def test_plan_has_room_for_the_largest_records() -> None:
    large = pipeline(limits={"record_bytes_max": 3_000_000, "output_bytes_max": 2_000_000})
    configs = {one.kind: one.config for one in plan(large)}
    assert int(configs["events"]["max.message.bytes"]) > 3_000_000
    assert int(configs["outcomes"]["max.message.bytes"]) > 2_000_000


def test_unlimited_retention_is_for_inputs_and_outputs() -> None:
    for one in plan(pipeline(), retention_ms=topic_rule.UNLIMITED):
        assert one.kind == "snapshots" or one.config["retention.ms"] == "-1"


def test_a_pipeline_without_labels_has_no_topic_for_them() -> None:
    anomaly = pipeline(task="anomaly", label=None, event=ONE_FEATURE, model="HalfSpaceTrees()", metrics=[])
    assert "labels" not in names(anomaly)
    assert len(plan(anomaly)) == 8


def test_what_is_planned_is_judged_good() -> None:
    assert judge(pipeline(), planned(pipeline())) == []


@pytest.mark.parametrize(
    ("kind", "config", "words"),
    [
        ("journal", {"cleanup.policy": "compact"}, "compaction removes"),
        ("journal", {"retention.ms": "604800000"}, "every entry of the journal"),
        ("journal", {"retention.bytes": "1000"}, "every entry of the journal"),
        ("snapshots", {"cleanup.policy": "delete"}, "cleanup.policy=compact"),
        ("snapshots", {"cleanup.policy": "compact,delete"}, "cleanup.policy=compact"),
        ("snapshots", {"max.message.bytes": "100000"}, "max.message.bytes"),
        ("events", {"cleanup.policy": "compact,delete"}, "compaction removes"),
        ("scores", {"cleanup.policy": "compact"}, "compaction removes"),
        ("scores", {"max.message.bytes": "900000"}, "limits.output_bytes_max"),
        ("outcomes", {"message.timestamp.after.max.ms": "3599999"}, "never be committed"),
        ("rejected", {"message.timestamp.before.max.ms": "1000"}, "never be committed"),
    ],
)
def test_a_setting_that_breaks_the_engine_is_fatal(kind: str, config: dict[str, str], words: str) -> None:
    problems = judge(pipeline(), planned(pipeline(), **{kind: config}))
    assert [(one.topic, one.fatal) for one in problems] == [(f"cards.{kind}", True)]
    assert words in problems[0].message
    assert "--add-config" in problems[0].message  # what to do


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("alerts", {"cleanup.policy": "compact"}),
        ("scores", {"message.timestamp.type": "LogAppendTime", "message.timestamp.after.max.ms": "1"}),
        ("scores", {"message.timestamp.after.max.ms": "3600000"}),  # as wide as the inputs'
        ("events", {"max.message.bytes": "1000"}),  # the inputs' own limit is no business of ours
    ],
)
def test_settings_that_harm_nothing_pass(kind: str, config: dict[str, str]) -> None:
    assert judge(pipeline(), planned(pipeline(), **{kind: config})) == []


def test_inputs_that_do_not_outlive_the_wait_are_a_warning() -> None:
    problems = judge(pipeline(), planned(pipeline(), events={"retention.ms": str(DAY_MS)}))
    assert [(one.topic, one.fatal) for one in problems] == [("cards.events", False)]


def test_outputs_that_do_not_outlive_their_events_are_a_warning() -> None:
    problems = judge(pipeline(), planned(pipeline(), scores={"retention.ms": str(7 * DAY_MS)}))
    assert [(one.topic, one.fatal) for one in problems] == [("cards.scores", False)]
    assert f"--add-config retention.ms={14 * DAY_MS}" in problems[0].message
    forever = {"retention.ms": "-1"}
    problems = judge(pipeline(), planned(pipeline(), events=forever, labels=forever, outcomes=forever))
    assert [one.topic for one in problems] == ["cards.scores"]
    assert "--add-config retention.ms=-1" in problems[0].message


def shared(shards: int, **counts: int) -> list[str]:
    """What is wrong with topics of four partitions, or as many as are given, and so many shards."""
    states = planned(pipeline())
    for kind, count in {**dict.fromkeys(map(str, OF_SHARDS), shards), **counts}.items():
        states[f"cards.{kind}"] = TopicState(count, states[f"cards.{kind}"].config)
    return list(map(str, judge(pipeline(), states)))


def test_one_shard_reads_any_number_of_partitions() -> None:
    assert shared(1) == []
    assert shared(1, labels=3, scores=7, outcomes=1, control=5, snapshots=2) == []


def test_every_shard_needs_a_partition_of_each_topic() -> None:
    assert shared(4) == []
    (problem,) = shared(4, scores=3)
    assert problem.startswith("cards.scores: has 3 partitions and cards has 4 shards, which need one each")
    assert [one.partition(":")[0] for one in shared(4, events=2, control=1)] == ["cards.events", "cards.control"]


def test_with_several_shards_labels_come_to_the_shard_of_their_event() -> None:
    assert shared(2, labels=8) == []
    assert shared(4, events=6, labels=6) == []
    (problem,) = shared(2, labels=3)
    assert problem.startswith("cards.labels: has 3 partitions and cards.events has 4: with 2 shards a label would come")


def test_missing_topics_are_named_unless_they_may_appear() -> None:
    states = planned(pipeline())
    del states["cards.journal"]
    assert [one.topic for one in judge(pipeline(), states)] == ["cards.journal"]
    assert judge(pipeline(), states, may_appear=True) == []


async def test_embedded_topics_are_made_once(embedded: EmbeddedNode) -> None:
    where = settings(embedded.bootstrap)
    assert await topic.embedded(where)
    made = await topic.create(pipeline(), where, partitions=3)
    assert {one.made for one in made} == {True}
    assert {one.plan.kind: one.partitions for one in made} == {
        **dict.fromkeys(names(pipeline()), 3),
        **dict.fromkeys(OF_SHARDS, 1),
    }
    again = await topic.create(pipeline(), where, partitions=5)
    assert [(one.made, one.partitions) for one in again] == [(False, one.partitions) for one in made]
    (told,) = await topic.verify(pipeline(), where)  # the pipeline asks for exactly once
    assert not told.fatal
    assert "at_least_once" in told.message


async def test_on_the_embedded_broker_delivery_is_at_least_once(embedded: EmbeddedNode) -> None:
    where, asked = settings(embedded.bootstrap), pipeline()
    assert asked.delivery == "exactly_once"
    given = await topic.deliverable(asked, where)
    assert given.delivery == "at_least_once"
    assert given.model_copy(update={"delivery": "exactly_once"}) == asked
    assert await topic.deliverable(given, where) is given
    (told,) = [str(one) for one in await topic.check(asked, where) if not one.fatal]
    assert "delivers at least once here" in told


async def test_the_inputs_that_are_there_give_the_number_of_partitions(embedded: EmbeddedNode) -> None:
    await asyncio.to_thread(embedded.create_topics, {"cards.labels": 2})
    made = await topic.create(pipeline(), settings(embedded.bootstrap))
    assert {one.plan.name for one in made if not one.made} == {"cards.labels"}
    assert {one.partitions for one in made if one.plan.kind not in OF_SHARDS} == {2}


async def test_without_inputs_the_settings_give_the_number_of_partitions(embedded: EmbeddedNode) -> None:
    where = load_settings({"DRIFTLINE_PARTITIONS": "2"}, {"bootstrap": embedded.bootstrap})
    made = await topic.create(pipeline(), where)
    assert {one.partitions for one in made if one.plan.kind not in OF_SHARDS} == {2}


async def test_the_file_says_how_many_shards_the_journal_begins_with(embedded: EmbeddedNode) -> None:
    where, use = settings(embedded.bootstrap), pipeline("several", shards=3)
    with pytest.raises(
        TopicError, match=r"several has 3 shards, and its topics would have 2 partitions: .*--partitions 3"
    ):
        await topic.create(use, where, partitions=2)
    made = {one.plan.kind: one.partitions for one in await topic.create(use, where, partitions=6)}
    assert {made[kind] for kind in OF_SHARDS} == {3}
    assert (made["events"], made["labels"], made["scores"]) == (6, 6, 6)
    assert [one for one in await topic.check(use, where) if one.fatal] == []
    assert [one for one in await topic.check(pipeline("several"), where) if one.fatal] == []
    with pytest.raises(PartitionsChangedError, match="says `shards: 2`, and several has 3"):
        await topic.create(pipeline("several", shards=2), where)
    with pytest.raises(TopicError, match="several.journal: the pipeline file says `shards: 2`"):
        await topic.verify(pipeline("several", shards=2), where)


async def test_verify_raises_all_that_is_wrong(embedded: EmbeddedNode) -> None:
    embedded.create_topics({"cards.events": 2, "cards.labels": 3, "cards.journal": 3, "cards.scores": 1})
    with pytest.raises(TopicError, match=r"(?s)cards.events: has 2.*cards.scores: has 1"):
        await topic.verify(pipeline(), settings(embedded.bootstrap))


async def test_no_broker_is_a_clear_error() -> None:
    with pytest.raises(BrokerError, match=r"cannot reach Kafka at 127.0.0.1:1: .*driftline broker"):
        await topic.check(pipeline(), settings("127.0.0.1:1"))


async def test_kafka_topics_are_made_once_as_planned(kafka: KafkaNode) -> None:
    where, use = settings(kafka.bootstrap), pipeline("once")
    await asyncio.to_thread(kafka.create_topics, {EMBEDDED_TOPIC: 1})  # by anyone who may
    assert not await topic.embedded(where)
    assert (await topic.deliverable(use, where)).delivery == "exactly_once"
    with pytest.raises(TopicError, match=r"(?s)once.events: is missing; create it with `driftline topics create"):
        await topic.verify(use, where)
    assert {one.made for one in await topic.create(use, where, partitions=2)} == {True}
    assert {one.made for one in await topic.create(use, where, partitions=2)} == {False}
    assert await topic.verify(use, where) == []
    assert await topic.kept_ms(use, where) == 14 * DAY_MS


async def test_kafka_topics_made_otherwise_are_found_out(kafka: KafkaNode) -> None:
    where, use = settings(kafka.bootstrap), pipeline("otherwise")
    kafka.create_topics({name: 2 for kind, name in names(use).items() if kind != "labels"})
    kafka.create_topics({"otherwise.labels": 1})
    problems = {(one.topic, one.message.split()[0]) for one in await topic.check(use, where) if one.fatal}
    assert problems == {
        ("otherwise.labels", "has"),
        ("otherwise.journal", "retention.ms"),
        ("otherwise.snapshots", "cleanup.policy"),
    }


@pytest.mark.parametrize(
    "config", [{"retention.ms": "604800000"}, {"retention.bytes": "1000000"}, {"max.message.bytes": "100000"}]
)
def test_commands_that_could_be_lost_or_refused_are_told_of(config: dict[str, str]) -> None:
    """A loaded model is in them alone."""
    (problem,) = judge(pipeline(), planned(pipeline(), control=config))
    assert problem.topic == "cards.control"
    assert not problem.fatal
    assert next(iter(config)) in problem.message


async def test_kafka_with_unlimited_retention_keeps_all(kafka: KafkaNode) -> None:
    where, use = settings(kafka.bootstrap), pipeline("kept")
    await topic.create(use, where, partitions=1, retention_ms=topic_rule.UNLIMITED)
    assert await topic.kept_ms(use, where) is None


async def test_kafka_refusing_a_topic_is_a_clear_error(kafka: KafkaNode) -> None:
    use = pipeline("refused", topics={"events": "refused.a_b"})
    await topic.create(pipeline("other", topics={"events": "refused.a.b"}), settings(kafka.bootstrap))
    with pytest.raises(TopicError, match=r"(?s)refused to create topics.*refused.a_b: InvalidTopicError"):
        await topic.create(use, settings(kafka.bootstrap), partitions=1)


# -- a broker that goes away while it is asked


@pytest.mark.parametrize("question", [1, 2])
async def test_a_broker_that_goes_between_two_questions_is_one_that_may_come_back(
    embedded: EmbeddedNode, monkeypatch: pytest.MonkeyPatch, question: int
) -> None:
    """A worker waits for it; any other error would end it."""
    asked = 0

    async def send(self: AIOKafkaClient, *rest: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == question:
            os.kill(embedded.pid, signal.SIGKILL)
            assert wait_for(lambda: not embedded.alive(), 5)
        return await sending(self, *rest, **options)

    sending = AIOKafkaClient.send
    monkeypatch.setattr(AIOKafkaClient, "send", send)
    with pytest.raises(UnreachableError, match="cannot reach Kafka"):
        await topic.verify(pipeline(), settings(embedded.bootstrap))
    assert asked == question


@pytest.mark.parametrize("question", [1, 2, 3])
@pytest.mark.parametrize("error", [KafkaConnectionError, NodeNotReadyError, RequestTimedOutError])
async def test_no_answer_to_a_question_about_topics_is_waited_out(
    kafka: KafkaNode, monkeypatch: pytest.MonkeyPatch, question: int, error: type[KafkaError]
) -> None:
    """Which topics, how many partitions, which settings: a real broker is asked three times."""
    of = pipeline(f"asked-{question}-{error.__name__.lower()}")
    await topic.create(of, settings(kafka.bootstrap), partitions=1)
    asked = 0

    async def send(self: AIOKafkaClient, *rest: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == question:
            raise error()
        return await sending(self, *rest, **options)

    sending = AIOKafkaClient.send
    monkeypatch.setattr(AIOKafkaClient, "send", send)
    with pytest.raises(UnreachableError, match="cannot reach Kafka"):
        await topic.verify(of, settings(kafka.bootstrap))
    assert asked == question
    assert await topic.verify(of, settings(kafka.bootstrap)) == []


async def test_what_the_broker_refuses_is_told_as_it_is(kafka: KafkaNode, monkeypatch: pytest.MonkeyPatch) -> None:
    async def send(self: AIOKafkaClient, *rest: Any, **options: Any) -> Any:
        raise ClusterAuthorizationFailedError()

    monkeypatch.setattr(AIOKafkaClient, "send", send)
    with pytest.raises(TopicError, match="failed a request about topics: .*ClusterAuthorizationFailed"):
        await topic.verify(pipeline(), settings(kafka.bootstrap))
