"""The tables of `tests.support.detectors`, in small: a shard's detectors are River's, and reactions pay."""

from __future__ import annotations

import pytest

from tests.support.detectors import DETECTORS, MODELS, REACTIONS, Run, by_hand, judged, sea_switch, sine

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stream", ["abrupt", "gradual"])
def test_every_detector_of_river_finds_in_a_shard_what_it_finds_by_hand(stream: str) -> None:
    rows = sine(0)[6_500:9_500] if stream == "abrupt" else sea_switch(1, 1_000)[4_000:7_000]
    run = Run(rows, MODELS["NB"], {"error": list(DETECTORS), "warmup_labels": 500})
    counts = {}
    for place, expression in enumerate(DETECTORS, 1):
        monitor = "error" if place == 1 else f"error#{place}"
        mine = [number for number, one in run.found if one.monitor == monitor and one.kind == "drift"]
        assert mine == by_hand(expression, run.pipeline, run.errors)
        counts[expression] = len(mine)
    assert sum(count > 0 for count in counts.values()) >= (6 if stream == "abrupt" else 1), counts


@pytest.mark.parametrize("model", ["NB", "HT"])
def test_a_model_that_is_replaced_at_a_drift_is_better_off(model: str) -> None:
    rows = sine(0)[2_000:12_000]
    runs = {
        act: Run(rows, MODELS[model], {**REACTIONS[act], "warmup_labels": 2_000}) for act in ("alert", "reset", "swap")
    }
    assert [run.reactions for run in runs.values()] == [0, 1, 1]
    for act in ("reset", "swap"):
        assert runs[act].accuracy >= runs["alert"].accuracy + 0.01


def test_alerts_are_judged_by_the_change_before_them() -> None:
    assert judged([90, 130, 150, 260], (100, 200, 300)) == ([30, 60], 2)
    assert judged([], (100,)) == ([], 0)
