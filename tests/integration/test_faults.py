"""What goes wrong around a worker, on a real Kafka: each time one clear word of what to do; nothing lost or repeated.

Where a person must act the worker ends with an exit code and that word; where the fault may pass it waits, is not
ready, and goes on by itself.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.record.util import calc_crc32c

from driftline.config import load_settings
from driftline.core.error import AccessError
from driftline.core.pipeline import Pipeline
from driftline.devbroker import kafka as kafka_broker
from driftline.devbroker.kafka import KafkaNode
from driftline.devbroker.node import free_port
from driftline.kafka.client import admin, client_options
from driftline.kafka.topic import check
from driftline.kafka.topic_rule import plan
from tests.conftest import in_ci
from tests.support.command import Worker, driftline, succeed
from tests.support.site import Site
from tests.support.stream import (
    check_exact,
    documents,
    pipeline_file,
    pipeline_of,
    read,
    sent,
    settings_of,
    until_written,
    weather,
)

DRAINED_S = 90.0
USER, PASSWORD, STORE = "someone", "right", "changeit"


class Place(Site):
    """As one with broker faults in mind works with it."""

    drained_s = DRAINED_S

    def numbered(self, first: int = 0) -> Sequence[str | Path]:
        """The command that sends all rows, with ids from `first` on."""
        header, *lines = self.rows.path.read_text().splitlines()
        numbered = [f"id,{header}", *(f"{number},{line}" for number, line in enumerate(lines, first))]
        file = self.folder / f"{self.pipeline.name}-{first}.csv"
        file.write_text("\n".join(numbered))
        return self.sending(file)

    def produce(self, first: int = 0) -> None:
        succeed(*self.numbered(first))

    def configure(self, topic: str, **changes: str) -> None:
        """Settings of one topic as we plan them, some changed (dots written as underscores)."""
        config = {one.name: one.config for one in plan(self.pipeline)}[topic]
        wanted = {**config, **{name.replace("_", "."): value for name, value in changes.items()}}
        asyncio.run(_alter(self.bootstrap, topic, wanted))


async def _alter(bootstrap: str, topic: str, config: Mapping[str, str]) -> None:
    async with admin(client_options(settings_of(bootstrap))) as client:
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(config))])


def scored(worker: Worker) -> float:
    return worker.metric("driftline_scores_total")


def ready(worker: Worker) -> bool:
    page = worker.page("/health/ready")
    return page is not None and page[0] == 200


# -- who we are, and how we speak


class Secured(NamedTuple):
    node: KafkaNode
    ports: Mapping[str, int]
    ca: Path


@pytest.fixture(scope="module")
def secured(kafka_needs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A node that also listens with TLS, with SASL, and with both."""
    folder = tmp_path_factory.mktemp("tls")
    store, ca = folder / "keys.p12", folder / "ca.pem"
    keytool = [shutil.which("keytool") or "keytool"]  # comes with Java
    opening = ["-alias", "node", "-keystore", str(store), "-storepass", STORE]
    names = ["-dname", "CN=127.0.0.1", "-ext", "SAN=ip:127.0.0.1", "-validity", "2"]
    made = [*keytool, "-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12", *opening, *names]
    subprocess.run(made, check=True, capture_output=True)
    shown = subprocess.run([*keytool, "-exportcert", "-rfc", *opening], check=True, capture_output=True)
    ca.write_bytes(shown.stdout)
    ports = {protocol: free_port() for protocol in ("SSL", "SASL_PLAINTEXT", "SASL_SSL")}
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    properties = {
        "ssl.keystore.location": str(store),
        "ssl.keystore.password": STORE,
        "ssl.keystore.type": "PKCS12",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": login,
        "listener.name.sasl_ssl.plain.sasl.jaas.config": login,
    }
    with kafka_broker.start(partitions=1, listeners=ports, properties=properties) as node:
        yield Secured(node, {**ports, "PLAINTEXT": node.port}, ca)


