"""`driftline check`: resolved settings and needs, every error at once, and the proof in two processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from driftline.author import scale
from driftline.cli import main, trial
from driftline.config import read_pipeline

pytestmark = pytest.mark.slow

FILE = """\
pipeline: cards
task: binary
event: {id: id, features: {amount: number, night: boolean, country: string}}
label: {id: id, value: fraud, wait: 1h}
params: {lr: 0.05}
model: |
  ((Select('amount', 'night') | StandardScaler()) + (Select('country') | OneHotEncoder(drop_zeros=True)))
  | LogisticRegression(SGD($lr))
"""
FACTORIES = """\
import random
from river import linear_model, preprocessing

class Noisy(preprocessing.StandardScaler):
    def transform_one(self, x):
        return {name: value + random.random() for name, value in super().transform_one(x).items()}

class Hashed(preprocessing.StandardScaler):
    def transform_one(self, x):
        return dict(sorted(super().transform_one(x).items(), key=lambda pair: hash(pair[0])))

class Stuck(preprocessing.StandardScaler):
    def __init__(self):
        super().__init__()
        self.kept = lambda: 1

def noisy(): return Noisy() | linear_model.LogisticRegression()
def hashed(): return preprocessing.MinMaxScaler() | Hashed() | linear_model.LogisticRegression()
def stuck(): return Stuck() | linear_model.LogisticRegression()
def chatty():
    print("made one")
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "some_factories.py").write_text(FACTORIES)
    path = tmp_path / "cards.yaml"
    path.write_text(FILE)
    yield path
    sys.modules.pop("some_factories", None)


