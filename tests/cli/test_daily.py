"""`driftline backtest --alarms-per-day`: what so many alarms a day would find, against the scores themselves."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from driftline.backtest.daily import DAY_MS, Daily
from driftline.core.task.cost import Cost
from tests.backtest import history
from tests.cli.command import run


def test_it_is_the_highest_scores_of_each_day(tmp_path: Path) -> None:
    history.table(tmp_path)
    file, scores = history.pipeline_file(tmp_path), tmp_path / "scores.csv"
    flags = ("--input", tmp_path / "data.csv", "--label", "y", "--step", "10m", "--processes", "1", "-o", tmp_path)
    more = ("--alarms-per-day", "20", "--cost", "fp=1,fn=5", "--scores", scores)
    done = run("backtest", "-p", file, *flags, *more)
    assert done.returncode == 0, done.stderr
    days = defaultdict(list)
    with scores.open() as rows:
        for row in csv.DictReader(rows):
            days[int(row["event_time_ms"]) // DAY_MS].append(
                (float(row["value"]), row["label"] in ("1", "true", "True"))
            )
    top = [sorted(day, key=lambda one: -one[0])[:20] for day in days.values()]
    alarms, tp = sum(map(len, top)), sum(yes for day in top for _, yes in day)
    positives = sum(yes for day in days.values() for _, yes in day)
    found = json.loads((tmp_path / "report.json").read_bytes())["candidates"][0]["daily"]
    assert (found["days"], found["alarms"], found["tp"], found["positives"]) == (len(days), alarms, tp, positives)
    assert found["precision"] == pytest.approx(tp / alarms)
    assert found["recall"] == pytest.approx(tp / positives)
    assert found["cost_per_day"] == pytest.approx(((alarms - tp) + 5 * (positives - tp)) / len(days))
    assert f"at 20 alarms a day over {len(days)} days, {tp} of {positives} found" in " ".join(done.stdout.split())
    assert "At 20 alarms a day" in (tmp_path / "report.html").read_text()


def test_partitions_add_up_and_equal_scores_go_to_the_earlier_event() -> None:
    rng = np.random.default_rng(4)
    times = rng.integers(0, 5 * DAY_MS, 2_000)
    scores, positive = np.round(rng.random(2_000), 2), rng.random(2_000) < 0.2
    whole, first, second = Daily(30), Daily(30), Daily(30)
    alarms = scores > 0.9
    whole.add(times.tolist(), scores, positive, alarms)
    first.add(times[:700].tolist(), scores[:700], positive[:700], alarms[:700])
    second.add(times[700:].tolist(), scores[700:], positive[700:], alarms[700:])
    first.merge(second)
    found = whole.report(None).decided
    assert (found.alarms, found.tp) == (int(alarms.sum()), int((alarms & positive).sum()))
    assert found.most == int(np.bincount(times[alarms] // DAY_MS).max())
    assert first.report(Cost(fp=1, fn=3)) == whole.report(Cost(fp=1, fn=3))
    east = Daily(30, 3_600_000)
    east.add(times.tolist(), scores, positive, alarms)
    assert east.report(None).decided.most == int(np.bincount((times[alarms] + 3_600_000) // DAY_MS).max())
    assert east.report(None).days == 6
    tied = Daily(1)
    tied.add([9, 3, 5], np.array([0.5, 0.5, np.nan]), np.array([False, True, True]), np.zeros(3, dtype=bool))
    assert (tied.report(None).tp, tied.report(None).alarms, tied.report(None).positives) == (1, 1, 1)


def test_numbers_have_no_alarms(tmp_path: Path) -> None:
    history.table(tmp_path, 100)
    model = "StandardScaler() | LinearRegression()"
    file = history.pipeline_file(tmp_path, model=model, task="regression", metrics=["MAE"])
    done = run("backtest", "-p", file, "--input", tmp_path / "data.csv", "--label", "y", "--alarms-per-day", "5")
    assert done.returncode == 2
    assert "needs scores of yes and no (binary, anomaly)" in " ".join(done.stderr.split())
