"""A report says what was held back from learning, beside a candidate that learns every label."""

from __future__ import annotations

from pathlib import Path

import orjson

from tests.backtest import history
from tests.cli.command import run

HOLD = {"quarantine": {"action": "hold", "wait": "7d", "max": 500}}


def test_a_report_says_what_was_held_and_what_came_of_it(tmp_path: Path) -> None:
    table = history.table(tmp_path, count=10_000)  # the rule turns after two thirds
    pipeline = history.pipeline_file(tmp_path, learning=HOLD)
    done = run(
        *("backtest", "-p", pipeline, "--grid", "learning.quarantine.action=hold,alert"),
        *("--input", table, "--label", "y", "-o", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    report = orjson.loads((tmp_path / "out" / "report.json").read_bytes())
    by_name = {one["name"]: one["quarantine"] for one in report["candidates"]}
    assert sorted(map(bool, by_name.values()))[0] is False, by_name
    held = next(one for one in by_name.values() if one)
    assert held["opened"] == 1
    assert held["held"] == 500 == held["dropped"]
    assert held["released"] == held["withdrawn"] == 0
    assert held["labels"] == held["held"] - held["undone"]
    assert held["held_error"] > 1.5 * held["other_error"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Labels that were held back" in page
    assert "--grid learning.quarantine.action=hold,alert" in page
