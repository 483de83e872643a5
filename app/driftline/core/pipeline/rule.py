"""What must hold between the settings of a pipeline, and between its expressions and River.

Rules run over a draft: the sections that could be read, by their key in the file. A rule whose sections are
missing stays silent, so that one fault does not hide others, and is not reported twice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from difflib import get_close_matches
from typing import Any, assert_never

from river import base, reco

from driftline.core.duration import format_duration
from driftline.core.error import ExpressionError, Problem
from driftline.core.metric.check import check_metric, needs_probabilities
from driftline.core.notation import Scalar, is_factory
from driftline.core.pipeline.beside import check_second, features_of_second
from driftline.core.pipeline.bound import out_of_bounds
from driftline.core.pipeline.digest import check_digests
from driftline.core.pipeline.feature import SLATE_TYPES
from driftline.core.pipeline.fitness import features_named, features_read, unfit, without_probabilities
from driftline.core.pipeline.forecast import check_forecast, forecast_fields, row_names
from driftline.core.pipeline.form import MetricSplit
from driftline.core.pipeline.guard import GuardForm
from driftline.core.pipeline.input import EventForm, LabelForm
from driftline.core.pipeline.intake import (
    Draft,
    check_features,
    check_label,
    check_limits,
    check_recommend,
    check_topics,
    names_of,
)
from driftline.core.pipeline.kpi import check_kpi, kpi_fields
from driftline.core.pipeline.learning import check_learning
from driftline.core.pipeline.limit import check_guard
from driftline.core.pipeline.recommend import RecommendForm
from driftline.core.pipeline.watch import Alerts, DetectorForm, Drift
from driftline.core.recommend.policy import NEEDS_DEVIATIONS
from driftline.core.river.building import check_seeded, last_step, make_detector, make_metric, make_model
from driftline.core.river.expression import params_used
from driftline.core.river.items import Items
from driftline.core.river.learning_rate import rates
from driftline.core.signal import DIRECT, FEATURE_KEYS, Need, shows_bits
from driftline.core.task import SLATES, task_of
from driftline.core.task.base import Task


def broken_rules(draft: Draft, *, spare: bool = False) -> list[Problem]:
    """Every rule that does not hold, in the order of the file's sections.

    Args:
        spare: features that nothing uses are not a fault.
    """
    model, faults = _built_model(draft)
    rules: tuple[Callable[[Draft, Any], Iterator[Problem]], ...] = (
        check_topics, check_features, check_label, check_forecast, check_recommend, _params, _model,
        _recommended, *(() if spare else (_unused,)), _decision, check_guard, check_second, _guard, check_kpi,
        check_digests, check_learning, _metrics, _splits, _drift, _alerts, check_limits,
    )  # fmt: skip
    found = [problem for rule in rules for problem in rule(draft, model)]
    return faults + found


def fitting_metrics(draft: Draft) -> tuple[str, ...]:
    """The task's usual metrics that the model's answers allow."""
    task = task_of(draft["task"])
    if not task.judged and draft["label"] is None:
        return ()
    model = make_model(draft["model"], draft["params"], draft["seed"])
    if without_probabilities(model, task):
        return tuple(name for name in task.metrics if not needs_probabilities(make_metric(name, {})))
    return task.metrics


def _task(draft: Draft) -> Task | None:
    return task_of(draft["task"]) if "task" in draft else None


def _built_model(draft: Draft) -> tuple[Any, list[Problem]]:
    if "model" not in draft or "params" not in draft:
        return None, []
    try:
        model = make_model(draft["model"], draft["params"], draft.get("seed", 42))
        check_seeded(draft["model"], draft["params"], draft.get("seed", 42))
        return model, []
    except ExpressionError as error:
        return None, [Problem("model", None, str(error))]


def _params(draft: Draft, _: Any) -> Iterator[Problem]:
    params: dict[str, Scalar] | None = draft.get("params")
    if params is None:
        return
    if any(key not in draft for key in ("model", "metrics", "drift")) and "model" not in draft:
        return
    texts = list(_expressions(draft))
    used = {name for text in texts for name in params_used(text)}
    guard: GuardForm | None = draft.get("guard")
    models = [draft["model"], *(() if guard is None or guard.second is None else (guard.second,))]
    for name, value in params.items():
        if not name.isidentifier():
            yield Problem(
                f"params.{name}", value, "is not a valid name: use letters, digits and '_', not starting with a digit"
            )
        elif name not in used and not any(map(is_factory, models)):
            yield Problem(f"params.{name}", value, f"is not used; write ${name} in an expression, or remove it")


def _expressions(draft: Draft) -> Iterator[str]:
    yield draft.get("model", "")
    yield from draft.get("metrics", ())
    guard: GuardForm | None = draft.get("guard")
    if guard is not None and guard.second is not None and not is_factory(guard.second):
        yield guard.second
    drift: Drift | None = draft.get("drift")
    if drift is not None:
        for _, _, watches in drift.every():
            for watch in watches:
                yield from filter(None, (watch.detector, watch.warning))


def _model(draft: Draft, model: Any) -> Iterator[Problem]:
    if model is None:
        return
    task, event = _task(draft), draft.get("event")
    if task is not None:
        for fault in unfit(model, task):
            yield Problem("model", None, fault)
    if event is None:
        return
    declared = [*event.features, *row_names(draft.get("forecast"))]
    for who, name in dict.fromkeys(features_named(model)):
        if name not in declared:
            yield Problem(
                "model",
                None,
                f"{who} names {name!r}, which is not a declared feature{_did_you_mean(name, declared)}",
            )


def _unused(draft: Draft, model: Any) -> Iterator[Problem]:
    event: EventForm | None = draft.get("event")
    if event is None or model is None:
        return
    read, beside = features_read(model), features_of_second(draft)
    if read is not None and beside is not None:
        watched = _watched_features(draft).union(beside)
        for name in event.features:
            if name not in read and name not in watched and event.features[name].type not in SLATE_TYPES:
                text = (
                    "is not used by any Select of the model, not watched (drift, alerts.missing_max), not "
                    "a segment (metric_by.segment) and not in guard.by or kpi; use it, or remove it here"
                )
                yield Problem(f"event.features.{name}", None, text)


def _watched_features(draft: Draft) -> set[str]:
    """Features that something else than the model reads."""
    drift: Drift | None = draft.get("drift")
    alerts: Alerts | None = draft.get("alerts")
    split: MetricSplit | None = draft.get("metric_by")
    guard: GuardForm | None = draft.get("guard")
    names = set() if drift is None else {name for key in FEATURE_KEYS for name in drift.by_feature(key)}
    names |= set() if alerts is None else set(alerts.missing_max)
    names |= set() if guard is None else set(guard.by)
    names |= {*forecast_fields(draft), *kpi_fields(draft)}
    form: RecommendForm | None = draft.get(SLATES)
    names |= set() if form is None or form.user is None else {form.user}
    return names if split is None or split.segment is None else names | {split.segment}


def _did_you_mean(name: Hashable, declared: list[str]) -> str:
    close = get_close_matches(str(name), declared, n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} declared: {', '.join(declared[:30])}"


def _recommended(draft: Draft, model: Any) -> Iterator[Problem]:
    """What a policy needs of the model, and a model of the request."""
    form, last = draft.get(SLATES), last_step(model)
    if form is None or model is None:
        return
    if form.policy in NEEDS_DEVIATIONS and not isinstance(last, Items):
        text = (
            "needs a model that says how sure it is: LinearItems() or Popularity(); or write epsilon_greedy or softmax"
        )
        yield Problem("recommend.policy", form.policy, text)
    if isinstance(last, reco.base.Ranker) and form.user is None:
        yield Problem("recommend.user", None, f"is required for {type(last).__name__}: the feature that names the user")


def _decision(draft: Draft, model: Any) -> Iterator[Problem]:
    decision, task = draft.get("decision"), _task(draft)
    if decision is None or task is None:
        return
    threshold, budget = decision.threshold, decision.budget
    if not task.decides:
        yield Problem("decision", None, f"is for task {names_of(lambda one: one.decides)}; remove it for {task.name}")
    elif (threshold is None) == (budget is None):
        yield Problem("decision", None, "needs one of the two: threshold: SCORE, or budget: ALARMS (per: 1d)")
    elif budget is None and "per_ms" in decision.model_fields_set:
        yield Problem("decision.per", None, "is the period of decision.budget; remove it")
    elif budget is None and "zone" in decision.model_fields_set:
        yield Problem("decision.zone", None, "is where the periods of decision.budget begin; remove it")
    elif task.probability and threshold is not None and not 0 <= threshold <= 1:
        yield Problem("decision.threshold", threshold, "must be a probability, from 0 to 1")
    if budget is not None and budget < (draft.get("shards") or 1):
        yield Problem("decision.budget", budget, "is shared by the shards; each needs one alarm at least")
    if model is not None and task.probability and without_probabilities(model, task):
        yield Problem("decision", None, "needs a model with probabilities, but this one gives only classes; remove it")


def _guard(draft: Draft, model: Any) -> Iterator[Problem]:
    guard, task, decision = draft.get("guard"), _task(draft), draft.get("decision")
    if guard is not None and guard.share is not None and decision is not None and decision.budget is not None:
        yield Problem("guard.share", None, "is not needed: decision.budget bounds how many events are positive")
    if guard is None or task is None or model is None or not task.probability or not without_probabilities(model, task):
        return
    for name in guard.rungs:
        if name not in ("untrained", "unfamiliar"):
            yield Problem(f"guard.{name}", None, "needs a model with probabilities, but this one gives only classes")


def _metrics(draft: Draft, model: Any) -> Iterator[Problem]:
    expressions: tuple[str, ...] | None = draft.get("metrics")
    task = _task(draft)
    if not expressions or task is None:
        return
    if not task.judged and "label" in draft and draft["label"] is None:
        yield Problem("metrics", list(expressions), "need labels: declare `label`, or remove the metrics")
        return
    for place, expression in _places("metrics", expressions):
        if expressions.count(expression) > 1:
            yield Problem(place, expression, "is listed twice")
        try:
            metric = make_metric(expression, draft.get("params", {}))
            check_metric(expression, metric, task)
        except ExpressionError as error:
            yield Problem(place, expression, str(error).removeprefix(f"{expression}: "))
            continue
        if model is not None and needs_probabilities(metric) and without_probabilities(model, task):
            yield Problem(
                place,
                expression,
                "needs probabilities, but the model gives only classes; Accuracy works without",
            )


def _splits(draft: Draft, _: Any) -> Iterator[Problem]:
    split: MetricSplit | None = draft.get("metric_by")
    if split is None:
        return
    if list(split.ages_ms) != sorted(set(split.ages_ms)):
        yield Problem(
            "metric_by.ages",
            [format_duration(age) for age in split.ages_ms],
            "must be in ascending order, as in [1h, 1d, 7d]",
        )
    event: EventForm | None = draft.get("event")
    if split.segment is None or event is None:
        return
    feature = event.features.get(split.segment)
    if feature is None:
        yield Problem("metric_by.segment", split.segment, f"is not a feature; declared are {', '.join(event.features)}")
    elif feature.type == "number":
        yield Problem("metric_by.segment", split.segment, "is a number; segments need a string or boolean feature")


def _places(key: str, expressions: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Each expression with its place in the file; a single one may have been written without a list."""
    for index, expression in enumerate(expressions):
        yield (f"{key}.{index}" if len(expressions) > 1 else key), expression


