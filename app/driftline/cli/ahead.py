"""`driftline init` for series: the file of a pipeline that forecasts, and the trial that chooses its model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from math import isfinite
from typing import Any, Final

from msgspec.structs import replace

from driftline.author import limits
from driftline.author.contender import Contender
from driftline.author.past import Proposal
from driftline.author.profile import Field, Left, Profile
from driftline.author.sample import Sample
from driftline.author.series import DAY_MS, Found, plans
from driftline.backtest.choice import LABELS_MIN, LEARNING_SHARE, Choice, choose
from driftline.backtest.run import cores
from driftline.cli.draft import Draft, Origin, beside
from driftline.cli.progress import bar
from driftline.cli.selection import MANY_ROWS, Result, say_untried
from driftline.config import read_pipeline, yaml_scalar
from driftline.core.duration import format_duration
from driftline.core.pipeline.forecast import HORIZON
from driftline.core.task import tasks
from driftline.core.task.rule import Rule
from driftline.ingest.history import TableSource

_FEATURES_MAX: Final = 12
_FORECASTS_MAX: Final = 72_000  # of a trial, for each model
_SEASONS_TRIED: Final = 6  # that the rows of a trial span, where there are so many
_OWN_SEASON_MAX: Final = 400  # steps: with more, a model for each series takes too long
_MANY_SERIES: Final = 100  # intervals of so many may follow their coverage faster
_NAIVE: Final = "seasonal naive"


def ahead_contenders(series: Found, *, alone: bool) -> list[Contender]:
    """What to try for series, the default first.

    Args:
        alone: there are no other numbers than the one that is forecast.
    """
    name, note = (
        "seasonal regression",
        "A robust regression for each horizon over all series, mixed with simple forecasts.",
    )
    lines = ("SeasonalRegression()",)
    made = [] if alone else [Contender(name, note, lines)]
    made.append(Contender(name if alone else f"{name}, series alone", note, lines, alone=True))
    if series.season <= _OWN_SEASON_MAX and series.season > 1:
        model = f"HoltWinters(alpha=0.3, beta=0.05, gamma=0.3, seasonality={series.season})"
        made.append(Contender("Holt-Winters, by series", "A smoothing model for each series.", (model,), alone=True))
    note = "One linear model for each horizon, over what all series have in common."
    made.append(Contender("linear, Bayesian", note, ("BayesianLinearRegression()",), alone=True))
    return made


_NAIVE_MODEL: Final = Contender(
    _NAIVE, "The value of the same time of the last season.", ("SeasonalNaive()",), alone=True
)


class AheadDraft(Draft):
    """The text of a pipeline file that forecasts.

    Args:
        series: what is forecast.
        label: the field with the observed number.
    """

    _computed = "of the time that is forecast"

    def __init__(self, series: Found, label: str, found: Profile, sample: Sample, origin: Origin) -> None:
        task = next(one for one in tasks() if one.ahead)
        named = {*series.by, series.hour, label}
        target = Field(label, "number", "number", note="what is forecast")
        numbers = [one for one in found.features if one.use in ("number", "boolean") and one.name not in named]
        texts = [
            Left(one.name, one.type, "no number")
            for one in found.features
            if one.use not in ("number", "boolean") and one.name not in named
        ]
        self._plans = plans([one.name for one in numbers], series.horizons)
        horizons = range(1, series.horizons + 1)
        of_plans = {plan.replace(HORIZON, str(horizon)) for plan in self._plans.values() for horizon in horizons}
        planned = [one for one in numbers if one.name in of_plans]
        numbers = [one for one in numbers if one.name not in of_plans]
        surplus = [Left(one.name, one.type, f"more than {_FEATURES_MAX}") for one in numbers[_FEATURES_MAX:]]
        left = [one for one in found.left if one.name not in named]
        self._numbers = (*numbers[:_FEATURES_MAX], *planned)
        self.found = replace(
            found,
            target=replace(found.target, task=task.name),
            features=(target, *self._numbers),
            left=(*left, *texts, *surplus),
        )
        past = Proposal(series.by, _calendar(series, sample))
        unlabelled = dataclasses.replace(origin.rows, label=None)
        super().__init__(self.found, past, sample, dataclasses.replace(origin, rows=unlabelled, label_delay_ms=0))
        self._ahead, self._target_name = series, label
        self.contenders = ahead_contenders(series, alone=not self._numbers)
        self._contender = self.contenders[0]

    @property
    def notes(self) -> tuple[str, ...]:
        series = self._ahead
        regular = (
            f"{series.described(self._target_name)}: forecast, {series.horizons} steps ahead; to "
            "predict it from the other fields of its own row instead, add --task regression"
        )
        constant = [
            f"{name} has one value in the rows that were looked at, and names a series all the same: more may come"
            for name in series.constant
        ]
        planned = [
            f"{pattern.replace(HORIZON, '1')} and so on: taken for what is known of each step before it comes; they "
            "are seen at their horizon (forecast.known_ahead)"
            for pattern in self._plans.values()
        ]
        return (regular, *constant, *planned)

    def _event(self) -> Iterator[str]:
        whole = self._found
        if self._contender.alone and self._numbers:
            left = tuple(Left(one.name, one.type, "the model sees the series alone") for one in self._numbers)
            self._found = replace(whole, features=whole.features[:1], left=(*whole.left, *left))
        yield from super()._event()
        self._found = whole
        yield from self._forecast()

    def _hour(self) -> Iterator[str]:
        if self._ahead.hour is not None:
            hour = yaml_scalar(self._path_text(self._ahead.hour))
            yield beside(f"  hour: {hour}", "the hour of the day, which the date above does not hold")

    def _forecast(self) -> Iterator[str]:
        series = self._ahead
        seasons, memory = series.seasons
        yield "forecast:"
        if series.by:
            by = series.by[0] if len(series.by) == 1 else list(series.by)
            yield beside(f"  by: {yaml_scalar(by)}", "a series for each value, or each pair of them")
        yield f"  target: {yaml_scalar(self._target_name)}"
        yield beside(f"  step: {format_duration(series.step_ms)}", "time between observations")
        yield beside(f"  horizons: {series.horizons}", "steps ahead, from 1 on")
        season = "steps after which it is alike" if series.season > 1 else "none shows: the last value is the baseline"
        yield beside(f"  season: {series.season}", season)
        if series.cycles:
            yield beside(f"  cycles: {yaml_scalar(list(series.cycles))}", "shorter ones within the season")
        yield beside(f"  seasons: {seasons}", "how many of them a regression sees")
        yield beside(f"  memory: {memory}", "how many of them are kept")
        if self._plans and not self._contender.alone:
            yield beside(f"  known_ahead: {yaml_scalar(self._plans)}", "what the row says of each step to come")
        if series.amounts:
            yield beside("  transform: sqrt", "amounts: their noise grows with their size; log where effects multiply")
        yield beside("  interval: 0.9", "share of the observations inside the intervals")
        if series.series >= _MANY_SERIES:
            yield beside("  adapt: 0.2", "of many series, intervals may follow a change faster")
        yield ""

    def _guard(self) -> Iterator[str]:
        cells = self._sample.columns[self._target_name]
        target = [cell for cell in cells if isinstance(cell, int | float) and isfinite(cell)]
        low, high = limits.around(min(target), max(target))
        span = yaml_scalar({"min": low, "max": high, "action": "clip"})
        yield "guard:"
        untrained = yaml_scalar({"labels_min": limits.LABELS_MIN, "action": "flag"})
        yield beside(f"  untrained: {untrained}", "mark the forecasts of a model that has learned fewer observations")
        yield beside(f"  range: {span}", "twice as wide as what was seen; nothing beyond is served")
        jumps = self._jumps()
        if jumps is not None:
            step = yaml_scalar({"ratio_max": jumps.ratio, "tolerance": jumps.tolerance, "action": "fallback"})
            yield beside(f"  step: {step}", jumps.why)
            yield beside("  fallback: [seasonal, last_value]", "what was observed a season ago; else the latest")
        yield ""

    def _jumps(self) -> limits.Jumps | None:
        """How far observations jump from where their series is; None where that says nothing."""
        columns, series = self._sample.columns, self._ahead
        if not self._found.in_order:
            return None
        target = columns[self._target_name]
        keys = zip(*[columns[name] for name in series.by], strict=True) if series.by else [()] * len(target)
        jumps = limits.step_of_series(keys, target, series.season)
        return None if jumps is None or jumps.ratio > limits.RATIO_MAX else jumps

    def _rest(self) -> Iterator[str]:
        yield "drift:"
        yield beside("  error: ADWIN(delta=0.002)", "alert when forecasts get worse")


def _calendar(series: Found, sample: Sample) -> dict[str, dict[str, Any]]:
    """Parts of the time that is forecast, which a model may see."""
    if series.step_ms > DAY_MS:
        return {}
    parts: dict[str, dict[str, Any]] = {
        "weekday": {"calendar": "weekday", "cyclic": True},
        "weekend": {"calendar": "weekend"},
    }
    if series.step_ms < DAY_MS:
        parts = {"hour": {"calendar": "hour", "cyclic": True}, **parts}
    return {name if name not in sample.columns else f"{name}_ahead": form for name, form in parts.items()}


class AheadTrial:
    """A trial of models on the first rows of a file with series.

    Args:
        source: the file.
        sample: its first rows.
    """

    def __init__(self, source: TableSource, sample: Sample, series: Found) -> None:
        self._source, self._sample, self._series = source, sample, series

    def run(self, draft: AheadDraft) -> Result | None:
        """Try; None where nothing was found, and it prints why."""
        series, count = self._series, self._sample.rows
        rows = min(count, max(_FORECASTS_MAX // series.horizons, _SEASONS_TRIED * series.season * series.series))
        if (1 - LEARNING_SHARE) * rows < LABELS_MIN:
            say_untried(f"{rows:,} rows are too few")
            return None
        tried = draft.contenders[:2] if rows > MANY_ROWS else draft.contenders
        named = {one.name: one for one in (*tried, _NAIVE_MODEL)}
        models = {name: read_pipeline(draft.text_with(one), spare=True) for name, one in named.items()}
        source = TableSource(self._source.path, self._source.fields, 0, rows)
        with bar(False) as moved:
            choice = choose(models, [], source, rows, "MASE", processes=min(2, cores()), moved=moved)
        choice = self._with_baseline(choice)
        winner = choice.winner
        if winner is None:
            say_untried("it was stopped" if choice.stopped else "no series was long enough to be forecast")
            return None
        rival = named[choice.best_model.name] if winner.rule is not None and choice.best_model is not None else None
        contender = _NAIVE_MODEL if winner.rule is not None else named[winner.name]
        ahead = f"forecasts 1 to {series.horizons} steps ahead"
        return Result(choice, winner, contender, 0, {}, (), None, rival, ahead)

    def _with_baseline(self, choice: Choice) -> Choice:
        """The choice with the seasonal naive forecast as the baseline that it is."""
        series = self._series
        rule = Rule("seasonal", series.by, series.season * series.step_ms)
        entries = tuple(replace(one, rule=rule) if one.name == _NAIVE else one for one in choice.entries)
        return replace(choice, entries=entries)
