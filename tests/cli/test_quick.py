"""Commands that need no model answer at once: they load no River, and nothing that comes with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.broker.embedded import EmbeddedNode
from tests.cli.command import TIMEOUT_S, environment

HEAVY = frozenset({"river", "scipy", "sklearn", "pandas", "numpy", "plotly", "pyarrow", "faust", "aiohttp"})
CLOSED = ("--bootstrap", "127.0.0.1:1")

_RUN = """
import sys
from app.cli.__main__ import run
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


@pytest.mark.parametrize("command", [("status",), ("tail", "scores"), ("topics", "check"), ("topics", "create")])
def test_what_only_asks_kafka_loads_no_river(command: tuple[str, ...], pipeline_file: Path) -> None:
    done, modules = loaded(*command, "-p", pipeline_file, *CLOSED)
    assert done.returncode == 3
    assert "cannot reach Kafka at 127.0.0.1:1" in done.stderr
    assert modules & HEAVY == set()
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
    assert "did you mean 'binary'? (line 2 of the file)" in done.stderr
    assert modules & HEAVY == set()
