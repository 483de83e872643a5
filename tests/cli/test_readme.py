"""The README's first hour as it stands there: a broker, files, topics, a worker, rows, and what came of them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import Command, environment, fetch, free_port, until
from tests.test_commands import blocks, lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

WITHIN_S = 600.0
RUNS_ON = ("broker", "worker")


def first_hour() -> list[list[str]]:
    """The commands from the README's first broker to its first page, in order."""
    readme = [block for block in blocks() if block.where.startswith("README.md") and block.kind == "sh"]
    commands = [words for block in readme for words in lines(block)]
    first = next(at for at, words in enumerate(commands) if words[:2] == ["driftline", "broker"])
    last = next(at for at, words in enumerate(commands) if words[0] == "curl")
    return commands[first : last + 1]


def test_the_first_hour_of_the_readme(tmp_path: Path) -> None:
    settings = {"DRIFTLINE_WEB_PORT": str(free_port())}
    running: list[Command] = []
    printed: dict[str, str] = {}
    try:
        for program, *words in first_hour():
            if program == "export":
                name = words[0].partition("=")[0]
                settings[name] = address(running[0])
            elif program == "curl":
                page = fetch(int(settings["DRIFTLINE_WEB_PORT"]), "/" + words[-1].partition("/")[2])
                assert page is not None
                printed["curl"] = page[1]
            elif words[0] in RUNS_ON:
                running.append(Command(tmp_path, *words, changes=settings))
            else:
                printed[shlex.join(words[:2])] = finished(words, tmp_path, settings)
        worker = running[1]
        assert worker.process.poll() is None
        assert worker.stop() == 0
    finally:
        for command in reversed(running):
            command.kill()
    opened = [json.loads(line) for line in printed["tail alerts"].splitlines()]
    assert [one["kind"] for one in opened if one["state"] == "opened"], "the demo's drift was alerted"
    assert json.loads(printed["tail scores"])["event_id"]
    assert "card-fraud" in printed["status -p"]
    assert "driftline_metric{" in printed["curl"]


def address(broker: Command) -> str:
    """The address that a broker prints, once it does."""
    until(lambda: ":" in broker.output(), WITHIN_S, "the broker prints its address", broker.last_words)
    return broker.output().split()[-1]


def finished(words: list[str], folder: Path, settings: dict[str, str]) -> str:
    """What a command printed that must end well."""
    done = subprocess.run(
        [sys.executable, "-m", "driftline", *words],
        cwd=folder,
        env=environment(DRIFTLINE_DATA_DIR=str(folder), **settings),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout
