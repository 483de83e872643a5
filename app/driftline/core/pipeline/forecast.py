"""The `forecast` section: which series there are, what is forecast of them, and how far ahead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, SerializerFunctionWrapHandler, model_serializer

from driftline.core.error import Problem
from driftline.core.notation import Count, Duration
from driftline.core.pipeline.feature import AnyFeature, By, CalendarFeature, Feature, Form, HistoryFeature
from driftline.core.pipeline.guard import GuardForm
from driftline.core.task import find_task

HORIZONS_MAX: Final = 366
HORIZON: Final = "{h}"
"""In the name of a feature: it stands for one of each horizon."""
_RING_MAX: Final = 20_000  # slots of each series
_CELLS_MAX: Final = 1_000_000


class ForecastForm(Form):
    """What is forecast."""

    by: By = Field(default=(), description="the field or fields whose values name a series [default: one series]")
    target: str = Field(description="the observed number: a feature, or a field of event.context")
    step_ms: Annotated[Duration, Field(ge=1)] = Field(alias="step", description="time between observations, as in 1d")
    horizons: Annotated[int, Field(ge=1, le=HORIZONS_MAX)] = Field(description="how many steps ahead, from 1 on")
    season: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=1,
        description="steps in a season, as in 7 for days: of the seasonal naive forecast that stands beside the "
        "model, and of MASE [default: 1, the last value]",
    )
    seasons: Annotated[int, Field(ge=1, le=20)] = Field(
        default=3, description="regressors: how many seasons back they see the value of the same time in the season"
    )
    memory: Annotated[int, Field(ge=1, le=20)] = Field(
        default=8,
        description="regressors: how many seasons back a series is kept; they see the mean of the same time in all of "
        "them, each counting 0.7 times as much as the one after it",
    )
    cycles: Annotated[
        tuple[Annotated[int, Field(ge=1, le=10_000)], ...],
        BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
        Field(max_length=5),
        PlainSerializer(list),
    ] = Field(
        default=(),
        description="regressors: shorter cycles within the season, in steps, as in [24] for hours of a week; they see "
        "the latest value of the same time in each, and weigh the past differently at each of its phases",
    )
    transform: Literal["none", "sqrt", "log"] = Field(
        default="none",
        description="for counts and amounts, which are never below 0: the model and the intervals work on the square "
        "root, or on log(1 + value), so that effects multiply",
    )
    models: Literal["per_horizon", "shared"] = Field(
        default="per_horizon",
        description="regressors: one for each horizon, or one for all, which sees the horizon as a feature",
    )
    interval: Annotated[float, Field(ge=0.5, le=0.999)] = Field(
        default=0.9, description="share of the observations that should lie inside the intervals"
    )
    adapt: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.05, description="how fast the intervals follow their coverage; 0: not at all"
    )
    window: Annotated[int, Field(ge=50, le=100_000)] = Field(
        default=1_000, description="number of residuals, per horizon, from which intervals are computed"
    )
    least: float | None = Field(default=None, description="forecasts and intervals are not below this, as in 0")
    known_ahead: dict[str, str] = Field(
        default_factory=dict,
        description="regressors: what is known of each step before it comes, as in {planned: 'promo_{h}'}: at horizon "
        "h they see, as planned, the feature promo_1, promo_2, ... of the observation after which they forecast",
    )
    series_max: Count = Field(
        default=10_000, description="most series, per shard; the least recently observed one is dropped"
    )

    @model_serializer(mode="wrap")
    def _short(self, write: SerializerFunctionWrapHandler) -> Any:
        """Without what is not declared."""
        written = write(self)
        return written if self.known_ahead else {key: one for key, one in written.items() if key != "known_ahead"}

    def ahead(self, pattern: str) -> list[str]:
        """The features that say something of each horizon, in order."""
        return [pattern.replace(HORIZON, str(horizon)) for horizon in range(1, self.horizons + 1)]

    @property
    def planned(self) -> dict[str, list[str]]:
        """What is known ahead: by name, the features in the order of the horizons."""
        return {name: self.ahead(pattern) for name, pattern in self.known_ahead.items()}

    @property
    def ring(self) -> int:
        """How many slots of a series are kept: what forecasts that still wait for their truth were made from."""
        return self.horizons + max(self.seasons, self.memory, 2) * self.season

    def declared(self, features: Mapping[str, AnyFeature]) -> list[int]:
        """The places of the declared numbers of an event that `SeasonalRegression` sees as they are: all but the
        target, and what it sees of the step that is forecast: the calendar, and what is known ahead."""
        ahead = {name for names in self.planned.values() for name in names}
        return [
            place
            for place, (name, one) in enumerate(features.items())
            if not isinstance(one, CalendarFeature)
            and name != self.target
            and name not in ahead
            and one.type in ("number", "boolean")
        ]


def check_forecast(draft: Mapping[str, Any], _: Any = None) -> Iterator[Problem]:
    """Every fault of the section."""
    task = find_task(draft.get("task"))
    if task is None or "forecast" not in draft:
        return
    form: ForecastForm | None = draft["forecast"]
    if not task.ahead:
        if form is not None:
            yield Problem("forecast", None, f"is not for task {task.name}; remove it")
        return
    if form is None:
        yield Problem("forecast", None, f"is required for task {task.name}: {{target: FIELD, step: 1d, horizons: 7}}")
        return
    if form.ring > _RING_MAX:
        text = f"{form.ring:,} steps of each series would be kept; at most {_RING_MAX:,} can be"
        yield Problem("forecast.season", form.season, text)
    if form.horizons * form.window > _CELLS_MAX:
        text = f"horizons x window must be at most {_CELLS_MAX:,}"
        yield Problem("forecast.window", form.window, text)
    for steps in form.cycles:
        if steps >= form.season or form.cycles.count(steps) > 1:
            yield Problem("forecast.cycles", steps, "must be shorter than forecast.season, and listed once")
    if form.transform != "none" and form.least is not None and form.least < 0:
        yield Problem("forecast.least", form.least, f"must be 0 or more with transform: {form.transform}")
    yield from _fields(form, draft)
    yield from _ahead(form, draft)
    yield from _reach(form, draft.get("guard"))


def _reach(form: ForecastForm, guard: GuardForm | None) -> Iterator[Problem]:
    """Whether any forecast can be within the guard's range."""
    if guard is None or guard.range is None or guard.range.max is None:
        return
    least = form.least
    if least is None and form.transform != "none":
        least = 0.0
    if least is not None and guard.range.max < least:
        key = "forecast.least" if form.least is not None else f"forecast.transform: {form.transform}"
        text = f"is below {least:g}, the least that a forecast can be ({key}), so nothing could be served"
        yield Problem("guard.range.max", guard.range.max, text)


