"""One file, every command: what one takes all take, what one refuses all refuse for the same first reason."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from driftline.config import load_pipeline
from driftline.ingest.column import Fields
from driftline.ingest.table import Table
from tests.cli.command import run

pytestmark = pytest.mark.slow

PIPELINE = """\
pipeline: shop
task: binary
event:
  id: id
  time: at
  features:
    amount: {type: number, missing: 0}
    country: string
label: {id: id, value: fraud, wait: 2d%s}
model: |
  (Select('amount') | StandardScaler()) + (Select('country') | OneHotEncoder()) | LogisticRegression()
"""
HEADER = ("id", "at", "amount", "country", "fraud")
ROWS = 40


def cells(number: int) -> list[str]:
    """A row of the plain file."""
    fraud = number * 7919 % 10 < 4
    amount = f"{100.25 + number * 37 % 50 + 30 * fraud:.2f}"
    at = f"2024-03-{number // 24 + 13:02d}T{number % 24:02d}:00:00Z"
    return [f"{1000 + number}", at, amount, ("FR", "DE")[number % 2], str(int(fraud))]


def table(column: str = "", write: object = None, separator: str = ",", end: str = "\n") -> str:
    """The file, with one column written another way."""
    lines = [separator.join(HEADER)]
    for number in range(ROWS):
        row = cells(number)
        if callable(write):
            place = HEADER.index(column)
            row[place] = write(number, row[place])
        lines.append(separator.join(row))
    return end.join(lines) + end


def clock(text: str) -> tuple[str, str, str, str]:
    year, month, rest = text.split("-")
    return year, month, rest[:2], rest[3:8]


def day_first(_: int, text: str) -> str:
    year, month, day, time = clock(text)
    return f"{day}/{month}/{year} {time}"


def month_first(_: int, text: str) -> str:
    year, month, day, time = clock(text)
    return f"{month}/{day}/{year} {time}"


PLAIN = table()
READ: dict[str, bytes] = {
    "as it is": PLAIN.encode(),
    "byte order mark": PLAIN.encode("utf-8-sig"),
    "UTF-16": PLAIN.encode("utf-16"),
    "CR": table(end="\r").encode(),
    "CRLF": table(end="\r\n").encode(),
    "semicolons and decimal commas": table("amount", lambda _, text: text.replace(".", ","), ";").encode(),
    "tabs": table(separator="\t").encode(),
    "packed": gzip.compress(PLAIN.encode()),
    "a blank first line": ("\n" + PLAIN).encode(),
    "row numbers without a name": "".join(
        f"{number or ''},{line}" for number, line in enumerate(PLAIN.splitlines(keepends=True))
    ).encode(),
    "ids as floats": table("id", lambda _, text: f"{text}.0").encode(),
    "ids that look like powers": table("id", lambda number, _: f"{number}e5" if number % 2 else f"a{number}").encode(),
    "day first": table("at", day_first).encode(),
    "month first": table("at", month_first).encode(),
    "trailing UTC": table("at", lambda _, text: text.replace("T", " ").replace("Z", " UTC")).encode(),
    "dates in digits": table("at", lambda _, text: re.sub("[^0-9]", "", text)[:12]).encode(),
    "microseconds": table("at", lambda number, _: str((1_710_288_000 + 3_600 * number) * 1_000_000)).encode(),
    "nanoseconds": table("at", lambda number, _: str((1_710_288_000 + 3_600 * number) * 10**9)).encode(),
    "words for missing": table(
        "amount", lambda number, text: ["NA", "NULL", "?", "-", "nan", text][number % 6]
    ).encode(),
    "thousands": table("amount", lambda number, text: f'"1,{text}"' if number % 2 else text).encode(),
}
REFUSED: dict[str, tuple[str, bytes]] = {
    "dates that may be read two ways": (
        "may have its day or its month first",
        table("at", lambda number, text: f"0{number % 9 + 1}/02/2024").encode(),
    ),
    "day numbers": ("day numbers of a spreadsheet", table("at", lambda number, _: f"{45_000 + number}").encode()),
    "years": ("all be times of 1970", table("at", lambda number, _: f"{1990 + number % 9}").encode()),
    "a comma that is a sign or parts thousands": (
        "has either a decimal comma or a thousands separator",
        table("amount", lambda number, _: f"1,{100 + number}", ";").encode(),
    ),
    "no UTF-8": (
        "line 3 has the byte 0xe9",
        table("country", lambda number, text: "é" if number == 1 else text).encode("latin-1"),
    ),
    "one name twice": ("column at appears more than once", PLAIN.replace("amount", "at", 1).encode()),
    "no rows": ("no records in .*rows.csv|rows.csv has no rows", (",".join(HEADER) + "\n").encode()),
    "a workbook": ("a ZIP file or a workbook", b"PK\x03\x04" + PLAIN.encode()),
    "no times": ("line 2: .*'soon' is not ISO 8601", table("at", lambda number, _: "soon").encode()),
    "too few cells": ("line 2: has 4 cells, the header has 5", re.sub(",[01]\n", "\n", PLAIN).encode()),
}  # fmt: skip


def written(folder: Path, content: bytes, more: str = "") -> tuple[Path, Path]:
    (folder / "shop.yaml").write_text(PIPELINE % more)
    (folder / "rows.csv").write_bytes(content)
    return folder / "shop.yaml", folder / "rows.csv"


def commands(folder: Path, pipeline: Path, rows: Path) -> dict[str, list[str | Path]]:
    asked: list[str | Path] = ["-p", pipeline, "--input", rows, "--label", "fraud"]
    return {
        "check": ["check", *asked, "--no-proof"],
        "backtest": ["backtest", *asked, "-o", folder / "out"],
        "train": ["train", *asked, "-o", folder / "model"],
        # Nobody is at that address: what is refused is refused before.
        "produce": ["produce", *asked, "--bootstrap", "127.0.0.1:1"],
    }


@pytest.mark.parametrize("kind", READ)
def test_what_one_takes_all_take(tmp_path: Path, kind: str) -> None:
    pipeline, rows = written(tmp_path, READ[kind])
    sent = Table(rows, load_pipeline(pipeline), Fields("fraud"), now_ms=0)  # what `produce` sends
    assert (len(list(sent.samples())), sent.bad.count) == (ROWS, 0)
    asked = commands(tmp_path, pipeline, rows)
    for name in ("backtest", "train"):
        done = run(*asked[name])
        assert done.returncode == 0, (name, done.stdout, done.stderr)
    assert run("init", "--input", rows, "--label", "fraud", "-o", tmp_path / "made.yaml").returncode == 0
    made = (tmp_path / "made.yaml").read_text()
    assert "  id: id " in made
    assert "  time: at " in made
    assert "amount: number" in made or "amount: {type: number" in made


@pytest.mark.parametrize("kind", REFUSED)
def test_what_one_refuses_all_refuse_for_one_reason(tmp_path: Path, kind: str) -> None:
    reason, content = REFUSED[kind]
    pipeline, rows = written(tmp_path, content)
    asked = commands(tmp_path, pipeline, rows)
    del asked["check"]  # builds the model in a process of its own first, which takes its time; see the labels
    if reason.startswith("line 2"):  # found as the rows go out, so not before a broker is there
        del asked["produce"]
    if kind not in ("no times", "years"):  # which are fields like any other to `init`
        asked["init"] = ["init", "--input", rows, "--label", "fraud", "-o", tmp_path / "made.yaml"]
    for name, command in asked.items():
        done = run(*command)
        assert done.returncode == 2, (name, done.stdout)
        assert re.search(reason, done.stderr), (name, done.stderr)


@pytest.mark.parametrize(
    ("more", "write", "reason"),
    [
        (", positive: fraud", lambda number, _: "Fraud" if number % 3 else "no", "'Fraud' .line 3. differs"),
        (", positive: fraud", lambda number, _: " fraud" if number % 3 else "no", "differs from label.positive"),
        (", positive: 'yes', negative: 'no'", lambda number, _: "YN"[number % 2], "no label is 'yes'.*holds 'Y'"),
        ("", lambda number, _: "spam" if number % 3 else "ham", "no usable label; it holds 'spam'.*line 2: "),
    ],
)  # fmt: skip
def test_labels_that_are_spelt_otherwise_are_named_first(tmp_path: Path, more: str, write: object, reason: str) -> None:
    pipeline, rows = written(tmp_path, table("fraud", write).encode(), more)
    for name, command in commands(tmp_path, pipeline, rows).items():
        done = run(*command)
        assert done.returncode == 2, name
        assert re.search(reason, done.stderr), (name, done.stderr)


def test_rows_that_contradict_their_column_are_named_alike(tmp_path: Path) -> None:
    def write(number: int, text: str) -> str:
        return "much" if number == 5 else text

    pipeline, rows = written(tmp_path, table("amount", write).encode())
    asked = commands(tmp_path, pipeline, rows)
    del asked["produce"]
    for name, command in asked.items():
        done = run(*command)
        assert done.returncode == 1, name
        assert "line 7: amount is 'much', which is not a number" in done.stdout + done.stderr, name


def test_events_without_a_label_are_counted_whether_or_not_their_wait_is_over(tmp_path: Path) -> None:
    content = table("fraud", lambda number, text: text if number % 4 else "NA").encode()
    asked = commands(tmp_path, *written(tmp_path, content))
    for name, count in (
        ("check", "10 without a label"),
        ("backtest", "10 rows have no"),
        ("train", "10 events have no"),
    ):
        done = run(*asked[name], "--set", "label.wait=3h")
        assert done.returncode == 0, (name, done.stderr)
        assert count in done.stdout + done.stderr, name


def test_a_form_that_is_stated_is_taken(tmp_path: Path) -> None:
    pipeline, rows = written(tmp_path, REFUSED["day numbers"][1])
    for name in ("backtest", "train"):
        done = run(*commands(tmp_path, pipeline, rows)[name], "--time-format", "excel")
        assert done.returncode == 0, name


def test_nothing_learned_before_the_last_score_is_told_before_any_number(tmp_path: Path) -> None:
    pipeline, rows = written(tmp_path, READ["as it is"])
    done = run(*commands(tmp_path, pipeline, rows)["backtest"], "--label-delay", "2d")
    assert done.returncode == 1
    assert "NO LABEL WAS LEARNED before the last score" in done.stdout.partition("LogLoss")[0]
    assert "Labels arrive 2d after their event" in done.stdout
