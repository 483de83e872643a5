"""The made demand: what is in it is what it says."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import fmean

import orjson

from driftline.cli.demand import DAY_MS, SHIFTED, sales
from driftline.cli.demo_demand import DAYS, ITEMS, STORES, demo
from driftline.config import read_pipeline


def test_the_same_seed_makes_the_same_sales() -> None:
    made = [list(sales(2, 3, 20, 10, 0, seed=seed)) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    assert [time_ms for time_ms, _ in made[0]] == [day * DAY_MS for day in range(20) for _ in range(6)]


def test_promotions_and_the_shift_have_the_effects_that_are_said() -> None:
    means: dict[tuple[int, bool], list[float]] = defaultdict(list)
    for time_ms, event in sales(20, 10, 140, 70, 0):
        means[event["promo"], time_ms >= 70 * DAY_MS].append(event["demand"])
    rise = fmean(means[0, True]) / fmean(means[0, False])
    assert 0.9 * SHIFTED < rise < 1.1 * SHIFTED
    assert 1.3 < fmean(means[1, False]) / fmean(means[0, False]) < 1.9
    assert 0.03 < len(means[1, False]) / len(means[0, False]) < 0.1


def test_the_demo_writes_sales_and_a_pipeline_that_reads_them(tmp_path: Path) -> None:
    demo("embedded", tmp_path, as_json=False)
    pipeline = read_pipeline((tmp_path / "pipeline.yaml").read_text())
    events = [orjson.loads(line) for line in (tmp_path / "sales.jsonl").read_bytes().splitlines()]
    assert len(events) == STORES * ITEMS * DAYS
    assert pipeline.forecast is not None
    assert {pipeline.forecast.target, *pipeline.forecast.by} <= set(events[0])