LOGIN = {"sasl_username": USER, "sasl_password": PASSWORD}
WRONG: dict[str, tuple[str, dict[str, str], str]] = {
    # the listener, our settings, and what we are told
    "password": ("SASL_PLAINTEXT", {**LOGIN, "sasl_password": "wrong"}, r"refuses user 'someone'.*SASL_PASSWORD"),
    "password over TLS": ("SASL_SSL", {**LOGIN, "sasl_password": "wrong", "ca": "yes"}, r"refuses user 'someone'"),
    "user": ("SASL_PLAINTEXT", {**LOGIN, "sasl_username": "nobody"}, r"refuses user 'nobody'.*SASL_USERNAME"),
    "mechanism": ("SASL_PLAINTEXT", {**LOGIN, "sasl_mechanism": "SCRAM-SHA-256"}, r"does not support .*SCRAM-SHA-256"),
    "no user": (
        "SASL_PLAINTEXT",
        {"security_protocol": "PLAINTEXT"},
        r"set DRIFTLINE_SECURITY_PROTOCOL=SASL_PLAINTEXT",
    ),
    "no user over TLS": ("SASL_SSL", {"security_protocol": "SSL", "ca": "yes"}, r"SECURITY_PROTOCOL=SASL_SSL"),
    "user for nobody": ("PLAINTEXT", {"security_protocol": "SASL_PLAINTEXT", **LOGIN}, r"SECURITY_PROTOCOL=PLAINTEXT"),
    "TLS for nobody": ("PLAINTEXT", {"security_protocol": "SSL"}, r"does not use TLS .*SECURITY_PROTOCOL=PLAINTEXT"),
    "TLS and user": (
        "SASL_PLAINTEXT",
        {"security_protocol": "SASL_SSL", **LOGIN},
        r"does not use TLS .*PROTOCOL=SASL_PLAINTEXT",
    ),
    "no TLS": ("SSL", {"security_protocol": "PLAINTEXT"}, r"requires TLS on that port; set .*SECURITY_PROTOCOL=SSL"),
    "user without TLS": (
        "SASL_SSL",
        {"security_protocol": "SASL_PLAINTEXT", **LOGIN},
        r"requires TLS .*PROTOCOL=SASL_SSL",
    ),
    "certificate": ("SSL", {}, r"untrusted certificate .*DRIFTLINE_SSL_CAFILE"),
}


@pytest.mark.parametrize("fault", WRONG)
async def test_what_keeps_us_out_is_told(secured: Secured, tmp_path: Path, fault: str) -> None:
    listener, ours, told = WRONG[fault]
    with pytest.raises(AccessError, match=told) as raised:
        await check(_pipeline(tmp_path), load_settings({"HOME": "/nonexistent"}, _flags(secured, listener, ours)))
    assert PASSWORD not in str(raised.value).replace("DRIFTLINE_SASL_PASSWORD", "")


