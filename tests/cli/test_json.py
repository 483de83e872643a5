"""What every command prints for people it prints for programs, too: under one option, in a published form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from jsonschema import Draft202012Validator

from driftline.cli import main
from tests.cli.command import run
from tests.support.schema import FOLDER

NO_RESULT = {
    "worker": "what it prints is its log: DRIFTLINE_LOG_FORMAT=json",
    "tail": "it prints JSON lines, unless --pretty is given",
}
SENT = ("control", "review")  # commands to the shards, which all print what those made of them


def commands(group: click.Group = main, way: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*way, name))
        else:
            yield (*way, name), command


def definitions() -> dict[str, Any]:
    document = json.loads((FOLDER / "command.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(document)
    found: dict[str, Any] = document["$defs"]
    return found


def check(name: str, text: str) -> Any:
    """Assert that what a command printed is one document of its form; returns it."""
    document = json.loads(text)
    errors = [
        f"{one.json_path}: {one.message}" for one in Draft202012Validator(definitions()[name]).iter_errors(document)
    ]
    assert not errors, (name, errors)
    return document


def test_every_command_has_the_option_and_a_form() -> None:
    forms = definitions()
    for words, command in commands():
        if words[0] in NO_RESULT:
            continue
        assert "--json" in [option for one in command.params for option in one.opts], " ".join(words)
        form = "control" if words[0] in SENT and words != ("review", "list") else " ".join(words)
        assert form in forms, " ".join(words)


def test_every_form_is_that_of_a_command() -> None:
    known = {" ".join(words) for words, _ in commands()} | {"control", "check --against-live"}
    assert definitions().keys() <= known


def test_a_file_is_checked(pipeline_file: Path) -> None:
    found = check("check", run("check", "-p", pipeline_file, "--json", "--no-proof").stdout)
    assert found["pipeline"]["pipeline"] == "cards"
    pipeline_file.write_text("pipeline: cards\n")
    wrong = run("check", "-p", pipeline_file, "--json", "--no-proof")
    assert wrong.returncode == 2
    assert check("check", wrong.stdout)["problems"]


@pytest.mark.parametrize("to_stdout", [False, True])
def test_a_file_is_written(rows_file: Path, tmp_path: Path, to_stdout: bool) -> None:
    out = Path("-") if to_stdout else tmp_path / "new.yaml"
    done = run("init", "--input", rows_file, "--label", "fraud", "-o", out, "--name", "cards", "--no-trial", "--json")
    found = check("init", done.stdout)
    assert (found["pipeline"], found["task"], found["file"], found["trial"]) == ("cards", "binary", str(out), None)
    assert found["text"].startswith("#")
    assert to_stdout or out.read_text("utf-8") == found["text"]


def test_a_model_is_trained(pipeline_file: Path, rows_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "cards.model"
    sent = ("--input", rows_file, "--label", "fraud", "--id", "id")
    found = check("train", run("train", "-p", pipeline_file, *sent, "-o", out, "--json").stdout)
    assert (found["model"], found["rows"], found["file_bytes"]) == (str(out), 200, out.stat().st_size)
