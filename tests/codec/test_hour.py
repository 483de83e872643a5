"""The hour of the day beside a date: one time together, in records and in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from driftline.codec.decode import Decoder
from driftline.core.error import PipelineError
from driftline.core.record import Event, Malformed
from driftline.ingest.column import Fields
from driftline.ingest.table import Table
from tests.support.small import NOW_MS, small, source

DATED = small(event={"time": "day", "hour": "hr"})
DAY_MS, HOUR_MS = 1_767_225_600_000, 3_600_000  # 2026-01-01


def read(**fields: Any) -> Event | Malformed:
    value = orjson.dumps({"id": "e", "x": 1.0, "day": "2026-01-01", **fields})
    made = Decoder(DATED).event(source("p.events", 3, value, DAY_MS + 24 * HOUR_MS))
    assert isinstance(made, Event | Malformed)
    return made


@pytest.mark.parametrize(("hour", "added"), [(0, 0), (23, 23), (7.0, 7), ("09", 9), (13.5, 13.5)])
def test_the_hour_is_added_to_the_date(hour: object, added: float) -> None:
    made = read(hr=hour)
    assert isinstance(made, Event)
    assert made.time_ms == DAY_MS + added * HOUR_MS
    assert not made.time_ahead


@pytest.mark.parametrize("hour", [24, -1, "noon", None, True, [1], float("inf")])
def test_what_is_no_hour_is_refused_by_name(hour: object) -> None:
    made = read(hr=hour) if hour != float("inf") else read()
    assert isinstance(made, Malformed)
    assert made.reason == "time_unreadable"
    assert made.detail.startswith("event.hour: ")


def test_an_hour_needs_a_date() -> None:
    with pytest.raises(PipelineError, match="event.hour"):
        small(event={"hour": "hr"})


def test_a_pipeline_without_an_hour_resolves_as_it_did() -> None:
    assert "hour" not in small().resolved()["event"]
    assert DATED.resolved()["event"]["hour"] == "hr"


@pytest.mark.parametrize("day", ["2026-01-01", "01.01.2026"])
def test_rows_of_a_file_have_both(tmp_path: Path, day: str) -> None:
    path = tmp_path / "rows.csv"
    others = "".join(f"b{n},1.0,{day.replace('01', '28', 1)},1\n" for n in range(2)) if "." in day else ""
    path.write_text(f"id,x,day,hr\na,1.0,{day},5\n{others}")
    first = next(iter(Table(path, DATED, Fields(None), now_ms=NOW_MS).samples()))
    assert first.time_ms == DAY_MS + 5 * HOUR_MS
    assert isinstance(first.record, Event)
    assert first.record.time_ms == first.time_ms
    counted = next(iter(Table(path, DATED, Fields(None, start_ms=NOW_MS), now_ms=NOW_MS).samples()))
    assert isinstance(counted.record, Event)
    assert counted.record.time_ms == counted.time_ms == NOW_MS
