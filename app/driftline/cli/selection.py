"""The trial of `driftline init`: which models are tried on which rows, and how the result reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, Final, Protocol

from driftline.author.contender import Contender, contenders, deciding_metric, rules_for
from driftline.author.past import Proposal
from driftline.author.profile import Profile
from driftline.author.sample import Sample
from driftline.backtest.choice import LABELS_MIN, LEARNING_SHARE, TIE, Choice, Entry, added_by, choose
from driftline.backtest.run import cores
from driftline.cli.echo import echo
from driftline.cli.progress import bar
from driftline.config import read_pipeline
from driftline.core.duration import format_duration, spoken
from driftline.core.pipeline import Pipeline
from driftline.core.task import task_of
from driftline.ingest.history import TableSource

ROWS_MAX: Final = 10_000
CELLS_MAX: Final = 300_000
MANY_ROWS: Final = 20_000  # of more of them, only the first two models are tried
SLOW_CELLS_MAX: Final = 200_000  # of more of them, no slow model is tried
DELAYS_SEEN: Final = 4  # as many delays long are the rows that are tried, so that most of them find labels
_STEP_MS: Final = 1_000  # between rows without a time
_UNITS_MS: Final = (86_400_000, 3_600_000, 60_000, 1_000)  # of a shorter delay
_SHOWN: Final = {
    "AveragePrecision": ("AveragePrecision", "ROCAUC", "LogLoss"),
    "Accuracy": ("Accuracy", "ROCAUC", "MacroF1", "LogLoss"),
    "MAE": ("MAE", "RMSE", "R2"),
    "RMSE": ("RMSE", "MAE", "R2"),
    "MASE": ("MASE", "MAE", "RMSE", "Coverage"),
}
_SHORT: Final = {"AveragePrecision": "AvgPrec"}
_NAME_MAX: Final = 46
_COMMENT_WIDTH: Final = 110
_MUCH: Final = 1.01


class Writer(Protocol):
    """What writes a file with a model of choice."""

    def text_with(self, contender: Contender) -> str: ...


@dataclass(frozen=True)
class Result:
    """What a trial chose.

    Args:
        contender: to be written.
        features, context: that a baseline needs besides.
        threshold: with the best F1 of the trial, and that F1.
        rival: the best model, where a baseline was better.
        ahead: what was forecast, of series.
    """

    choice: Choice
    winner: Entry
    contender: Contender
    delay_ms: int
    features: dict[str, dict[str, Any]]
    context: tuple[str, ...]
    threshold: tuple[float, float] | None
    rival: Contender | None
    ahead: str = ""

    def lines(self) -> Iterator[str]:
        """The table and the verdict, for the terminal."""
        yield ""
        yield from self._table()
        yield self._verdict()

    def document(self) -> dict[str, Any]:
        """The same for programs."""
        entries = [
            {"name": one.name, "baseline": one.rule is not None, "metrics": dict(one.values)}
            for one in self.choice.entries
        ]
        return {
            "rows": self.choice.rows,
            "labels": self.choice.counted,
            "label_delay_ms": self.delay_ms,
            "metric": self.choice.metric,
            "candidates": entries,
            "chosen": self.winner.name,
        }

    def comment(self) -> Iterator[str]:
        """The same for the file, with the best model where a baseline was better."""
        yield from self._table()
        yield from wrap(self._verdict(), _COMMENT_WIDTH)
        if self.rival is not None:
            yield from ("", "The best model, for another trial:", "model: |")
            yield from (f"  {line}" for line in self.rival.lines)
        yield ""

    def _table(self) -> Iterator[str]:
        choice = self.choice
        delay = f"labels {format_duration(self.delay_ms)} later" if self.delay_ms else "labels at once"
        what, counted = (self.ahead, "observations") if self.ahead else (delay, "labels")
        yield f"Tried on {choice.rows:,} rows, {what}; figures over the last {choice.counted:,} {counted}:"
        names = [
            name for name in _SHOWN[choice.metric] if any(one.values.get(name) is not None for one in choice.entries)
        ]
        yield "  ".join(["  " + "".ljust(_NAME_MAX), *(f"{_SHORT.get(name, name):>9}" for name in names)])
        for one in choice.entries:
            kind = "baseline: " if one.rule is not None else ""
            shown = [number(one.values.get(name)) for name in names]
            mark = " *" if one is self.winner else ""
            name = (kind + one.name)[:_NAME_MAX]
            yield "  ".join(["  " + name.ljust(_NAME_MAX), *(f"{text:>9}" for text in shown)]) + mark

    def _verdict(self) -> str:
        return f"{self._found_best()}{self._over_the_slow()}{self._by_squares()}{self._of_zeros()}"

    def _over_the_slow(self) -> str:
        """Why the first of the table was not chosen."""
        near = self.choice.near
        if near is None:
            return ""
        if near.gain <= 0:
            return (
                f" {near.slow.name} is no better by {self.choice.metric}, and takes several times as long for an event."
            )
        error = f" (standard error {number(near.error)})" if near.error is not None else ""
        return (
            f" {near.slow.name} gains {number(near.gain)}{error} but takes several times as long for an event: a slow "
            "model must gain more than 2% and more than a standard error."
        )

    def _of_zeros(self) -> str:
        """Why squares decided, where absolute errors usually do."""
        if self.choice.metric != "RMSE":
            return ""
        return " Most labels are 0, so always 0 would have a small MAE and say nothing; RMSE decides."

    def _by_squares(self) -> str:
        """Who is best where large errors count most, if that is another: a median beats a mean in MAE only."""
        known = [one for one in self.choice.entries if one.values.get("RMSE") is not None]
        best = min(known, key=lambda one: one.values["RMSE"] or 0.0, default=None)
        if self.choice.metric not in ("MAE", "MASE") or best is None or best is self.winner:
            return ""
        if (self.winner.values.get("RMSE") or 0.0) < _MUCH * (best.values["RMSE"] or 0.0):
            return ""
        return f" If large errors matter most: {best.name} has the smallest RMSE, {number(best.values['RMSE'])}."

    def _as_often_right(self, baseline: Entry) -> bool:
        right = self.winner.values.get("Accuracy") or 0.0
        return right <= (baseline.values.get("Accuracy") or 0.0) + TIE and baseline.values.get("LogLoss") is not None

    def _of_probabilities(self, baseline: Entry) -> str:
        """The verdict where only the probabilities are better, as where most labels are of one class."""
        own, other = self.winner.values, baseline.values
        return (
            f"* {self.winner.name} is best, BUT RIGHT NO MORE OFTEN THAN THE BASELINE ({baseline.name}): Accuracy "
            f"{number(own.get('Accuracy'))} against {number(other.get('Accuracy'))}. Its probabilities are better: "
            f"LogLoss {number(own.get('LogLoss'))} against {number(other.get('LogLoss'))}. Use those."
        )

    def _found_best(self) -> str:
        metric, model, baseline = self.choice.metric, self.choice.best_model, self.choice.best_baseline
        if (
            self.winner.rule is None
            and baseline is not None
            and metric == "Accuracy"
            and self._as_often_right(baseline)
        ):
            return self._of_probabilities(baseline)
        if self.winner.rule is None and baseline is not None:
            reached = number(baseline.values.get(metric)).strip()
            best = number(self.winner.values.get(metric)).strip()
            return f"* {self.winner.name} is best: {metric} {best}, best baseline ({baseline.name}) {reached}."
        if self.winner.rule is None:
            return f"* {self.winner.name} is best."
        reached = number(self.winner.values.get(metric)).strip()
        other = f" (best model: {model.name}, {number(model.values.get(metric)).strip()})" if model is not None else ""
        may = "more rows or other fields" if self.ahead else "more rows, other features or a shorter label delay"
        return (
            f"* NO MODEL BEATS THE BASELINE: {self.winner.rule.words} has {metric} {reached}{other}. The file "
            f"predicts just that; {may} may change it."
        )


def number(value: float | None) -> str:
    """As the tables of a trial have it."""
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"


class Trial:
    """A trial of models on the first rows of a file.

    Args:
        source: the file, with the delay of labels.
        sample: its first rows.
    """

    def __init__(self, source: TableSource, sample: Sample, found: Profile, past: Proposal, label: str | None) -> None:
        self._source = source
        self._sample = sample
        self._found = found
        self._past = past
        self._label = label or ""

    def run(self, draft: Writer) -> Result | None:
        """Try; None where nothing was found, and it prints why."""
        task = task_of(self._found.target.task)
        if not task.supervised or task.ahead or task.slates:  # their baselines are part of every backtest
            return None
        rows, delay_ms = self._rows()
        labels = sum(cell is not None for cell in self._sample.columns[self._label][:rows])
        if (1 - LEARNING_SHARE) * labels < LABELS_MIN:
            say_untried(f"{labels:,} labelled rows are too few")
            return None
        named = {one.name: one for one in contenders(self._found, self._past)}
        cells = rows * (len(self._found.features) + len(self._past.features))
        if cells > SLOW_CELLS_MAX:
            named = {name: one for name, one in named.items() if not one.slow}
        if rows > MANY_ROWS:
            named = dict(list(named.items())[:2])
        models = {name: read_pipeline(draft.text_with(one), spare=True) for name, one in named.items()}
        rules, metric = rules_for(self._found, self._past), deciding_metric(self._found)
        source = TableSource(self._source.path, self._source.fields, delay_ms, rows)
        small = rows * len(models) < MANY_ROWS
        with bar(False) as moved:
            processes = 1 if small else min(2, cores())
            choice = choose(
                models,
                rules,
                source,
                labels,
                metric,
                processes=processes,
                moved=moved,
                slow={name for name, one in named.items() if one.slow},
            )
        winner = choice.winner
        if winner is None:
            few = f"too few labels came in time: {choice.counted:,} for {rows:,} rows"
            few += " (`driftline check --input` reports rows that do not fit)"
            say_untried("it was stopped" if choice.stopped else few)
            return None
        return self._result(choice, winner, named, next(iter(models.values())), delay_ms)

    def _result(
        self, choice: Choice, winner: Entry, named: dict[str, Contender], first: Pipeline, delay_ms: int
    ) -> Result:
        best = winner.best
        threshold = None
        if best is not None and best.threshold <= 1 and winner.rule is None:
            threshold = (best.threshold, 2 * best.tp / max(1, 2 * best.tp + best.fp + best.fn))
        if winner.rule is None:
            return Result(choice, winner, named[winner.name], delay_ms, {}, (), threshold, None)
        model, features, context = added_by(winner.rule, first)
        contender = Contender(winner.name, f"A baseline: {winner.rule.words}.", (model,))
        rival = named[choice.best_model.name] if choice.best_model is not None else None
        return Result(choice, winner, contender, delay_ms, _written(features), tuple(context), None, rival)

    def _rows(self) -> tuple[int, int]:
        """How many rows to try, and how late their labels are: as late as they will be, or as the rows allow."""
        count = self._sample.rows
        enough = min(
            count, ROWS_MAX, max(1_000, CELLS_MAX // max(1, len(self._found.features) + len(self._past.features)))
        )
        delay_ms = self._source.label_delay_ms
        if not delay_ms:
            return enough, 0
        times = self._times()
        if (span_ms := times[-1] - times[0]) < 2 * delay_ms:
            return self._within(min(count, MANY_ROWS), times, span_ms)
        reached = next((place for place, at in enumerate(times) if at - times[0] >= DELAYS_SEEN * delay_ms), count)
        return max(enough, reached), delay_ms

    def _within(self, rows: int, times: Sequence[int], span_ms: int) -> tuple[int, int]:
        """A shorter delay, so that labels come within the rows; tells the user that live ones come later."""
        shorter_ms = (times[rows - 1] - times[0]) // DELAYS_SEEN
        unit_ms = next((unit for unit in _UNITS_MS if shorter_ms >= 2 * unit), 1)
        shorter_ms -= shorter_ms % unit_ms
        apart = "" if self._found.time is not None else " (no field holds times, so they count as 1s apart)"
        whole = "" if self._sample.whole else "; `driftline backtest` shows over the whole file what the delay does"
        echo(
            f"note: labels come {format_duration(self._source.label_delay_ms)} later, but the first "
            f"{self._sample.rows:,} rows span {spoken(span_ms)}{apart}: tried with labels "
            f"{format_duration(shorter_ms)} later{whole}",
            err=True,
        )
        return rows, shorter_ms

    def _times(self) -> Sequence[int]:
        """When each row was, in ms, never going back."""
        if self._found.time is None:
            return [number * _STEP_MS for number in range(self._sample.rows)]
        times: list[int] = []
        for cell in self._sample.columns[self._found.time]:
            try:
                at_ms = self._found.time_form.read(cell)
            except ValueError:
                at_ms = times[-1] if times else 0
            times.append(max(at_ms, times[-1]) if times else at_ms)
        return times


def say_untried(why: str) -> None:
    echo(f"no trial: {why}; the usual model for such data is written", err=True)


def _written(features: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Resolved features as a person would write them."""
    short = {}
    for name, form in features.items():
        kept = {key: value for key, value in form.items() if value not in (None, [], "UTC")}
        if isinstance(by := kept.get("by"), list) and len(by) == 1:
            kept["by"] = by[0]
        short[name] = kept
    return short
