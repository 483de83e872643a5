"""`driftline backtest` on files: right, comparable, and clear about what it could not use."""

from __future__ import annotations

import csv
import datetime as dt
import json
import re
from collections.abc import Callable, Hashable
from fractions import Fraction
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from river import compose, evaluate, linear_model, metrics, naive_bayes, preprocessing, tree

from driftline.backtest import candidate, report
from driftline.cli.backtest import candidates
from driftline.core.fold import step as steps
from tests.backtest import history
from tests.cli.command import ROOT, run

pytestmark = pytest.mark.slow

MODELS: dict[str, Callable[[], Any]] = {
    "StandardScaler() | LogisticRegression()": lambda: (
        preprocessing.StandardScaler() | linear_model.LogisticRegression()
    ),
    "GaussianNB()": naive_bayes.GaussianNB,
    "HoeffdingTreeClassifier()": tree.HoeffdingTreeClassifier,
    "HoeffdingAdaptiveTreeClassifier(seed=42)": lambda: tree.HoeffdingAdaptiveTreeClassifier(seed=42),
}


def backtest(folder: Path, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
    """Run it over the table in the folder, in this process by default; returns its report."""
    alone = () if "--processes" in arguments else ("--processes", "1")
    done = run("backtest", "--input", folder / "data.csv", "--label", "y", "-o", folder / "out", *arguments, *alone)
    assert done.returncode == code, done.stdout + done.stderr
    made: dict[str, Any] = orjson.loads((folder / "out" / "report.json").read_bytes())
    return made


def by_river(count: int, model: Any, delay_s: int) -> dict[str, float]:
    """What River's own delayed evaluation gives for the rows."""
    at = dt.datetime(2000, 1, 1)  # noqa: DTZ001 - River compares naive times
    rows: list[tuple[dict[Hashable, Any], Any]] = [
        ({"x1": x1, "x2": x2, "x3": x3, "at": at + dt.timedelta(seconds=n)}, y == 1)
        for n, (x1, x2, x3, y) in enumerate(history.rows(count))
    ]
    metric = metrics.Accuracy() + metrics.LogLoss()
    evaluate.progressive_val_score(
        rows, compose.Discard("at") | model, metric, moment="at", delay=dt.timedelta(seconds=delay_s)
    )
    accuracy, log_loss = metric
    return {"Accuracy": accuracy.get(), "LogLoss": log_loss.get()}


@pytest.mark.parametrize("delay_s", [0, 90])
def test_four_candidates_are_what_river_alone_gives(tmp_path: Path, delay_s: int) -> None:
    history.table(tmp_path)
    files = [history.pipeline_file(tmp_path, f"m{n}", model) for n, model in enumerate(MODELS)]
    flags = [part for file in files for part in ("-p", file)]
    made = backtest(tmp_path, *flags, "--label-delay", f"{delay_s}s", "--processes", "1")
    for one, model in zip(made["candidates"], MODELS.values(), strict=True):
        expected = by_river(1_500, model(), delay_s)
        for name, value in expected.items():
            assert one["pipeline_metrics"][name] == pytest.approx(value, rel=1e-9), (one["model"], name)
        assert one["metrics"]["LogLoss"] == pytest.approx(expected["LogLoss"], rel=1e-9)
        assert one["metrics"]["Accuracy"] == pytest.approx(expected["Accuracy"], rel=1e-9)
        assert one["counts"]["joined"] == 1_500


def test_report_has_the_promised_form(tmp_path: Path) -> None:
    history.table(tmp_path)
    file = history.pipeline_file(tmp_path, drift={"error": "ADWIN()", "warmup_labels": 100})
    made = backtest(tmp_path, "-p", file, "--grid", "model=GaussianNB(),HoeffdingTreeClassifier()", "--segment", "x3")
    schema = json.loads((ROOT / "schemas" / "backtest.schema.json").read_text())
    assert schema == report.schema()
    jsonschema.validate(made, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**made, "candidates": [{}]}, schema)
    for one in made["candidates"]:
        assert sum(part["n"] for part in one["over_time"]) == 1_500
        assert {part["name"] for part in one["segments"]} == {"0.0", "1.0", "2.0", "3.0"}
        assert sum(cell["n"] for cell in one["confusion"]) == one["answered"] >= 1_499


