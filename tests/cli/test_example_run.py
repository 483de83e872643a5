"""`make example`: the commands that it runs exist, with their options; it says what is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import click
import pytest

from driftline.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_run", ROOT / "examples" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILES = {
    "fraud": "fraud_handbook_2018-06.csv.gz", "spam": "sms_spam.jsonl.gz", "demand": "hour.csv",
    "recommend": "requests.jsonl",
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_its_commands_can_be_read(runner: ModuleType, tmp_path: Path, case: str) -> None:
    for name in (FILES[case], "clicks.jsonl"):
        (tmp_path / name).touch()
    data = runner.find(case, tmp_path)
    assert data == tmp_path / FILES[case]
    (tmp_path / "pipeline.yaml").touch()
    for name, *options in runner.commands(case, data, tmp_path):
        command = main.get_command(click.Context(main), name)
        assert command is not None
        command.make_context(name, list(options))


@pytest.mark.parametrize("case", FILES)
def test_without_data_it_makes_some(runner: ModuleType, tmp_path: Path, case: str) -> None:
    made = tmp_path / "made"
    (first, *options), *others = runner.on_made(case, made, tmp_path)
    assert (first, options) == ("demo", ["--case", case, "--write", str(made)])
    made.mkdir()
    for name in ("payments.jsonl", "messages.jsonl", "sales.jsonl", "requests.jsonl", "clicks.jsonl", "pipeline.yaml"):
        (made / name).touch()
    assert others
    for name, *options in others:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        command.make_context(name, list(options))


def test_it_says_what_is_missing(runner: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(runner.CASES) == set(FILES)
    assert runner.main(["demand", str(tmp_path)]) == 2
    assert "hour.csv" in capsys.readouterr().err
    assert runner.main(["else", str(tmp_path)]) == 2
    assert "CASE=" in capsys.readouterr().err
