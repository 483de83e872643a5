"""Every command in README and docs exists, with the options it is shown with; what is shown as a file can be read.

A block of README, docs or examples says what it is: `sh`, each line of which is checked here; `yaml` and `json`, which
are read; `text`, which is output. Nothing else passes. Commands in running text are checked as well, as far as they go.
`tests/cli/test_readme.py` runs the README's first hour.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from driftline.cli import main
from driftline.config import read_yaml

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "examples/*/*.md")
DOCUMENTS = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))
BLOCK = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
INLINE = re.compile(r"(?<!`)`(driftline [^`]+)`(?!`)")
PAGES = {"/", "/metrics", "/health/live", "/health/ready", "/runbook"}


class Block(NamedTuple):
    """A fenced block, with its place for the error."""

    where: str
    kind: str
    text: str


def blocks() -> Iterator[Block]:
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        for found in BLOCK.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield Block(f"{path.relative_to(ROOT)}:{line}", found[1].strip(), found[2])


def of_kind(*kinds: str) -> list[Any]:
    return [pytest.param(block, id=block.where) for block in blocks() if block.kind in kinds]


def lines(block: Block) -> Iterator[list[str]]:
    """The words of each command of a block, without comments."""
    for line in block.text.replace("\\\n", " ").splitlines():
        for part in line.split(" | "):
            if words := shlex.split(part, comments=True):
                yield words


def parse(words: list[str], *, whole: bool) -> None:
    """Assert that the words after `driftline` are a command and options that it has.

    Args:
        whole: all that it requires is there; else it is only a mention.
    """
    command: click.Command = main
    context = click.Context(main, info_name="driftline")
    rest = words
    while isinstance(command, click.Group):
        rest = options_of(command, context, rest, whole=whole)
        if not rest:
            return
        name, *rest = rest
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name!r} in {command.name}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    options_of(command, context, rest, whole=whole)


def options_of(command: click.Command, context: click.Context, words: list[str], *, whole: bool) -> list[str]:
    """Assert that a command has the options among these words; returns what is left to the commands of a group."""
    context.resilient_parsing = not whole
    group = isinstance(command, click.Group)
    given, left, order = command.make_parser(context).parse_args(list(words))
    if group:
        return left
    assert not left, f"{command.name} takes no {left}"
    if whole:
        for one in order:
            value, _ = one.consume_value(context, given)
            if value is not None and not isinstance(one.type, click.types.Path | click.types.File):
                one.type_cast_value(context, value)
        missing = [one.name for one in command.params if one.required and one.name not in given]
        assert not missing, f"{command.name} needs {missing}"
    return []


def test_every_block_says_what_it_is() -> None:
    kinds = {block.where: block.kind for block in blocks()}
    assert {where: kind for where, kind in kinds.items() if kind not in ("sh", "yaml", "json", "text")} == {}


@pytest.mark.parametrize("block", of_kind("sh"))
def test_a_command_of_a_block_can_be_given_as_it_stands(block: Block) -> None:
    for words in lines(block):
        check_command(words, block.where)


def check_command(words: list[str], where: str) -> None:
    program, *rest = words
    match program:
        case "driftline":
            parse(rest, whole=True)
        case "make":
            targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
            assert {word for word in rest if "=" not in word} <= targets, where
        case "python":
            assert rest[0] == "-m"
            assert find_spec(rest[1]) is not None, where
        case "docker":
            assert (ROOT / rest[rest.index("-f") + 1]).is_file(), where
        case "export":
            assert all(word.startswith(("DRIFTLINE_", "PATH=")) for word in rest), where
        case "curl":
            assert re.sub(r"^[^/]*", "", rest[-1]) in PAGES, where
        case "pip":
            assert rest[0] == "install"
        case "eval":
            assert "_DRIFTLINE_COMPLETE=" in rest[0]
        case "grep" | "jq":
            pass  # of what the command before it prints
        case _:
            pytest.fail(f"{where}: {program} is not known here: check it in `check_command`")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_command_in_running_text_exists(path: Path) -> None:
    text = BLOCK.sub("", path.read_text("utf-8"))
    for found in INLINE.findall(text):
        words = shlex.split(" ".join(found.split()))[1:]
        if words[0].isupper() or "..." in words or "…" in words:
            continue  # a form of speech, as in `driftline NAME`
        parse(words, whole=False)


@pytest.mark.parametrize("block", of_kind("yaml"))
def test_a_file_of_a_block_can_be_read(block: Block) -> None:
    assert isinstance(read_yaml(block.text)[0], dict)


@pytest.mark.parametrize("block", of_kind("json"))
def test_a_document_of_a_block_can_be_read(block: Block) -> None:
    json.loads(block.text.replace(", ...", ""))


def test_what_is_wrong_is_found() -> None:
    """The checks above can fail."""
    for words in (["statuss"], ["status", "--jsn"], ["control", "freez"], ["explain"], ["verify", "--from", "then"]):
        with pytest.raises((AssertionError, click.UsageError)):
            parse(words, whole=True)
    with pytest.raises((AssertionError, click.UsageError)):
        parse(["control", "frze"], whole=False)
    parse(["control", "silence"], whole=False)
    parse(["control", "-p", "FILE", "silence", "EPISODE", "--for", "1h"], whole=True)
