"""Policies of slates compared on a log of what was shown: what `driftline init` shows before it writes one.

Every policy replays the same requests, learns from what was shown, and is judged by what it would have shown
(`core.task.slates`). All are compared with the first, which is the baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from driftline.backtest import report as reports
from driftline.backtest.candidate import Spec
from driftline.backtest.choice import LEARNING_SHARE
from driftline.backtest.compare import Comparison
from driftline.backtest.report import Asked
from driftline.backtest.run import Options, run
from driftline.core.pipeline import Pipeline
from driftline.ingest.log import LogSource

METRIC: Final = "DoublyRobust"
"""That decides: of the three estimates the one with the least noise where the model is good, and unbiased where not."""


class Judged(Struct, frozen=True):
    """One policy.

    Args:
        values: by metric; None where the log cannot tell.
        doubt: why it cannot, or hardly can; empty where it can.
        low, high: of the difference to the baseline, 95% with that of all others; None without.
        failure: why it has no values at all; empty where it has.
    """

    name: str
    values: dict[str, float | None]
    doubt: str
    low: float | None
    high: float | None
    failure: str

    @property
    def reward(self) -> float | None:
        """What a request would have earned."""
        return self.values.get(METRIC)


class Policies(Struct, frozen=True):
    """What was found.

    Args:
        requests: that count.
        judged: the best first; those of which the log cannot tell are last.
        logged: what a request did earn.
        stopped: someone stopped it, so it says nothing.
    """

    requests: int
    judged: tuple[Judged, ...]
    logged: float | None
    stopped: bool


def judge(
    policies: Mapping[str, Pipeline],
    source: LogSource,
    requests: int,
    *,
    processes: int,
    moved: Callable[[int, int], None],
) -> Policies:
    """Compare policies on a log.

    Args:
        policies: by name; the first is the baseline.
        requests: that the source has; the first quarter is learned only.
    """
    specs = [Spec(name, pipeline.resolved(), "") for name, pipeline in policies.items()]
    options = Options(burn_in_events=int(requests * LEARNING_SHARE))
    outcome = run(specs, source, options, processes=processes, scores=None, moved=moved)
    made = reports.build(specs, outcome, Asked(source.names, "time", "", "", 0, None, None))
    apart = {one.candidate: one for one in made.comparisons}
    judged = []
    for one in made.candidates:
        tally = outcome.results[one.name].tally
        sums = dict(zip(tally.measure.sums, tally.total.sums[0].tolist(), strict=True))
        low, high = _difference(apart.get(one.name))
        judged.append(Judged(one.name, one.metrics, tally.measure.doubt(sums) or "", low, high, one.failure or ""))
    judged.sort(key=lambda one: (one.reward is None, -(one.reward or 0.0)))
    logged = next((one.values["Logged"] for one in judged if one.values.get("Logged") is not None), None)
    counted = max((one.counted for one in made.candidates), default=0)
    return Policies(counted, tuple(judged), logged, outcome.stopped)


def _difference(one: Comparison | None) -> tuple[float | None, float | None]:
    if one is None:
        return None, None
    return next(((each.low, each.high) for each in one.differences if each.metric == METRIC), (None, None))
