"""`driftline control` writes each command to every partition, and says so."""

from __future__ import annotations

import asyncio
import functools
import getpass
import re
from pathlib import Path

import orjson
import pytest
from aiokafka.admin import NewTopic
from click.testing import CliRunner
from msgspec import structs

from driftline.cli.command.control import Where, control
from driftline.cli.control import content_of
from driftline.codec.decode import Decoder
from driftline.codec.keyring import NO_KEYS
from driftline.codec.parts import encode_model, parts
from driftline.core.error import InputFileError
from driftline.core.record import Control, Source
from driftline.core.shard.upload import SIZE_MAX
from driftline.core.state.model_file import parse
from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.client import Arrival, admin, client_options
from tests.cli.command import run
from tests.support.schema import faults
from tests.support.small import small
from tests.support.stream import read, settings_of

EPISODE = "cards-1-error-l7"
WRITTEN = "written for 3 shards of cards"


async def test_every_partition_gets_the_command(kafka: KafkaNode, pipeline_file: Path) -> None:
    kafka.create_topics({"cards.control": 3, "cards.journal": 3})
    where = ("-p", pipeline_file, "--bootstrap", kafka.bootstrap)
    decoder = Decoder(small())
    found: list[Arrival] = []
    for number, (arguments, said) in enumerate(
        [
            (("freeze",), f"freeze: {WRITTEN}"),
            (("unfreeze",), f"unfreeze: {WRITTEN}"),
            (("reset",), f"reset: {WRITTEN}"),
            (("snapshot",), f"snapshot: {WRITTEN}"),
            (("drop", "--why", "a test of the feed"), f"drop: {WRITTEN}"),
            (("acknowledge", EPISODE), f"acknowledge {EPISODE}: {WRITTEN}"),
            (
                ("silence", EPISODE, "--for", "90m"),
                f"silence {EPISODE} for 90m of event time: written for 3 shards of cards",
            ),
        ]
    ):
        done = await asyncio.to_thread(run, "control", *where, "--no-wait", *arguments)
        assert (done.returncode, done.stdout.strip()) == (0, said)
        found = await read(kafka.bootstrap, "cards.control")
        assert sorted((one.partition, one.offset) for one in found) == [
            (partition, offset) for partition in range(3) for offset in range(number + 1)
        ]
        for one in found:
            assert not faults("control", orjson.loads(one.value or b""))
            made = decoder.control(Source("p.control", 0, 0, one.time_ms, None, one.value))
            assert isinstance(made, Control)
            assert made.why == ("a test of the feed" if made.command == "drop" else "")
    last = orjson.loads(found[-1].value or b"")
    assert {name: last[name] for name in ("command", "episode", "for_ms", "pipeline")} == {
        "command": "silence",
        "episode": EPISODE,
        "for_ms": 5_400_000,
        "pipeline": "cards",
    }
    assert last["by"] == getpass.getuser()
    assert len({orjson.loads(one.value or b"")["nonce"] for one in found if one.partition == 0}) == 7


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("explode",), 2, "No such command"),
        (("acknowledge",), 2, "Missing argument 'EPISODE'"),
        (("acknowledge", "other-0-error-l1"), 2, "is not an episode of cards"),
        (("silence", EPISODE), 2, "--for"),
        (("silence", EPISODE, "--for", "soon"), 2, "is not a duration"),
        (("silence", EPISODE, "--for", "0"), 2, "more than 0"),
        (("silence", EPISODE, "--for", "366d"), 2, "at most 365d"),
    ],
)
def test_wrong_usage(pipeline_file: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = run("control", "-p", pipeline_file, "--bootstrap", "127.0.0.1:1", *arguments)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize(
    ("before", "behind", "seconds"),
    [
        ("-p p.yaml --bootstrap b:1 --set seed=1", "", 30.0),
        ("", "-p p.yaml --bootstrap b:1 --set seed=1", 30.0),
        ("-p other.yaml --set seed=1 --timeout 1s", "-p p.yaml --bootstrap b:1 --timeout 5s", 5.0),
        ("-p p.yaml --set seed=1", "--bootstrap b:1 --no-wait", 0.0),
        ("-p p.yaml --set seed=1 --bootstrap b:1", "--timeout 0", 0.0),
    ],
)
def test_options_of_the_group_may_stand_behind_its_command(
    monkeypatch: pytest.MonkeyPatch, before: str, behind: str, seconds: float
) -> None:
    seen: list[Where] = []
    monkeypatch.setattr("driftline.cli.control.plain", lambda where, name: seen.append(where))
    done = CliRunner().invoke(control, [*before.split(), "freeze", *behind.split(), "--json"])
    assert done.exit_code == 0, done.output
    assert seen == [Where(Path("p.yaml"), ("seed=1",), "b:1", seconds, as_json=True)]


async def test_a_pipeline_without_topics(kafka: KafkaNode, pipeline_file: Path) -> None:
    where = ("-p", pipeline_file, "--bootstrap", kafka.bootstrap, "--set", "pipeline=none-such")
    done = await asyncio.to_thread(run, "control", *where, "freeze")
    assert done.returncode == 3
    assert "topic none-such.control does not exist" in done.stderr


# -- load


@pytest.fixture
def model_file(pipeline_file: Path, rows_file: Path, tmp_path: Path) -> Path:
    """What `driftline train` makes of two hundred rows."""
    path = tmp_path / "model.bin"
    done = run("train", "-p", pipeline_file, "--input", rows_file, "--label", "fraud", "-o", path)
    assert done.returncode == 0, done.stderr
    return path


async def test_every_partition_gets_every_part_in_order(
    kafka: KafkaNode, pipeline_file: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = "loaded"
    kafka.create_topics({f"{pipeline}.control": 3, f"{pipeline}.journal": 3})
    monkeypatch.setattr("driftline.cli.control.parts", functools.partial(parts, part_bytes=1_000))
    text = pipeline_file.read_text().replace("pipeline: cards", f"pipeline: {pipeline}")
    pipeline_file.write_text(text)
    for wrong in (model_file, pipeline_file):
        done = await asyncio.to_thread(
            run, "control", "-p", pipeline_file, "--bootstrap", kafka.bootstrap, "--no-wait", "load", wrong
        )
        assert done.returncode == 2, done.stdout
    assert await read(kafka.bootstrap, f"{pipeline}.control") == []
    done = await asyncio.to_thread(
        run,
        "train",
        "-p",
        pipeline_file,
        "--input",
        model_file.with_name("rows.csv"),
        "--label",
        "fraud",
        "-o",
        model_file,
    )
    assert done.returncode == 0, done.stderr
    content = model_file.read_bytes()
    count = -(-len(content) // 1_000)
    done = await asyncio.to_thread(
        run, "control", "-p", pipeline_file, "--bootstrap", kafka.bootstrap, "--no-wait", "load", model_file
    )
    assert done.returncode == 0, done.stderr
    written = f"written in {count} parts for 3 shards of {pipeline}"
    said = re.fullmatch(rf"load (\d{{13}}-[0-9a-f]{{8}}) \(trained on 200 labels\): {written}", done.stdout.strip())
    assert said, done.stdout
    decoder = Decoder(small())
    for partition in range(3):
        found = [one for one in await read(kafka.bootstrap, f"{pipeline}.control") if one.partition == partition]
        assert [one.offset for one in found] == list(range(count))
        assert not any(faults("control", orjson.loads(one.value or b"")) for one in found)
        made = [decoder.control(Source("p.control", 0, 0, one.time_ms, None, one.value)) for one in found]
        chunks = [one.chunk for one in made if isinstance(one, Control) and one.chunk is not None]
        assert {one.load for one in chunks} == {said[1]}
        assert b"".join(one.content for one in chunks) == content


@pytest.mark.parametrize(
    ("what", "code", "says"),
    [
        ("missing", 2, "cannot read"),
        ("table", 2, "this is not a model file; `driftline train` writes one"),
        ("large", 2, "the limit is 67,108,864 bytes (64 MiB)"),
        ("damaged", 2, "the model file is damaged"),
        ("other", 2, "trained with another pipeline file: seed differ"),
        ("unsigned", 2, "not signed with a key of this deployment"),
        ("older", 3, "note: the model was made by River 0.1.0"),
        ("whole", 3, "cannot reach Kafka"),
    ],
)
def test_a_model_that_no_shard_would_take(
    pipeline_file: Path, rows_file: Path, model_file: Path, what: str, code: int, says: str
) -> None:
    content = model_file.read_bytes()
    arguments: list[str | Path] = ["control", "-p", pipeline_file, "--bootstrap", "127.0.0.1:1"]
    settings: dict[str, str] = {}
    match what:
        case "missing":
            model_file.unlink()
        case "table":
            model_file = rows_file
        case "large":
            with model_file.open("wb") as file:
                file.truncate(SIZE_MAX + 1)
        case "damaged":
            model_file.write_bytes(content[:-1])
        case "other":
            arguments += ["--set", "seed=1"]
        case "unsigned":
            settings = {"DRIFTLINE_SNAPSHOT_KEY": "a key of the deployment"}
        case "older":
            manifest, frozen = parse(content)
            made = {**manifest.versions, "river": "0.1.0"}
            model_file.write_bytes(encode_model(structs.replace(manifest, versions=made), frozen, NO_KEYS))
    done = run(*arguments, "load", model_file, **settings)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr


async def test_a_topic_that_forgets_its_commands_is_told_of(
    kafka: KafkaNode, pipeline_file: Path, rows_file: Path
) -> None:
    pipeline_file.write_text(pipeline_file.read_text().replace("pipeline: cards", "pipeline: forgetful"))
    model = rows_file.with_name("model.bin")
    assert run("train", "-p", pipeline_file, "--input", rows_file, "--label", "fraud", "-o", model).returncode == 0
    kafka.create_topics({"forgetful.control": 1})  # with the broker's own retention, a week
    where = ("-p", pipeline_file, "--bootstrap", kafka.bootstrap, "--no-wait")
    done = await asyncio.to_thread(run, "control", *where, "load", model)
    assert done.returncode == 0, done.stderr
    assert "note: forgetful.control: retention.ms is 604800000 and should be -1" in done.stderr


async def test_a_topic_that_takes_no_record_as_large(kafka: KafkaNode, pipeline_file: Path, rows_file: Path) -> None:
    pipeline_file.write_text(pipeline_file.read_text().replace("pipeline: cards", "pipeline: small-records"))
    model = rows_file.with_name("model.bin")
    assert run("train", "-p", pipeline_file, "--input", rows_file, "--label", "fraud", "-o", model).returncode == 0
    config = {"max.message.bytes": "2000"}
    async with admin(client_options(settings_of(kafka.bootstrap))) as client:
        await client.create_topics([NewTopic("small-records.control", 1, 1, topic_configs=config)])
    done = await asyncio.to_thread(run, "control", "-p", pipeline_file, "--bootstrap", kafka.bootstrap, "load", model)
    assert done.returncode == 3
    assert "a record is too large for small-records.control" in done.stderr
    assert "Try again" in done.stderr


def test_a_file_without_end_is_no_model() -> None:
    """Its size says nothing of it."""
    with pytest.raises(InputFileError, match="too large"):
        content_of(Path("/dev/zero"))