@pytest.mark.parametrize("listener", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
async def test_with_the_right_settings_nothing_keeps_us_out(secured: Secured, tmp_path: Path, listener: str) -> None:
    """The test above could not fail if the node let nobody in."""
    ours = {**(LOGIN if listener.startswith("SASL") else {}), "ca": "yes"}
    problems = await check(
        _pipeline(tmp_path), load_settings({"HOME": "/nonexistent"}, _flags(secured, listener, ours))
    )
    assert all("is missing" in one.message for one in problems)


def _pipeline(folder: Path) -> Pipeline:
    return pipeline_of(pipeline_file(folder, "access", weather(folder, 1)))


def _flags(secured: Secured, listener: str, ours: Mapping[str, str]) -> dict[str, str]:
    chosen = {"security_protocol": listener, **ours, "bootstrap": f"127.0.0.1:{secured.ports[listener]}"}
    if chosen.pop("ca", None) and "SSL" in chosen["security_protocol"]:
        chosen["ssl_cafile"] = str(secured.ca)
    return chosen


def test_a_worker_with_a_wrong_password_ends_and_says_why(secured: Secured, tmp_path: Path) -> None:
    _pipeline(tmp_path)
    done = driftline(
        *("worker", "-p", tmp_path / "access.yaml", "--bootstrap", f"127.0.0.1:{secured.ports['SASL_PLAINTEXT']}"),
        DRIFTLINE_SECURITY_PROTOCOL="SASL_PLAINTEXT",
        DRIFTLINE_SASL_USERNAME=USER,
        DRIFTLINE_SASL_PASSWORD="wrong",
    )
    assert done.returncode == 3
    assert "refuses user 'someone'" in done.stderr
    assert "Traceback" not in done.stderr


# -- a broker that is away


def test_a_broker_that_is_away_at_the_start_and_for_half_a_minute_later(kafka_needs: None, tmp_path: Path) -> None:
    """The worker waits, and goes on untouched; each event is scored once and each label learned once."""
    count, away_s = 8_000, 30.0
    with kafka_broker.start(partitions=2) as node:
        place = Place(node.bootstrap, tmp_path, "away", weather(tmp_path, count), limits={"slice_records_max": 10})
        place.create()
        place.produce()
        node.kill()
        with place.worker() as worker:
            worker.until_said("Kafka is unavailable", 60)
            assert not ready(worker)
            assert worker.metric("driftline_broker_up") == worker.metric("driftline_ready") == 0
            node.start()
            worker.until(lambda: scored(worker) > 300, DRAINED_S, "it scores")
            node.kill()
            gone_s = time.monotonic()
            worker.until(lambda: not ready(worker), 10, "it is not ready")
            worker.until(lambda: time.monotonic() - gone_s > away_s, away_s + 5, "the broker stays away")
            before = scored(worker)
            assert before < count, "the stream is not through"
            assert worker.metric("driftline_broker_up") == 0
            node.start()
            worker.until(lambda: ready(worker) and scored(worker) > before, DRAINED_S, "it goes on by itself")
            place.until_joined(count)
            place.check_exact(count)
            assert worker.metric("driftline_broker_outages_total") >= 2
            assert worker.metric("driftline_broker_outage_seconds_total") >= away_s
            log = worker.log()
            assert log.count("Kafka is unavailable") == log.count("Kafka is available again") == 2, "each is said once"
            assert sum("is unavailable" in line or "WARNING" in line for line in log.splitlines()) < 20
            assert worker.stop() == 0


# -- topics that are not as they must be


@pytest.mark.parametrize(
    ("kind", "policy", "told"),
    [
        ("journal", "compact", "compaction removes records that recovery and readers need"),
        ("snapshots", "delete", "cleanup.policy is delete and should be compact"),
        ("events", "compact", "compaction removes records"),
        ("labels", "compact", "compaction removes records"),
    ],
)
def test_a_wrong_cleanup_policy(kafka: KafkaNode, tmp_path: Path, kind: str, policy: str, told: str) -> None:
    place = Place(kafka.bootstrap, tmp_path, f"policy-{kind}", weather(tmp_path, 1))
    place.create(1)
    topic = str(getattr(place.pipeline.topics, kind))
    place.configure(topic, cleanup_policy=policy)
    done = driftline("worker", "-p", place.file, "--bootstrap", kafka.bootstrap)
    assert done.returncode == 3
    assert told in done.stderr
    assert f"--entity-name {topic} --add-config cleanup.policy=" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["scores", "snapshots"])
def test_a_limit_of_a_topic_that_is_lowered_under_way(kafka: KafkaNode, tmp_path: Path, kind: str) -> None:
    """No commit goes through; it is said once, with the topic and the setting, and goes on when that is mended."""
    count = 400
    place = Place(
        kafka.bootstrap, tmp_path, f"lowered-{kind}", weather(tmp_path, count), snapshot={"every_records": 100}
    )
    place.create(1)
    topic = str(getattr(place.pipeline.topics, kind))
    with place.worker() as worker:
        worker.until_ready(1)
        place.configure(topic, max_message_bytes="400")
        place.produce()
        worker.until_said(f"a record is too large for {topic}", 60)
        if kind == "scores":  # with snapshots, every other slice gets through
            worker.until(lambda: worker.metric("driftline_failures_total") >= 4, 60, "it is tried again")
            assert worker.log().count("a record is too large for") == 1, "and said once"
        assert "max.message.bytes" in worker.log()
        place.configure(topic)
        place.until_joined(count)
        place.check_exact(count)
        assert worker.stop() == 0