@pytest.fixture
def built_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what is printed, not of the child that builds the model first: a child imports for two seconds."""
    monkeypatch.setattr("driftline.cli.check.try_building", lambda path, overrides: None)


def check(*arguments: Any, **environ: str) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)], env=environ)


def factory(path: Path, name: str) -> Path:
    numbers = FILE.partition("params:")[0].replace(", country: string", "")
    path.write_text(f"{numbers}model: some_factories:{name}\n")
    return path


def test_a_right_file(file: Path) -> None:
    done = check("-p", file, "--rate", "100")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("cards: the pipeline file is valid\nDeterministic:")
    assert "100/s x 1h = 360,000" in done.stdout
    assert "at least 25h" in done.stdout
    assert "events/s with their labels" in done.stdout
    assert len(done.stdout.splitlines()) < 20
    assert done.stderr == ""


@pytest.mark.usefixtures("built_here")
def test_all_settings_as_a_file(file: Path) -> None:
    done = check("-p", file, "--all", "--no-proof")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("# cards: the pipeline file is valid\n# Determinism not checked")
    assert read_pipeline(done.stdout) == read_pipeline(FILE)


@pytest.mark.usefixtures("built_here")
@pytest.mark.parametrize(("over", "said"), [("30d", True), ("12h", False)])
def test_a_window_longer_than_the_topics_need_to_be_kept_is_pointed_out(file: Path, over: str, said: bool) -> None:
    history = f"seen: {{history: count, by: country, over: {over}}}"
    file.write_text(
        FILE.replace("country: string", f"country: string, {history}").replace("'night'", "'night', 'seen'")
    )
    done = check("-p", file, "--no-proof")
    assert done.exit_code == 0, done.output
    assert ("longest history window: 30d, which is part of the state" in done.stdout) == said


def test_json_for_a_program(file: Path) -> None:
    done = check("-p", file, "--json", "--rate", "10", "--set", "shards=2")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["pipeline"] == {**read_pipeline(FILE).resolved(), "shards": 2}
    assert (told["needs"]["pending_events"], told["needs"]["shards"]) == (36_000, 2)
    assert told["proof"]["failed"] == 0
    assert told["proof"]["comparable"]


def test_the_schema_that_is_kept_is_the_one_that_is_made() -> None:
    kept = Path(__file__).parents[2] / "schemas" / "pipeline.schema.json"
    made = json.loads(check("--schema").stdout)
    assert json.loads(kept.read_text()) == made, f"write it anew: driftline check --schema > {kept}"


@pytest.mark.usefixtures("built_here")
def test_set_replaces_a_value(file: Path) -> None:
    done = check("-p", file, "--set", "params.lr=0.5", "--json", "--no-proof")
    told = json.loads(done.stdout)
    assert told["pipeline"]["params"] == {"lr": 0.5}
    assert "proof" not in told


def test_the_file_may_come_from_the_environment(file: Path) -> None:
    assert check("--no-proof", DRIFTLINE_PIPELINE=str(file)).exit_code == 0


@pytest.mark.usefixtures("built_here")
def test_a_bound_that_is_too_small_is_told(file: Path) -> None:
    done = check("-p", file, "--rate", "10000", "--set", "label.wait=7d", "--no-proof")
    assert "WARNING: label.pending_max allows 1,000,000" in done.stdout


def test_every_error_at_once_on_stderr(file: Path) -> None:
    file.write_text(FILE.replace("binary", "binry").replace("wait: 1h", "wait: 1 hour").replace("Standard", "Standrd"))
    done = check("-p", file)
    assert (done.exit_code, done.stdout) == (2, "")
    for told in ("task = 'binry'", "label.wait = '1 hour'", "StandrdScaler", f"{file}:2: task"):
        assert told in done.stderr


@pytest.mark.usefixtures("built_here")
def test_errors_as_json(file: Path) -> None:
    file.write_text(FILE.replace("binary", "binry"))
    done = check("-p", file, "--json", "--no-proof")
    assert done.exit_code == 2
    assert [problem["path"] for problem in json.loads(done.stdout)["problems"]] == ["task"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-p", "nowhere.yaml"), "does not exist"),
        ((), "no pipeline: give"),
        (("-p", "cards.yaml", "--rate", "0"), "--rate"),
        (("-p", "cards.yaml", "--set", "params.lx=1"), "is not used"),
    ],
)
@pytest.mark.usefixtures("built_here")
def test_wrong_usage(file: Path, arguments: tuple[str, ...], told: str) -> None:
    done = check(*arguments, "--no-proof")
    assert done.exit_code == 2
    assert told in done.stderr


@pytest.mark.parametrize(("name", "step"), [("noisy", "model > Noisy"), ("hashed", "model > Hashed")])
def test_different_bits_name_the_step(file: Path, name: str, step: str) -> None:
    done = check("-p", factory(file, name))
    assert done.exit_code == 4
    assert "not deterministic" in done.stderr
    assert step in done.stderr


def test_a_model_that_no_snapshot_can_keep(file: Path) -> None:
    done = check("-p", factory(file, "stuck"))
    assert done.exit_code == 4
    assert "cannot be processed" in done.stderr


def test_a_factory_may_print(file: Path) -> None:
    done = check("-p", factory(file, "chatty"))
    assert done.exit_code == 0, done.output


def test_a_model_that_cannot_take_the_features(file: Path) -> None:
    done = check("-p", file, "--set", "model=StandardScaler() | LogisticRegression(SGD($lr))")
    assert done.exit_code == 2
    assert "a string feature needs an encoder" in done.stderr


def test_a_model_of_counts_is_proven_on_counts(file: Path) -> None:
    numbers = "event: {id: id, features: {amount: number, count: number}}"
    file.write_text(
        FILE.partition("event:")[0] + numbers + "\nlabel: {id: id, value: y, wait: 1h}\nmodel: MultinomialNB()\n"
    )
    done = check("-p", file)
    assert done.exit_code == 0, done.output
    assert "WARNING: the model raises on negative numbers" in done.stdout


NUMBERS = FILE.partition("event:")[0] + "event: {id: id, features: {gold: number, frame: number}}\n"
LABEL = "label: {id: id, value: y, wait: 1h}\n"


@pytest.mark.parametrize(
    ("model", "warns"),
    [
        ("LogisticRegression()", "LogisticRegression gets unscaled numbers"),
        ("StandardScaler() | LogisticRegression()", None),
        ("HoeffdingTreeClassifier()", None),
        ("StandardScaler() | OneVsRestClassifier(Perceptron())", None),
        ("MinMaxScaler() | KNNClassifier(engine=LazySearch(window_size=50))", None),
        ("KNNClassifier(engine=LazySearch(window_size=50))", "KNNClassifier gets unscaled numbers"),
        ("LeveragingBaggingClassifier(LogisticRegression(), n_models=2)", "LogisticRegression gets unscaled numbers"),
    ],
)
def test_numbers_that_no_step_scales_are_warned_of(file: Path, model: str, warns: str | None) -> None:
    file.write_text(f"{NUMBERS}{LABEL}model: {model}\n")
    found = scale.warnings(read_pipeline(file.read_text()))
    assert [warns] == [text[: len(warns)] for text in found] if warns else found == []


def test_a_regression_that_runs_away_is_warned_of(file: Path) -> None:
    text = NUMBERS.replace("binary", "regression") + LABEL
    for rate, warns in ((1.5, True), (0.005, False)):
        file.write_text(f"{text}model: StandardScaler() | LinearRegression(optimizer=SGD({rate}))\n")
        assert any("diverges" in one for one in scale.warnings(read_pipeline(file.read_text()))) is warns


def test_warnings_are_under_the_verdict_and_in_json(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f"{NUMBERS}{LABEL}model: LogisticRegression()\n")
    proof = trial.prove(file, (), events=200)
    monkeypatch.setattr("driftline.cli.check.prove", lambda path, overrides: proof)
    done = check("-p", file)
    assert done.exit_code == 0
    assert done.stdout.startswith("cards: the pipeline file is valid, with 1 warning\nWARNING: ")
    assert len(json.loads(check("-p", file, "--json").stdout)["warnings"]) == 1


BOMBS = """\
import time
from river import linear_model

