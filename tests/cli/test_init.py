"""`driftline init`: a data file in, a pipeline file out that works as it is."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from driftline.author.proof import fold, synthetic_records
from driftline.cli import main
from driftline.codec.decode import MISSING, Decoder
from driftline.codec.wire import set_path as put
from driftline.config import load_pipeline
from driftline.core.pipeline import Pipeline, parse_path
from driftline.core.pipeline.guard import Untrained
from driftline.core.record import Source
from driftline.core.shard.state import Shard
from driftline.ingest.column import Fields
from driftline.ingest.table import Table
from tests.cli.command import init
from tests.support.folding import step

ROWS = 600


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def works(pipeline: Pipeline, path: str | Path, label: str | None, limit: int = 400) -> bool:
    """Whether the file's own rows go through it, as `produce` would send them, and synthetic ones; each is scored."""
    trace = fold(pipeline, synthetic_records(pipeline, 150), freeze_at=100)
    assert (trace.scored, trace.failed, trace.withheld) == (150, 0, 0)
    table = Table(Path(path), pipeline, Fields(label), now_ms=1_700_000_000_000, limit=limit)
    decoder, shard = Decoder(pipeline), Shard(pipeline, 0)
    for place, row in enumerate(table.samples()):
        event = Source(pipeline.topics.events, 0, place, row.time_ms, None, orjson.dumps(row.event))
        step(shard, decoder.event(event))
        if pipeline.label is not None and row.label is not MISSING:
            told: dict[str, Any] = {}
            put(told, parse_path(pipeline.label.id), row.event_id)
            put(told, parse_path(pipeline.label.value), row.label)
            assert pipeline.topics.labels is not None
            step(shard, decoder.label(Source(pipeline.topics.labels, 0, place, row.time_ms, None, orjson.dumps(told))))
    counts = shard.counts
    assert table.bad.count == 0
    assert not [name for name in counts if name.startswith("rejected") or name in {"failed", "orphan"}], counts
    return counts["scored"] == table.count and (label is None or counts["joined"] == table.count)