def _drift(draft: Draft, model: Any) -> Iterator[Problem]:
    drift: Drift | None = draft.get("drift")
    if drift is None:
        return
    task, event = _task(draft), draft.get("event")
    yield from _signals(drift, draft, model)
    types = {name: feature.type for name, feature in event.features.items()} if event is not None else {}
    numbers = task is not None and not task.classes
    for key, name, watches in drift.every():
        place = f"drift.{key}" if name is None else f"drift.{key}.{name}"
        kind = types.get(name or "")
        bits = shows_bits(key, numbers=numbers if name is None else kind == "number", prose=kind == "text")
        yield from _detectors(place, watches, bits, draft)
        if model is not None and any(watch.reaction == "boost" for watch in watches) and not any(rates(model)):
            yield Problem(place, "boost", "needs a model with a learning rate; use reset or swap")
    if event is not None:
        for key, name, _ in drift.every():
            if name is not None and name not in types:
                text = f"is not a declared feature{_did_you_mean(name, list(types))}"
                yield Problem(f"drift.{key}.{name}", None, text)
        yield from _feature_watches(drift, event)


def _signals(drift: Drift, draft: Draft, model: Any) -> Iterator[Problem]:
    """Signals that the task, the model or the labels do not give."""
    for signal in DIRECT:
        key, watches = signal.row.key, drift.of(signal)
        for need in signal.row.needs if watches else ():
            yield from _lacking(need, key, watches, draft, model)


