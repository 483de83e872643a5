"""The table of watched conditions other than drift, and the kind of alert of each.

A condition is a member of `Condition`, and the member is its row: one that lacks a column does not type-check, and
there is no other list of conditions. `watch`, `fold.loss` and `fold.incident` judge them, `content` and `fold.loss`
word them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum, unique
from math import inf
from typing import TYPE_CHECKING, Final, get_args

from msgspec import Struct

from driftline.core.alert.episode import Sign
from driftline.core.label.cause import CauseName

if TYPE_CHECKING:
    from driftline.core.pipeline import AlertKind, Pipeline, Severity


class Row(Struct, frozen=True, kw_only=True):
    """All there is to know of a condition.

    Args:
        name: of its episodes; where it is watched of several things, each has its own behind a colon.
        kind: of its alerts.
        watched: of what a pipeline watches it: nothing, one thing without a name (''), or several.
    """

    name: str
    kind: AlertKind
    watched: Callable[[Pipeline], Iterable[str]]


def _if(watched: bool) -> tuple[str, ...]:
    return ("",) if watched else ()


@unique
class Condition(Enum):
    """What is watched beside drift."""

    PERFORMANCE = Row(name="metric", kind="performance", watched=lambda pipeline: pipeline.alerts.performance)
    COVERAGE = Row(
        name="label_coverage",
        kind="label_coverage",
        watched=lambda pipeline: _if(pipeline.alerts.label_coverage_min is not None),
    )
    DELAY = Row(
        name="label_delay",
        kind="label_delay",
        watched=lambda pipeline: _if(pipeline.alerts.label_delay_max_ms is not None),
    )
    MATCH = Row(  # an episode a cause
        name="label_match",
        kind="label_match",
        watched=lambda pipeline: (
            get_args(CauseName) if pipeline.label is not None and pipeline.alerts.unmatched_max < 1 else ()
        ),
    )
    REJECTED = Row(name="rejected", kind="data_quality", watched=lambda _: ("events", "labels"))
    MISSING = Row(name="missing", kind="data_quality", watched=lambda pipeline: pipeline.alerts.missing_max)
    THROUGHPUT = Row(
        name="throughput",
        kind="throughput",
        watched=lambda pipeline: _if(pipeline.alerts.throughput is not None),
    )
    ERRORS = Row(name="errors", kind="model_failure", watched=lambda _: _if(True))  # exceptions of the model
    BROKEN = Row(name="model", kind="model_failure", watched=lambda _: _if(True))  # predictions that are not finite
    SECOND_ERRORS = Row(  # the same of the guard's second model
        name="second_errors", kind="model_failure", watched=lambda pipeline: _if(pipeline.second is not None)
    )
    SECOND_BROKEN = Row(
        name="second_model", kind="model_failure", watched=lambda pipeline: _if(pipeline.second is not None)
    )
    GUARD = Row(
        name="guard",
        kind="guard",
        watched=lambda pipeline: () if pipeline.guard is None else pipeline.guard.rungs,
    )
    LEVEL = Row(  # observations far from the level of their series
        name="level",
        kind="guard",
        watched=lambda pipeline: _if(
            pipeline.guard is not None and pipeline.forecast is not None and pipeline.guard.settle_ratio < inf
        ),
    )
    KPI = Row(
        name="kpi",
        kind="kpi",
        watched=lambda pipeline: [
            name for name, form in pipeline.kpi.items() if form.target is not None or form.limit is not None
        ],
    )
    QUARANTINE = Row(
        name="quarantine", kind="quarantine", watched=lambda pipeline: _if(pipeline.quarantine is not None)
    )
    CHANGE = Row(
        name="model_change", kind="model_change", watched=lambda _: _if(True)
    )  # over as soon as it is reported

    @property
    def row(self) -> Row:
        return self.value

    def named(self, what: str = "") -> str:
        """Its name in episodes, as in `throughput` and `metric:F1`."""
        return f"{self.row.name}:{what}" if what else self.row.name

    def sign(
        self, severity: Severity, sentence: str, calm: str, evidence: dict[str, object], *, news: bool = False
    ) -> Sign:
        """A sign of it; see `Sign`."""
        return Sign(self.row.kind, severity, sentence, calm, evidence, news)

    @classmethod
    def has(cls, name: str, *conditions: Condition) -> bool:
        """Whether an episode's name is of one of these conditions."""
        head = name.partition(":")[0]
        return any(condition.row.name == head for condition in conditions)


def watched(pipeline: Pipeline) -> frozenset[str]:
    """The names of all conditions that a pipeline watches."""
    return frozenset(condition.named(what) for condition in Condition for what in condition.row.watched(pipeline))


SILENT: Final = Condition.MATCH.named("silence")
"""No labels come."""

LOST: Final = tuple(Condition.MATCH.named(cause) for cause in get_args(CauseName) if cause != "silence")
"""Labels find no event: an episode a cause."""
