"""What a change of the pipeline file does to an existing state.

Three kinds of keys (the table in docs/architecture.md is this module in words):

* those that the state does not depend on, or only its bounds: taken over as they are;
* those that rule one part of the state: metrics and detectors whose expression stays go on, new ones begin empty;
  what waits for its label waits as long as the new `label.wait` says, counted from when it came;
* all others: features, task, model, seed, what an id or a label is. Numbers that were learned under the old ones mean
  nothing under the new: refused, unless the user asks for a fresh state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driftline.core.alert.condition import watched
from driftline.core.budget import Budget
from driftline.core.drift.monitors import DriftMonitors
from driftline.core.guard.second import model_text
from driftline.core.guard.suspicion import Suspicion
from driftline.core.metric.evaluation import Evaluation
from driftline.core.metric.maturity import Maturity
from driftline.core.notation import is_factory
from driftline.core.pipeline import Pipeline
from driftline.core.river.expression import params_used
from driftline.core.shard.state import Shard, Terms

FOLLOWED = (
    "alerts",
    "decision",
    "dedupe",
    "delivery",
    "digests",
    "drift",
    "event.keys_max",
    "event.select",
    "guard",
    "kpi",
    "label.correct_for",
    "label.correct_max",
    "label.early",
    "label.early_max",
    "label.missing",
    "label.pending_max",
    "label.select",
    "label.text",
    "label.unit",
    "label.wait",
    "learning",
    "limits",
    "metric_by",
    "metric_span",
    "metric_window",
    "metrics",
    "shards",  # a change of it is refused elsewhere: it is not about one shard's state
    "snapshot",
    "start",
    "topics.alerts",
    "topics.outcomes",
    "topics.rejected",
    "topics.review",
    "topics.scores",
)
"""Keys of the pipeline file that may change while the state goes on; `params.NAME` too where the model has no $NAME."""

METRIC_KEYS = ("metrics", "metric_window", "metric_span_ms", "metric_by", "params")


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> list[str]:
    """Paths of the keys that differ between two documents, deepest first difference each; order is a difference too."""
    changed = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping) and (old.keys() == new.keys() or key == "params"):
            inner = changed_keys(old, new, f"{path}{key}.")
            changed += [f"{path}{key}"] if not inner and list(old) != list(new) and key != "params" else inner
        elif old != new or type(old) is not type(new):  # 1, 1.0 and true are equal, and not the same to a model
            changed.append(f"{path}{key}")
    return changed


def refused_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Those of the changed keys that the state cannot follow."""
    model = str(after["model"])
    used = {f"params.{name}" for name in params_used(model)}
    return [
        key
        for key in changed_keys(before, after)
        if not any(key == followed or key.startswith(f"{followed}.") for followed in FOLLOWED)
        and not (key.startswith("event.features.") and key.endswith(".text"))  # the same numbers, otherwise written
        and not (key.startswith("params.") and key not in used and not is_factory(model))
    ]


def adopt(shard: Shard, before: Pipeline) -> None:
    """Take over what the shard's own pipeline changed, in a state that was made under another.

    Args:
        shard: with the state of before, under the pipeline of after.
        before: the pipeline that the state was made under.
    """
    after = shard.pipeline
    shard.pending.horizon_ms, shard.pending.id_max = after.dedupe.horizon_ms, after.dedupe.id_max
    if after.label is not None and before.label is not None:
        shard.pending.pending_max, shard.early.early_max = after.label.pending_max, after.label.early_max
        shard.pending.wait_ms, shard.pending.correct_max = after.label.wait_ms, after.label.correct_max
        shard.pending.correct_for(after.label.correct_ms)
        shard.early.postpone(after.label.early_ms - before.label.early_ms)
    shard.history.bound(after.event.keys_max)
    if any(getattr(before, key) != getattr(after, key) for key in METRIC_KEYS):
        taken = shard.evaluation.taken
        shard.evaluation = _evaluation(shard.evaluation, before, after, taken)
        maturity = Maturity(after)
        maturity.keep(shard.maturity, lambda part: _evaluation(part, before, after, taken), taken)
        shard.maturity = maturity
    if (before.drift, before.params) != (after.drift, after.params):
        monitors = DriftMonitors.of(after)
        shard.reactor = shard.reactor.under(after, monitors.keep(shard.monitors, DriftMonitors.of(before)))
        shard.monitors = monitors
    if not Terms.of(before).waits_watched:
        shard.pending.pass_over(shard.now_ms)  # where they begin to be watched
    waiting = ((one.stakes, one.prediction) for _, one in shard.pending.entries())
    shard.kpis.adopt(before, after, waiting, shard.evaluation.taken)
    if before.guard != after.guard:
        shard.kept.adopt(before.guard, after.guard)
    if _period_of(Terms.of(before)) != _period_of(shard.terms):
        shard.budget = Budget()
    if not shard.terms.holds:
        shard.quarantine.forget()
        if shard.second is not None:
            shard.second.copies.forget()
    if not shard.terms.tests or not Terms.of(before).tests:
        shard.quarantine.test = Suspicion()
    shard.watch.adopt(after)
    shard.episodes.forget(watched(after), shard.moment("a"))


def _period_of(terms: Terms) -> tuple[bool, int, int]:
    """By which periods a budget is counted."""
    return terms.budgeted, terms.per_ms, terms.zone_ms


def begun_anew(before: Pipeline, after: Pipeline) -> list[str]:
    """What has no past in a state that `adopt` takes over, as text: the rest goes on."""
    found = [f"metric {name}" for name in Evaluation.of(after).tracks if not _goes_on(name, before, after)]
    old, new = before.metric_by, after.metric_by
    found += ["metrics by label age"] if new.ages_ms and new.ages_ms != old.ages_ms else []
    found += [f"metrics by {new.segment}"] if new.segment is not None and new.segment != old.segment else []
    second, earlier = after.second, before.second
    if second is not None and (earlier is None or model_text(second) != model_text(earlier)):
        found.append("the guard's second model")
    monitors = DriftMonitors.of(after)
    going_on = monitors.keep(DriftMonitors.of(before), DriftMonitors.of(before))
    found += [f"detector {one.name}" for one in monitors.every() if one.name not in going_on.values()]
    return found


def _goes_on(metric: str, before: Pipeline, after: Pipeline) -> bool:
    """Whether a metric of after has a past under before."""
    return metric in Evaluation.of(before).tracks and _same(metric, before, after)


def _same(expression: str, before: Pipeline, after: Pipeline) -> bool:
    """Whether an expression means the same in both."""
    missing = object()
    return all(before.params.get(name, missing) == after.params.get(name, missing) for name in params_used(expression))


def _evaluation(old: Evaluation, before: Pipeline, after: Pipeline, taken: int) -> Evaluation:
    """Metrics that stay keep their past, and as much of their window as the new one holds; new ones begin empty.

    Args:
        taken: number of the shard's latest label, which new ones know nothing of.
    """
    made = Evaluation.of(after)
    made.label_count, made.unanswered, made.taken = old.label_count, old.unanswered, old.taken
    for name in made.tracks:
        if name in old.tracks and _same(name, before, after):
            made.keep(name, old)
        else:
            made.since[name] = taken
    return made