def _lacking(need: Need, key: str, watches: tuple[DetectorForm, ...], draft: Draft, model: Any) -> Iterator[Problem]:
    """What a signal needs, and this pipeline has not."""
    task, place = _task(draft), f"drift.{key}"
    match need:
        case "error":
            if task is not None and not task.judged:
                shown = [watch.detector for watch in watches]
                yield Problem(place, shown, f"{task.words.score} has no error; watch drift.score or drift.features")
        case "classes":
            if task is not None and task.judged and not task.classes:
                yield Problem(place, None, "is for classes; watch drift.error, which is the loss for numbers")
        case "probabilities":
            if model is not None and task is not None and without_probabilities(model, task):
                text = "needs probabilities, but the model gives only classes; watch drift.error"
                yield Problem(place, None, text)
        case "labels":
            if "label" in draft and draft["label"] is None:
                yield Problem(place, None, "needs labels: declare `label`, or remove it")
        case _:
            assert_never(need)


def _feature_watches(drift: Drift, event: EventForm) -> Iterator[Problem]:
    for name, watches in drift.features.items():
        feature = event.features.get(name)
        for watch in watches if feature is not None and feature.type != "number" else ():
            for key in ("raw", "season"):
                if watch.raw if key == "raw" else watch.season_ms is not None:
                    yield Problem(f"drift.features.{name}.{key}", None, "is for number features; remove it")
        if any(watch.raw and watch.season_ms is not None for watch in watches):
            yield Problem(f"drift.features.{name}.raw", True, "cannot be combined with season, which compares ranks")
    for name in drift.missing:
        if name in event.features and event.features[name].missing == "reject":
            text = (
                "is never missing: such events are rejected (feature_missing); write `missing: omit` or a value "
                f"to use instead in event.features.{name}, or remove it here"
            )
            yield Problem(f"drift.missing.{name}", None, text)


