"""Every output has the form that `schemas/` promises, and the schemas refuse what is not of that form."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
import yaml

from driftline.codec.decode import REASONS
from driftline.codec.encode import Message
from driftline.codec.journal import CHAIN_START, EpochEntry, Range, SliceEntry, TopicIdentity, encode_link, link
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.manifest import encode_manifest
from driftline.core.fingerprint import arithmetic_fingerprint, versions
from driftline.core.pipeline import Pipeline, pipeline_schema
from driftline.core.record import Source
from driftline.core.shard.state import Shard
from driftline.engine.fold import Folder
from tests.support.manifest import manifest
from tests.support.schema import FOLDER, check, document_of, faults
from tests.support.small import NOW_MS, event_bytes, label_bytes, small

TASKS = ("binary", "multiclass", "regression", "anomaly")
TRUTH: dict[str, Any] = {"binary": (0, 1), "multiclass": ("red", "blue", 3), "regression": (1.5, 2), "anomaly": (0, 1)}


def published(pipeline: Pipeline, records: list[tuple[str, bytes | None, int]]) -> list[Message]:
    """What a shard publishes of these values, each (topic, value, time)."""
    folder = Folder(Shard(pipeline, 0), dict.fromkeys(("p.control", "p.labels", "p.events"), 0))
    messages: list[Message] = []
    for offset, (topic, value, time_ms) in enumerate(records):
        folder.receive(topic, [Source(topic, 0, offset, time_ms, b"k", value, (("trace", b"1"),))])
        messages += folder.fold([True] * 3, 10, lambda _: False).messages
    return messages


def stream(task: str, count: int) -> list[tuple[str, bytes | None, int]]:
    """Events and labels, with every kind of trouble among them."""
    rng = random.Random(7)
    made: list[tuple[str, bytes | None, int]] = []
    for number in range(count):
        now_ms = NOW_MS + number * 1_000
        made.append(("p.events", event_bytes(number, rng.gauss(0, 1)), now_ms))
        if number % 3:
            made.append(("p.labels", label_bytes(number, rng.choice(TRUTH[task])), now_ms))
        if number % 10 == 0:
            made += [
                ("p.events", None, now_ms),
                ("p.events", b"{", now_ms),
                ("p.events", event_bytes(number), now_ms),
                ("p.labels", label_bytes(f"nobody{number}", TRUTH[task][0]), now_ms),
                ("p.labels", label_bytes(max(number - 2, 1), TRUTH[task][0]), now_ms),
                ("p.labels", label_bytes(number, []), now_ms),
            ]
    last_ms = NOW_MS + count * 1_000
    made.append(("p.events", event_bytes("last"), last_ms + 3_000_000))
    made.append(("p.labels", label_bytes(0, TRUTH[task][0]), last_ms + 3_000_000))
    return made


@pytest.mark.parametrize("task", TASKS)
def test_everything_published_fits_its_schema(task: str) -> None:
    messages = published(small(task, drift={"score": "ADWIN()"} if task == "anomaly" else {}), stream(task, 200))
    for message in messages:
        check(message)
    outcomes = {document_of(message)["kind"] for message in messages if message.kind == "outcomes"}
    assert outcomes == {"joined", "expired", "orphan", "duplicate", "late"}
    assert {message.kind for message in messages} >= {"scores", "outcomes", "rejected"}


def test_assumed_labels_and_decisions_fit() -> None:
    pipeline = small(label={"missing": {"assume": 0}}, decision={"threshold": 0.5})
    messages = published(pipeline, stream("binary", 200))
    for message in messages:
        check(message)
    assert "assumed" in {document_of(message).get("kind") for message in messages}
    assert all("decision" in document_of(message) for message in messages if message.kind == "scores")


def test_alerts_of_drifts_and_reactions_fit() -> None:
    watched = {"error": {"detector": "ADWIN()", "reaction": "swap"}, "features": {"x": "ADWIN()"}}
    pipeline = small(drift={"warmup_labels": 100, "reference_size": 300, **watched})
    records: list[tuple[str, bytes | None, int]] = []
    rng = random.Random(3)
    for number in range(1_500):
        now_ms, x = NOW_MS + number * 1_000, rng.gauss(number >= 1_000, 1)
        records.append(("p.events", event_bytes(number, x), now_ms))
        records.append(("p.labels", label_bytes(number, int((x > 0) == (number < 1_000))), now_ms))
    alerts = [message for message in published(pipeline, records) if message.kind == "alerts"]
    assert {document_of(alert)["kind"] for alert in alerts} == {"concept_drift", "data_drift", "model_change"}
    assert any(document_of(alert)["evidence"].get("moved") for alert in alerts)
    for alert in alerts:
        check(alert)


def test_a_stub_fits() -> None:
    pipeline = small(limits={"output_bytes_max": 120})
    messages = published(pipeline, stream("binary", 20))
    stubs = [message for message in messages if b'"stub"' in (message.value or b"")]
    assert {message.kind for message in stubs} == {"scores", "outcomes"}
    for message in stubs:
        check(message)


def test_journal_entries_fit() -> None:
    inputs = {"p.events": Range(0, 3, 2)}
    entry = SliceEntry(1, inputs, None, 4, "0" * 32, NOW_MS, 1)
    linked = link(entry, CHAIN_START, {"pending": 1})
    assert not faults("journal", orjson.loads(encode_link(linked)))
    tick = link(SliceEntry(2, {}, NOW_MS, 0, "0" * 32, NOW_MS, 1), linked.chain)
    assert not faults("journal", orjson.loads(encode_link(tick)))
    pipeline = small().resolved()
    epoch = EpochEntry(1, "first", "fresh", {"p.events": 0}, 0, pipeline, versions(), arithmetic_fingerprint())
    assert not faults("journal", orjson.loads(encode_link(link(epoch, CHAIN_START))))
    assert faults("journal", {**orjson.loads(encode_link(tick)), "outputs": -1})


@pytest.mark.parametrize("key", [NO_KEYS, KeyRing((b"a key of sixteen bytes or more",))])
def test_manifests_fit(key: KeyRing) -> None:
    made = manifest(
        pipeline=small().resolved(),
        versions=versions(),
        arithmetic=arithmetic_fingerprint(),
        topics={"p.events": TopicIdentity("id", 1), "p.journal": TopicIdentity(None, 1)},
        outputs={"p.scores": 4},
    )
    document = orjson.loads(encode_manifest(made, key))
    assert not faults("manifest", document)
    assert faults("manifest", {**document, "slot": 2})
    assert set(document) == set(msgspec.structs.asdict(made))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("score", {"output_id": "p.events-0-1-0"}),
        ("outcome", {"output_id": "p.events-0-1-0", "pipeline": "p", "kind": "joined", "event_id": 1}),
        ("outcome", {"output_id": "p.events-0-1-0", "pipeline": "p", "kind": "lost", "event_id": 1}),
        ("alert", {"output_id": "p.labels-0-1-0", "pipeline": "p", "episode": "e", "state": "closed"}),
        ("rejected", {"driftline.reason": "no such reason"}),
        ("journal", {"kind": "slice"}),
        ("event", {"x": 1}),
        ("label", {"id": 1}),
        ("control", {"command": "explode"}),
        ("pipeline", {"pipeline": "p"}),
    ],
)
def test_a_wrong_document_is_refused(name: str, wrong: object) -> None:
    assert faults(name, wrong)


def test_an_unknown_key_is_refused() -> None:
    score = next(message for message in published(small(), stream("binary", 3)) if message.kind == "scores")
    assert faults("score", {**document_of(score), "mood": "good"})


def test_default_inputs_fit() -> None:
    assert not faults("event", orjson.loads(event_bytes(1)))
    assert not faults("label", {"id": "a", "label": True, "time": "2026-01-01T00:00:00Z"})
    assert not faults("control", {"command": "freeze"})


def test_reasons_are_those_of_the_code() -> None:
    schema = json.loads((FOLDER / "rejected.schema.json").read_text())
    assert schema["properties"]["driftline.reason"]["enum"] == list(REASONS)


def test_the_pipeline_schema_is_the_generated_one() -> None:
    committed = json.loads((FOLDER / "pipeline.schema.json").read_text())
    assert committed == json.loads(json.dumps(pipeline_schema()))


def test_asyncapi_names_files_and_messages_that_exist() -> None:
    document = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text())
    assert document["asyncapi"] == "3.0.0"
    messages = document["components"]["messages"]
    for message in messages.values():
        for part in ("payload", "headers"):
            if part in message:
                assert (FOLDER / message[part]["$ref"]).is_file()
    for name, channel in document["channels"].items():
        assert channel["address"] == f"{{pipeline}}.{name}"
        for reference in channel["messages"].values():
            assert reference["$ref"].removeprefix("#/components/messages/") in messages
    channels = {operation["channel"]["$ref"].rpartition("/")[2] for operation in document["operations"].values()}
    assert channels == set(document["channels"])
    assert {path.name for path in Path(FOLDER).glob("*.schema.json")} >= {
        message["payload"]["$ref"] for message in messages.values() if "payload" in message
    }
