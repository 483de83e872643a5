"""The command as a whole: quick help, and every way to end with its own exit code and one clear message."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import driftline.core.error as errors
from driftline.cli import COMMANDS, COMPILED, Commands, main
from driftline.cli.option import DURATION
from driftline.core.error import DriftlineError
from tests.cli.command import COMMAND, ROOT, environment, run, run_process

HEAVY = ("river", "faust", "aiokafka", "numpy", "pydantic", "rich")


def raising(error: BaseException) -> click.Group:
    """A group with one command that raises."""

    @click.group(cls=Commands)
    def group() -> None:
        """A group."""

    @click.command("break")
    def broken() -> None:
        raise error

    group.get_command = lambda ctx, cmd_name: broken  # type: ignore[method-assign]  # instead of the table
    return group


def test_version_names_a_compiled_part_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert tuple(part["name"] for part in project["tool"]["setuptools"]["ext-modules"]) == COMPILED

    monkeypatch.setattr("driftline.cli.find_spec", lambda name: not name.endswith("_leaf"))
    assert "compiled part missing" in CliRunner().invoke(main, ["--version"]).output
    monkeypatch.setattr("driftline.cli.find_spec", lambda name: True)
    assert "compiled part missing" not in CliRunner().invoke(main, ["--version"]).output


def test_help_lists_the_commands_without_loading_them() -> None:
    code = (
        "import sys\nfrom driftline.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    assert done.stderr.strip() == "[]"
    for command in ("produce", "tail", "topics", "broker"):
        assert f"  {command}" in done.stdout


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_loads_and_explains_itself(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert len(done.output.splitlines()) > 3


def test_every_command_of_the_table_is_there() -> None:
    assert main.list_commands(click.Context(main)) == list(COMMANDS)


@pytest.mark.parametrize(
    "kind", [errors.SettingsError, errors.BrokerError, errors.RecoveryError, errors.InvariantError]
)
def test_an_error_is_one_message_and_its_exit_code(kind: type[DriftlineError]) -> None:
    done = CliRunner().invoke(raising(kind("it is so; do this")), ["break"])
    assert done.exit_code == kind.exit_code
    assert done.stderr == "Error: it is so; do this\n"
    assert done.stdout == ""


def test_an_interrupt_is_130_and_silent() -> None:
    done = CliRunner().invoke(raising(KeyboardInterrupt()), ["break"])
    assert done.exit_code == 130
    assert "Traceback" not in done.output
    assert "Aborted" not in done.output


def test_an_unknown_command_is_wrong_usage() -> None:
    done = CliRunner().invoke(main, ["prodce"])
    assert done.exit_code == 2
    assert "No such command 'prodce'" in done.stderr


def test_no_pipeline_no_file_wrong_file_and_no_broker(tmp_path: Path, pipeline_file: Path) -> None:
    none = run("topics", "check")
    assert (none.returncode, none.stdout) == (2, "")
    assert "give its file with -p FILE" in none.stderr
    missing = run("topics", "check", "-p", tmp_path / "none.yaml")
    assert missing.returncode == 2
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("pipeline: UPPER\n")
    assert run("topics", "check", "-p", wrong).returncode == 2
    away = run_process("topics", "check", "-p", pipeline_file, "--bootstrap", "127.0.0.1:1")
    assert away.returncode == 3
    assert away.stderr.startswith("Error: cannot reach Kafka at 127.0.0.1:1")
    assert len(away.stderr.splitlines()) == 1


def test_a_wrong_setting_of_the_environment_is_named() -> None:
    done = run("topics", "check", DRIFTLINE_SECURITY_PROTOCOL="TLS")
    assert done.returncode == 2
    assert "DRIFTLINE_SECURITY_PROTOCOL" in done.stderr


def test_a_worker_that_is_told_to_stop_while_it_loads_stops_in_good_order(tmp_path: Path) -> None:
    """As a supervisor does that changes its mind; the first process of a container has no default for SIGTERM."""
    (tmp_path / "faust.py").write_text("import signal\nprint('loading', flush=True)\nwhile True: signal.pause()\n")
    with subprocess.Popen(
        [*COMMAND, "worker"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(PYTHONPATH=f"{tmp_path}:{ROOT}"),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.terminate()
        told = process.communicate(timeout=10)[1]
    assert (process.returncode, told) == (0, "stopped before it began\n")


@pytest.mark.parametrize(
    ("river", "known"),
    [("0.25.0", False), ("0.26.0", False), ("0.26.1", True), ("0.26.7", True), ("0.27.0", False), ("1.0", False)],
)
def test_an_unknown_river_is_one_sentence(monkeypatch: pytest.MonkeyPatch, river: str, known: bool) -> None:
    monkeypatch.setattr("driftline.cli.metadata.version", lambda name: river)
    done = CliRunner().invoke(main, ["status", "--help"])
    assert (done.exit_code == 0) == known
    if not known:
        assert done.exit_code == 2
        assert f"needs River >= 0.26.1 and < 0.27, but {river} is installed" in done.output
        assert "Traceback" not in done.output


def test_without_river_the_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("driftline.cli.metadata.version", missing)
    assert "but none is installed" in CliRunner().invoke(main, ["status", "--help"]).output


@pytest.mark.parametrize(("text", "wanted"), [("7d", 604_800_000), ("0", 0), ("7", None), ("7 days", None)])
def test_a_duration_has_its_unit(text: str, wanted: int | None) -> None:
    if wanted is not None:
        assert DURATION.convert(text, None, None) == wanted
        return
    with pytest.raises(click.BadParameter, match="a whole number with a unit"):
        DURATION.convert(text, None, None)