def test_a_narrow_topic_takes_what_the_check_says_it_does(kafka: KafkaNode, tmp_path: Path) -> None:
    """Batches keep to the limit that is asked of the topics, not to one of our own."""
    count = 2_000
    place = Place(
        kafka.bootstrap,
        tmp_path,
        "narrow",
        weather(tmp_path, count),
        limits={"output_bytes_max": 10_000},
        model="KNNClassifier(engine=LazySearch(window_size=3000))",
        snapshot={"every_records": 1_500},
    )
    place.create(1)
    topics = place.pipeline.topics
    for topic in (topics.scores, topics.outcomes):
        place.configure(topic, max_message_bytes=str(10_000 + 64 * 1024))
    place.configure(topics.snapshots, max_message_bytes=str(576 * 1024))
    assert asyncio.run(check(place.pipeline, settings_of(kafka.bootstrap))) == []
    place.produce()
    with place.worker() as worker:
        place.until_joined(count)
        place.check_exact(count)
        assert worker.stop() == 0
        assert "a record is too large for" not in worker.log()
    with place.worker() as worker:
        worker.until_ready()
        assert worker.metric("driftline_recovery_slices") == 0, "all is in the last snapshot"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    mounted = subprocess.run(
        [*root, "mount", "-t", "tmpfs", "-o", "size=96m,mode=777", "tmpfs", str(disk)], check=False
    )
    if mounted.returncode:
        message = "needs the right to mount a tmpfs: run it as root on Linux, or let sudo do so"
        pytest.fail(message) if in_ci() else pytest.skip(message)
    yield disk
    subprocess.run([*root, "umount", "-l", str(disk)], check=True)


def test_a_brokers_disk_that_is_full(kafka_needs: None, small_disk: Path, tmp_path: Path) -> None:
    """The broker halts. With space again and a start it is back, and the worker goes on by itself."""
    count = 300
    small = {"log.segment.bytes": "1048576", "offsets.topic.segment.bytes": "1048576"}
    small |= {"transaction.state.log.segment.bytes": "1048576", "log.index.size.max.bytes": "65536"}
    with kafka_broker.start(partitions=1, data=small_disk / "kafka", properties=small) as node:
        place = Place(node.bootstrap, tmp_path, "full", weather(tmp_path, count))
        place.create(1)
        with place.worker() as worker:
            place.produce()
            place.until_joined(count)
            filling = small_disk / "filling"
            _fill(filling)
            done = driftline(*place.numbered(first=1_000))
            assert done.returncode == 3, "the disk is full"
            last = done.stderr.splitlines()[-1]
            # Whichever request the broker left open when it halted, for a minute at most.
            told = (
                "has acknowledged nothing for 30 s: check that",
                "cannot reach Kafka",
                "Kafka did not answer",
                "could not be read for 60 s; check that its broker",  # the journal, for what became of the labels
            )
            assert any(text in last for text in told), last
            assert "Traceback" not in done.stderr
            worker.until_said("Kafka is unavailable", 60)
            assert not ready(worker)
            filling.unlink()
            node.restart()
            worker.until(lambda: ready(worker), DRAINED_S, "it is back")
            place.produce(first=2_000)
            asyncio.run(until_written(place.bootstrap, place.pipeline.topics.scores, 2 * count, DRAINED_S))
            worker.until_read(1, DRAINED_S)
            assert worker.stop() == 0
        asyncio.run(check_exact(place.bootstrap, place.pipeline))


def _fill(file: Path) -> None:
    """Write until nothing goes in any more."""
    with suppress(OSError), file.open("wb", buffering=0) as filling:
        while True:
            filling.write(b"x" * 65_536)


# -- records that a client cannot read


def test_a_header_name_that_is_no_text(kafka: KafkaNode, tmp_path: Path) -> None:
    """The event is scored; where it is rejected, its headers are passed on with the bytes shown."""
    place = Place(kafka.bootstrap, tmp_path, "header-name", weather(tmp_path, 50))
    place.create(1)
    place.produce()
    values: list[dict[str, Any]] = [
        {"id": 50 + number, **dict.fromkeys(place.rows.features, 1.0)} for number in range(4)
    ]
    values[2] = {"id": "bad"}
    asyncio.run(_with_bad_names(place, [orjson.dumps(value) for value in values]))
    with place.worker() as worker:
        asyncio.run(until_written(place.bootstrap, place.pipeline.topics.scores, 53, DRAINED_S))
        scores = asyncio.run(documents(place.bootstrap, place.pipeline.topics.scores))
        assert sorted(one["event_id"] for one in scores) == [*range(52), 53]
        worker.kill()
    with place.worker() as worker:  # and folded again, from the journal's beginning
        worker.until_ready(1)
        assert "digests: 0 different, 0 not verifiable" in worker.log()
        assert worker.metric("driftline_recovery_records") >= 54
        assert worker.stop() == 0
    (rejected,) = asyncio.run(read(place.bootstrap, place.pipeline.topics.rejected))
    headers = dict(rejected.headers)
    assert headers["\\xff\\xfename"] == b"value"
    assert headers["driftline.reason"] == b"feature_missing"


