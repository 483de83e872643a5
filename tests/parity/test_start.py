"""Where a new pipeline begins on topics with a history, and that everything derived from its journal knows it."""

from __future__ import annotations

import logging

import pytest

from driftline.core.error import PipelineError
from driftline.engine.start import Start
from tests.parity.rig import NOW_MS, STEP_MS, Life, check_replay, documents, epochs, pipeline, produce, run_through
from tests.parity.test_audit import audited
from tests.parity.test_backtest import backtest, spec
from tests.support.cluster import MemoryCluster

LATE_MS = NOW_MS + 120 * STEP_MS
LATE = "2023-11-14T22:15:20Z"


@pytest.mark.parametrize(
    ("start", "first", "written"),
    [
        ("latest", 150, "latest"),
        (LATE, 120, LATE),
        (LATE_MS, 120, LATE),
        ("2090-01-01", 150, "2090-01-01T00:00:00Z"),
        ("1999-01-01", 0, "1999-01-01T00:00:00Z"),
        ("earliest", 0, "earliest"),
    ],
)
async def test_a_new_pipeline_begins_where_it_is_told(start: object, first: int, written: str) -> None:
    cluster, chosen = MemoryCluster(), pipeline("begins", start=start)
    assert chosen.start == written
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 150)
    cluster.produce(chosen.topics.control, 0, b'{"command": "snapshot"}', NOW_MS)
    async with Life(cluster, chosen) as life:
        await life.until_done()
        produce(cluster, chosen, 50, first=150)
        await life.until_done()
        await check_replay(cluster, chosen, life)
        await life.stop()
    (epoch,) = epochs(cluster, chosen)
    assert epoch.positions[chosen.topics.events] == first
    assert epoch.positions[chosen.topics.control] == 0
    scored = [one["event_id"] for one in documents(cluster, chosen.topics.scores)]
    assert scored == list(range(first, 200))
    (audit,) = await audited(cluster, chosen)
    assert audit.difference is None
    (live,), _ = await backtest(cluster, chosen, spec(chosen))
    assert live.live
    assert (live.against.compared, live.against.differing, live.against.missing) == (200 - first, 0, 0)
    (timed,), _ = await backtest(cluster, chosen, spec(chosen), order="time", against=False)
    assert timed.tally.total.sums[0, 0] > 0


async def test_what_has_begun_goes_on_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    cluster, chosen = MemoryCluster(), pipeline("begun")
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 50)
    await run_through(cluster, chosen)
    produce(cluster, chosen, 50, first=50)
    later = pipeline("begun", start="latest")
    with caplog.at_level(logging.WARNING):
        await run_through(cluster, later, client="two")
    assert "`start: latest` has no effect" in caplog.text
    produce(cluster, later, 50, first=100)
    await run_through(cluster, later, client="three", start=Start(reset_state=True))
    assert [one["event_id"] for one in documents(cluster, later.topics.scores)] == list(range(150))
    assert [epoch.reason for epoch in epochs(cluster, later)] == ["first", "pipeline", "reset"]


@pytest.mark.parametrize("start", ["begin", "", True, [], "1969-01-01", -5])
def test_a_start_that_cannot_be(start: object) -> None:
    with pytest.raises(PipelineError, match="write earliest, latest, or a time"):
        pipeline("wrong", start=start)
