"""A short backtest that chooses a model: what `driftline init` shows before it writes one.

Every model and baseline replays the same first rows through the code that runs live, with the labels as late as they
will be. The first quarter of the labels is for learning alone. All is bounded by a number of rows, not by a clock, so
that two runs choose alike.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from driftline.backtest import report as reports
from driftline.backtest.baseline import candidates_of
from driftline.backtest.candidate import Result, Spec
from driftline.backtest.compare import compare
from driftline.backtest.report import Asked, CandidateReport
from driftline.backtest.run import Options, run
from driftline.backtest.threshold import Threshold
from driftline.core.error import PipelineError
from driftline.core.pipeline import Pipeline
from driftline.core.task.rule import Rule
from driftline.ingest.history import TableSource

LEARNING_SHARE: Final = 0.25  # of the labels: learned and not counted
LABELS_MIN: Final = 50  # that must count
_SHARES: Final = frozenset(("Accuracy", "AveragePrecision"))
TIE: Final = 0.005  # of accuracy: chance alone makes such a difference, so the probabilities decide
NEAR: Final = 0.02  # of the errors, or of the metric where that is less: what more work for each event must bring
_SIGMAS: Final = 2 * 1.959964  # that an interval of 95% is wide


class Entry(Struct, frozen=True):
    """One line of the table.

    Args:
        rule: of a baseline; None for a model.
        values: by metric; None where it is undefined.
        best: the threshold with the best F1, of a model with probabilities.
        document: the resolved pipeline.
        failure: why it has no values.
    """

    name: str
    rule: Rule | None
    values: dict[str, float | None]
    best: Threshold | None
    document: Mapping[str, Any]
    failure: str | None


class Near(Struct, frozen=True):
    """A slow model that was first, and hardly better than a faster one.

    Args:
        slow, fast: the two.
        gain: of the slow one, in the metric that decides.
        error: standard error of that; None with too little data.
    """

    slow: Entry
    fast: Entry
    gain: float
    error: float | None


class Choice(Struct, frozen=True):
    """What a trial found.

    Args:
        rows: that were read; `counted` labels of them are in the figures.
        metric: that decides.
        entries: the best first.
        stopped: someone stopped it, so it says nothing.
        near: why the first entry is not the winner; None where it is.
    """

    rows: int
    counted: int
    metric: str
    entries: tuple[Entry, ...]
    stopped: bool
    near: Near | None = None

    @property
    def winner(self) -> Entry | None:
        """The best entry, or a faster one that is nearly as good; None where none is known."""
        first = next(iter(self.entries), None) if self.near is None else self.near.fast
        known = first is not None and first.values.get(self.metric) is not None
        return first if known and not self.stopped and self.counted >= LABELS_MIN else None

    @property
    def best_model(self) -> Entry | None:
        """The best entry that is no baseline."""
        return next((one for one in self.entries if one.rule is None and one.failure is None), None)

    @property
    def best_baseline(self) -> Entry | None:
        return next((one for one in self.entries if one.rule is not None and one.failure is None), None)


def choose(
    models: Mapping[str, Pipeline],
    rules: Sequence[Rule],
    source: TableSource,
    rows: int,
    metric: str,
    *,
    processes: int,
    moved: Callable[[int, int], None],
    slow: Collection[str] = (),
) -> Choice:
    """Run a trial.

    Args:
        models: by name, in the order that decides between equals.
        rows: labelled rows that the source will give.
        metric: of the task's own (`core.task.measure`).
        slow: models that win only where they are clearly better than the best of the others.
    """
    specs = [Spec(name, pipeline.resolved(), "") for name, pipeline in models.items()]
    of_rule: dict[str, Rule] = {}
    first = next(iter(models.values()))
    for rule in rules:
        try:
            candidates_of(first, [rule])
        except (ValueError, PipelineError):
            continue  # it has no meaning for these fields
        of_rule[rule.text] = rule
    specs += [spec for spec, _ in candidates_of(first, list(of_rule.values()))]
    options = Options(burn_in_events=int(rows * LEARNING_SHARE))
    outcome = run(specs, source, options, processes=processes, scores=None, moved=moved)
    asked = Asked(source.names, "time", "", "", source.label_delay_ms, None, None)
    made = reports.build(specs, outcome, asked, compared=False)
    better = {one.name: one.better for one in made.metrics}
    documents = {spec.name: spec.pipeline for spec in specs}

    values = [one.metrics.get(metric) for one in made.candidates]
    highest = max((value for value in values if value is not None), default=0.0)

    def rank(one: CandidateReport) -> tuple[bool, float, float]:
        value = one.metrics.get(metric)
        if value is None:
            return True, 0.0, 0.0
        loss = one.metrics.get("LogLoss")
        if metric == "Accuracy" and loss is not None and value >= highest - TIE:
            return False, -highest, loss
        return False, -better[metric] * value, 0.0

    entries = tuple(
        Entry(one.name, of_rule.get(one.name), one.metrics, one.best, documents[one.name], one.failure)
        for one in sorted(made.candidates, key=rank)
    )
    counted = max((one.counted for one in made.candidates), default=0)
    near = _near(entries, slow, outcome.results, metric)
    return Choice(made.source.rows, counted, metric, entries, outcome.stopped, near)


def _near(entries: Sequence[Entry], slow: Collection[str], results: Mapping[str, Result], metric: str) -> Near | None:
    """The first entry and the best faster model, where the first is slow and gains little.

    Little is less than `NEAR`, or than the standard error of the difference, by a paired bootstrap over blocks of time.
    """
    first = next(iter(entries), None)
    if first is None or first.name not in slow:
        return None
    fast = next((one for one in entries if one.name not in slow and one.failure is None), None)
    if fast is None or fast.rule is not None:
        return None
    own, other = first.values.get(metric), fast.values.get(metric)
    if own is None or other is None:
        return None
    (found,) = compare((fast.name, results[fast.name].tally), {first.name: results[first.name].tally}, None)
    low, high = next(((one.low, one.high) for one in found.differences if one.metric == metric), (None, None))
    error = (high - low) / _SIGMAS if low is not None and high is not None else None
    share = metric in _SHARES
    gain, room = (own - other, min(other, 1.0 - other)) if share else (other - own, other)
    return Near(first, fast, gain, error) if gain <= max(NEAR * room, error or 0.0) else None


def added_by(rule: Rule, first: Pipeline) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """What a baseline adds to a pipeline, to be written into its file: the model, history features, and context."""
    before = first.resolved()["event"]
    spec, _ = candidates_of(first, [rule])[0]
    event = spec.pipeline["event"]
    features = {name: form for name, form in event["features"].items() if name not in before["features"]}
    context = {
        name: form for name, form in (event.get("context") or {}).items() if name not in (before.get("context") or {})
    }
    return str(spec.pipeline["model"]), features, context