def test_drift_is_in_the_report_where_the_rule_turns(tmp_path: Path) -> None:
    history.table(tmp_path, 3_000)
    file = history.pipeline_file(tmp_path, drift={"error": "ADWIN()", "warmup_labels": 500})
    made = backtest(tmp_path, "-p", file)
    (only,) = made["candidates"]
    source = made["source"]
    rows = [(drift["time_ms"] - source["start_ms"]) // source["step_ms"] for drift in only["drifts"]]
    assert any(2_000 <= row <= 2_300 for row in rows)
    assert only["alert_count"] == len(only["alerts"]) > 0
    assert "more often" in only["alerts"][0]["sentence"]


def test_page_needs_nothing_else_and_escapes_what_it_shows(tmp_path: Path) -> None:
    history.table(tmp_path)
    features = {"<b>": {"path": "x3", "type": "number"}, "x1": {"path": "x1", "type": "number"}}
    file = history.pipeline_file(tmp_path, event={"id": "id", "features": features})
    spiteful = tmp_path / "<img src=x onerror=alert(1)>.yaml"
    file.rename(spiteful)
    backtest(
        tmp_path, "-p", spiteful, "--grid", "model=GaussianNB(),Select('<b>', 'x1') | GaussianNB()", "--segment", "<b>"
    )
    page = (tmp_path / "out" / "report.html").read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=", page)
    assert "&lt;img src=x" in page
    assert page.count("<b>") == page.count("</b>")
    assert "<h2>By &lt;b&gt;</h2>" in page


def test_grid_and_set_make_candidates(tmp_path: Path) -> None:
    file = history.pipeline_file(
        tmp_path, model="StandardScaler() | LogisticRegression(optimizer=SGD($lr))", params={"lr": 0.01}
    )
    specs, pipelines = candidates([file], ["metric_window=50"], ["params.lr=0.1,1", "label.wait=1h,2h"])
    assert [spec.name for spec in specs] == [
        *("first lr=0.1 label.wait=1h", "first lr=0.1 label.wait=2h"),
        *("first lr=1 label.wait=1h", "first lr=1 label.wait=2h"),
    ]
    assert [pipeline.params["lr"] for pipeline in pipelines] == [0.1, 0.1, 1, 1]
    assert {pipeline.metric_window for pipeline in pipelines} == {50}


def test_candidates_in_several_processes_give_the_same(tmp_path: Path) -> None:
    history.table(tmp_path)
    file = history.pipeline_file(tmp_path)
    flags = ("-p", file, "--grid", "model=GaussianNB(),HoeffdingTreeClassifier()", "--scores", tmp_path / "s.csv")
    alone = backtest(tmp_path, *flags, "--processes", "1")
    scores = sorted((tmp_path / "s.csv").read_text().splitlines())
    together = backtest(tmp_path, *flags, "--processes", "2")
    for made in (alone, together):
        made.pop("seconds")
        for one in made["candidates"]:
            one.pop("cpu_seconds")
    assert alone == together
    assert scores == sorted((tmp_path / "s.csv").read_text().splitlines())


def test_burn_in_is_folded_and_not_counted(tmp_path: Path) -> None:
    history.table(tmp_path)
    file = history.pipeline_file(tmp_path)
    whole = backtest(tmp_path, "-p", file)["candidates"][0]
    for burn_in in ("500", "500s"):
        part = backtest(tmp_path, "-p", file, "--burn-in", burn_in)["candidates"][0]
        assert (part["counted"], part["burned"]) == (1_000, 500)
        assert part["pipeline_metrics"] == whole["pipeline_metrics"]
        assert part["metrics"]["LogLoss"] != whole["metrics"]["LogLoss"]


def test_scores_hold_every_event_once(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    history.table(tmp_path)
    file = history.pipeline_file(tmp_path)
    backtest(tmp_path, "-p", file, "--label-delay", "10s", "--scores", tmp_path / "scores.csv")
    backtest(tmp_path, "-p", file, "--label-delay", "10s", "--scores", tmp_path / "scores.parquet")
    with (tmp_path / "scores.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert sorted(int(row["event_id"]) for row in rows) == list(range(1_500))
    labels = [row[3] for row in history.rows(1_500)]
    assert [row["label"] for row in sorted(rows, key=lambda row: int(row["event_id"]))] == [
        "true" if label else "false" for label in labels
    ]
    assert {row["label_delay_ms"] for row in rows} == {"10000"}
    table = parquet.read_table(tmp_path / "scores.parquet").to_pylist()
    assert [row["value"] for row in table] == [float(row["value"]) for row in rows]


def test_two_files_of_records(tmp_path: Path) -> None:
    event = {"id": "id", "time": "at", "features": {"x1": "number"}}
    label = {"id": "id", "value": "y", "time": "at", "wait": "1h"}
    file = history.pipeline_file(tmp_path, event=event, label=label)
    at = history.START_MS
    events, labels = tmp_path / "e.jsonl", tmp_path / "l.jsonl"
    events.write_bytes(b"\n".join(orjson.dumps({"id": n, "at": at + n * 1_000, "x1": n % 5}) for n in range(300)))
    found = [orjson.dumps({"id": n, "at": at + n * 1_000 + 5_000, "y": n % 2}) for n in range(250, 350)]
    labels.write_bytes(b"\n".join(found))
    done = run("backtest", "-p", file, "--events", events, "--labels", labels, "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    made = orjson.loads((tmp_path / "report.json").read_bytes())
    (only,) = made["candidates"]
    assert only["counted"] == 50
    assert only["pending"] == 250
    assert "50 labels match no event" in done.stderr


# -- what goes wrong


def fails(*arguments: str | Path, code: int, says: str) -> None:
    done = run("backtest", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert re.search(says, " ".join(done.stderr.split())), done.stderr


def test_no_records_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("x1,x2,x3,y\n")
    out = tmp_path / "out"
    flags = ("-p", history.pipeline_file(tmp_path), "--input", tmp_path / "data.csv", "--label", "y", "-o", out)
    fails(*flags, code=2, says="no records in .*data.csv")
    assert not out.exists()  # it was new


def test_labels_without_events_are_an_error(tmp_path: Path) -> None:
    event = {"id": "id", "time": "at", "features": {"x1": "number"}}
    label = {"id": "id", "value": "y", "time": "at", "wait": "1h"}
    file = history.pipeline_file(tmp_path, event=event, label=label)
    at = history.START_MS
    (tmp_path / "e.jsonl").write_bytes(orjson.dumps({"id": 1, "at": at, "x1": 1}))
    (tmp_path / "l.jsonl").write_bytes(orjson.dumps({"id": 2, "at": at, "y": 1}))
    flags = ("--events", tmp_path / "e.jsonl", "--labels", tmp_path / "l.jsonl", "-o", tmp_path / "out")
    fails("-p", file, *flags, code=2, says="no event has a usable label.*1 events were scored.*1 labels match no")


def test_labels_without_their_time_are_named_where_none_is_left(tmp_path: Path) -> None:
    event = {"id": "id", "time": "at", "features": {"x1": "number"}}
    file = history.pipeline_file(tmp_path, event=event, label={"id": "id", "value": "y", "wait": "1h"})
    (tmp_path / "e.jsonl").write_bytes(orjson.dumps({"id": 1, "at": history.START_MS, "x1": 1}))
    (tmp_path / "l.jsonl").write_bytes(orjson.dumps({"id": 1, "at": history.START_MS, "y": 1}))
    flags = ("--events", tmp_path / "e.jsonl", "--labels", tmp_path / "l.jsonl", "-o", tmp_path / "out")
    says = r"1 lines could not be used, the first: line 1: l.jsonl: no time in 'seen' .there is no such field.*names of"
    fails("-p", file, *flags, "--label-time", "seen", code=2, says=says)
    (tmp_path / "l.jsonl").write_bytes(orjson.dumps({"id": 1, "at": history.START_MS, "y": "perhaps"}))
    says = r"1 records were rejected, the first: .*perhaps.*Check what the fields hold"
    fails("-p", file, *flags, "--label-time", "at", code=2, says=says)


def test_rows_of_another_width_are_left_out_and_told(tmp_path: Path) -> None:
    path = history.table(tmp_path)
    path.write_text(path.read_text() + "1,2,3\n1,2,3,4,1\n")
    made = backtest(tmp_path, "-p", history.pipeline_file(tmp_path), code=1)
    assert made["source"]["bad"] == 2
    assert made["source"]["bad_lines"][0] == "line 1502: has 3 cells, the header has 4"


def test_rows_that_the_model_cannot_take_are_told(tmp_path: Path) -> None:
    path = history.table(tmp_path)
    path.write_text(path.read_text() + "much,2,3,1\n")
    made = backtest(tmp_path, "-p", history.pipeline_file(tmp_path), code=1)
    assert made["source"]["bad_lines"] == ["line 1502: x1 is 'much', which is not a number"]
    assert made["candidates"][0]["rejected"] == []
    assert any("1 unusable rows were skipped" in text for text in made["warnings"])


def test_times_in_the_wrong_order_are_told(tmp_path: Path) -> None:
    lines = ["at,x1,y"] + [f"{history.START_MS + (n ^ 1) * 1_000},{n % 7},{n % 2}" for n in range(200)]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    made = backtest(tmp_path, "-p", history.pipeline_file(tmp_path, features=("x1",)), "--time", "at")
    assert made["source"]["disordered"] == 100
    assert any("100 rows have an earlier time than the row before" in text for text in made["warnings"])


def test_candidate_that_needs_another_column_fails_and_the_other_goes_on(tmp_path: Path) -> None:
    history.table(tmp_path)
    good = history.pipeline_file(tmp_path, "good")
    bad = history.pipeline_file(tmp_path, "bad", features=("x1", "age"))
    made = backtest(tmp_path, "-p", good, "-p", bad, "--processes", "2", code=1)
    assert made["candidates"][0]["counted"] == 1_500
    assert "no column 'age'" in made["candidates"][1]["failure"]
    assert backtest(tmp_path, "-p", good, "-p", bad, "--processes", "1", code=1)["source"]["rows"] == 1_500
    out = tmp_path / "other"
    flags = ("--input", tmp_path / "data.csv", "--label", "y", "-o", out)
    fails("-p", bad, *flags, code=2, says="no column 'age'")
    assert not out.exists()  # it was new


def test_candidate_that_raises_half_way_fails_and_the_other_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.table(tmp_path)
    real = steps.step

    def step(shard: Any, record: Any, oracle: Any) -> Any:
        if shard.pipeline.name == "bad" and shard.counts.get("joined", 0) == 700:
            raise ZeroDivisionError("half way")
        return real(shard, record, oracle)

    monkeypatch.setattr(candidate, "step", step)
    files = [history.pipeline_file(tmp_path, name) for name in ("good", "bad")]
    made = backtest(tmp_path, "-p", files[0], "-p", files[1], "--processes", "1", code=1)
    good, bad = made["candidates"]
    assert good["counted"] == 1_500
    assert bad["counted"] == 700
    assert bad["failure"] == "at record 1401: ZeroDivisionError: half way"
    assert any(text.startswith("bad failed: at record") for text in made["warnings"])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--segment", "x9"], "no candidate has a feature 'x9'.*x1, x2, x3"),
        (["--cost", "fp=much"], "is not a cost"),
        (["--cost", "fp=nan"], "costs are tp, fp, fn and tn"),
        (["--cost", "fp=inf"], "costs are tp, fp, fn and tn"),
        (["--cost", "hits=1"], "costs are tp, fp, fn and tn"),
        (["--grid", "params.lr"], "write a key and values"),
        (["--burn-in", "soon"], "not a duration"),
        (["--scores", "scores.xlsx"], "name it .csv or .parquet"),
        (["--scores", "nowhere/scores.csv"], "folder nowhere does not exist"),
        (["--events", "e.jsonl"], "give either --input"),
        (["--grid", "seed=" + ",".join(map(str, range(70)))], "more than 64 candidates"),
        (["--time", "at", "--start", "0"], "--time excludes"),
        (["--label-time", "at"], "--label-time needs --labels"),
    ],
)
def test_flags_that_do_not_fit(tmp_path: Path, flags: list[str], says: str) -> None:
    history.table(tmp_path)
    file = history.pipeline_file(tmp_path)
    rest = ("--input", tmp_path / "data.csv", "--label", "y", "-o", tmp_path / "out")
    fails("-p", file, *rest, *flags, code=2, says=says)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--from", "soon"], "for --from: 'soon' is not ISO 8601"),
        (["--to", "offset:-3"], "--to 'offset:-3': write offset:N"),
        (["--from", "offset:9", "--to", "offset:9"], "--to must be later than --from"),
    ],
)
def test_ranges_that_are_none(tmp_path: Path, flags: list[str], says: str) -> None:
    fails("-p", history.pipeline_file(tmp_path), *flags, "-o", tmp_path / "out", code=2, says=says)


@pytest.mark.parametrize(
    "flag", ["--label=y", "--id=x1", "--start=0", "--step=1s", "--label-delay=1s", "--time=at", "--limit=5"]
)
def test_flags_of_files_are_refused_where_there_is_none(tmp_path: Path, flag: str) -> None:
    """Before Kafka is asked for anything: they would change nothing."""
    file = history.pipeline_file(tmp_path)
    fails("-p", file, flag, "-o", tmp_path / "out", code=2, says=f"{flag.partition('=')[0]} needs files")
    records = ("--events", tmp_path / "e.jsonl", "--labels", tmp_path / "l.jsonl")
    if flag.startswith(("--time", "--limit")):
        return
    fails("-p", file, *records, flag, "-o", tmp_path / "out", code=2, says=f"{flag.partition('=')[0]} needs --inp")


def test_summary_fits_eighty_columns(tmp_path: Path) -> None:
    history.table(tmp_path)
    file = history.pipeline_file(tmp_path)
    flags = ("--grid", "model=GaussianNB(),HoeffdingTreeClassifier()", "--cost", "fp=1,fn=20")
    done = run("backtest", "-p", file, "--input", tmp_path / "data.csv", "--label", "y", "-o", tmp_path, *flags)
    lines = [line for line in done.stdout.splitlines() if str(tmp_path) not in line]
    assert len(lines) > 10
    assert max(map(len, lines)) <= 80


def test_naive_says_the_last_label_again(tmp_path: Path) -> None:
    history.table(tmp_path)
    made = backtest(tmp_path, "-p", history.pipeline_file(tmp_path), "--naive")
    labels = [row[3] for row in history.rows(1_500)]
    hits = sum(one == other for one, other in pairwise(labels))
    last = made["candidates"][1]
    assert last["name"] == "same as last label"
    assert last["metrics"]["Accuracy"] == pytest.approx(hits / 1_499)
    assert made["comparisons"][0]["candidate"] == "same as last label"


def test_equal_names_are_numbered(tmp_path: Path) -> None:
    file = history.pipeline_file(tmp_path)
    specs, _ = candidates([file, file, file], [], [])
    assert [spec.name for spec in specs] == ["first", "first (2)", "first (3)"]
    other = history.pipeline_file(tmp_path, "other", pipeline="first")
    specs, _ = candidates([file, other, other], [], [])
    assert [spec.name for spec in specs] == ["first", "first (other)", "first (2)"]


def test_a_model_that_learns_nothing_has_failed(tmp_path: Path) -> None:
    """It answers every event, as it was made; that is no result."""
    history.table(tmp_path)
    model = "StandardScaler() | LogisticRegression(optimizer=SGD($lr))"
    file = history.pipeline_file(tmp_path, model=model, params={"lr": 0.01})
    made = backtest(tmp_path, "-p", file, "--grid", "params.lr=0.01,abc", code=1)
    good, bad = made["candidates"]
    assert good["failure"] is None
    assert "raised an exception for all 1,500 labels: AttributeError" in bad["failure"]
    assert [text for text in made["warnings"] if text.startswith("first lr=abc failed: the model raised")]


def test_anomalies_without_labels_are_scores_alone(tmp_path: Path) -> None:
    history.table(tmp_path)
    model = "StandardScaler() | HalfSpaceTrees(seed=1)"
    document = history.document(model=model, task="anomaly", metrics=None)
    file = tmp_path / "first.yaml"
    file.write_bytes(orjson.dumps({key: value for key, value in document.items() if key not in ("label", "metrics")}))
    where = ("-p", file, "--input", tmp_path / "data.csv", "-o", tmp_path / "out")
    done = run("backtest", *where, "--label", "y")
    assert done.returncode == 2
    assert "has no section `label`" in done.stderr
    done = run("backtest", *where)
    assert done.returncode == 0, done.stderr
    assert re.search(r"candidate +scores\nfirst +1,500\n", done.stdout)
    assert "note" not in done.stderr
    made = orjson.loads((tmp_path / "out" / "report.json").read_bytes())
    assert made["metrics"] == []
    assert "scored 1,500 events" in (tmp_path / "out" / "report.html").read_text()


def rank_curves(scored: list[tuple[float, bool]]) -> tuple[float, float]:
    """ROC AUC by Mann and Whitney's ranks, in fractions, and average precision threshold by threshold."""
    groups = [list(group) for _, group in groupby(sorted(scored), key=lambda pair: pair[0])]
    positives = sum(y for _, y in scored)
    seen, ranks = 0, Fraction(0)
    for group in groups:
        ranks += Fraction(2 * seen + 1 + len(group), 2) * sum(y for _, y in group)
        seen += len(group)
    area = (ranks - Fraction(positives * (positives + 1), 2)) / (positives * (len(scored) - positives))
    hits = alarms = 0
    average = 0.0
    for group in reversed(groups):
        found = sum(y for _, y in group)
        hits, alarms = hits + found, alarms + len(group)
        average += found / positives * hits / alarms
    return float(area), average


def check_budgets(one: dict[str, Any], scored: list[tuple[float, bool]]) -> None:
    """The events with the highest scores, as many as fit; bins keep apart what differs by a hundredth of the odds."""
    assert [budget["share"] for budget in one["budgets"]] == [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1]
    for budget in one["budgets"]:
        flagged = [y for score, y in scored if score >= budget["threshold"]]
        assert (budget["alarms"], budget["tp"]) == (len(flagged), sum(flagged))
        assert 0.5 * budget["share"] * one["counted"] < budget["alarms"] <= budget["share"] * one["counted"]


def test_curves_are_those_of_the_scores_that_it_writes(tmp_path: Path) -> None:
    """On payments with rare fraud and text, whose labels come late; two candidates, in two processes."""
    assert run("demo", "--write", tmp_path / "example").returncode == 0
    file, out = tmp_path / "example" / "pipeline.yaml", tmp_path / "out"
    done = run(
        *("backtest", "-p", file, "--grid", "seed=1,2", "--input", tmp_path / "example" / "payments.jsonl"),
        *("--label", "is_fraud", "--label-delay", "15m", "--limit", "9000", "--processes", "2"),
        *("--scores", tmp_path / "scores.csv", "-o", out),
    )
    assert done.returncode == 0, done.stderr
    made = orjson.loads((out / "report.json").read_bytes())
    with (tmp_path / "scores.csv").open(newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if row["value"] and row["label"]]
    assert len(made["candidates"]) == 2
    for one in made["candidates"]:
        scored = [(float(row["value"]), row["label"] == "true") for row in rows if row["candidate"] == one["name"]]
        assert len(scored) == one["answered"]
        area, average = rank_curves(scored)
        assert one["metrics"]["ROCAUC"] == pytest.approx(area, abs=1e-13)
        assert one["metrics"]["AveragePrecision"] == pytest.approx(average, abs=1e-12)
        assert one["binned"] == []
        assert one["pipeline_metrics"]["ROCAUC"] != one["metrics"]["ROCAUC"]
        assert one["pipeline_metrics"]["ROCAUC"] == pytest.approx(area, abs=0.01)
        check_budgets(one, scored)
    assert made["binned_in_parts"] == ["ROCAUC", "AveragePrecision"]
    page = (out / "report.html").read_text()
    assert "Intervals of ROCAUC and AveragePrecision are computed from binned scores." in page
    assert "ROCAUC (binned) over time" in page
    assert page.count("alarms right") == 2 * 7


def test_more_labels_than_are_kept_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driftline.core.metric.exact.LABELS_MAX", 1_000)
    history.table(tmp_path)
    made = backtest(tmp_path, "-p", history.pipeline_file(tmp_path), "--processes", "1")
    assert made["candidates"][0]["binned"] == ["ROCAUC", "AveragePrecision"]
    assert [one for one in made["warnings"] if "are computed from binned scores, as live" in one]


def test_the_report_says_what_the_guard_saved_and_cost(tmp_path: Path) -> None:
    history.table(tmp_path)
    guard = {"range": {"min": 0, "max": 0.6, "action": "fallback"}, "fallback": [{"value": 0.4}]}
    changes: dict[str, Any] = {"task": "regression", "metrics": ["MAE"], "drift": "none"}
    file = history.pipeline_file(tmp_path, "kept", "StandardScaler() | LinearRegression()", guard=guard, **changes)
    plain = history.pipeline_file(tmp_path, "plain", "StandardScaler() | LinearRegression()", **changes)
    kept, other = backtest(tmp_path, "-p", file, "-p", plain)["candidates"]

    model, tripped, was, became = preprocessing.StandardScaler() | linear_model.LinearRegression(), 0, [], []
    errors = []
    for x1, x2, x3, y in history.rows(1_500):
        x = {"x1": x1, "x2": x2, "x3": x3}
        said = model.predict_one(x)
        beyond = not 0 <= said <= 0.6
        tripped += beyond
        errors.append(abs(y - (0.4 if beyond else said)))
        if beyond:
            was.append(abs(y - said))
            became.append(errors[-1])
        model.learn_one(x, y)
    (rung,) = kept["guard"]
    assert (rung["name"], rung["actions"], rung["replaced"]) == ("range", {"fallback": tripped}, tripped)
    assert 0 < tripped < 1_500
    assert rung["model_error"] == pytest.approx(sum(was) / tripped)
    assert rung["served_error"] == pytest.approx(sum(became) / tripped)
    better = [one - two for one, two in zip(was, became, strict=True)]
    assert rung["saved"] == pytest.approx(sum(max(0, one) for one in better))
    assert rung["cost"] == pytest.approx(sum(max(0, -one) for one in better))
    assert (kept["instead"], rung["withheld"], rung["withheld_error"]) == ({"value": tripped}, 0, None)
    assert kept["metrics"]["MAE"] == pytest.approx(sum(errors) / 1_500)
    assert (other["guard"], other["instead"]) == ([], {})
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<h2>Guard</h2>" in page
    assert f"kept served instead: value {tripped:,}." in page
