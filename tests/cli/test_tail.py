"""`driftline tail`: JSON lines, committed ones only where that is promised, from where one asks."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from driftline.cli.tail import PrettyAlerts, plain_line, rejected_line
from driftline.devbroker.embedded import EmbeddedNode
from driftline.devbroker.kafka import KafkaNode
from driftline.kafka.client import Arrival, producer
from tests.cli.command import COMMAND, TIMEOUT_S, environment, line, run, start

pytestmark = pytest.mark.slow

Header = tuple[str, bytes]


async def send(bootstrap: str, topic: str, records: Sequence[bytes], headers: Sequence[Header] = ()) -> None:
    async with producer({"bootstrap_servers": bootstrap}, acks="all") as sender:
        for record in records:
            await sender.send_and_wait(topic, record, key=b"k", headers=list(headers), partition=0)


def values(*numbers: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in numbers]


async def test_from_the_beginning_to_a_limit(embedded: EmbeddedNode, pipeline_file: Path) -> None:
    await send(embedded.bootstrap, "cards.scores", values(1, 2, 3))
    where = ("-p", pipeline_file, "--bootstrap", embedded.bootstrap, "--from-beginning")
    done = await asyncio.to_thread(run, "tail", "scores", *where, "--limit", "2")
    assert (done.returncode, done.stdout) == (0, '{"n":1}\n{"n":2}\n')


async def test_a_time_out_without_what_was_asked_for_ends_in_1(embedded: EmbeddedNode, pipeline_file: Path) -> None:
    await send(embedded.bootstrap, "cards.scores", values(1))
    where = ("-p", pipeline_file, "--bootstrap", embedded.bootstrap)
    none = await asyncio.to_thread(run, "tail", "scores", *where, "--limit", "1", "--timeout", "1")
    assert (none.returncode, none.stdout) == (1, "")  # the record was there before
    all_of_it = await asyncio.to_thread(run, "tail", "scores", *where, "--from-beginning", "--timeout", "1")
    assert (all_of_it.returncode, all_of_it.stdout) == (0, '{"n":1}\n')


async def test_a_topic_that_comes_later_is_waited_for(
    embedded: EmbeddedNode, pipeline_file: Path, started: list[subprocess.Popen[str]]
) -> None:
    process = start("tail", "alerts", "-p", pipeline_file, "--bootstrap", embedded.bootstrap, "--limit", "2")
    started.append(process)
    said = await asyncio.to_thread(line, process, "stderr")
    assert said == "topic cards.alerts does not exist yet; waiting for it\n"
    await send(embedded.bootstrap, "cards.alerts", values(7))
    assert await asyncio.to_thread(line, process, "stdout") == '{"n":7}\n'  # at once, with the pipe still open
    await send(embedded.bootstrap, "cards.alerts", values(8))
    stdout, _ = await asyncio.to_thread(process.communicate, None, TIMEOUT_S)
    assert (process.returncode, stdout) == (0, '{"n":8}\n')


async def test_an_interrupt_ends_in_130(
    embedded: EmbeddedNode, pipeline_file: Path, started: list[subprocess.Popen[str]]
) -> None:
    process = start("tail", "alerts", "-p", pipeline_file, "--bootstrap", embedded.bootstrap)
    started.append(process)
    await asyncio.to_thread(line, process, "stderr")
    process.send_signal(signal.SIGINT)
    stdout, stderr = await asyncio.to_thread(process.communicate, None, TIMEOUT_S)
    assert (process.returncode, stdout) == (130, "")
    assert "Traceback" not in stderr


async def test_a_reader_that_goes_away_is_no_fault(embedded: EmbeddedNode, pipeline_file: Path) -> None:
    await send(embedded.bootstrap, "cards.scores", values(*range(2_000)))
    command = shlex.join([*COMMAND, "tail", "scores", "-p", str(pipeline_file), "--bootstrap", embedded.bootstrap])
    done = await asyncio.to_thread(
        subprocess.run,
        ["/bin/bash", "-c", f"{command} --from-beginning | head -n 1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env=environment(),
    )
    assert done.stdout == '{"n":0}\n'
    assert done.stderr == ""
    assert done.returncode == 141


async def test_rejected_shows_the_reason_the_position_and_the_bytes(
    embedded: EmbeddedNode, pipeline_file: Path
) -> None:
    headers = [
        ("driftline.reason", b"not_json"), ("driftline.topic", b"cards.events"), ("driftline.partition", b"2"),
        ("driftline.offset", b"41"), ("trace", b"abc"),
    ]  # fmt: skip
    await send(embedded.bootstrap, "cards.rejected", [b"oops \xc3\xa9", b"\xff\x00"], headers)
    where = ("-p", pipeline_file, "--bootstrap", embedded.bootstrap, "--from-beginning", "--limit", "2")
    done = await asyncio.to_thread(run, "tail", "rejected", *where)
    text, binary = map(json.loads, done.stdout.splitlines())
    assert (text["reason"], text["topic"], text["partition"], text["offset"]) == (
        "not_json", "cards.events", 2, 41,
    )  # fmt: skip
    assert (text["key"], text["value"], text["headers"]) == ("k", "oops é", {"trace": "abc"})
    assert binary["value_base64"] == "/wA="


def test_a_rejected_tombstone_has_no_value() -> None:
    shown = json.loads(rejected_line(Arrival(0, 0, 5, None, None, (("driftline.reason", b"tombstone"),))))
    assert shown == {"reason": "tombstone", "record_time_ms": 5, "key": None, "value": None}


async def test_kafka_shows_committed_records_only_with_exactly_once(kafka: KafkaNode, pipeline_file: Path) -> None:
    kafka.create_topics({"isolated.scores": 1})
    options = {"bootstrap_servers": kafka.bootstrap}
    async with producer(options, transactional_id="isolated") as sender:
        await sender.begin_transaction()
        await sender.send_and_wait("isolated.scores", b'{"n":"aborted"}', partition=0)
        await sender.abort_transaction()
        async with sender.transaction():
            await sender.send_and_wait("isolated.scores", b'{"n":"kept"}', partition=0)
    where = ("-p", pipeline_file, "--bootstrap", kafka.bootstrap, "--set", "pipeline=isolated")
    tail = ("tail", "scores", *where, "--from-beginning", "--timeout", "2")
    exact = await asyncio.to_thread(run, *tail, "--set", "delivery=exactly_once")
    assert exact.stdout == '{"n":"kept"}\n'
    loose = await asyncio.to_thread(run, *tail)
    assert loose.stdout == '{"n":"aborted"}\n{"n":"kept"}\n'


def shown(*, to: PrettyAlerts | None = None, **changes: object) -> str:
    alert = {
        "pipeline": "card-fraud", "episode": "card-fraud-1-error-l7", "state": "opened", "kind": "concept_drift",
        "severity": "critical", "audience": ["data_science", "operations"], "time_ms": 1_700_000_000_000,
        "opened_ms": 1_700_000_000_000, "acknowledged": False, "silenced": False, "flapping": False,
        "sentence": "Since about 1,312 labels ago, card-fraud has been wrong more often: 2.1% before, 9.8% now.",
        "runbook": "docs/runbook.md#concept-drift", **changes,
    }  # fmt: skip
    return (to or PrettyAlerts()).shape(Arrival(0, 0, 5, None, json.dumps(alert).encode(), ()))


def test_alerts_of_one_change_are_told_as_one() -> None:
    to = PrettyAlerts()
    shown(to=to)
    other = shown(to=to, episode="card-fraud-0-score-e9", kind="score_drift", opened_ms=1_700_000_060_000)
    assert other.splitlines()[-2:] == [
        "  episode card-fraud-0-score-e9",
        "  of the same change as card-fraud-1-error-l7",
    ]
    assert "what to do" in shown(to=to, state="ongoing")
    for kind, later_ms in (("throughput", 0), ("concept_drift", 2 * 3_600_000)):
        apart = shown(to=to, episode=f"card-fraud-1-{kind}-x", kind=kind, opened_ms=1_700_000_000_000 + later_ms)
        assert "what to do" in apart, kind


def test_a_kind_has_one_name_for_people() -> None:
    assert "warning  suspect labels  opened" in shown(kind="quarantine", severity="warning").splitlines()[0]


def test_an_alert_for_people() -> None:
    assert shown() == (
        "! 2023-11-14 22:13:20  critical  concept drift  opened\n"
        "  Since about 1,312 labels ago, card-fraud has been wrong more often: 2.1%\n"
        "  before, 9.8% now.\n"
        "  for data science, operations\n"
        "  episode card-fraud-1-error-l7\n"
        "  what to do: docs/runbook.md#concept-drift\n"
    )
    over = shown(state="resolved", time_ms=1_700_100_000_000, acknowledged=True)
    assert over.startswith("= 2023-11-16 02:00:00  over  concept drift  resolved  acknowledged after 1d 3h\n")


def test_an_alert_for_people_fits_and_writes_over_nothing() -> None:
    long = shown(sentence="x" * 300 + " \x1b[2J\r\n" + "größe " * 40, episode="e" * 200, runbook="https://" + "r" * 200)
    assert max(map(len, long.splitlines())) <= 80
    assert "\x1b" not in long
    assert "\r" not in long
    assert shown(time_ms=None).startswith("! -  critical")


def test_what_is_no_alert_is_shown_as_it_is() -> None:
    for value in (b'{"stub": "too large"}', b"null", b"[]", b"\xff", b'{"time_ms": 1e99}'):
        made = PrettyAlerts().shape(Arrival(0, 0, 5, None, value, ()))
        assert made.startswith("? ")
    assert PrettyAlerts().shape(Arrival(0, 0, 5, None, None, ())) == "? null"
    assert shown(time_ms=10**18).startswith("? ")


def test_no_line_writes_over_what_a_terminal_shows() -> None:
    """In JSON an escaped control character is the same text; one in a number of a stranger's is no number."""
    for value in (b'{"id":"\xc2\x9b2J\x7f"}', b"\x1b[2J\n{}", b"\r"):
        assert plain_line(Arrival(0, 0, 5, None, value, ())).isprintable()
    assert json.loads(plain_line(Arrival(0, 0, 5, None, b'{"id":"\xc2\x9b2J"}', ()))) == {"id": "\x9b2J"}
    headers = (("driftline.offset", b"9" * 5_000), ("driftline.partition", b"x"))
    line = rejected_line(Arrival(0, 0, 5, None, "\x9b2J".encode(), headers))
    assert line.isprintable()
    assert (json.loads(line)["value"], json.loads(line)["partition"]) == ("\x9b2J", "x")


def test_only_alerts_are_pretty(pipeline_file: Path) -> None:
    done = run("tail", "scores", "--pretty", "-p", pipeline_file)
    assert done.returncode == 2
    assert "only works for alerts" in done.stderr


def test_what_is_nested_too_deep_to_be_read_is_shown_as_it_is() -> None:
    for value in (b"[" * 100_000, b'{"a":' * 100_000):
        assert PrettyAlerts().shape(Arrival(0, 0, 0, None, value, [])).startswith("? ")
