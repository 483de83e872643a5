"""`driftline backtest --baseline`: each rule against its definition, computed here without Driftline."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from driftline.core.task.rule import Rule, parse_rule
from tests.backtest import history
from tests.cli.command import run

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
DELAY_MS = 5 * HOUR_MS


def sales(count: int = 900) -> list[tuple[int, str, float, float]]:
    """Time in ms, store, price, units: every four hours one of three stores, with a day's pattern."""
    source = np.random.default_rng(5)
    made = []
    for number in range(count):
        at_ms = history.START_MS // DAY_MS * DAY_MS + number // 3 * 4 * HOUR_MS
        store, hour = "abc"[number % 3], at_ms % DAY_MS // HOUR_MS
        units = round(20 + 10 * (number % 3) + hour + source.normal(0, 2), 2)
        made.append((at_ms, store, round(float(source.normal(5, 1)), 2), units))
    return made


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    """A file of sales, and a pipeline that does not look at the store."""
    lines = ["id,at,store,price,units"]
    lines += [f"{number},{row[0]},{row[1]},{row[2]},{row[3]}" for number, row in enumerate(sales())]
    (tmp_path / "sales.csv").write_text("\n".join(lines))
    document = {
        "pipeline": "sales",
        "task": "regression",
        "event": {"id": "id", "time": "at", "features": {"price": "number"}},
        "label": {"id": "id", "value": "units", "wait": "7d"},
        "model": "StandardScaler() | LinearRegression()",
    }
    (tmp_path / "sales.yaml").write_text(yaml.safe_dump(document))
    return tmp_path


def reported(folder: Path, *flags: str) -> dict[str, Any]:
    files: tuple[str | Path, ...] = (
        "-p",
        folder / "sales.yaml",
        "--input",
        folder / "sales.csv",
        "--label",
        "units",
        "--label-delay",
        "5h",
    )
    done = run("backtest", *files, *flags, "-o", folder / "out", "--processes", "1")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads((folder / "out" / "report.json").read_bytes())
    return report


def expected(rule: str) -> float:
    """The mean absolute error of a rule that knows the labels of `DELAY_MS` ago."""
    errors, known, waiting = [], defaultdict(list), list[Any]()
    for at_ms, store, _, units in sales():
        while waiting and waiting[0][0] + DELAY_MS <= at_ms:
            past_ms, past_store, label = waiting.pop(0)
            for group in ("all", past_store, (past_store, past_ms % DAY_MS)):
                known[group].append(label)
        group = {"mean": "all", "last": "all", "last_of": store, "mean_of": store}.get(rule, (store, at_ms % DAY_MS))
        waiting.append((at_ms, store, units))
        if not known["all"]:
            errors += [abs(units)] if rule == "mean" else []  # River's mean of nothing is 0
            continue
        if rule in ("mean", "mean_of"):
            answer = np.mean(known[group])
        else:
            answer = known[group][-1] if known[group] else np.mean(known["all"])
        errors.append(abs(answer - units))
    return float(np.mean(errors))


def test_each_rule_is_what_its_name_says(stores: Path) -> None:
    rules = ["mean", "last", "last_of:store", "mean_of:store", "seasonal:1d:store"]
    made = reported(stores, *(flag for rule in rules for flag in ("--baseline", rule)))
    found = {one["name"]: one["metrics"]["MAE"] for one in made["candidates"]}
    for rule in rules:
        assert found[rule] == pytest.approx(expected(rule.split(":")[0]), rel=1e-9), rule
    assert found["seasonal:1d:store"] < found["mean_of:store"] < found["mean"]


def test_the_median_of_labels_that_are_mostly_nothing_is_nothing(stores: Path) -> None:
    lines = (stores / "sales.csv").read_text().splitlines()
    mostly = [line if number % 3 == 1 else line.rpartition(",")[0] + ",0" for number, line in enumerate(lines[1:])]
    (stores / "sales.csv").write_text("\n".join([lines[0], *mostly]))
    made = reported(stores, "--baseline", "median", "--baseline", "mean")
    _, median, mean = made["candidates"]
    labels = [float(line.rpartition(",")[2]) for line in mostly]
    assert median["metrics"]["MAE"] == pytest.approx(np.mean(labels), rel=0.01)
    assert median["metrics"]["MAE"] < mean["metrics"]["MAE"]


