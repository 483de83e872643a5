"""What `make bench` says of its runs; the runs themselves take a Kafka and minutes."""

from __future__ import annotations

import json

import pytest

from benchmarks.model import MODELS
from benchmarks.throughput import GUARDED, OURS, Report, Run, guarded, markdown


def ran(subject: str, number: int, rate: float, cpu_us: float, model: str = "numbers") -> Run:
    return Run(model, subject, number, 1_000, rate, cpu_us, 0.0, 0.9, None)


def report(*runs: Run) -> Report:
    return Report(list(runs), {"pairs": dict.fromkeys([run.model for run in runs], 1_000)})


def test_a_guard_is_compared_with_the_same_without_one_within_rounds() -> None:
    found = report(
        ran(OURS, 1, 1_000.0, 20.0), ran(GUARDED, 1, 950.0, 21.0),
        ran(OURS, 2, 2_000.0, 10.0), ran(GUARDED, 2, 1_800.0, 11.0),
        ran(OURS, 3, 3_000.0, 10.0),
        ran(OURS, 1, 100.0, 90.0, "mixed"),
    )  # fmt: skip
    (one,) = guarded(found)
    assert one.model == "numbers"
    assert one.rate == pytest.approx((0.925, 0.9, 0.95))
    assert one.by_cpu == pytest.approx((20 / 21 + 10 / 11) / 2)
    assert (
        "With five rungs of a guard, numbers keeps 0.93 (0.90 - 0.95) of the rate without (0.93 by CPU time)."
        in markdown(found)
    )
    document = json.loads(json.dumps(found.document()))["guarded"]
    assert document == {"numbers": {"model": "numbers", "rate": [one.rate[0], 0.9, 0.95], "by_cpu": one.by_cpu}}


def test_without_a_guard_nothing_is_said_of_one() -> None:
    found = report(ran(OURS, 1, 1_000.0, 20.0))
    assert guarded(found) == []
    assert "guard" not in markdown(found)


@pytest.mark.parametrize("name", MODELS)
def test_five_rungs_go_with_every_model_of_two_classes(name: str) -> None:
    model = MODELS[name]
    plain = model.pipeline("p")
    assert plain.guard is None
    assert model.guardable == (plain.task == "binary")
    if model.guardable:
        guard = model.pipeline("p", guarded=True).guard
        assert guard is not None
        assert list(guard.rungs) == ["untrained", "range", "step", "unfamiliar", "share"]