def written(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return name


def payments() -> str:
    rng = random.Random(1)
    rows = []
    for place in range(ROWS):
        fraud = int(rng.random() < 0.05)
        amount = round(rng.lognormvariate(3 + 2 * fraud, 1), 2)
        shop, country = f"shop {rng.randrange(80)}", rng.choice(["NO", "SE", "FI"])
        when = f"2024-03-{1 + place // 30:02d} {place % 24:02d}:00:00"
        rows.append(
            (7_000 + place, when, rng.randrange(200), amount, shop, country, "true" if fraud else "false", fraud, fraud)
        )
    header = ("payment_id", "when", "customer_id", "amount", "shop", "country", "blocked", "scenario", "is_fraud")
    return written("Card payments.csv", header, rows)


def rentals(rows: int = 4_000) -> str:
    """Counts that depend on hour and weather in no straight line, with their two parts."""
    rng = random.Random(2)
    made = []
    for place in range(rows):
        hour, workday = place % 24, int(place // 24 % 7 < 5)
        rush = math.exp(-((hour - 8) ** 2) / 4) + math.exp(-((hour - 17) ** 2) / 6) if workday else 0.0
        leisure = math.exp(-((hour - 14) ** 2) / 20)
        warmth = 0.5 + 0.5 * math.sin(place / 900)
        registered = round(600 * rush * rng.uniform(0.8, 1.2) + 20 * warmth)
        casual = round(300 * leisure * warmth * rng.uniform(0.7, 1.3))
        made.append((place + 1, hour, workday, round(warmth, 3), casual, registered, casual + registered))
    return written("rentals.csv", ("instant", "hr", "workday", "temp", "casual", "registered", "cnt"), made)


def test_payments(folder: Path) -> None:
    done = init("--input", payments(), "--label", "is_fraud")
    assert done.exit_code == 0, done.output
    text = (folder / "card-payments.yaml").read_text()
    pipeline = load_pipeline(folder / "card-payments.yaml")
    assert (pipeline.name, pipeline.task) == ("card-payments", "binary")
    assert (pipeline.event.id, pipeline.event.time) == ("payment_id", "when")
    assert pipeline.label is not None
    assert (pipeline.label.id, pipeline.label.value) == ("payment_id", "is_fraud")
    assert {name: feature.type for name, feature in pipeline.event.plain.items()} == {
        "amount": "number",
        "shop": "string",
        "country": "string",
    }
    assert {name: field.type for name, field in pipeline.event.context.items()} == {"customer_id": "key"}
    assert "customer_id_mean_7d: {history: mean(amount), by: customer_id, over: 7d}" in text
    assert "history: customer_id is not a feature itself; counts" in done.stderr
    assert pipeline.metrics == ("ROCAUC", "AveragePrecision", "LogLoss")
    assert ([one.detector for one in pipeline.drift.loss], pipeline.drift.error) == (["ADWIN(delta=0.002)"], ())
    assert "# customer_id: number" in text
    assert "# scenario: number            # left out: reveals the label: its value alone determines the label" in text
    assert "WARNING: left out scenario, which reveals the label" in done.stderr
    assert "WARNING: left out blocked" in done.stderr
    assert "OneHotEncoder" in pipeline.model
    assert "FeatureHasher" in pipeline.model
    assert works(pipeline, "Card payments.csv", "is_fraud")


def test_rentals(folder: Path) -> None:
    assert init("--input", rentals(), "--label", "cnt").exit_code == 0
    text = (folder / "rentals.yaml").read_text()
    pipeline = load_pipeline(folder / "rentals.yaml")
    assert pipeline.task == "regression"
    assert tuple(pipeline.event.plain) == ("hr", "workday", "temp")
    assert pipeline.event.names[3] == "label_last"
    assert "left out: reveals the label: casual + registered equals the label" in text
    assert pipeline.guard is not None
    assert pipeline.guard.untrained == Untrained(labels_min=100)
    with Path("rentals.csv").open(encoding="utf-8") as file:
        labels = [float(row["cnt"]) for row in csv.DictReader(file)]
    limits = pipeline.guard.range
    assert limits is not None
    assert limits.min == 0 <= min(labels)
    assert 2 * max(labels) - min(labels) <= (limits.max or 0) <= 2.2 * max(labels)
    step = pipeline.guard.step
    assert (step is None) == (pipeline.guard.fallback == ())
    assert limits.action == ("clip" if step is None else "fallback")
    assert works(pipeline, "rentals.csv", "cnt")


@pytest.mark.parametrize(
    ("label", "task", "model"),
    [
        (lambda place, _: ["low", "middle", "high"][place % 3], "multiclass", "OneVsRestClassifier"),
        (lambda place, rng: place % 3 + rng.random(), "regression", "LinearRegression"),
        (lambda place, _: "up" if place % 3 else "down", "binary", "LogisticRegression"),
    ],
)
def test_tasks(folder: Path, label: Any, task: str, model: str) -> None:
    rng = random.Random(4)
    rows = [(rng.gauss(place % 3, 1), rng.choice("xyz"), label(place, rng)) for place in range(ROWS)]
    assert init("--input", written("rows.csv", ("a", "b", "y"), rows), "--label", "y").exit_code == 0
    pipeline = load_pipeline(folder / "rows.yaml")
    assert (pipeline.task, pipeline.event.id) == (task, "id")
    assert model in pipeline.model
    assert works(pipeline, "rows.csv", "y")


def test_anomalies_without_a_label(folder: Path) -> None:
    rng = random.Random(4)
    rows = [(rng.gauss(0, 1), rng.random() < 0.5, rng.choice("xyz")) for _ in range(ROWS)]
    data = written("rows.csv", ("a", "b", "c"), rows)
    asked = init("--input", data, "--name", "odd")
    assert asked.exit_code == 2
    assert "look like labels: b (two values)" in asked.stderr
    assert "--task anomaly" in asked.stderr
    done = init("--input", data, "--name", "odd", "--task", "anomaly")
    assert done.exit_code == 0
    assert "left out: c: text" in done.stderr
    pipeline = load_pipeline(folder / "odd.yaml")
    assert (pipeline.task, pipeline.event.names, pipeline.topics.labels) == ("anomaly", ("a", "b"), None)
    assert works(pipeline, "rows.csv", None)


def test_json_lines_with_objects_inside_and_odd_keys(folder: Path) -> None:
    rng = random.Random(4)
    rows = [
        {
            "meta": {"key": f"k{place}", "at": 1_700_000_000 + place},
            "card": {"country": rng.choice(["NO", "DE"]), "on": rng.random() < 0.5},
            "a.b": rng.gauss(0, 1),
            "no": rng.gauss(0, 1) if place % 7 else None,
            "tags": ["x"],
            "y": rng.random() < 0.4,
        }
        for place in range(ROWS)
    ]
    with gzip.open("rows.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    done = init("--input", "rows.jsonl.gz", "--label", "y")
    assert done.exit_code == 0, done.output
    pipeline = load_pipeline(folder / "rows.yaml")
    assert (pipeline.event.id, pipeline.event.time) == ("meta.key", "meta.at")
    assert [feature.keys for feature in pipeline.event.plain.values()] == [
        ("card", "country"), ("card", "on"), ("a.b",), ("no",),
    ]  # fmt: skip
    assert isinstance(pipeline.event.features["no"].fill, float)
    assert "# tags: ..." in (folder / "rows.yaml").read_text()
    assert works(pipeline, "rows.jsonl.gz", "y")


def test_prose_is_counted_in_words(folder: Path) -> None:
    rng = random.Random(4)
    words = {"spam": "win cash now prize call free".split(), "ham": "see you at home for dinner".split()}  # noqa: SIM905
    with Path("mail.jsonl").open("w", encoding="utf-8") as file:
        for place in range(ROWS):
            kind = "spam" if place % 4 == 0 else "ham"
            text = " ".join(rng.choices(words[kind], k=300 if place == 7 else 6)) + f" {place}"
            file.write(json.dumps({"kind": kind, "text": text}) + "\n")
    assert init("--input", "mail.jsonl", "--label", "kind").exit_code == 0
    pipeline = load_pipeline(folder / "mail.yaml")
    assert pipeline.event.features["text"].type == "text"  # the long one is cut, not rejected
    assert "FeatureHasher(n_features=16384)" in pipeline.model
    assert pipeline.label is not None
    assert pipeline.label.positive == "spam"
    assert works(pipeline, "mail.jsonl", "kind")


@pytest.mark.parametrize(
    "header", [("0", "on", "y"), ("a..b", "No.", "y"), ("a b", "it's", "y"), ("$x", "a: b #", "y"), ("ключ", "\\", "y")]
)
def test_odd_column_names(folder: Path, header: tuple[str, ...]) -> None:
    rng = random.Random(4)
    rows = [(rng.gauss(0, 1), rng.choice("xyz"), int(rng.random() < 0.4)) for _ in range(ROWS)]
    done = init("--input", written("rows.csv", header, rows), "--label", "y")
    assert done.exit_code == 0, done.output
    pipeline = load_pipeline(folder / "rows.yaml")
    assert pipeline.event.names == header[:2]
    assert works(pipeline, "rows.csv", "y")


def test_many_columns(folder: Path) -> None:
    rng = random.Random(4)
    header = [f"a rather long name of a column {place}" for place in range(600)] + ["kind", "y"]
    rows = [[rng.random() for _ in range(600)] + [rng.choice("xyz"), int(rng.random() < 0.4)] for _ in range(60)]
    assert init("--input", written("rows.csv", header, rows), "--label", "y").exit_code == 0
    assert "SelectType" in load_pipeline(folder / "rows.yaml").model


def test_an_id_field_that_repeats_is_not_taken(folder: Path) -> None:
    rng = random.Random(4)
    rows = [(place % 100, rng.gauss(0, 1), place % 2) for place in range(ROWS)]
    assert init("--input", written("rows.csv", ("id", "x", "y"), rows), "--label", "y").exit_code == 0
    pipeline = load_pipeline(folder / "rows.yaml")
    assert pipeline.event.id == "event_id"
    assert pipeline.event.names[0] == "x"
    assert "id" not in pipeline.event.names, "its past may be a feature: here it gives the label away"
    assert works(pipeline, "rows.csv", "y")


def test_output_name_and_force(folder: Path) -> None:
    data = payments()
    assert init("--input", data, "--label", "is_fraud", "-o", "p.yaml", "--name", "mine").exit_code == 0
    assert load_pipeline(folder / "p.yaml").name == "mine"
    (folder / "p.yaml").write_text("kept")
    refused = init("--input", data, "--label", "is_fraud", "-o", "p.yaml")
    assert (refused.exit_code, (folder / "p.yaml").read_text()) == (2, "kept")
    assert "--force" in refused.stderr
    assert init("--input", data, "--label", "is_fraud", "-o", "p.yaml", "--force").exit_code == 0
    assert load_pipeline(folder / "p.yaml").task == "binary"
    shown = init("--input", data, "--label", "is_fraud", "-o", "-")
    assert shown.stdout.startswith("# Written by `driftline init`")
    assert "pipeline: card-payments" in shown.stdout


CSV = "a,b,y\n" + "".join(f"{place},{place % 7},{place % 2}\n" for place in range(40))


@pytest.mark.parametrize(
    ("content", "arguments", "told"),
    [
        (None, ["--label", "y"], "no such file"),
        ("", ["--label", "y"], "is empty"),
        ("\n", ["--label", "y"], "is empty"),
        ("a,b,y\n", ["--label", "y"], "no rows"),
        ("a,b,y\n1,2,0\n", ["--label", "y"], "too few"),
        (CSV, ["--label", "yy"], "did you mean 'y'?"),
        (CSV, ["--label", "y", "--id", "nowhere"], "no such field"),
        (CSV, ["--label", "y", "--time", "bb"], "did you mean 'b'?"),
        (CSV, ["--label", "y", "--name", "Not A Name"], "--name Not A Name"),
        (CSV, ["--label", "y", "-o", "no/such/folder.yaml"], "cannot write"),
        (CSV, ["--task", "regression"], "--label"),
        (CSV.replace(",y\n", ",a\n", 1), ["--label", "b"], "column a appears more than once"),
        ("a,b,y\n" + "1,2,1\n" * 40, ["--label", "y"], "is 1 in every row"),
        (b"a,b,y\n\xff\xfe,1,2\n", ["--label", "y"], "line 2 has the byte 0xff"),
        ("a,b,y\n" + "1,2\n" * 40, ["--label", "y"], "the first of 40: line 2: has 2 cells, the header has 3"),
    ],
)
def test_errors(folder: Path, content: str | bytes | None, arguments: list[str], told: str) -> None:
    if content is not None:
        Path("rows.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    done = init("--input", "rows.csv", *arguments)
    assert done.exit_code == 2
    assert told in done.stderr
    assert not list(folder.glob("*.yaml"))


def test_what_is_left_out_is_named_on_the_terminal(folder: Path) -> None:
    rows = [f"{place},{place % 7},x,{place % 2}" for place in range(40)]
    Path("rows.csv").write_text("\n".join([",b,c,y", *rows, "1,2", ""]))
    done = init("--input", "rows.csv", "--label", "y")
    assert done.exit_code == 0
    told = ["column 1 has no name", "c: it has one value in every row", "line 42: has 2 cells, the header has 4"]
    assert all(f"left out: {one}" in done.stderr or one in done.stderr for one in told)
    text = (folder / "rows.yaml").read_text()
    assert "warmup_labels: 50" in text
    assert load_pipeline(folder / "rows.yaml").event.names == ("b",)


def test_texts_beside_other_fields_are_read(folder: Path) -> None:
    rng = random.Random(8)
    words = ["win", "cash", "prize", "free", "meeting", "report", "lunch", "project", "team", "photos"]
    rows = []
    for _ in range(400):
        spam = rng.random() < 0.4
        said = rng.choices(words[:4] if spam else words[4:], k=8) + rng.choices(words, k=4)
        rows.append((" ".join(said), " ".join(said[:3]), rng.randrange(2), "spam" if spam else "ham"))
    data = written("mails.csv", ("text", "subject", "is_html", "label"), rows)
    done = init("--input", data, "--label", "label")
    assert "left out" not in done.stderr
    pipeline = load_pipeline(folder / "mails.yaml")
    assert pipeline.event.names == ("text", "subject", "is_html")
    scored = CliRunner().invoke(main, ["backtest", "-p", "mails.yaml", "--input", data, "--label", "label", "--json"])
    assert scored.exit_code == 0
    assert json.loads(scored.stdout)["candidates"][0]["metrics"]["ROCAUC"] > 0.98


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("rows.jsonl", b'{"a": \n', "line 1: is not JSON"),
        ("rows.jsonl", b"[1]\n", "line 1: is JSON but not an object"),
        ("rows.csv.gz", b"not gzip", "cannot read"),
        ("rows.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:40], "cannot read"),
        ("rows.parquet", b"PAR1", "name it .csv or .jsonl"),
    ],
)
def test_files_that_cannot_be_read(name: str, content: bytes, told: str) -> None:
    Path(name).write_bytes(content)
    done = init("--input", name, "--label", "y")
    assert done.exit_code == 2
    assert told in done.stderr


def test_a_folder_is_no_data(folder: Path) -> None:
    (folder / "rows.csv").mkdir()
    assert "is a folder" in init("--input", "rows.csv", "--label", "y").stderr


@pytest.mark.parametrize(
    ("file", "label", "task", "features"),
    [
        ("elec2.csv.gz", "class", "binary", 6),
        ("bike_sharing_hour.csv.gz", "cnt", "regression", 12),
        ("fraud_handbook_2018-06.csv.gz", "TX_FRAUD", "binary", 1),
        ("noaa_weather.csv.gz", "target", "binary", 8),
        ("sms_spam.jsonl.gz", "label", "binary", 1),
    ],
)
def test_real_data(folder: Path, file: str, label: str, task: str, features: int) -> None:
    data = os.environ.get("DRIFTLINE_DATA")
    if not data:
        pytest.skip(f"set DRIFTLINE_DATA to a folder with {file}")
    series = ["--task", task] if task == "regression" else []  # a number an hour is forecast where nothing else is said
    done = init("--input", str(Path(data) / file), "--label", label, "-o", "p.yaml", *series)
    assert done.exit_code == 0, done.output
    pipeline = load_pipeline(folder / "p.yaml")
    assert (pipeline.task, len(pipeline.event.plain)) == (task, features)
    assert not {"TX_FRAUD_SCENARIO", "casual", "registered"} & set(pipeline.event.features)
    assert works(pipeline, Path(data) / file, label, 5_000)


@pytest.mark.parametrize(
    ("classes", "task", "note"),
    [
        (("ja", "nein", "NA"), "binary", "'NA' (200)"),
        (("low", "mid", "high", "n/a"), "multiclass", "'n/a' (150)"),
        (("none", "minor", "major"), "multiclass", ""),  # a class
        (("-", "+"), "binary", ""),
        (("NA", "EU"), "binary", ""),
    ],
)
def test_words_for_missing_are_no_class(classes: tuple[str, ...], task: str, note: str) -> None:
    rows = ((place * 37 % 101 + 0.5, classes[place % len(classes)]) for place in range(ROWS))
    result = init("--input", written("damage.csv", ["amount", "damage"], rows), "--label", "damage")
    assert result.exit_code == 0, result.output
    assert ("these values of damage count as missing: " + note in result.output) == bool(note)
    pipeline = load_pipeline(Path("damage.yaml"), ())
    assert pipeline.task == task
    table = Table(Path("damage.csv"), pipeline, Fields("damage"), now_ms=1_700_000_000_000)
    without = sum(row.label is MISSING for row in table.samples())
    assert without == (ROWS // len(classes) if note else 0)


def test_a_bare_nan_in_json_counts_as_missing() -> None:
    rows = ({"amount": math.nan if place % 9 == 0 else place * 37 % 101, "paid": place % 2} for place in range(ROWS))
    lines = [json.dumps(row | ({"paid": math.nan} if place == 6 else {})) for place, row in enumerate(rows)]
    Path("paid.jsonl").write_text("\n".join(lines))
    assert init("--input", "paid.jsonl", "--label", "paid").exit_code == 0
    pipeline = load_pipeline(Path("paid.yaml"), ())
    assert pipeline.task == "binary"
    table = Table(Path("paid.jsonl"), pipeline, Fields("paid"), now_ms=1_700_000_000_000)
    assert (sum(row.label is MISSING for row in table.samples()), table.bad.count) == (1, 0)


def test_rows_that_will_be_numbered_are_named_with_the_field_that_may_tell_them_apart() -> None:
    rows = [
        (f"T-{place}", f"2024-01-01 {place // 60:02d}:{place % 60:02d}", place % 7, place % 2) for place in range(90)
    ]
    path = written("tickets.csv", ["ticket", "opened", "size", "late"], rows)
    told = init("--input", path, "--label", "late").output
    assert "numbers the rows of each file from 0; if ticket is a unique id, add --id ticket" in told
    stated = init("--input", path, "--label", "late", "--id", "ticket", "--force")
    assert stated.exit_code == 0
    assert "numbered" not in stated.output


def test_names_of_columns_are_text_wherever_they_stand(folder: Path) -> None:
    names = ("a\nh.yaml: all is well", "b') | Unknown('", "$lr", "c: !!python/name:os.system", "=1+1", "\x1b[2J")
    rng = random.Random(3)
    rows = [{"id": number, **{name: rng.random() for name in names}, "y": number % 2} for number in range(200)]
    with (folder / "h.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", *names, "y"])
        writer.writeheader()
        writer.writerows(rows)
    done = init("--input", "h.csv", "--label", "y", "--id", "id", "-o", "h.yaml")
    assert done.exit_code == 0, done.output
    assert not any(line.startswith("h.yaml: all is well") for line in done.stderr.splitlines())
    assert "\x1b" not in done.output
    assert {*load_pipeline(folder / "h.yaml").event.features} == {*names[1:5]}