def _ahead(form: ForecastForm, draft: Mapping[str, Any]) -> Iterator[Problem]:
    """What is known ahead must be declared, for each horizon, as a number that comes with the observation."""
    event = draft.get("event")
    if event is None:
        return
    features: Mapping[str, AnyFeature] = event.features
    for name, pattern in form.known_ahead.items():
        place = f"forecast.known_ahead.{name}"
        if name in features or name in row_names(form, ahead=False):
            yield Problem(place, None, "is the name of something else that regressors see; choose another one")
        if HORIZON not in pattern:
            text = f"must hold {HORIZON}, in the place of the horizon, as in 'promo_{HORIZON}'"
            yield Problem(place, pattern, text)
            continue
        for one in form.ahead(pattern):
            found = features.get(one)
            if found is None:
                text = (
                    f"needs a feature {one} (and so on up to {form.ahead(pattern)[-1]}); declare them all as one: "
                    f"event.features: {{'{pattern}': number}}"
                )
                yield Problem(place, pattern, text)
                break
            if isinstance(found, HistoryFeature | CalendarFeature) or found.type not in ("number", "boolean"):
                yield Problem(place, pattern, f"{one} must be a number or a boolean of the event")
                break
            if one == form.target or one in form.by:
                yield Problem(place, pattern, f"{one} is what is forecast, or names the series")
                break


def _fields(form: ForecastForm, draft: Mapping[str, Any]) -> Iterator[Problem]:
    event = draft.get("event")
    if event is None:
        return
    declared = {**event.features, **event.context}
    for place, name in (("forecast.target", form.target), *(("forecast.by", name) for name in form.by)):
        found = declared.get(name)
        if found is None:
            text = f"is neither a declared feature nor in event.context; declared: {', '.join(list(declared)[:30])}"
            yield Problem(place, name, text)
        elif isinstance(found, HistoryFeature | CalendarFeature):
            yield Problem(place, name, "is computed; use a field of the event")
        elif place == "forecast.target" and found.type != "number":
            yield Problem(place, name, f"is a {found.type}; a number can be forecast")
        elif isinstance(found, Feature) and place == "forecast.target" and found.fill is not None:
            text = "must not be filled in: a made-up value would be learned; write missing: reject"
            yield Problem(place, name, text)
        elif place == "forecast.by" and found.type == "text":
            yield Problem(place, name, "has type text; declare it as a string")
    if form.by.count(form.target):
        yield Problem("forecast.by", form.target, "is the target")
    for name in form.by:
        if form.by.count(name) > 1:
            yield Problem("forecast.by", name, "is listed twice")


def forecast_fields(draft: Mapping[str, Any]) -> tuple[str, ...]:
    """The declared fields that forecasting reads."""
    form: ForecastForm | None = draft.get("forecast")
    if form is None:
        return ()
    return (*form.by, form.target, *(name for names in form.planned.values() for name in names))


def row_names(form: ForecastForm | None, *, ahead: bool = True) -> tuple[str, ...]:
    """What a regressor sees beside the declared features.

    Args:
        ahead: what is known ahead too.
    """
    if form is None:
        return ()
    past = ["last", "change", "level", "level_before"]
    past += [f"season_{number}" for number in range(2, form.seasons + 1)]
    past += ["usual", *(f"cycle_{steps}{what}" for steps in form.cycles for what in ("", "_change"))]
    waves = [f"{name}_{wave}_{steps}" for steps in form.cycles for wave in ("cos", "sin") for name in past]
    known = form.known_ahead if ahead else ()
    return (*past, *waves, *known, *(["horizon"] if form.models == "shared" else []))


def write_out(features: Mapping[str, Any], forecast: Mapping[str, Any]) -> dict[str, Any]:
    """Features whose name holds `{h}` as one for each horizon, in a file's content.

    What cannot be written out is left as it is, for the rules to report.
    """
    horizons, made = forecast.get("horizons"), dict[str, Any]()
    for name, one in features.items():
        if HORIZON not in name or type(horizons) is not int or not 1 <= horizons <= HORIZONS_MAX:
            made[name] = one
            continue
        for horizon in range(1, horizons + 1):
            path = one.get("path") if isinstance(one, Mapping) else None
            number = str(horizon)
            of_horizon = {**one, "path": path.replace(HORIZON, number)} if isinstance(path, str) else one
            made[name.replace(HORIZON, number)] = of_horizon
    return made
