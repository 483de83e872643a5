"""How every Kafka client of Driftline is set up: address and security, and errors that say what to do.

The settings of a deployment become aiokafka's arguments here and nowhere else. What a client is tuned for
(reading, committing, feeding) stays with its user.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.util import find_spec
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.errors import InvalidTimestampError, KafkaError, MessageSizeTooLargeError
from aiokafka.helpers import create_ssl_context

from driftline.config import Settings
from driftline.core.error import BrokerError, SettingsError, UnreachableError
from driftline.kafka import cleanup, unreadable
from driftline.kafka.access import explain_access
from driftline.kafka.explanation import advice

POLL_MS = 500
START_DEADLINE_S = 45.0  # for each address; a connection alone may take 40
FLUSH_DEADLINE_S = 30.0

cleanup.install()
unreadable.install()


def client_options(settings: Settings) -> dict[str, Any]:
    """The arguments that aiokafka's producer, consumer and admin client share.

    Raises:
        SettingsError: a certificate or key file cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap,
        "client_id": "driftline",
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol in ("SSL", "SASL_SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.security_protocol.startswith("SASL_"):
        if settings.sasl_mechanism == "GSSAPI" and find_spec("gssapi") is None:
            raise SettingsError("DRIFTLINE_SASL_MECHANISM = 'GSSAPI': needs the package gssapi; pip install gssapi")
        options["sasl_mechanism"] = settings.sasl_mechanism
        if settings.sasl_username is not None:
            options["sasl_plain_username"] = settings.sasl_username
            options["sasl_plain_password"] = settings.sasl_password
    return options


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    files = [str(path) if path else None for path in (settings.ssl_cafile, settings.ssl_certfile, settings.ssl_keyfile)]
    cafile, certfile, keyfile = files
    try:
        context: ssl.SSLContext = create_ssl_context(
            cafile=cafile, certfile=certfile, keyfile=keyfile, password=_no_password
        )
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise SettingsError(
            f"cannot use the TLS files {', '.join(filter(None, files))}: {error}; set DRIFTLINE_SSL_CAFILE, _CERTFILE "
            "and _KEYFILE to PEM files that this user can read"
        ) from error
    return context


def _no_password() -> str:
    """Instead of OpenSSL's question on the terminal, which a worker would wait at."""
    raise ValueError(
        "the key is encrypted, and there is no setting for its password; decrypt it, as with `openssl pkey`, "
        "into a file that only this user can read"
    )


def unreachable(address: object, error: BaseException) -> UnreachableError:
    """The error for a broker that does not answer, or says that it will not."""
    if advised := advice(error):
        return UnreachableError(f"Kafka at {address} refused: {advised}")
    return UnreachableError(
        f"cannot reach Kafka at {address}: {str(error) or repr(error)}; start one with `driftline broker --kind "
        "embedded`, or set its address with --bootstrap or DRIFTLINE_BOOTSTRAP (and its security settings)"
    )


async def explain(options: Mapping[str, Any], error: BaseException) -> BrokerError:
    """Why a client could not start. aiokafka says of everything that it could not connect, so it is asked again here.

    Args:
        options: from `client_options`.
        error: what the client raised.
    """
    refused, reason = await explain_access(options)
    return refused if refused is not None else unreachable(options["bootstrap_servers"], reason or error)


@asynccontextmanager
async def producer(options: Mapping[str, Any], **tuning: Any) -> AsyncIterator[Any]:
    """A started producer; what was sent is acknowledged at the end, unless an error ends it.

    Args:
        options: from `client_options`.
        tuning: further arguments of `AIOKafkaProducer`.

    Raises:
        UnreachableError: Kafka does not answer: within `START_DEADLINE_S` for each address at the start, or within
            `FLUSH_DEADLINE_S` at the end.
    """
    async with _started(AIOKafkaProducer(**options, **tuning), options) as client:
        yield client
        with answered(options):
            async with asyncio.timeout(FLUSH_DEADLINE_S):
                await client.flush()


@asynccontextmanager
async def consumer(options: Mapping[str, Any], **tuning: Any) -> AsyncIterator[Any]:
    """A started consumer; see `producer`."""
    async with _started(AIOKafkaConsumer(**options, **tuning), options) as client:
        yield client


@asynccontextmanager
async def admin(options: Mapping[str, Any], **tuning: Any) -> AsyncIterator[Any]:
    """A started admin client; see `producer`."""
    client = AIOKafkaAdminClient(**options, **tuning)
    client.stop = client.close
    async with _started(client, options):
        yield client


class Arrival(NamedTuple):
    """A record that a subscriber got; times in milliseconds since 1970."""

    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


async def partition_counts(client: Any) -> dict[str, int]:
    """All topics that are there, and how many partitions each has.

    The whole listing, always: on a broker that creates topics on first use, asking for a topic makes it.

    Args:
        client: from `admin`.
    """
    return {
        topic["topic"]: len(topic["partitions"])
        for topic in await client.describe_topics()
        if not topic["error_code"] and topic["partitions"]
    }


async def group_members(client: Any, group_id: str) -> int:
    """How many members a consumer group has; 0 where the broker cannot say."""
    try:
        answers = await client.describe_consumer_groups([group_id])
    except KafkaError:
        return 0
    return sum(len(group[5]) for answer in answers for group in answer.groups)


async def leaderless(client: Any, topics: Collection[str]) -> set[tuple[str, int]]:
    """Partitions of these topics that no broker answers for now.

    Args:
        client: from `admin`.
    """
    return {
        (topic["topic"], partition["partition"])
        for topic in await client.describe_topics()
        if topic["topic"] in topics
        for partition in topic["partitions"]
        if partition["leader"] < 0
    }


async def exists(options: Mapping[str, Any], topic: str) -> bool:
    """Whether the topic is there now."""
    async with admin(options) as client:
        with answered(options):
            return topic in await partition_counts(client)


async def subscribe(
    options: Mapping[str, Any], topic: str, *, from_beginning: bool, committed: bool
) -> AsyncGenerator[list[Arrival], None]:
    """Read one topic without a group, for as long as the caller likes; close it (`aclosing`) when done.

    Yields empty lists too: one whenever nothing came for half a second, also while the topic does not
    exist, and one as soon as the place to read from is known. A topic that appears while we wait is read
    from its beginning.

    Args:
        options: from `client_options`.
        from_beginning: start with the oldest record instead of the next one.
        committed: leave out records of transactions that are open or aborted.

    Raises:
        UnreachableError: the broker cannot be reached.
    """
    async with admin(options) as client:
        while True:
            with answered(options):
                count = (await partition_counts(client)).get(topic, 0)
            if count:
                break
            from_beginning = True
            yield []
            await asyncio.sleep(POLL_MS / 1000)
    places = [TopicPartition(topic, partition) for partition in range(count)]
    isolation = "read_committed" if committed else "read_uncommitted"
    async with consumer(options, isolation_level=isolation, enable_auto_commit=False) as client:
        client.assign(places)
        try:
            await (client.seek_to_beginning() if from_beginning else client.seek_to_end())
            yield []
            while True:
                found = await client.getmany(timeout_ms=POLL_MS)
                yield [
                    Arrival(one.partition, one.offset, one.timestamp, one.key, one.value, one.headers)
                    for records in found.values()
                    for one in records
                ]
        except KafkaError as error:
            raise unreachable(options["bootstrap_servers"], error) from error


class OneReader(AbstractPartitionAssignor):  # type: ignore[misc]  # aiokafka has no types
    """One member of a group has all partitions, and the others wait for it to leave: who must see all of a topic."""

    name = "driftline-one-reader"

    @classmethod
    def assign(cls, cluster: Any, members: Mapping[str, Any]) -> dict[str, Any]:
        topics = sorted({topic for one in members.values() for topic in one.subscription})
        all_of = [(topic, sorted(cluster.partitions_for_topic(topic) or ())) for topic in topics]
        first = min(members)
        return {
            member: ConsumerProtocolMemberAssignment(0, all_of if member == first else [], b"") for member in members
        }

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> Any:
        return ConsumerProtocolMemberMetadata(0, list(topics), b"")

    @classmethod
    def on_assignment(cls, assignment: Any) -> None:
        """Nothing is remembered."""


class Group:
    """A group's reader of one topic that says itself when a record is done with; made by `group`.

    Args:
        look_back: records before its place that are shown first, as not new, when a partition comes to this reader.
    """

    def __init__(self, client: Any, topic: str, look_back: int) -> None:
        self._client = client
        self._topic = topic
        self._look_back = look_back
        self._floors: dict[TopicPartition, int] = {}  # what lies before was done with by an earlier reader

    @property
    def has_place(self) -> bool:
        """Whether it was given partitions, and knows where it is in them."""
        return bool(self._floors)

    async def next(self) -> tuple[Arrival, bool] | None:
        """The next record, and whether it is new; None when none came for half a second.

        Raises:
            BrokerError: Kafka's own faults.
        """
        try:
            await self._take_up()
            for place, records in (await self._client.getmany(timeout_ms=POLL_MS, max_records=1)).items():
                for one in records:
                    if place not in self._floors:  # it came while we waited: its place is to be found first
                        self._client.seek(place, one.offset)
                        return None
                    arrival = Arrival(one.partition, one.offset, one.timestamp, one.key, one.value, one.headers)
                    return arrival, one.offset >= self._floors[place]
        except KafkaError as error:
            raise BrokerError(f"cannot read alerts: {error!r}") from error
        return None

    async def _take_up(self) -> None:
        """Find the place in each partition that is new to this reader."""
        assigned = self._client.assignment()
        for place in [place for place in self._floors if place not in assigned]:
            del self._floors[place]
        for place in assigned:
            if place in self._floors:
                continue
            committed = await self._client.committed(place)
            if committed is None:
                committed = await self._client.position(place)
                await self._client.commit({place: committed})  # its place is known from now on
            else:
                beginning = (await self._client.beginning_offsets([place]))[place]
                self._client.seek(place, max(beginning, committed - self._look_back))
            self._floors[place] = committed

    def owns(self, arrival: Arrival) -> bool:
        """Whether the record's partition is still this reader's."""
        return TopicPartition(self._topic, arrival.partition) in self._client.assignment()

    async def done(self, arrival: Arrival) -> None:
        """The record is done with: no reader of the group gets it again.

        Raises:
            BrokerError: that could not be noted, so it may come again.
        """
        try:
            await self._client.commit({TopicPartition(self._topic, arrival.partition): arrival.offset + 1})
        except KafkaError as error:
            raise BrokerError(f"cannot commit the position in the alerts: {error!r}") from error


class Keeper:
    """The member of a group that alone keeps its note: a short text, which Kafka holds with the group's offset.

    A member that is not the one any more cannot write it. Made by `keeper`.
    """

    def __init__(self, client: Any, options: Mapping[str, Any], topic: str, group_id: str) -> None:
        self._client, self._options, self._group_id = client, options, group_id
        self._place = TopicPartition(topic, 0)

    async def holds(self) -> bool:
        """Whether this member is the one now. To be asked often: who does not ask leaves the group."""
        with _noted():
            assigned = self._client.assignment()
            self._client.pause(*assigned)
            await self._client.getmany(timeout_ms=POLL_MS)
            return self._place in self._client.assignment()

    async def read(self) -> str | None:
        """The note; None before there is one."""
        with _noted():
            async with admin(self._options) as client:
                found = (await client.list_consumer_group_offsets(self._group_id, partitions=[self._place])).get(
                    self._place
                )
        return None if found is None or found.offset < 0 else found.metadata

    async def write(self, note: str) -> None:
        with _noted():
            end = (await self._client.end_offsets([self._place]))[self._place]  # so that lag tools see no lag
            await self._client.commit({self._place: (end, note)})


@contextmanager
def _noted() -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise BrokerError(f"cannot keep a note in a group: {error!r}") from error


@asynccontextmanager
async def keeper(
    options: Mapping[str, Any], topic: str, group_id: str, *, poll_interval_max_ms: int
) -> AsyncIterator[Keeper]:
    """Join a group whose one member keeps a note.

    Args:
        topic: of the pipeline; nothing of it is read.
        poll_interval_max_ms: longest time between two questions to `Keeper.holds`.
    """
    async with consumer(
        options,
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_interval_ms=poll_interval_max_ms,
        partition_assignment_strategy=[OneReader],
    ) as client:
        client.subscribe([topic])
        yield Keeper(client, options, topic, group_id)


@asynccontextmanager
async def group(
    options: Mapping[str, Any],
    topic: str,
    group_id: str,
    *,
    committed: bool,
    from_beginning: bool,
    poll_interval_max_ms: int,
    look_back: int,
) -> AsyncIterator[Group]:
    """Read a topic as a member of a group, of which one at a time has all partitions.

    Args:
        committed: leave out records of transactions that are open or aborted.
        from_beginning: where a group without a place begins.
        poll_interval_max_ms: longest that one record may take.
        look_back: see `Group`.
    """
    async with consumer(
        options,
        group_id=group_id,
        isolation_level="read_committed" if committed else "read_uncommitted",
        enable_auto_commit=False,
        auto_offset_reset="earliest" if from_beginning else "latest",
        max_poll_interval_ms=poll_interval_max_ms,
        partition_assignment_strategy=[OneReader],
    ) as client:
        client.subscribe([topic])
        yield Group(client, topic, look_back)


@contextmanager
def answered(options: Mapping[str, Any]) -> Iterator[None]:
    """What is asked of Kafka in here is answered, or `UnreachableError` is raised."""
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        raise unreachable(options["bootstrap_servers"], error) from error


@contextmanager
def sending_explained(topic: str) -> Iterator[None]:
    """Kafka's refusals as errors that say what to do."""
    try:
        yield
    except InvalidTimestampError as error:
        raise BrokerError(
            f"the broker refused records of {topic} whose time is further ahead than the topic's "
            "message.timestamp.after.max.ms: check --time, --start and --step, or raise that limit"
        ) from error
    except MessageSizeTooLargeError as error:
        raise BrokerError(
            f"the broker refused records of {topic} larger than the topic's "
            "max.message.bytes: drop long fields, or raise that limit"
        ) from error
    except KafkaError as error:
        raise BrokerError(
            f"sending to {topic} failed: {error!r}; check that the broker runs and this user may write "
            "there. Earlier records were sent: start again with fresh topics"
        ) from error


@contextmanager
def writing_explained(what: str, topic: str) -> Iterator[None]:
    """Kafka's refusals of a few records, which can be written again.

    Args:
        what: what is written, as a sentence begins: `the command`.

    Raises:
        BrokerError: Kafka refused one, or did not answer.
    """
    try:
        yield
    except KafkaError as error:
        text = advice(error, topic) or f"{type(error).__name__}: {error}"
        raise BrokerError(f"{what} could not be written to {topic}: {text}. Try again") from error


@asynccontextmanager
async def _started(client: Any, options: Mapping[str, Any]) -> AsyncIterator[Any]:
    """Start, and stop at the end, even a client that failed to start; both in a bounded time."""
    deadline_s = START_DEADLINE_S * (str(options["bootstrap_servers"]).count(",") + 1)
    try:
        try:
            async with asyncio.timeout(deadline_s):  # aiokafka asks forever for the id of an idempotent producer
                await client.start()
        except (KafkaError, OSError, AssertionError) as error:  # a broker that just woke up names none: it asserts
            raise await explain(options, error) from error
        yield client
    finally:
        await cleanup.stop(client)
