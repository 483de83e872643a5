"""The topics of a pipeline on a broker: made, and held against its rules (`topic_rule`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.admin import ApiVersionRequest, CreateTopicsRequest

from driftline.codec.inputs import layout_of
from driftline.config import Settings
from driftline.core.error import TopicError
from driftline.core.pipeline import Pipeline
from driftline.kafka.client import admin, client_options, partition_counts, producer, unreachable
from driftline.kafka.topic_rule import (
    MESSAGE_BYTES,
    OVERHEAD_BYTES,
    RETENTION_MS,
    SOURCES,
    TopicPlan,
    TopicProblem,
    TopicState,
    judge,
    names,
    number_of,
    plan,
    undelivered_topic,
)
from driftline.transport.port import EMBEDDED_TOPIC

_VISIBLE_S = 15.0
_POLL_S = 0.05
_COMPARED = (
    "cleanup.policy",
    "max.message.bytes",
    "message.timestamp.type",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "retention.ms",
    "retention.bytes",
)


@dataclass(frozen=True, slots=True)
class Creation:
    """What `create` did about one topic."""

    plan: TopicPlan
    made: bool
    partitions: int


async def create(
    pipeline: Pipeline,
    settings: Settings,
    *,
    partitions: int | None = None,
    retention_ms: int | None = None,
    shards: int | None = None,
) -> list[Creation]:
    """Make the topics that are missing; those that are there stay as they are.

    Args:
        pipeline: whose topics.
        settings: where the broker is, and how many copies of a topic it keeps.
        partitions: see `plan`; None takes the inputs' count where one is there, else the settings', or as many as there
            are shards.
        retention_ms: see `plan`.
        shards: where there is no journal yet; None takes the number of the pipeline's file.

    Raises:
        TopicError: the broker refused a topic, or there would be fewer partitions than shards.
        PartitionsChangedError: the pipeline has another number of shards than its file says.
        BrokerError: it cannot be reached.
    """
    async with _cluster(client_options(settings)) as cluster:
        there = await partition_counts(cluster.client)
        chosen = pipeline if shards is None else pipeline.model_copy(update={"shards": shards})
        shards = layout_of(chosen, there).shards
        if partitions is None:
            inputs = [there[name] for kind, name in names(pipeline).items() if kind in SOURCES and name in there]
            partitions = inputs[0] if inputs else max(settings.partitions, shards)
        if partitions < shards:
            raise TopicError(
                f"{pipeline.name} has {shards} shards, and its topics would have {partitions} partitions: some shards "
                f"would have nothing to read. Give --partitions {shards} or more, or fewer shards"
            )
        plans = plan(pipeline, partitions, retention_ms, shards)
        made = [wanted for wanted in plans if wanted.name not in there]
        await cluster.create(made, settings.replication)
        return [Creation(wanted, wanted in made, there.get(wanted.name, wanted.partitions)) for wanted in plans]


async def create_undelivered(pipeline: Pipeline, settings: Settings) -> None:
    """Make the topic of alerts that no webhook took, if it is missing: one partition, kept as long as alerts are.

    Raises:
        TopicError: the broker refused it.
        BrokerError: it cannot be reached.
    """
    config = {
        "cleanup.policy": "delete",
        "retention.ms": str(RETENTION_MS["alerts"]),
        "max.message.bytes": str(max(MESSAGE_BYTES, pipeline.limits.output_bytes_max + OVERHEAD_BYTES)),
    }
    wanted = TopicPlan(undelivered_topic(pipeline), "alerts", 1, config)
    async with _cluster(client_options(settings)) as cluster:
        if wanted.name not in await partition_counts(cluster.client):
            await cluster.create([wanted], settings.replication)


def create_plain(bootstrap: str, topics: Mapping[str, int]) -> None:
    """Make topics with the broker's own settings; those that are there stay as they are.

    Blocks, and may be called with or without a running event loop.

    Args:
        bootstrap: of a broker without security, such as those that `devbroker` starts.
        topics: name to number of partitions.
    """

    async def make() -> None:
        async with _cluster({"bootstrap_servers": bootstrap}) as cluster:
            there = await partition_counts(cluster.client)
            await cluster.create(
                [TopicPlan(name, "events", count, {}) for name, count in topics.items() if name not in there],
                1,
            )

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, make()).result()


async def check(pipeline: Pipeline, settings: Settings) -> list[TopicProblem]:
    """Everything about the pipeline's topics that the engine cannot work with, or that may lose data.

    Raises:
        BrokerError: the broker cannot be reached.
    """
    async with _cluster(client_options(settings)) as cluster:
        wanted = names(pipeline)
        states = await cluster.states(wanted.values())
        problems = judge(pipeline, states, may_appear=cluster.embedded)
    if cluster.embedded and pipeline.delivery == "exactly_once":
        text = (
            "the embedded broker accepts transactions without isolating them, so a worker delivers at least once here, "
            "as with --set delivery=at_least_once; exactly_once needs a real Kafka (driftline broker --kind kafka)"
        )
        problems.append(TopicProblem(pipeline.topics.journal, text, fatal=False))
    return problems


async def verify(pipeline: Pipeline, settings: Settings) -> list[TopicProblem]:
    """`check`, for a worker that is about to start.

    Returns:
        Problems that do not stop it.

    Raises:
        TopicError: with all the problems that do, and what to do.
    """
    problems = await check(pipeline, settings)
    fatal = [problem for problem in problems if problem.fatal]
    if fatal:
        lines = "\n".join(f"  {problem}" for problem in fatal)
        raise TopicError(f"the topics of pipeline {pipeline.name} need changes:\n{lines}")
    return problems


async def kept_ms(pipeline: Pipeline, settings: Settings) -> int | None:
    """How long inputs, scores and outcomes keep records, by the records' own times, which outputs have from their
    inputs; None where it is unlimited or not known."""
    async with _cluster(client_options(settings)) as cluster:
        states = await cluster.states(names(pipeline).values())
    wanted = names(pipeline)
    limits = [
        limit
        for kind in ("events", "labels", "scores", "outcomes")
        if (state := states.get(wanted.get(kind, ""))) is not None
        and (limit := number_of(state.config, "retention.ms")) is not None
        and limit >= 0
        and state.config.get("message.timestamp.type") != "LogAppendTime"
    ]
    return min(limits, default=None)


async def deliverable(pipeline: Pipeline, settings: Settings) -> Pipeline:
    """The pipeline as a worker can keep its word here.

    On the embedded broker it is at_least_once whatever the file says: what a transaction left open there may keep the
    next worker from reading the journal.
    """
    if pipeline.delivery == "exactly_once" and await embedded(settings):
        return pipeline.model_copy(update={"delivery": "at_least_once"})
    return pipeline


async def embedded(settings: Settings) -> bool:
    """Whether the broker is the embedded one: no isolation of transactions, no topic settings."""
    async with _cluster(client_options(settings)) as cluster:
        return cluster.embedded


class _Cluster:
    """The few admin requests that this module makes."""

    def __init__(self, client: Any, options: Mapping[str, Any], embedded: bool) -> None:
        self.client = client
        self._options = options
        self.embedded = embedded

    async def states(self, topics: Iterable[str]) -> dict[str, TopicState]:
        """How these topics are; those that are missing are left out."""
        there = await partition_counts(self.client)
        found = [topic for topic in topics if topic in there]
        configs = {} if self.embedded else await self._configs(found)
        return {topic: TopicState(there[topic], configs.get(topic, {})) for topic in found}

    async def _configs(self, topics: list[str]) -> dict[str, dict[str, str]]:
        """The settings of topics; nothing for those that this user may not see."""
        if not topics:
            return {}
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(_COMPARED, "")) for topic in topics]
        found = {}
        for answer in await self.client.describe_configs(asked):
            for code, _, _, topic, entries in answer.resources:
                if not code:
                    found[topic] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
        return found

    async def create(self, plans: list[TopicPlan], replication: int) -> None:
        """Make topics and wait until the broker lists them."""
        if not plans:
            return
        if self.embedded:
            order = orjson.dumps({wanted.name: wanted.partitions for wanted in plans})
            async with producer(self._options, acks="all") as sender:
                await sender.send_and_wait(EMBEDDED_TOPIC, order, partition=0)
        else:
            await self._create(plans, replication)
        async with asyncio.timeout(_VISIBLE_S):
            # Polled, since the broker sends no word when it is done.
            while not {wanted.name for wanted in plans} <= (await partition_counts(self.client)).keys():  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)

    async def _create(self, plans: list[TopicPlan], replication: int) -> None:
        extra = {"min.insync.replicas": "2"} if replication >= 3 else {}  # one broker may be away
        asked = [
            NewTopic(wanted.name, wanted.partitions, replication, topic_configs={**wanted.config, **extra})
            for wanted in plans
        ]
        answer = await self.client.create_topics(asked)
        refused = []
        for topic, code, *text in answer.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                refused.append(f"  {topic}: {error.__name__} {text[0] if text and text[0] else ''}".rstrip())
        if refused:
            raise TopicError(
                "the broker refused to create topics:\n"
                + "\n".join(refused)
                + "\ngrant this user the right to create them, or create them with your broker's tools"
            )


async def _creates_topics(client: Any) -> bool:
    """Whether the broker takes requests for new topics, as Kafka does and the embedded one does not: its topic alone is
    no sign, since anyone who may create topics can make one of that name on Kafka."""
    answer = await client._send_request(ApiVersionRequest())
    return any(key == CreateTopicsRequest.API_KEY for key, *_ in answer.api_versions)


@asynccontextmanager
async def _cluster(options: Mapping[str, Any]) -> AsyncIterator[_Cluster]:
    """A connection; Kafka's own errors inside become ours."""
    async with admin(options) as client:
        try:
            there = await client.list_topics()
            yield _Cluster(client, options, EMBEDDED_TOPIC in there and not await _creates_topics(client))
        except TimeoutError as error:
            raise unreachable(options["bootstrap_servers"], error) from error
        except KafkaError as error:
            if error.retriable:  # it went away between two questions, or is only waking up
                raise unreachable(options["bootstrap_servers"], error) from error
            raise TopicError(
                f"the broker at {options['bootstrap_servers']} failed a request about topics: {error}; "
                "try again, or check its log"
            ) from error
