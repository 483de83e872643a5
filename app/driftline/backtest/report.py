"""The report of a backtest as a document, `report.json`; its schema is `schemas/backtest.schema.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from driftline.backtest.candidate import Result, Spec
from driftline.backtest.compare import Comparison, compare, finite
from driftline.backtest.daily import DailyReport
from driftline.backtest.guarded import Beside, Quarantined, Rung
from driftline.backtest.kpi import KpiReport
from driftline.backtest.measure import CURVES, Metric, is_exact, metrics_of, total_values
from driftline.backtest.part import Part, horizons_of, over_time, parts_of, segments_of
from driftline.backtest.remark import findings, undivided, warnings
from driftline.backtest.run import Outcome
from driftline.backtest.score import written
from driftline.backtest.tally import AGES, SHARES, Tally
from driftline.backtest.threshold import Budget, Threshold, best_of, budgets_of, scores_of, thinned, thresholds_of
from driftline.backtest.trace import Trace
from driftline.core.error import InvariantError
from driftline.core.fingerprint import versions
from driftline.core.task import TaskName, find_task, task_of
from driftline.core.task.cost import Cost
from driftline.core.task.measure import Measure

FORMAT = 1


class Share(Struct, frozen=True):
    """Served probabilities between `low` and `high`: how many, their mean, and how many were positive."""

    low: float
    high: float
    n: int
    positives: int
    mean: float | None


class Confusion(Struct, frozen=True):
    label: str
    prediction: str
    n: int


class Alerted(Struct, frozen=True):
    """One alert that would have been sent."""

    time_ms: int | None
    partition: int
    kind: str
    state: str
    severity: str
    sentence: str
    episode: str
    evidence: dict[str, Any]


class Drifted(Struct, frozen=True):
    """A detected drift, alerted or not."""

    time_ms: int | None
    signal: str
    what: str


class Served(Struct, frozen=True):
    """Scores compared with the served ones: byte by byte for the live pipeline, otherwise by value.

    Args:
        missing: number of scores without a served one.
        removed: number of scores before the first that the topic still has.
        largest: largest difference between two values.
        examples: the first that differ, each with its event and both values.
    """

    compared: int
    missing: int
    removed: int
    differing: int
    largest: float
    examples: list[dict[str, Any]]


class CandidateReport(Struct, frozen=True):
    """One candidate.

    Args:
        live: the live pipeline, replayed from its journal; `state` then holds a digest of each
            partition's state at the end.
        changes: settings that differ from its file.
        failure: why it stopped early or learned nothing; the figures then cover the part before.
        taught: at least one label was learned before the last score.
        horizons: of forecasts, by how many steps ahead; `traces` some of their series.
        scored: events that have a score.
        counted: labelled events; `burned` more were left out as burn-in.
        answered: how many of those counted have a prediction.
        binned: those of `metrics` computed from binned scores; none if every score could be kept.
        pipeline_metrics: by the pipeline's own expressions, as a worker would show them, over all labels; curves are
            binned.
        decision_threshold: the pipeline's; without one, the decision is the more probable class, or an alarm under its
            budget, of `decision_budget` a period.
        costs: decisions by threshold, and `best` the cheapest of them (or that with the best F1 without costs).
        kpis: what its decisions came to, by KPI of its file.
        budgets: what is found among the events with the highest scores, by how many can be looked at.
        daily: what is found among the highest scores of each day; None unless asked for.
        guard: every rung of the guard that tripped; `instead` counts what was served in place of predictions; `second`
            is about the guard's second model, None without one.
        quarantine: what was held back from learning; None if nothing was.
        pending: events whose label had not come at the end.
        cpu_seconds: of its own fold.
    """

    name: str
    file: str
    changes: list[str]
    model: str
    failure: str | None
    taught: bool
    scored: int
    counted: int
    answered: int
    burned: int
    counts: dict[str, int]
    metrics: dict[str, float | None]
    binned: list[str]
    pipeline_metrics: dict[str, float | None]
    version: str
    over_time: list[Part]
    segments: list[Part]
    label_ages: list[Part]
    horizons: list[Part]
    traces: list[Trace]
    calibration: list[Share]
    confusion: list[Confusion]
    decision_threshold: float | None
    decision_budget: int | None
    costs: list[Threshold]
    best: Threshold | None
    budgets: list[Budget]
    kpis: list[KpiReport]
    daily: DailyReport | None
    alert_count: int
    alerts: list[Alerted]
    drifts: list[Drifted]
    guard: list[Rung]
    instead: dict[str, int]
    second: Beside | None
    quarantine: Quarantined | None
    pending: int
    early: int
    rejected: list[str]
    live: bool
    state: dict[str, str]
    against: Served | None
    cpu_seconds: float


class Source(Struct, frozen=True):
    """What was read.

    Args:
        order: `time` (merged by record time) or `journal` (as the live pipeline processed it).
        span: requested part of the topics; empty for all.
        start: state from which all candidates started, in words that follow "started".
        counted: times were counted (row i at start_ms + i * step_ms), not read.
        first_ms, last_ms: times of the first and the last event; None if there were none.
    """

    names: list[str]
    order: str
    span: str
    start: str
    burn_in: str
    label_delay_ms: int
    rows: int
    size_bytes: int
    bad: int
    bad_lines: list[str]
    unlabelled: int
    disordered: int
    ahead: int
    ahead_rows: list[str]
    counted: bool
    start_ms: int
    step_ms: int
    first_ms: int | None = None
    last_ms: int | None = None


class Report(Struct, frozen=True):
    """A whole backtest.

    Args:
        partial: it was stopped early and covers the part until then.
        metrics: empty if no candidate has labels, since nothing can be measured then.
        baseline: the first candidate with results; all others with results are compared with it.
        binned_in_parts: metrics that are of binned scores in every part (over time, by segment and by the label's age)
            and in every interval.
        seconds: wall time.
    """

    format: int
    partial: bool
    versions: dict[str, str]
    source: Source
    task: str
    segment: str | None
    cost: Cost | None
    metrics: list[Metric]
    binned_in_parts: list[str]
    baseline: str
    candidates: list[CandidateReport]
    comparisons: list[Comparison]
    findings: list[str]
    warnings: list[str]
    seconds: float

    @property
    def measure(self) -> Measure:
        """What is shown for this task.

        Raises:
            InvariantError: unknown task.
        """
        task = find_task(self.task)
        if task is None:
            raise InvariantError(f"a report has the unknown task {self.task!r}")
        return task.measure


class Asked(Struct, frozen=True):
    """How the report was made; see `Source`."""

    names: list[str]
    order: str
    span: str
    burn_in: str
    label_delay_ms: int
    segment: str | None
    cost: Cost | None


def build(specs: Sequence[Spec], outcome: Outcome, asked: Asked, *, compared: bool = True) -> Report:
    """The report of a backtest. The first candidate that has results is the baseline of all comparisons.

    Args:
        compared: whether they are made at all: each draws some thousand times.
    """
    results = outcome.results
    task: TaskName = specs[0].pipeline["task"]
    able = [spec.name for spec in specs if spec.name in results and results[spec.name].has_results]
    baseline = able[0] if able else specs[0].name
    rivals = {name: results[name].tally for name in able[1:]}
    facts = outcome.facts
    row_ms = facts.step_ms if facts.counted else None
    labelled = task_of(task).ahead or any(spec.pipeline["label"] is not None for spec in specs)
    metrics = metrics_of(task_of(task).measure, asked.cost) if labelled else []
    comparisons = (
        compare((baseline, results[baseline].tally), rivals, asked.cost, row_ms) if rivals and compared else []
    )
    return Report(
        format=FORMAT,
        partial=outcome.stopped,
        versions=versions(),
        source=Source(
            names=asked.names,
            order=asked.order,
            span=asked.span,
            start=facts.start,
            burn_in=asked.burn_in,
            label_delay_ms=asked.label_delay_ms,
            rows=facts.rows,
            size_bytes=facts.size_bytes,
            bad=facts.bad,
            bad_lines=facts.bad_lines,
            unlabelled=facts.unlabelled,
            disordered=facts.disordered,
            ahead=facts.ahead,
            ahead_rows=facts.ahead_rows,
            counted=facts.counted,
            start_ms=facts.start_ms,
            step_ms=facts.step_ms,
            first_ms=min((one.first_ms for one in results.values() if one.first_ms is not None), default=None),
            last_ms=max((one.last_ms for one in results.values() if one.last_ms is not None), default=None),
        ),
        task=task,
        segment=asked.segment,
        cost=asked.cost,
        metrics=metrics,
        binned_in_parts=[metric.name for metric in metrics if metric.name in CURVES],
        baseline=baseline,
        candidates=[_candidate(spec, results[spec.name], asked.cost) for spec in specs if spec.name in results],
        comparisons=comparisons,
        findings=findings(outcome),
        warnings=[
            *warnings(outcome, comparisons, asked.span, asked.label_delay_ms, task),
            *undivided([spec.name for spec in specs if not _has_feature(spec, asked.segment)], asked.segment),
        ],
        seconds=round(outcome.seconds, 3),
    )


def _has_feature(spec: Spec, name: str | None) -> bool:
    return name is None or name in spec.pipeline["event"]["features"]


def _candidate(spec: Spec, result: Result, cost: Cost | None) -> CandidateReport:
    tally = result.tally
    names = [metric.name for metric in metrics_of(tally.measure, cost)]
    total = total_values(tally, cost) if result.has_results else {}
    thresholds = thresholds_of(tally, cost)
    return CandidateReport(
        name=spec.name,
        file=spec.file,
        changes=list(spec.changes),
        model=str(spec.pipeline["model"]).strip(),
        failure=result.failure,
        taught=result.taught,
        scored=result.scored,
        counted=int(tally.total.sums[0, 0]),
        answered=int(tally.total.sums[0, 1]),
        burned=result.burned,
        counts=dict(sorted(result.counts.items())),
        metrics={name: finite(total.get(name)) for name in names},
        binned=[] if is_exact(tally) else [name for name in names if name in CURVES],
        pipeline_metrics={name: finite(value) for name, value in result.metrics.items()},
        version=result.version,
        over_time=over_time(tally, cost),
        segments=segments_of(tally, cost),
        label_ages=parts_of(tally, list(AGES), tally.ages, cost),
        horizons=horizons_of(tally, cost),
        traces=tally.traces.listed() if tally.traces is not None else [],
        calibration=_calibration(tally),
        confusion=_confusion(tally),
        decision_threshold=tally.threshold,
        decision_budget=tally.budget,
        costs=thinned(thresholds),
        best=best_of(thresholds),
        budgets=budgets_of(thresholds),
        kpis=[] if tally.kpis is None else tally.kpis.report(scores_of(tally)),
        daily=tally.daily.report(cost) if tally.daily is not None else None,
        alert_count=result.alert_count,
        alerts=[msgspec.convert(alert, Alerted) for alert in result.alerts],
        drifts=[Drifted(*drift) for drift in result.drifts],
        guard=[] if tally.guarded is None else tally.guarded.rungs(result.counts),
        instead={
            what.removeprefix("instead_"): count
            for what, count in sorted(result.counts.items())
            if what.startswith("instead_")
        },
        second=None if tally.guarded is None else tally.guarded.second(result.counts),
        quarantine=None if tally.held is None else tally.held.report(result.counts),
        pending=result.pending,
        early=result.early,
        rejected=result.rejected,
        live=result.live,
        state={str(partition): digest for partition, digest in sorted(result.state.items())},
        against=msgspec.convert(vars(result.against), Served) if result.against is not None else None,
        cpu_seconds=round(result.seconds, 3),
    )


def _calibration(tally: Tally) -> list[Share]:
    if not tally.measure.probabilities:
        return []
    return [
        Share(number / SHARES, (number + 1) / SHARES, int(n), int(positives), float(total / n) if n else None)
        for number, (n, positives, total) in enumerate(tally.shares)
    ]


def _confusion(tally: Tally) -> list[Confusion]:
    column = dict(zip(tally.measure.sums, tally.total.sums[0], strict=True))
    return [Confusion(*cell) for cell in tally.measure.confusion(column, tally.confusion)]


def headline(report: Report) -> tuple[str, ...]:
    """The metrics that decide a verdict, the main one first."""
    return report.measure.headline if report.cost is None else report.measure.headline_costs


def summary_line(report: Report, name: str) -> str:
    """A comparison in a few lines of text."""
    comparison = next(one for one in report.comparisons if one.candidate == name)
    parts = []
    for one in comparison.differences:
        if one.metric not in headline(report) or one.difference is None:
            continue
        span = f" [{one.low:+.4f}, {one.high:+.4f}]" if one.low is not None and one.high is not None else ""
        parts.append(f"  {one.metric} {one.difference:+.4f}{span}: {one.verdict}")
    if not parts:
        parts = ["  nothing to compare: no predictions in the same blocks of time"]
    return "\n".join((f"{name} against {comparison.baseline}:", *parts))


def nothing_counted(report: Report) -> str:
    """Why no metric could be computed, as an error's text."""
    first = report.candidates[0]
    ended = max(0, first.scored - first.pending - first.burned)
    text = f"{first.scored:,} events were scored: {first.pending:,} are pending, {ended:,} expired"
    if first.burned:
        text += f", {first.burned:,} were left out by --burn-in"
    if not report.source.span:  # behind a range come labels of other events
        text += f"; {first.counts.get('orphan', 0) + first.early:,} labels match no event"
    check = "Check the ids and label.wait"
    if report.source.bad:
        text += f"; {report.source.bad:,} lines could not be used, the first: {report.source.bad_lines[0]}"
        check = "Check the names of the fields, the ids and label.wait"
    if first.rejected:
        count = sum(count for what, count in first.counts.items() if what.startswith("rejected_"))
        text += f"; {count:,} records were rejected, the first: {first.rejected[0]}"
        check = "Check what the fields hold, the ids and label.wait"
    return f"no event has a usable label, so there is nothing to evaluate. {text}. {check}"


def encode(report: Report) -> bytes:
    """The report as JSON."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2)


def schema() -> dict[str, Any]:
    """The schema of `report.json`, as in `schemas/backtest.schema.json`."""
    document = msgspec.json.schema(Report)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Driftline backtest report", **document}


def write(contents: Mapping[Path, bytes]) -> None:
    """Put files in place, all of them whole, or none.

    Raises:
        InputFileError: one could not be written.
    """
    with ExitStack() as drafts:
        for path, content in contents.items():
            drafts.enter_context(written(path)).write_bytes(content)
