"""`driftline train`: the model that a worker would have after a history, in one file, or no file."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from driftline.backtest.train import train
from driftline.codec.keyring import NO_KEYS, KeyRing
from driftline.codec.parts import refusal
from driftline.config import load_pipeline
from driftline.core.error import InputFileError
from driftline.core.model.learner import Learner
from driftline.core.oracle import Oracle
from driftline.core.pipeline import Pipeline
from driftline.core.shard import upload
from driftline.core.state.model_file import model_of, parse
from driftline.ingest.column import Fields
from driftline.ingest.history import TableSource
from tests.backtest import history
from tests.cli.command import run

ANOMALY = {"task": "anomaly", "model": "HalfSpaceTrees(n_trees=3, height=3, window_size=10)"}


def learner_of(path: Path, pipeline_file: Path) -> Learner:
    """The model in a file, put to work."""
    pipeline = load_pipeline(pipeline_file, ())
    manifest, frozen = parse(path.read_bytes())
    learner = Learner(pipeline)
    learner.load(model_of(pipeline, frozen), frozen, manifest.learned)
    return learner


def by_hand(pipeline: Pipeline, rows: list[tuple[float, float, float, int]], delay: int) -> Learner:
    """A model that is asked and taught row by row, each label so many rows after its event."""
    learner = Learner(pipeline)
    for number, row in enumerate([*rows, *[None] * delay]):
        if number >= delay:
            x1, x2, x3, y = rows[number - delay]
            learner.learn((x1, x2, x3), y == 1, "", 0, Oracle())
        if row is not None:
            learner.score(row[:3], "", Oracle())
    return learner


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A pipeline file, a table, and where the model goes."""
    return history.pipeline_file(tmp_path), history.table(tmp_path), tmp_path / "model.bin"


@pytest.mark.parametrize("delay", [0, 1, 40])
def test_the_model_is_the_one_that_learned_each_label_at_its_delay(files: tuple[Path, Path, Path], delay: int) -> None:
    pipeline, table, out = files
    done = run("train", "-p", pipeline, "--input", table, "--label", "y", "--label-delay", f"{delay}s", "-o", out)
    assert done.returncode == 0, done.stderr
    assert "learned from 1,500 labels of 1,500 rows" in done.stdout
    made = learner_of(out, pipeline)
    wanted = by_hand(load_pipeline(pipeline, ()), history.rows(1_500), delay)
    for x in (-2.0, 0.0, 0.3, 7.0):
        values = (x, 5.0 - x, 1.0)
        assert made.score(values, "", Oracle()) == wanted.score(values, "", Oracle())
    values, untrained = (1.0, 5.0, 1.0), Learner(load_pipeline(pipeline, ()))
    assert made.score(values, "", Oracle()) != untrained.score(values, "", Oracle())