class Hungry(linear_model.LogisticRegression):
    def __init__(self):
        super().__init__()
        self.kept = []

    def learn_one(self, x, y):
        self.kept.append(bytes(100_000_000))
        super().learn_one(x, y)

def huge(): return [0] * 10**12
def slow(): time.sleep(3600)
def hungry(): return Hungry()
"""


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("SRPClassifier(n_models=2000000000)", "GB of memory"),
        ("some_factories:huge", "GB of memory to build"),
        ("some_factories:slow", "takes more than 9 s to build"),
        ("some_factories:hungry", "GB of memory"),
    ],
)
def test_a_model_that_would_take_the_machine_is_refused(
    file: Path, model: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file.parent / "some_factories.py").write_text(BOMBS)
    slow = "slow" in model
    monkeypatch.setattr(trial, "BUILD_S", 9.0 if slow else 60.0)
    file.write_text(f"{NUMBERS}{LABEL}model: {model}\n")
    done = check("-p", file, *(["--no-proof"] if slow else []))
    assert done.exit_code == 2, done.output
    assert says in done.stderr


WRONG = """\
from river import linear_model

def good(params): return linear_model.LogisticRegression(l2=params["l2"])

def missing(params):
    return linear_model.LogisticRegression(l2=params["l3"])

def two(a, b): return linear_model.LogisticRegression()
"""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "raised KeyError: 'l3', line 6 of "),
        ("two", "called with the dict of `params`"),
        ("none", "has no function 'none'"),
    ],
)
@pytest.mark.parametrize("command", ["check", "backtest", "train"])
@pytest.mark.usefixtures("built_here")
def test_a_factorys_exception_is_told_alike_with_its_line(file: Path, command: str, name: str, says: str) -> None:
    (file.parent / "some_factories.py").write_text(WRONG)
    file.write_text(f"{NUMBERS}{LABEL}params: {{l2: 0.1}}\nmodel: some_factories:{name}\n")
    (file.parent / "rows.csv").write_text("id,gold,frame,y\n1,2,3,0\n")
    arguments = {
        "check": ["--no-proof"],
        "backtest": ["--input", "rows.csv", "--label", "y"],
        "train": ["--input", "rows.csv", "--label", "y", "-o", "out.model"],
    }[command]
    done = CliRunner().invoke(main, [command, "-p", str(file), *arguments])
    assert done.exit_code == 2, done.output
    assert says in done.stderr