def _detectors(key: str, watches: tuple[DetectorForm, ...], bits: bool, draft: Draft) -> Iterator[Problem]:
    asked = tuple(watch.detector for watch in watches)
    for (place, expression), watch in zip(_places(key, asked), watches, strict=True):
        if asked.count(expression) > 1:
            yield Problem(place, expression, "is listed twice")
        yield from _detector(place, expression, bits, draft)
        if watch.warning is not None:
            yield from _detector(f"{place}.warning", watch.warning, bits, draft)


def _detector(place: str, expression: str, bits: bool, draft: Draft) -> Iterator[Problem]:
    try:
        detector = make_detector(expression, draft.get("params", {}), draft.get("seed", 42))
    except ExpressionError as error:
        yield Problem(place, expression, str(error))
        return
    if isinstance(detector, base.BinaryDriftDetector) and not bits:
        yield Problem(place, expression, "only takes right or wrong; write ADWIN(), PageHinkley() or KSWIN()")
    for fault in out_of_bounds(detector):
        yield Problem(place, expression, fault)


def _alerts(draft: Draft, _: Any) -> Iterator[Problem]:
    alerts: Alerts | None = draft.get("alerts")
    if alerts is None:
        return
    task = _task(draft)
    unlabelled = "label" in draft and draft["label"] is None
    for key, asked in (
        ("performance", bool(alerts.performance) and not (task is not None and task.ahead)),
        ("label_coverage_min", alerts.label_coverage_min is not None),
        ("label_delay_max", alerts.label_delay_max_ms is not None),
    ):
        if asked and unlabelled:
            yield Problem(f"alerts.{key}", None, "needs labels: declare `label`, or remove it")
    label: LabelForm | None = draft.get("label")
    if label is not None and alerts.label_delay_max_ms is not None and alerts.label_delay_max_ms > label.wait_ms:
        shown = format_duration(alerts.label_delay_max_ms)
        text = f"must be at most label.wait = {format_duration(label.wait_ms)}: later labels are not joined"
        yield Problem("alerts.label_delay_max", shown, text)
    metrics = draft.get("metrics") or (task.metrics if task else ())
    for name, limit in alerts.performance.items():
        if metrics and name not in metrics:
            text = f"is not among this pipeline's metrics ({', '.join(metrics)}); add it there"
            yield Problem(f"alerts.performance.{name}", None, text)
        if limit.min is None and limit.max is None:
            yield Problem(f"alerts.performance.{name}", None, "needs a min or a max")
        elif limit.min is not None and limit.max is not None and limit.min > limit.max:
            yield Problem(f"alerts.performance.{name}", None, "min is above max")
    event = draft.get("event")
    if event is not None:
        declared = list(event.features)
        for name in alerts.missing_max:
            if name not in event.features:
                text = f"is not a declared feature{_did_you_mean(name, declared)}"
                yield Problem(f"alerts.missing_max.{name}", None, text)
            elif event.features[name].missing == "reject":
                text = "is never missing: such events are rejected, which rejected_max watches"
                yield Problem(f"alerts.missing_max.{name}", None, text)
    if alerts.throughput is not None and alerts.throughput.window_ms < 1_000:
        yield Problem("alerts.throughput.window", format_duration(alerts.throughput.window_ms), "must be at least 1s")
