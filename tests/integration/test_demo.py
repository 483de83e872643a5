"""`driftline demo` does what it shows, ends by itself, and leaves nothing running, however it ends."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.command import POLL_S, Command, fetch, until
from tests.support.family import Known, alive, command_of, descendants

PAYMENTS = 20_000
RATE = 4_000
TIMEOUT_S = 150.0
GONE_S = 20.0


def demo(folder: Path, *flags: str | int) -> Command:
    place = folder / "tmp"
    place.mkdir()
    what = ("demo", "--json", "--payments", PAYMENTS, "--rate", RATE, *flags)
    return Command(folder, *what, name="demo", changes={"TMPDIR": str(place)})


def family_until(running: Command, many: int) -> set[Known]:
    """Wait until the demo has started so many processes."""
    family: set[Known] = set()

    def grown() -> bool:
        family.update(descendants(running.process.pid))
        return len(alive(family)) >= many

    running.until(grown, TIMEOUT_S, f"it has {many} processes")
    return family


def worker_of(running: Command) -> tuple[int, set[Known]]:
    """The web port of its worker and all of its processes, once the worker is no mere fork of the demo."""
    family: set[Known] = set()
    ports: list[int] = []

    def named() -> bool:
        family.update(descendants(running.process.pid))
        commands = [re.search(r"worker .* --web-port (\d+)", command_of(known)) for known in family]
        ports[:] = [int(found[1]) for found in commands if found]
        return bool(ports)

    running.until(named, TIMEOUT_S, "its worker runs")
    (port,) = set(ports)
    return port, family


def check_gone(family: set[Known]) -> None:
    until(lambda: not alive(family), GONE_S, "none of its processes is left", lambda: str(alive(family)))


def check_story(running: Command, family: set[Known]) -> None:
    """Let it come to its end, and check what it tells."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while running.process.poll() is None and time.monotonic() < deadline_s:
        family |= descendants(running.process.pid)
        time.sleep(POLL_S * 5)
    assert running.end(0) == 0, running.last_words()
    story: dict[str, Any] = orjson.loads(running.output())
    assert story["scored"] == story["labels_joined"] == story["payments"] == PAYMENTS
    assert story["rejected"] == 0
    assert story["alerts"]
    assert all(0 < alert["labels_after_change"] < 1_000 for alert in story["alerts"])
    assert story["rolling_accuracy"]["worst"] < story["rolling_accuracy"]["before"]
    check_gone(family)
    assert not list((running.log_file.parents[1] / "tmp").iterdir())


def test_embedded(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        check_story(running, family_until(running, 2))


def test_spam_in_new_words_alerts_before_its_labels(tmp_path: Path) -> None:
    with demo(tmp_path, "--case", "spam") as running:
        running.until(lambda: running.process.poll() is not None, TIMEOUT_S, "it has ended")
        assert running.end(0) == 0, running.last_words()
        story: dict[str, Any] = orjson.loads(running.output())
    assert story["scored"] == story["labels_joined"] == story["messages"]
    first = story["alerts"][0]
    assert 0 < first["messages_after_change"] < 900  # labels come 900 messages later
    assert "words" in first["sentence"]
    assert story["rolling_f1"]["worst"] < story["rolling_f1"]["end"]


def test_real_kafka(kafka_needs: None, tmp_path: Path) -> None:
    with demo(tmp_path, "--kind", "kafka") as running:
        check_story(running, family_until(running, 3))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminated"])
def test_stopped_in_the_middle(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path) as running:
        port, family = worker_of(running)
        running.until(lambda: (fetch(port, "/health/ready") or (0, ""))[0] == 200, TIMEOUT_S, "the worker works")
        running.signal(number)
        assert running.end(GONE_S) == 130
        check_gone(family)
    assert not list((tmp_path / "tmp").iterdir()), "nor is its folder"
