"""`driftline guard suggest`: a section that can be pasted, with how often it would have tripped."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from msgspec import structs

from driftline.backtest.suggest import suggest
from driftline.cli.demand import PIPELINE, sales
from driftline.cli.guard import lines
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline, parse_pipeline
from tests.cli.command import run
from tests.support.small import NOW_MS, event, label, small


def test_a_guard_of_forecasts_can_be_pasted_and_trips_as_it_says(tmp_path: Path) -> None:
    text = PIPELINE.format(name="demand", horizons=3, delivery="exactly_once")
    document = {key: value for key, value in yaml.safe_load(text).items() if key != "guard"}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(document))
    rows = [orjson.dumps(sale) for _, sale in sales(1, 3, 60, 30, NOW_MS - NOW_MS % 86_400_000)]
    (tmp_path / "sales.jsonl").write_bytes(b"\n".join(rows))
    found = run("guard", "suggest", "-p", tmp_path / "pipeline.yaml", "--input", tmp_path / "sales.jsonl")
    assert found.returncode == 0, found.stderr
    section = yaml.safe_load(found.stdout)
    pipeline = parse_pipeline({**document, **section})
    assert pipeline.guard is not None
    assert {"untrained", "range", "step", "width", "unfamiliar"} == pipeline.guard.rungs.keys()
    assert "would have tripped" in found.stdout
    long = [line for line in found.stdout.splitlines() if len(line) > 80]
    assert all(line.lstrip().startswith(("width:", "step:", "range:", "fallback:")) for line in long), long


def history(pipeline: Pipeline) -> list[list[object]]:
    """Labels between 10 and 20, but one of 1,000."""
    rng = random.Random(1)
    made: list[object] = []
    for number in range(400):
        value = 1_000.0 if number == 300 else rng.uniform(10, 20)
        at = NOW_MS + number * 1_000
        made += [event(number, at, offset=number), label(number, value, at, offset=number)]
    return [made]


def test_limits_follow_the_labels_and_trips_are_counted() -> None:
    pipeline = small("regression")
    found = suggest(pipeline, history)
    assert found.guard["range"] == {"min": 0.0, "max": 2000.0, "action": "clip"}
    assert found.notes == (
        "made from 400 labels alone: look at it again once there are 1,000",
        "step: name the fields that tell series apart in guard.by, and run it again",
    )
    assert found.trips["untrained"] == 100
    assert found.scored == 400
    assert "step" not in found.guard  # no fields tell series apart
    assert yaml.safe_load("\n".join(lines(found)))["guard"] == found.guard
    parse_pipeline({**pipeline.resolved(), "guard": found.guard})


def of_series(values: Callable[[random.Random, int], float], count: int = 2_000) -> Callable[[Pipeline], Any]:
    """Labels of four series, one after the other."""

    def batches(pipeline: Pipeline) -> list[list[object]]:
        rng = random.Random(5)
        made: list[object] = []
        for number in range(count):
            at = NOW_MS + number * 1_000
            one = structs.replace(event(number, at, offset=number), features=(1.0, "abcd"[number % 4]))
            made += [one, label(number, values(rng, number), at, offset=number)]
        return [made]

    return batches


SERIES = {"by": "word", "step": {"ratio_max": 2, "action": "fallback"}, "fallback": "last_value"}


@pytest.mark.parametrize(
    ("values", "step", "trips_max"),
    [
        (lambda rng, _: rng.choice((0, 0, 0, rng.randint(1, 6))), {"ratio_max": 1.5, "tolerance": 6.0}, 0.01),
        (lambda rng, _: rng.gauss(0, 15), {"ratio_max": 1.5, "tolerance": 50.0}, 0.01),
        (lambda _, __: 5.0, {"ratio_max": 1.5, "tolerance": 5.0}, 0.01),
        (lambda rng, _: math.exp(rng.gauss(0, 2.2)), None, 1.0),
    ],
    ids=["mostly zero", "of either sign", "constant", "heavy tails"],
)
def test_a_step_is_of_use_or_is_left_out_with_a_reason(
    values: Callable[[random.Random, int], float], step: dict[str, float] | None, trips_max: float
) -> None:
    found = suggest(small("regression", guard=SERIES), of_series(values))
    if step is None:
        assert "step" not in found.guard
        assert any("so no ratio tells a jump" in note for note in found.notes)
        return
    assert {name: found.guard["step"][name] for name in step} == step
    assert found.trips["step"] <= trips_max * found.scored
    parse_pipeline({**small("regression").resolved(), "guard": found.guard})


def test_labels_that_may_be_faults_are_pointed_out() -> None:
    def values(rng: random.Random, number: int) -> float:
        return 1e9 if number == 1_500 else rng.uniform(10, 20)

    found = suggest(small("regression", guard=SERIES), of_series(values))
    assert any("only 1 of 2,000 labels are not within 0 and 30" in note for note in found.notes)
    text = list(lines(found))
    assert all(len(line) <= 80 for line in text)
    assert yaml.safe_load("\n".join(text))["guard"] == found.guard


def test_yes_and_no_have_a_share_and_no_range() -> None:
    def answers(pipeline: Pipeline) -> list[list[object]]:
        rng = random.Random(2)
        made: list[object] = []
        for number in range(500):
            at = NOW_MS + number * 1_000
            made += [event(number, at, offset=number), label(number, rng.random() < 0.4, at, offset=number)]
        return [made]

    found = suggest(small("binary"), answers)
    assert "range" not in found.guard
    parse_pipeline({**small("binary").resolved(), "guard": found.guard})


def test_the_second_model_of_the_file_is_kept_and_judged() -> None:
    stands_in = "Select('x') | StandardScaler() | LinearRegression(l2=0.1)"
    guard = {"range": {"max": 1, "action": "fallback"}, "fallback": [{"model": stands_in}, {"value": 0}]}
    pipeline = small("regression", guard=guard)
    found = suggest(pipeline, history)
    assert found.guard["fallback"] == [{"model": stands_in}]
    assert found.second is not None
    assert found.second["labels"] == 400
    text = list(lines(found))
    assert yaml.safe_load("\n".join(text))["guard"] == found.guard
    said = " ".join(line.strip("# ") for line in text)
    assert f"mean error {found.second['error']:.4g}, of the first {found.second['first_error']:.4g}" in said
    assert "over 400 labels would have been served 0 times" in said
    parse_pipeline({**pipeline.resolved(), "guard": found.guard})


def test_a_history_without_labels_says_nothing() -> None:
    with pytest.raises(InputFileError, match="nothing was learned"):
        suggest(small("regression"), lambda _: [[event(1, NOW_MS)]])
