"""`driftline produce`: what goes out, what is said about it, and what ends it."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from driftline.devbroker.embedded import EmbeddedNode
from driftline.devbroker.kafka import KafkaNode
from tests.cli.command import line, run, start
from tests.ingest.test_feed import arrived, in_order

pytestmark = pytest.mark.slow


def test_rows_go_out_as_events_and_labels(embedded: EmbeddedNode, pipeline_file: Path, rows_file: Path) -> None:
    done = run(
        "produce", "-p", pipeline_file, "--bootstrap", embedded.bootstrap, "--input", rows_file,
        "--label", "fraud", "--start", "2023-11-14T22:13:20Z", "--step", "1s", "--label-delay", "90s", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["rows"], shown["events"], shown["labels"], shown["bad_rows"]) == (200, 200, 200, 0)
    assert (shown["first_ms"], shown["last_ms"]) == (1_700_000_000_000, 1_700_000_199_000)


async def test_what_a_reader_gets(embedded: EmbeddedNode, pipeline_file: Path, rows_file: Path) -> None:
    """Without times: they end now. The file may be packed. --limit holds."""
    packed = rows_file.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(rows_file.read_bytes()))
    where = ("-p", pipeline_file, "--bootstrap", embedded.bootstrap)
    options = ("--input", packed, "--label", "fraud", "--limit", "50", "--label-delay", "1m")
    done = await asyncio.to_thread(run, "produce", *where, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sent 50 events to cards.events and 50 labels to cards.labels in ")
    events = await arrived(embedded.bootstrap, "cards.events", 50)
    labels = await arrived(embedded.bootstrap, "cards.labels", 50)
    assert in_order(events)
    assert in_order(labels)
    one = next(event for event in events if event.key == b"t4")
    assert json.loads(one.value or b"") == {"id": "t4", "amount": 6.0, "country": "NL"}
    its = next(label for label in labels if label.key == b"t4")
    assert json.loads(its.value or b"") == {"id": "t4", "fraud": 0}
    assert (its.partition, its.time_ms) == (one.partition, one.time_ms + 60_000)


def test_bad_rows_are_named_and_end_in_1(embedded: EmbeddedNode, pipeline_file: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"id": "a", "amount": 1, "country": "x", "fraud": 1}\nnonsense\n'
        '{"id": "b", "amount": 2, "country": "x", "fraud": 0}\n'
    )
    where = ("-p", pipeline_file, "--bootstrap", embedded.bootstrap)
    done = run("produce", *where, "--input", rows, "--label", "fraud")
    assert done.returncode == 1
    assert "line 2: is not JSON" in done.stderr
    assert "sent 2 events" in done.stdout


SLATES = """
pipeline: news
task: recommend
event: {id: request, time: at, features: {reader: string}}
label: {id: request, item: item, value: click, time: at, wait: 10m}
recommend: {catalogue: [a, b, c], slate: 2, policy: uniform}
model: Popularity()
"""


def slates(folder: Path) -> tuple[Path, Path, Path]:
    """A pipeline that recommends, requests with what was shown, and rewards: of some two, of some none."""
    pipeline, requests, rewards = folder / "news.yaml", folder / "requests.jsonl", folder / "rewards.jsonl"
    pipeline.write_text(SLATES)
    shown = [{"item": item, "propensity": 0.5} for item in "ab"]
    at = 1_700_000_000_000
    rows = [{"request": f"r{number}", "at": at + number * 1_000, "reader": "x", "shown": shown} for number in range(30)]
    requests.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    earned = [
        {"request": f"r{number}", "item": item, "click": 1, "at": at + number * 1_000 + 5_500}
        for number in range(0, 30, 2)
        for item in ("a", "b")
    ]
    rewards.write_text("".join(f"{json.dumps(row)}\n" for row in earned))
    return pipeline, requests, rewards


async def test_labels_of_a_file_of_their_own_go_out_between_the_events(embedded: EmbeddedNode, tmp_path: Path) -> None:
    pipeline, requests, rewards = slates(tmp_path)
    where = ("-p", pipeline, "--bootstrap", embedded.bootstrap)
    done = await asyncio.to_thread(run, "produce", *where, "--input", requests, "--labels", rewards)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sent 30 events to news.events and 30 labels to news.labels in ")
    events = await arrived(embedded.bootstrap, "news.events", 30)
    labels = await arrived(embedded.bootstrap, "news.labels", 30)
    assert in_order(events)
    assert in_order(labels)
    assert json.loads(events[0].value or b"")["shown"][0] == {"item": "a", "propensity": 0.5}
    sent = [json.loads(label.value or b"") for label in labels if label.key == b"r4"]
    assert [one["item"] for one in sent] == ["a", "b"]
    partition = {event.key: event.partition for event in events}
    assert all(label.partition == partition[label.key] for label in labels)
    assert all(label.time_ms == json.loads(label.value or b"")["at"] for label in labels)


def test_labels_that_cannot_be_used_are_named(embedded: EmbeddedNode, tmp_path: Path) -> None:
    pipeline, requests, rewards = slates(tmp_path)
    with rewards.open("a") as file:
        file.write('{"item": "a", "click": 1, "at": 1700000090000}\n{"request": "r1", "item": "a", "click": 1}\n')
    where = ("-p", pipeline, "--bootstrap", embedded.bootstrap, "--input", requests)
    done = run("produce", *where, "--labels", rewards)
    assert done.returncode == 1
    assert "line 31: no id in 'request'" in done.stderr
    assert "line 32: the time in 'at'" in done.stderr
    shown = json.loads(run("produce", *where, "--labels", rewards, "--json").stdout)
    assert (shown["bad_rows"], [line.partition(":")[0] for line in shown["bad_lines"]]) == (2, ["line 31", "line 32"])
    done = run("produce", *where, "--labels", rewards, "--label", "click")
    assert done.returncode == 2
    assert "--labels excludes --label" in done.stderr
    assert "or their file with --labels FILE" in run("produce", *where).stderr


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--label", "frud"), 2, "no column 'frud' (--label)"),
        (("--label", "fraud", "--time", "at"), 2, "no column 'at' (--time)"),
        ((), 2, "--label FIELD"),
        (("--label", "fraud", "--time", "id", "--step", "1s"), 2, "--time excludes"),
        (("--label", "fraud", "--rate", "0"), 2, "is not a rate"),
        (("--label", "fraud", "--start", "soon"), 2, "is not ISO 8601"),
        (("--label", "fraud", "--step", "1 fortnight"), 2, "is not a duration"),
        (("--label", "fraud", "--bootstrap", "127.0.0.1:1"), 3, "cannot reach Kafka"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_one_clear_error(
    pipeline_file: Path, rows_file: Path, options: tuple[str, ...], code: int, words: str
) -> None:
    done = run("produce", "-p", pipeline_file, "--input", rows_file, *options)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_without_labels_is_an_error(embedded: EmbeddedNode, pipeline_file: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    where = ("-p", pipeline_file, "--bootstrap", embedded.bootstrap)
    for content, told in (
        ('{"id": "a"}\n{"id": "b"}\n', "no line of"),  # nothing is sent
        ('{"id": "a", "amount": 1, "country": "fraud"}\n{"id": "b", "fraud": null}\n', "no row of"),
    ):
        rows.write_text(content)
        done = run("produce", *where, "--input", rows, "--label", "fraud")
        assert done.returncode == 2
        assert told in done.stderr


def test_an_interrupt_ends_in_130(
    embedded: EmbeddedNode, pipeline_file: Path, rows_file: Path, started: list[subprocess.Popen[str]]
) -> None:
    process = start(
        "produce", "-p", pipeline_file, "--bootstrap", embedded.bootstrap, "--input", rows_file,
        "--label", "fraud", "--rate", "2",
    )  # fmt: skip
    started.append(process)
    assert "of 200 rows" in line(process, "stderr")  # the first progress line
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert re.search(r"stopped: \d+ events and \d+ labels of 200 rows were sent", stderr)
    assert "Traceback" not in stderr


def test_kafka_that_would_forget_the_rows_is_an_error(kafka: KafkaNode, pipeline_file: Path, rows_file: Path) -> None:
    where = ("-p", pipeline_file, "--bootstrap", kafka.bootstrap, "--set", "pipeline=forgotten")
    rows = ("--input", rows_file, "--label", "fraud", "--start", "1996-05-07", "--step", "30m")
    missing = run("produce", *where, *rows)
    assert missing.returncode == 3
    assert "driftline topics create" in missing.stderr
    assert run("topics", "create", *where, "--partitions", "1").returncode == 0
    refused = run("produce", *where, *rows)
    assert refused.returncode == 3
    assert "start at 1996-05-07T00:00:00+00:00" in refused.stderr
    assert "--retention unlimited" in refused.stderr


def test_kafka_takes_old_rows_where_topics_keep_them(kafka: KafkaNode, pipeline_file: Path, rows_file: Path) -> None:
    where = ("-p", pipeline_file, "--bootstrap", kafka.bootstrap, "--set", "pipeline=remembered")
    assert run("topics", "create", *where, "--partitions", "2", "--retention", "unlimited").returncode == 0
    rows = ("--input", rows_file, "--label", "fraud", "--start", "1996-05-07", "--step", "30m")
    done = run("produce", *where, *rows, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["labels"] == 200


def test_a_delay_as_long_as_the_wait_is_warned_of(embedded: EmbeddedNode, pipeline_file: Path, rows_file: Path) -> None:
    """And without a worker, nothing is claimed of labels."""
    where = ("-p", pipeline_file, "--bootstrap", embedded.bootstrap, "--set", "label.wait=1h")
    rows = ("--input", rows_file, "--label", "fraud", "--label-delay")
    for delay, told in (
        ("59m", None),
        ("1h", "arrive just as label.wait (1h) ends"),
        ("61m", "arrive after label.wait (1h)"),
    ):
        done = run("produce", *where, *rows, delay, "--json")
        assert done.returncode == 0
        assert (told or "warning") in done.stderr or told is None
        assert ("warning" in done.stderr) == (told is not None)
        assert json.loads(done.stdout)["outcomes"] is None
