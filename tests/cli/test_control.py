"""`driftline control` writes each command to every partition, and says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from app.broker.kafka import KafkaNode
from app.codec.decode import Decoder
from app.core.record import Control, Source
from app.engine.client import Arrival
from tests.cli.command import run
from tests.support.schema import faults
from tests.support.small import small
from tests.support.stream import read

EPISODE = "cards-1-error-l7"
WRITTEN = "written for 3 shards of cards"


async def test_every_partition_gets_the_command(kafka: KafkaNode, pipeline_file: Path) -> None:
    kafka.create_topics({"cards.control": 3})
    where = ("-p", pipeline_file, "--bootstrap", kafka.bootstrap)
    decoder = Decoder(small())
    found: list[Arrival] = []
    for number, (arguments, said) in enumerate(
        [
            (("freeze",), f"freeze: {WRITTEN}"),
            (("unfreeze",), f"unfreeze: {WRITTEN}"),
            (("reset",), f"reset: {WRITTEN}"),
            (("snapshot",), f"snapshot: {WRITTEN}"),
            (("acknowledge", EPISODE), f"acknowledge {EPISODE}: {WRITTEN}"),
            (
                ("silence", EPISODE, "--for", "90m"),
                f"silence {EPISODE} for 90m of event time: written for 3 shards of cards",
            ),
        ]
    ):
        done = await asyncio.to_thread(run, "control", *where, *arguments)
        assert (done.returncode, done.stdout.strip()) == (0, said)
        found = await read(kafka.bootstrap, "cards.control")
        assert sorted((one.partition, one.offset) for one in found) == [
            (partition, offset) for partition in range(3) for offset in range(number + 1)
        ]
        for one in found:
            assert not faults("control", orjson.loads(one.value or b""))
            made = decoder.control(Source("p.control", 0, 0, one.time_ms, None, one.value))
            assert isinstance(made, Control)
    last = orjson.loads(found[-1].value or b"")
    assert last == {"command": "silence", "episode": EPISODE, "for_ms": 5_400_000}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("explode",), 2, "No such command"),
        (("acknowledge",), 2, "Missing argument 'EPISODE'"),
        (("acknowledge", "other-0-error-l1"), 2, "is no episode of cards"),
        (("silence", EPISODE), 2, "--for"),
        (("silence", EPISODE, "--for", "soon"), 2, "is no duration"),
        (("silence", EPISODE, "--for", "0"), 2, "longer than 0"),
        (("silence", EPISODE, "--for", "366d"), 2, "at most 365d"),
    ],
)
def test_wrong_usage(pipeline_file: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = run("control", "-p", pipeline_file, "--bootstrap", "127.0.0.1:1", *arguments)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr


async def test_a_pipeline_without_topics(kafka: KafkaNode, pipeline_file: Path) -> None:
    where = ("-p", pipeline_file, "--bootstrap", kafka.bootstrap, "--set", "pipeline=none-such")
    done = await asyncio.to_thread(run, "control", *where, "freeze")
    assert done.returncode == 3
    assert "no topic none-such.control" in done.stderr