def test_the_share_of_yes_of_a_key_ranks(tmp_path: Path) -> None:
    """Where one of two cards is bad, the mean label of the card finds out which."""
    source = np.random.default_rng(3)
    rows = [(number, "ab"[number % 2], source.random() < (0.6 if number % 2 else 0.05)) for number in range(600)]
    (tmp_path / "sales.csv").write_text(
        "\n".join(["id,card,x,units", *(f"{number},{card},1,{int(bad)}" for number, card, bad in rows)])
    )
    document = history.document(features=("x",), label={"id": "id", "value": "units", "wait": "1d"})
    (tmp_path / "sales.yaml").write_text(yaml.safe_dump(document))
    made = reported(tmp_path, "--step", "1h", "--baseline", "mean_of:card", "--baseline", "majority")
    _, of_card, majority = made["candidates"]
    assert of_card["metrics"]["ROCAUC"] > 0.75
    assert majority["metrics"]["ROCAUC"] < 0.6
    assert of_card["metrics"]["LogLoss"] < majority["metrics"]["LogLoss"]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("best", "'best' is not a baseline; choose from majority"),
        ("last_of", "write last_of:KEY"),
        ("seasonal", "write seasonal:PERIOD"),
        ("seasonal:8d", "the period must be one of 1h, 1d, 7d, 365d"),
        ("seasonal:soon", "a whole number with a unit"),
        ("mean:store", "write mean"),
        ("last_of:a,", "write last_of:KEY"),
        ("majority", "does not support task regression; choose from last, mean, median"),
    ],
)
def test_what_is_no_rule_is_refused_with_what_is(stores: Path, rule: str, told: str) -> None:
    flags = ("--label", "units", "--baseline", rule, "-o", stores / "out")
    done = run("backtest", "-p", stores / "sales.yaml", "--input", stores / "sales.csv", *flags)
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())


def test_a_key_that_the_rows_do_not_have_fails_the_baseline_alone(stores: Path) -> None:
    flags = ("--label", "units", "--baseline", "last_of:shop", "-o", stores / "out", "--processes", "1")
    done = run("backtest", "-p", stores / "sales.yaml", "--input", stores / "sales.csv", *flags)
    assert done.returncode == 1
    made = json.loads((stores / "out" / "report.json").read_bytes())
    assert made["candidates"][0]["failure"] is None
    assert "has no column 'shop'" in made["candidates"][1]["failure"]


def test_a_rule_is_read_as_it_is_written() -> None:
    assert parse_rule(" seasonal:7d:store,item ") == Rule("seasonal", ("store", "item"), 7 * DAY_MS)
    for text in ("majority", "last_of:a,b", "seasonal:1d", "seasonal:7d:k"):
        assert parse_rule(text).text == text


def test_a_segment_that_one_candidate_lacks_is_told_of_the_others(tmp_path: Path) -> None:
    history.table(tmp_path, 400)
    first, second = history.pipeline_file(tmp_path), history.pipeline_file(tmp_path, "second", features=("x1",))
    files = ("-p", second, "-p", first, "--input", tmp_path / "data.csv", "--label", "y", "--segment", "x3")
    run("backtest", *files, "-o", tmp_path, "--processes", "1")
    made = json.loads((tmp_path / "report.json").read_bytes())
    assert [len(one["segments"]) for one in made["candidates"]] == [0, 4]
    assert "second has no feature x3, so it is not broken down by it." in made["warnings"]


def test_features_that_one_candidate_does_not_use_are_no_fault(tmp_path: Path) -> None:
    history.table(tmp_path, 400)
    model = "Select('x1') | StandardScaler() | LogisticRegression()"
    files = ("-p", history.pipeline_file(tmp_path), "--input", tmp_path / "data.csv", "--label", "y")
    run("backtest", *files, "--grid", f"model={model},GaussianNB()", "-o", tmp_path, "--processes", "1")
    made = json.loads((tmp_path / "report.json").read_bytes())
    alone = history.pipeline_file(tmp_path, "alone", model, features=("x1",))
    run("backtest", "-p", alone, *files[2:], "-o", tmp_path, "--processes", "1")
    assert (
        made["candidates"][0]["metrics"]
        == json.loads((tmp_path / "report.json").read_bytes())["candidates"][0]["metrics"]
    )
    done = run("check", "-p", history.pipeline_file(tmp_path, "spare", model), "--no-proof")
    assert "not used by any Select" in " ".join(done.stderr.split())
