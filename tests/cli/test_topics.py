"""`driftline topics`."""

from __future__ import annotations

import json
from pathlib import Path

from driftline.devbroker.embedded import EmbeddedNode
from driftline.devbroker.kafka import KafkaNode
from tests.cli.command import run


def test_create_says_what_it_made_and_what_was_there(embedded: EmbeddedNode, pipeline_file: Path) -> None:
    where = ("-p", pipeline_file, "--bootstrap", embedded.bootstrap)
    made = run("topics", "create", *where, "--partitions", "2")
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("created") == 9
    again = run("topics", "create", *where, "--json")
    topics = json.loads(again.stdout)["topics"]
    assert {one["created"] for one in topics} == {False}
    of_shards = ("control", "alerts", "journal", "snapshots")
    assert {one["topic"].removeprefix("cards."): one["partitions"] for one in topics} == {
        **dict.fromkeys(("events", "labels", "scores", "outcomes", "rejected"), 2), **dict.fromkeys(of_shards, 1),
    }  # fmt: skip
    checked = run("topics", "check", *where)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_check_ends_in_3_with_every_problem(embedded: EmbeddedNode, pipeline_file: Path) -> None:
    embedded.create_topics({"cards.events": 4, "cards.labels": 2, "cards.scores": 1, "cards.journal": 3})
    where = ("-p", pipeline_file, "--bootstrap", embedded.bootstrap)
    done = run("topics", "check", *where)
    assert (done.returncode, done.stdout) == (3, "")
    assert [line.split(": ")[:2] for line in done.stderr.splitlines()] == [
        ["error", "cards.labels"],
        ["error", "cards.scores"],
    ]
    shown = json.loads(run("topics", "check", *where, "--json").stdout)
    assert shown["ok"] is False
    assert len(shown["problems"]) == 2


def test_kafka_topics_with_a_retention(kafka: KafkaNode, pipeline_file: Path) -> None:
    where = ("-p", pipeline_file, "--bootstrap", kafka.bootstrap, "--set", "pipeline=cli-topics")
    missing = run("topics", "check", *where)
    assert missing.returncode == 3
    assert "cli-topics.events: is missing" in missing.stderr
    assert run("topics", "create", *where, "--partitions", "1", "--retention", "1d").returncode == 0
    warned = run("topics", "check", *where)
    assert warned.returncode == 0
    assert "warning: cli-topics.events: retention.ms is 86400000" in warned.stderr


def test_wrong_retention_is_wrong_usage(pipeline_file: Path) -> None:
    done = run("topics", "create", "-p", pipeline_file, "--retention", "forever")
    assert done.returncode == 2
    assert "not a duration" in done.stderr
