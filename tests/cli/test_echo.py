"""What commands print commands no terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from driftline import cli
from driftline.cli import Commands
from driftline.cli.echo import echo, show
from driftline.core.error import InputFileError
from driftline.operate.stray import STRAYS_MAX
from tests.cli.command import run

HOSTILE = "a\tb\x1b[2Jc\rd\u009b31m\u202e\u2028\x00"
SHOWN = "a\tb\\u001b[2Jc\\u000dd\\u009b31m\\u202e\\u2028\\u0000"


def test_control_characters_are_written_as_json_writes_them(capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"{HOSTILE}\nnext")
    echo(HOSTILE.encode(), err=True)
    out, err = capsys.readouterr()
    assert out == f"{SHOWN}\nnext\n"
    assert err == f"{SHOWN}\n"


@pytest.mark.parametrize("error", [InputFileError(HOSTILE), click.UsageError(HOSTILE)])
def test_so_are_those_of_errors(error: Exception) -> None:
    @click.group(cls=Commands)
    def group() -> None:
        raise error

    found = CliRunner().invoke(group, ["topics"], catch_exceptions=False)
    assert SHOWN in found.output
    assert "\x1b" not in found.output


def test_nothing_is_printed_otherwise() -> None:
    folder = Path(cli.__file__).parent
    modules = [path for path in folder.rglob("*.py") if path.name != "echo.py"]
    assert len(modules) > 40
    printing = (" click.echo(", " click.secho(", " print(")
    assert [path.name for path in modules for what in printing if what in path.read_text()] == []


def test_so_are_those_of_warnings_and_a_flood_of_them_is_cut() -> None:
    """As of a snapshot of someone's that is refused, and says what it names."""
    program = f"""
import logging
import driftline.cli as cli
cli.main(["--help"], standalone_mode=False)
cli.main.callback()
for _ in range(1_000):
    logging.getLogger("driftline.engine.recovery").warning("shard %d: refused: %s", 0, {HOSTILE!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert f"shard 0: refused: {SHOWN}\n" in done.stderr
    assert "\x1b" not in done.stderr
    assert len(done.stderr.splitlines()) == STRAYS_MAX


@pytest.mark.parametrize("indent", [2, -1])
def test_halves_of_characters_are_json_too(indent: int, capsys: pytest.CaptureFixture[str]) -> None:
    """As of a file whose name is no UTF-8."""
    show({"file": "\udcff\x1b"}, tuple, as_json=True, indent=indent)
    assert json.loads(capsys.readouterr().out) == {"file": "\udcff\x1b"}


def test_an_id_that_is_no_text_is_refused() -> None:
    found = run("explain", "--event", "a\udcff", "--bootstrap", "127.0.0.1:1")
    assert found.returncode == 2
    assert "is not text in UTF-8" in found.stderr


def test_so_are_those_of_an_exception_that_nothing_foresaw(tmp_path: Path) -> None:
    program = f"""
import driftline.__main__ as command
def main(**_): raise RuntimeError({HOSTILE!r})
command.main = main
command.run()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert f"RuntimeError: {SHOWN}" in done.stderr
    assert "\x1b" not in done.stderr