def test_the_file_says_what_it_is(files: tuple[Path, Path, Path]) -> None:
    pipeline, table, out = files
    done = run(
        *("train", "-p", pipeline, "--set", "params={}", "--input", table, "--label", "y", "--limit", "700"),
        *("-o", out, "--json"),
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = orjson.loads(done.stdout)
    manifest, _ = parse(out.read_bytes())
    assert (told["learned"], told["scored"], told["rows"], told["bad_rows"]) == (700, 700, 700, 0)
    assert told["sha256"] == manifest.sha256
    assert told["file_bytes"] == out.stat().st_size
    assert set(manifest.metrics) == {"Accuracy", "LogLoss"}
    assert 0.5 < (manifest.metrics["Accuracy"] or 0) < 1
    assert manifest.versions["river"]
    assert len(manifest.arithmetic) == 16
    assert (manifest.first_ms or 0) < (manifest.last_ms or 0)
    assert manifest.signature == ""


def test_with_a_key_it_is_signed(files: tuple[Path, Path, Path]) -> None:
    pipeline, table, out = files
    key = "a key of the deployment"
    done = run(*("train", "-p", pipeline, "--input", table, "--label", "y", "-o", out), DRIFTLINE_SNAPSHOT_KEY=key)
    assert done.returncode == 0, done.stderr
    assert "signed" in done.stdout
    assert refusal(out.read_bytes(), KeyRing.of(key)) is None
    assert refusal(out.read_bytes(), KeyRing.of("another key of length")) is not None


def topics(folder: Path, rows: list[tuple[float, float, float, int]], shift: int = 0) -> tuple[Path, Path]:
    """The rows as the two topics that they are, each label five seconds after its event."""
    events, labels = folder / "e.jsonl", folder / "l.jsonl"
    at = [history.START_MS + number * 1000 for number in range(len(rows))]
    asked = [{"id": n, "at": at[n], "x1": a, "x2": b, "x3": c} for n, (a, b, c, _) in enumerate(rows)]
    told = [{"id": n + shift, "y": y, "at": at[n] + 5_000} for n, (_, _, _, y) in enumerate(rows)]
    events.write_bytes(b"\n".join(map(orjson.dumps, asked)))
    labels.write_bytes(b"\n".join(map(orjson.dumps, told)))
    return events, labels


def timed(folder: Path) -> Path:
    return history.pipeline_file(folder, event={**history.document()["event"], "time": "at"})


def test_records_of_two_topics_give_the_same_model_as_their_rows(tmp_path: Path) -> None:
    pipeline, rows, out = timed(tmp_path), history.rows(300), tmp_path / "model.bin"
    events, labels = topics(tmp_path, rows)
    done = run("train", "-p", pipeline, "--events", events, "--labels", labels, "--label-time", "at", "-o", out)
    assert done.returncode == 0, done.stderr
    wanted = by_hand(load_pipeline(pipeline, ()), rows, 5)
    assert learner_of(out, pipeline).score((0.5, 5.0, 1.0), "", Oracle()) == wanted.score((0.5, 5.0, 1.0), "", Oracle())


def test_labels_of_other_events_teach_nothing(tmp_path: Path) -> None:
    pipeline, out = timed(tmp_path), tmp_path / "model.bin"
    events, labels = topics(tmp_path, history.rows(30), shift=1_000)
    done = run("train", "-p", pipeline, "--events", events, "--labels", labels, "--label-time", "at", "-o", out)
    assert done.returncode == 2
    assert "nothing was learned: 30 events, 0 of them with a label" in done.stderr
    assert not out.exists()


def test_a_model_without_labels_learns_from_events(tmp_path: Path) -> None:
    pipeline = history.pipeline_file(tmp_path, **ANOMALY, label=None, metrics=[])
    out = tmp_path / "model.bin"
    done = run("train", "-p", pipeline, "--input", history.table(tmp_path, 200), "-o", out)
    assert done.returncode == 0, done.stderr
    assert "learned from 200 events" in done.stdout


def test_rows_that_are_left_out_are_said(files: tuple[Path, Path, Path]) -> None:
    pipeline, table, out = files
    lines = table.read_text().splitlines()
    lines[7] = "1,2"
    table.write_text("\n".join(lines) + "\n")
    done = run("train", "-p", pipeline, "--input", table, "--label", "y", "-o", out)
    assert done.returncode == 1
    assert "skipped: line 8" in done.stderr
    assert parse(out.read_bytes())[0].learned == 1_499


def test_rejected_records_are_said(tmp_path: Path) -> None:
    pipeline, out = timed(tmp_path), tmp_path / "model.bin"
    events, labels = topics(tmp_path, history.rows(300))
    events.write_text(events.read_text() + "\n{bad\n")
    done = run("train", "-p", pipeline, "--events", events, "--labels", labels, "--label-time", "at", "-o", out)
    assert done.returncode == 1
    assert "learned from 300 labels of 601 records" in done.stdout
    assert "1 rejected; the first: not_json" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "give either --input"),
        (("--input", "{table}"), 2, "name the field with --label"),
        (("--input", "{table}", "--label", "y", "--events", "{table}"), 2, "give either --input"),
        (("--input", "{table}", "--label", "y", "--time", "x1", "--step", "1s"), 2, "--time excludes"),
        (("--input", "none.csv", "--label", "y"), 2, "none.csv"),
        (("--input", "{table}", "--label", "nope"), 2, "nope"),
        (("--input", "{table}", "--label", "y", "-o", "{folder}"), 2, "is a folder"),
        (("--input", "{table}", "--label", "y", "-o", "{folder}/no/model.bin"), 2, "does not exist; create it"),
        (("--input", "{table}", "--label", "x1"), 2, "a label must be"),
        (("--input", "{table}", "--label", "y", "--set", "event.features.x9=number"), 2, "x9"),
    ],
)
def test_what_cannot_be_done(files: tuple[Path, Path, Path], arguments: tuple[str, ...], code: int, says: str) -> None:
    pipeline, table, out = files
    given = [one.format(table=table, folder=table.parent) for one in arguments]
    target = () if "-o" in given else ("-o", str(out))
    done = run("train", "-p", pipeline, *given, *target)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    assert not out.exists()
    assert not list(table.parent.glob(".*"))


def test_a_model_that_broke_down_is_not_written(files: tuple[Path, Path, Path]) -> None:
    pipeline, table, out = files
    lines = table.read_text().splitlines()
    wide = "--set", "limits.number_max=1e300"
    for broken, code in ((500, 0), (699, 2)):  # in the middle another takes over, and goes on; at the end none does
        table.write_text("\n".join([*lines[:broken], "1e160,1e160,1,1", *lines[broken + 1 :]]) + "\n")
        done = run("train", "-p", pipeline, *wide, "--input", table, "--label", "y", "--limit", "700", "-o", out)
        assert done.returncode == code
        if code == 0:
            assert "note: the model was replaced once during training" in done.stderr
            out.unlink()
        else:
            assert "predictions are not finite" in done.stderr
    assert not out.exists()


def test_a_model_that_is_too_large_to_load(files: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, table, out = files
    monkeypatch.setattr("driftline.backtest.train.SIZE_MAX", 1_000)
    done = run("train", "-p", pipeline, "--input", table, "--label", "y", "-o", out)
    assert done.returncode == 2
    assert "use a smaller one" in done.stderr
    assert not out.exists()
    assert upload.SIZE_MAX == 64 * 1024 * 1024


def test_a_model_that_cannot_be_read_again(files: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, table, _ = files
    chosen = load_pipeline(pipeline, ())
    monkeypatch.setattr("driftline.backtest.train.model_of", lambda chosen, frozen: Learner(chosen).model)
    with pytest.raises(InputFileError, match="predictions change after saving"):
        train(chosen, TableSource(table, Fields("y", None, None, None, None)), NO_KEYS, lambda done, total: None)


@contextmanager
def _pressed(_: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar under which somebody presses Ctrl-C."""
    yield lambda done, total: signal.raise_signal(signal.SIGINT)


def test_ctrl_c_leaves_what_was_there(files: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, table, out = files
    out.write_text("the last one")
    monkeypatch.setattr("driftline.cli.train.bar", _pressed)
    done = run("train", "-p", pipeline, "--input", table, "--label", "y", "-o", out)
    assert (done.returncode, "nothing was written" in done.stderr) == (130, True), done.stderr
    assert out.read_text() == "the last one"
    assert not list(table.parent.glob(".*"))
