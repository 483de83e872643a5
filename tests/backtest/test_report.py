"""What a report says of made-up tallies: thresholds, which is best, and who is compared with whom."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from driftline.backtest import page, plot, report
from driftline.backtest.candidate import Result, Spec
from driftline.backtest.report import Report
from driftline.backtest.run import Facts
from driftline.backtest.run import Outcome as Whole
from driftline.backtest.tally import Tally
from driftline.backtest.threshold import NEVER
from driftline.core.output import ModelVersion, Outcome, Prediction
from driftline.core.task.cost import Cost
from tests.backtest import history
from tests.backtest.test_measure import DAY_MS, outcome, pairs, tallied


def unanswered(count: int, y: bool) -> list[Outcome]:
    version = ModelVersion(0, 0)
    at = history.START_MS
    return [
        Outcome(f"u-{n}", "joined", None, 0, n, at + n, (1.0,) * 3, Prediction(), version, y, at + n)
        for n in range(count)
    ]


def reported(*tallies: Tally, cost: Cost | None = None, failures: dict[str, str] | None = None, **more: Any) -> Report:
    """The report of candidates `c0`, `c1`, ..."""
    failures = failures or {}
    specs = [Spec(f"c{n}", history.document(f"c{n}"), f"c{n}.yaml") for n in range(len(tallies))]
    results = {
        spec.name: Result(spec.name, tally, failure=failures.get(spec.name))
        for spec, tally in zip(specs, tallies, strict=True)
    }
    facts = Facts(rows=10, start_ms=history.START_MS)
    asked = report.Asked(["data.csv"], "time", "", "none", 0, None, cost)
    return report.build(specs, Whole(results, facts, **more), asked)


@pytest.mark.parametrize("threshold", [None, 0.2, 0.53])
def test_a_listed_threshold_gives_the_listed_counts(threshold: float | None) -> None:
    made = [outcome(n, n / 512, n % 3 == 0, history.START_MS + n) for n in range(513)] + pairs(1_500, skill=1.0)
    decision: dict[str, Any] = {} if threshold is None else {"decision": {"threshold": threshold}}
    (only,) = reported(tallied([*made, *unanswered(30, True), *unanswered(20, False)], **decision)).candidates
    assert len(only.costs) > 100
    scored = [(one.prediction.value or 0.0, bool(one.label)) for one in made if one.prediction]
    for one in only.costs:
        tp = sum(y for p, y in scored if p >= one.threshold)
        fp = sum(not y for p, y in scored if p >= one.threshold)
        positives = sum(y for _, y in scored)
        assert (one.tp, one.fp) == (tp, fp), one
        assert (one.fn, one.tn) == (positives - tp, len(scored) - positives - fp), one


@pytest.mark.parametrize("cost", [Cost(fp=1, fn=20), Cost(fp=20, fn=1), Cost(fp=1, fn=1), Cost(tp=-5, fp=2)])
@pytest.mark.parametrize("threshold", [None, 0.2013, 0.8013])
def test_no_decision_was_cheaper_than_the_best_in_hindsight(cost: Cost, threshold: float | None) -> None:
    made = [*pairs(400, skill=0.1), *unanswered(300, True), *unanswered(500, False)]
    decision: dict[str, Any] = {} if threshold is None else {"decision": {"threshold": threshold}}
    (only,) = reported(tallied(made, **decision), cost=cost).candidates
    actual = only.metrics["CostPerEvent"]
    assert only.best is not None
    assert only.best.cost is not None
    assert actual is not None
    assert only.best.cost <= actual
    assert only.best.tp + only.best.fp + only.best.fn + only.best.tn == only.answered == only.counted - 800 == 400
    assert (only.costs[-1].threshold, only.costs[-1].tp, only.costs[-1].fp) == (NEVER, 0, 0)


def test_where_alarms_cost_more_than_they_save_it_is_best_to_give_none() -> None:
    made = reported(tallied([*pairs(400), outcome(400, 1.0, False, history.START_MS)]), cost=Cost(fp=1_000, fn=1))
    (only,) = made.candidates
    assert only.best is not None
    assert only.best.threshold == NEVER > 1
    assert "deciding negative for every event was best" in page.render(made)


# -- which is best, and who is compared


def marked(made: Report) -> int:
    return page.render(made).count("class=best")


def test_the_best_is_marked_only_over_equally_many_answers() -> None:
    made = pairs(900)
    assert marked(reported(tallied(made), tallied(pairs(900, skill=1.0)))) == 9
    unequal = reported(tallied(made), tallied(made[300:] + unanswered(300, False)))
    assert marked(unequal) == 0
    assert "No best is marked" in page.render(unequal)


def test_a_candidate_that_failed_half_way_is_not_marked_best() -> None:
    good, worse = tallied(pairs(900, skill=3.0)), tallied(pairs(900, skill=1.0))
    assert marked(reported(good, worse, failures={"c0": "at record 901: ZeroDivisionError"})) == 0
    same = reported(good, worse, good, failures={"c2": "at record 901: ZeroDivisionError"})
    assert marked(same) == 9


def test_the_baseline_is_the_first_candidate_with_results() -> None:
    why = "data.csv has no column 'age'"
    made = reported(tallied([]), tallied(pairs(900)), tallied(pairs(900, skill=1.0)), failures={"c0": why})
    assert made.baseline == "c1"
    assert [(one.baseline, one.candidate) for one in made.comparisons] == [("c1", "c2")]
    text = page.render(made)
    assert "<b>c2</b> is <b class=v>worse</b> than c1" in text
    assert "c0 gave no results: data.csv has no column" in text
    alone = page.render(reported(tallied([]), tallied(pairs(900)), failures={"c0": why}))
    assert "<b>c1</b>: LogLoss" in alone
    assert "Nothing to compare it with: no results from c0." in alone


def test_a_stopped_backtest_without_the_first_candidate_is_told() -> None:
    specs = [Spec(name, history.document(name), f"{name}.yaml") for name in ("c0", "c1")]
    whole = Whole({"c1": Result("c1", tallied(pairs(100)))}, Facts(), stopped=True)
    made = report.build(specs, whole, report.Asked([], "time", "", "none", 0, None, None))
    assert (made.baseline, made.comparisons) == ("c1", [])


# -- what the page says, and how it fits


def test_the_page_says_which_dates_and_which_costs() -> None:
    tally = tallied(pairs(300))
    made = reported(tally, cost=Cost(fp=1, fn=20.5))
    assert "unknown. Costs: 0 for a true positive, 1 for a false positive, 20.5 for a false negative" in page.render(
        made
    )
    result = Result("c0", tally, first_ms=history.START_MS, last_ms=history.START_MS + DAY_MS)
    spec = Spec("c0", history.document("c0"), "c0.yaml")
    asked = report.Asked([], "time", "", "none", 0, None, None)
    made = report.build([spec], Whole({"c0": result}, Facts()), asked)
    told = "Events from 2023-11-14 22:13 to 2023-11-15 22:13 UTC. No costs were given."
    assert told in page.render(made)
    made = report.build([spec], Whole({"c0": result}, Facts(rows=5, counted=True, start_ms=0)), asked)
    assert "5 rows, with times counted from 1970-01-01 00:00 UTC." in page.render(made)


def test_long_names_wrap_and_titles_are_short() -> None:
    name = "a_candidate_with_a_name_that_no_telephone_shows_in_one_line_" * 2
    specs = [Spec(one, history.document("c"), "c.yaml") for one in (name, name + "2")]
    results = {spec.name: Result(spec.name, tallied(pairs(900), "x2")) for spec in specs}
    asked = report.Asked([], "time", "", "none", 0, "x2", None)
    made = report.build(specs, Whole(results, Facts()), asked)
    text = page.render(made)
    (style,) = re.findall(r"\.keys span\{[^}]*\}", text)
    assert "overflow-wrap:anywhere" in style
    assert "nowrap" not in style
    made = msgspec.structs.replace(made, segment=name)
    figures = [plot.differences(made, "LogLoss"), plot.by_part(made, "LogLoss", "segments", f"LogLoss by {name}")]
    assert max(len(figure.layout.title.text) for figure in figures) <= plot.TITLE_MAX
