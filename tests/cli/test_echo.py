"""What commands print commands no terminal."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from driftline import cli
from driftline.cli import Commands
from driftline.cli.echo import echo
from driftline.core.error import InputFileError

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
