"""Baselines: candidates that know nothing but the label's own past.

A rule by name becomes a pipeline like any other: the first candidate's, with another model, and with the history
features that the rule repeats (`core.river.baseline`). So a baseline learns each label when the others do, and its past
is bounded as theirs is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from driftline.backtest.candidate import Spec
from driftline.core.pipeline import Pipeline, parse_pipeline
from driftline.core.task import task_of
from driftline.core.task.rule import PHASES, RULES, USAGE, Rule, rule_fits

_PREFIX: Final = "baseline_"  # of the features that are added


def candidates_of(first: Pipeline, rules: Sequence[Rule]) -> list[tuple[Spec, Pipeline]]:
    """The candidates that follow these rules over the inputs of a pipeline.

    All of them declare the features of all, so that their inputs are read once.

    Raises:
        ValueError: the task of the pipeline has no such rule.
        PipelineError: a key cannot be one.
    """
    document = first.resolved()
    event = {**document["event"], "features": dict(document["event"]["features"])}
    event["context"] = dict(event.get("context") or {})
    models = [_model(first, rule, event) for rule in rules]
    made = []
    for rule, model in zip(rules, models, strict=True):
        own = {"event": event, "pipeline": "baseline", "model": model, "params": {}, "drift": {}}
        asked = {**document, **own, "metrics": None, "alerts": None}
        pipeline = parse_pipeline({key: value for key, value in asked.items() if value is not None}, spare=True)
        made.append((Spec(rule.text, pipeline.resolved(), f"--baseline {rule.text}"), pipeline))
    return made


def _model(first: Pipeline, rule: Rule, event: dict[str, Any]) -> str:
    """The model that follows a rule, and the features that it needs, put into the event.

    Raises:
        ValueError: as of `candidates_of`.
    """
    task = task_of(first.task)
    numeric, classes = task.labels.numeric, task.classes
    allowed = [name for name in RULES if rule_fits(name, numeric=numeric, classes=classes, textual=task.labels.textual)]
    if rule.name not in allowed or not task.supervised:
        choice = f"; choose from {', '.join(USAGE.get(name, name) for name in allowed)}" if task.supervised else ""
        raise ValueError(f"--baseline {rule.text} does not support task {task.name}{choice}")
    match rule.name:
        case "majority" | "popularity":
            return "PriorClassifier()"
        case "mean":
            return "StatisticRegressor(Mean())"
        case "median":
            return "StatisticRegressor(stats.Quantile(0.5))"
        case "last" if classes:
            return "NoChangeClassifier()"
    by = [_key(key, event) for key in rule.keys] + [_phase(part, event) for part in PHASES.get(rule.period_ms, ())]
    name = _PREFIX + "_".join([rule.name, *by])
    function = "label_mean" if rule.name == "mean_of" else "label_last"
    event["features"][name] = {"history": function, "missing": "omit", **({"by": by} if by else {})}
    return f"{'EchoClassifier' if classes else 'EchoRegressor'}(on={name!r})"


def _key(key: str, event: dict[str, Any]) -> str:
    """The name by which history knows a key: a declared field, or else one that is read for it."""
    if key not in event["features"] and key not in event["context"]:
        event["context"][key] = {"path": key, "type": "key", "missing": "reject"}
    return key


def _phase(part: str, event: dict[str, Any]) -> str:
    """The calendar feature of that part."""
    name = _PREFIX + part
    event["features"][name] = {"calendar": part}
    return name