async def _with_bad_names(place: Place, values: list[bytes]) -> None:
    """One batch of events, every second of them with a header whose name is no UTF-8, as other clients send it."""
    producer = AIOKafkaProducer(bootstrap_servers=place.bootstrap)
    await producer.start()
    try:
        batch = producer.create_batch()
        for number, value in enumerate(values):
            headers = [("XXname", b"value")] if number % 2 == 0 else []
            batch.append(timestamp=None, key=None, value=value, headers=headers)
        batch.close()
        content = batch._build()
        while (at := content.find(b"XXname")) >= 0:
            content[at : at + 2] = b"\xff\xfe"
        struct.pack_into(">I", content, 17, calc_crc32c(bytes(content[21:])))  # the batch's checksum
        await (await producer.send_batch(batch, place.pipeline.topics.events, partition=0))
    finally:
        await producer.stop()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_input(kafka: KafkaNode, tmp_path: Path, codec: str) -> None:
    place = Place(kafka.bootstrap, tmp_path, f"codec-{codec}", weather(tmp_path, 100))
    place.create(1)
    place.configure(place.pipeline.topics.events, compression_type=codec)
    place.produce()
    with place.worker() as worker:
        place.until_joined(100)
        place.check_exact(100)
        assert worker.stop() == 0


# -- what the broker forgets


def test_a_transactional_id_that_expired(kafka_needs: None, tmp_path: Path) -> None:
    """The broker forgets an idle shard's identity; the next commit fails, and the shard opens it anew."""
    forgetful = {
        "transactional.id.expiration.ms": "1000",
        "transaction.remove.expired.transaction.cleanup.interval.ms": "500",
        "producer.id.expiration.ms": "1000",
        "producer.id.expiration.check.interval.ms": "500",
    }
    with kafka_broker.start(partitions=1, properties=forgetful) as node:
        place = Place(node.bootstrap, tmp_path, "expired-id", weather(tmp_path, 50))
        place.create(1)
        with place.worker() as worker:
            place.produce()
            place.until_joined(50)
            idle_s = time.monotonic()
            worker.until(lambda: time.monotonic() - idle_s > 5, 10, "it is idle for long enough")
            place.produce(first=1_000)
            asyncio.run(until_written(place.bootstrap, place.pipeline.topics.scores, 100, DRAINED_S))
            worker.until_read(1, DRAINED_S)
            worker.until(lambda: ready(worker), DRAINED_S, "it is ready")
            assert worker.metric("driftline_failures_total") >= 1, "the identity was forgotten"
            assert worker.stop() == 0
        asyncio.run(check_exact(place.bootstrap, place.pipeline))


def test_input_that_is_deleted_while_a_worker_runs(kafka: KafkaNode, tmp_path: Path) -> None:
    """Retention overtakes a worker that stands still: it ends, and says what goes on from there."""
    place = Place(kafka.bootstrap, tmp_path, "overtaken", weather(tmp_path, 200))
    place.create(1)
    events = place.pipeline.topics.events
    with place.worker() as worker:
        place.produce()
        place.until_joined(200)
        worker.signal(signal.SIGSTOP)
        place.produce(first=1_000)
        asyncio.run(_delete_before(place.bootstrap, events, 300))
        worker.signal(signal.SIGCONT)
        assert worker.end(DRAINED_S) == 4
        said = worker.log().rpartition("Error: ")[2]
        assert f"{events}-0" in said
        assert "--on-gap continue" in said
        assert "retention" in said
    with place.worker("--on-gap", "continue") as worker:
        worker.until_ready(1)
        worker.until_read(1, DRAINED_S)
        assert worker.stop() == 0
    events_there, _ = asyncio.run(sent(place.bootstrap, place.pipeline))
    scores = asyncio.run(documents(place.bootstrap, place.pipeline.topics.scores))
    assert len(scores) == 200 + len(events_there) == 300


async def _delete_before(bootstrap: str, topic: str, offset: int) -> None:
    async with admin(client_options(settings_of(bootstrap))) as client:
        await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=offset)})
