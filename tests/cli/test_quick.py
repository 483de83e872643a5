"""What needs no model answers at once: it loads no River, and nothing that comes with it."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from driftline.cli import main
from driftline.cli.lazy import found
from driftline.devbroker.embedded import EmbeddedNode
from tests.cli.command import TIMEOUT_S, environment

pytestmark = pytest.mark.slow

FOR_ANSWERS = {"rich", "prometheus_client"}  # of what Kafka says, so an outage need not wait for them
HEAVY = frozenset({"river", "scipy", "sklearn", "pandas", "numpy", "plotly", "pyarrow", "faust", "aiohttp", "jinja2"})
SLOW = HEAVY | {"aiokafka", "asyncio", "confluent_kafka", "orjson", "prometheus_client", "pydantic", "rich", "yaml"}
CLOSED = ("--bootstrap", "127.0.0.1:1")

_RUN = """
import sys
from driftline.__main__ import run
try:
    run()
finally:
    print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def loaded(*arguments: str | Path) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run a command in a process of its own; what it loaded by its end, as top-level names."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env=environment(),
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("loaded:"), done.stderr
    return done, set(last.split()[1:])


class Called(NamedTuple):
    """What became of a command."""

    words: list[str]
    code: int
    stdout: str
    stderr: str
    modules: frozenset[str]  # that are loaded since, by it or by one before it


_RUN_EACH = """
import json, sys
from io import StringIO
from driftline.__main__ import run
answer, calls = sys.stdout, json.loads(sys.argv[1])
for words in calls:
    sys.argv, sys.stdout, sys.stderr, code = ["driftline", *words], StringIO(), StringIO(), None
    try:
        run()
    except SystemExit as end:
        code = end.code
    modules = sorted({name.partition(".")[0] for name in sys.modules})
    print(json.dumps([words, code, sys.stdout.getvalue(), sys.stderr.getvalue(), modules]), file=answer)
"""


def loaded_by(calls: Sequence[Sequence[str]]) -> list[Called]:
    """Run commands one after the other in one process, which is quicker; see `Called.modules`."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN_EACH, json.dumps(calls)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
        env=environment(),
    )
    lines = map(json.loads, done.stdout.splitlines())
    called = [Called(words, code, out, err, frozenset(modules)) for words, code, out, err, modules in lines]
    assert len(called) == len(calls)
    return called


def commands(group: click.Group, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*names, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)


COMMANDS = dict(commands(main))


WRONG = """
prodce
--bogus
tail
tail score
topics create --partitions 0
topics create --retention soon
control silence E
control silence E --for soon
control silence E --for 400d
produce
produce --input F --rate 0
produce --input F --time T --start 2026-01-01
worker --web-port x
worker --on-gap go
init --task T
train
train -o M
train -o M --input F --events F
train -o M --events F --label L
train -o M --label-delay 7
train -o M --input F --time-format FORM
check --rate 0
check --label L
check --input F --labels F
export
export -o F --to yesterday
export -o F --from 2026-01-02 --to 2026-01-01
backtest --cost fp
backtest --burn-in x
backtest --grid lr
backtest --id I
backtest --from x
backtest --from offset:x
backtest --from offset:2 --to offset:1
backtest --input F --warm
backtest --events F --step 1s
verify --from x
state save
explain
demo --payments 1
broker --kind none
"""


def test_help_loads_nothing_that_takes_time() -> None:
    for called in loaded_by([[*words, "--help"] for words in ((), *COMMANDS)]):
        assert (called.code, called.stderr) == (0, ""), called.words
        assert called.stdout.startswith("Usage: driftline"), called.words
        assert called.modules & SLOW == set(), called.words


def test_wrong_usage_loads_nothing_that_takes_time() -> None:
    wrong = [line.split() for line in WRONG.split("\n") if line] + [[*words, "--bogus"] for words in COMMANDS]
    for called in loaded_by(wrong):
        assert called.code == 2, called.words
        assert called.stderr.startswith("Usage: driftline"), called.words
        assert called.modules & SLOW == set(), called.words


@pytest.mark.parametrize("words", [words for words, one in COMMANDS.items() if not isinstance(one, click.Group)])
def test_what_a_command_does_takes_what_its_options_give(words: tuple[str, ...]) -> None:
    callback: Any = COMMANDS[words].callback
    place = vars(callback).get("path")
    if place is None:  # freeze and such, which are made in a loop
        assert words[0] == "control"
        return
    takes = set(inspect.signature(found(place)).parameters)
    gives = {one.name for one in COMMANDS[words].params if one.expose_value}
    for name, options in vars(callback).get("together", {}).items():
        takes = takes - {name} | set(options)
    assert takes - {"where"} == gives


@pytest.mark.parametrize("command", [("status",), ("tail", "scores"), ("topics", "check"), ("topics", "create")])
def test_what_only_asks_kafka_loads_no_river(command: tuple[str, ...], pipeline_file: Path) -> None:
    done, modules = loaded(*command, "-p", pipeline_file, *CLOSED)
    assert done.returncode == 3
    assert "cannot reach Kafka at 127.0.0.1:1" in done.stderr
    assert modules & (HEAVY | FOR_ANSWERS) == set()
    assert "aiokafka" in modules  # or nothing was asked


def test_an_answer_of_kafka_needs_no_river(embedded: EmbeddedNode, pipeline_file: Path) -> None:
    where = ("-p", pipeline_file, "--bootstrap", embedded.bootstrap)
    for command in (("topics", "create"), ("topics", "check"), ("status",), ("tail", "scores", "--timeout", "0.1")):
        done, modules = loaded(*command, *where)
        assert done.returncode == 0, done.stderr
        assert modules & HEAVY == set(), command


def test_a_factory_is_not_called_to_ask_kafka(pipeline_file: Path, tmp_path: Path) -> None:
    done, modules = loaded("status", "-p", pipeline_file, "--set", "model=no_such_module:make", *CLOSED)
    assert done.returncode == 3
    assert "no_such_module" not in modules


@pytest.mark.parametrize("command", [("status",), ("tail", "scores"), ("topics", "check")])
def test_a_wrong_file_is_told_without_river(command: tuple[str, ...], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("pipeline: UPPER\ntask: binray\n")
    done, modules = loaded(*command, "-p", wrong)
    assert done.returncode == 2
    assert f"{wrong}:2: task = 'binray'" in done.stderr
    assert modules & HEAVY == set()
