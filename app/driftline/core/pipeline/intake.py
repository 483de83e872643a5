"""The rules that need no model: for topics, for how events and labels are read, and for limits.

They are apart from `rule` so that a command that builds nothing (`status`, `tail`, `topics`) need not load River, which
takes a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

from driftline.core.error import Problem
from driftline.core.pipeline.digest import check_digests
from driftline.core.pipeline.feature import SLATE_TYPES, Feature, Fill
from driftline.core.pipeline.forecast import check_forecast
from driftline.core.pipeline.form import Topics
from driftline.core.pipeline.input import Assume, EventForm, LabelForm
from driftline.core.pipeline.kpi import check_kpi
from driftline.core.pipeline.learning import check_learning
from driftline.core.pipeline.limit import check_guard
from driftline.core.pipeline.past import check_history
from driftline.core.pipeline.place import misplaced
from driftline.core.pipeline.recommend import RecommendForm
from driftline.core.task import SLATES, find_task, tasks
from driftline.core.task.base import Task

Draft: TypeAlias = Mapping[str, Any]
"""The sections of a file that could be read, by their key."""

_NAME_MAX = 200
_TYPE_OF: Mapping[str, tuple[type, ...]] = {
    "number": (int, float), "string": (str,), "text": (str,), "boolean": (bool,), "key": (int, str),
    "items": (), "slate": (),
}  # fmt: skip


def broken_intake_rules(draft: Draft) -> list[Problem]:
    """Every one of these rules that does not hold, in the order of the file's sections."""
    rules = (
        check_topics,
        check_features,
        check_label,
        check_forecast,
        check_recommend,
        check_guard,
        check_kpi,
        check_digests,
        check_learning,
        check_limits,
    )
    return [problem for rule in rules for problem in rule(draft)]


def check_topics(draft: Draft, _: Any = None) -> Iterator[Problem]:
    topics: Topics | None = draft.get("topics")
    if topics is None:
        return
    kinds: dict[str, str] = {}
    for kind, name in topics:
        if name is None:
            continue
        # Kafka's metrics do not distinguish a dot from an underscore, so it refuses to create both names.
        other = kinds.setdefault(name.replace(".", "_"), kind)
        if other != kind:
            twin = getattr(topics, other)
            text = "is the same topic" if twin == name else "differs only in '.' and '_', which Kafka refuses,"
            yield Problem(
                f"topics.{kind}",
                name,
                f"{text} as topics.{other}{_shown(twin, name)}; every topic needs its own name",
            )
    if topics.labels is None and draft.get("label") is not None:
        yield Problem("topics.labels", None, "is required where `label` is declared")
    task = find_task(draft.get("task"))
    unlabelled = "label" in draft and draft["label"] is None and task is not None and not task.supervised
    if topics.labels is not None and unlabelled:
        yield Problem(
            "topics.labels",
            topics.labels,
            "needs a `label` section; add one, or remove it",
        )


def names_of(chosen: Callable[[Task], bool]) -> str:
    """The tasks of which something is true."""
    return " and ".join(task.name for task in tasks() if chosen(task))


def _shown(twin: str, name: str) -> str:
    return "" if twin == name else f" = {twin!r}"


def check_features(draft: Draft, _: Any = None) -> Iterator[Problem]:
    event: EventForm | None = draft.get("event")
    if event is None:
        return
    yield from misplaced("event", event)
    for name in (*event.features, *event.context):
        if not 1 <= len(name) <= _NAME_MAX or not name.isprintable():
            path = f"event.features.{name}"
            yield Problem(path[:300], None, f"a feature's name has 1 to {_NAME_MAX} printable characters")
    for section, declared in (("features", event.plain), ("context", event.context)):
        for name, feature in declared.items():
            if feature.fill is not None:
                yield from _filled(f"event.{section}.{name}", feature, draft)
    yield from check_history(event, draft)


def _filled(path: str, feature: Feature, draft: Draft) -> Iterator[Problem]:
    fill = feature.fill
    fits = isinstance(fill, _TYPE_OF[feature.type]) and (feature.type == "boolean" or not isinstance(fill, bool))
    if not fits:
        meant = ""
        if isinstance(fill, str) and isinstance(feature.missing, Fill):
            close = get_close_matches(fill, ["reject", "omit"], n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
        allowed = f"a {feature.type} to use instead, or reject, or omit"
        yield Problem(f"{path}.missing", fill, f"the feature is a {feature.type}; write {allowed}{meant}")
        return
    limits = draft.get("limits")
    if limits is None:
        return
    if isinstance(fill, str) and feature.type != "text" and len(fill) > limits.string_max:
        yield Problem(f"{path}.missing", fill[:100], f"is longer than limits.string_max = {limits.string_max}")
    if not isinstance(fill, str) and fill is not None and abs(fill) > limits.number_max:
        yield Problem(f"{path}.missing", fill, f"exceeds limits.number_max = {limits.number_max:g}")


def check_label(draft: Draft, _: Any = None) -> Iterator[Problem]:
    task = find_task(draft.get("task"))
    if task is None or "label" not in draft:
        return
    label: LabelForm | None = draft["label"]
    if label is None:
        if task.supervised:
            needed = f"is required for task {task.name}: {{id: PATH, value: PATH, wait: DURATION}}"
            yield Problem("label", None, needed)
        return
    if task.ahead:
        yield Problem("label", None, f"is not for task {task.name}, whose truth is the later observations; remove it")
        return
    yield from misplaced("label", label)
    if label.text and task.labels.textual:
        yield Problem("label.text", label.text, "is for numbers; classes may already be strings; remove it")
    for key in ("positive", "negative"):
        if getattr(label, key) is not None and not task.labels.two_valued:
            yield Problem(
                f"label.{key}",
                getattr(label, key),
                f"is for task {names_of(lambda one: one.labels.two_valued)}; remove it for {task.name}",
            )
    if label.negative is not None:
        if label.positive is None:
            yield Problem("label.negative", label.negative, "needs label.positive")
        elif label.negative == label.positive:
            yield Problem("label.negative", label.negative, "is the same as label.positive")
        elif isinstance(label.negative, str) != isinstance(label.positive, str):
            yield Problem("label.negative", label.negative, "must be of the same type as label.positive")
    yield from _corrections(label)
    yield from _rewards(label, task)
    if isinstance(label.missing, Assume) and not task.labels.assumable(label)(label.missing.assume):
        yield Problem(
            "label.missing.assume",
            label.missing.assume,
            f"is not a label of task {task.name}; write {task.labels.allowed(label)}",
        )


def _corrections(label: LabelForm) -> Iterator[Problem]:
    if label.late == "correct" and not isinstance(label.missing, Assume):
        yield Problem("label.late", "correct", "needs an assumed label: write `missing: {assume: VALUE}`, or remove it")
    if label.labels_max > 1:
        for key, given in (("second", label.second == "correct"), ("retract", label.retract)):
            if given:
                text = "cannot be combined with several labels per event; remove it, or labels_max"
                yield Problem(f"label.{key}", getattr(label, key), text)


def _rewards(label: LabelForm, task: Task) -> Iterator[Problem]:
    """What rewards need, and what they cannot be."""
    if not task.slates:
        if label.item is not None:
            yield Problem("label.item", label.item, f"is for task {names_of(lambda one: one.slates)}; remove it")
        return
    if label.item is None:
        yield Problem("label.item", None, "is required for task recommend: the path of the item that the reward is for")
    for key, given in (
        ("second", label.second == "correct"),
        ("late", label.late == "correct"),
        ("retract", label.retract),
        ("text", bool(label.text)),
        ("labels_max", label.labels_max > 1),
        ("missing", label.missing != "drop"),
    ):
        if given:
            text = "is not for task recommend: rewards are gathered until the wait is over, and none is 0; remove it"
            yield Problem(f"label.{key}", None, text)


def check_recommend(draft: Draft, _: Any = None) -> Iterator[Problem]:
    task, event = find_task(draft.get("task")), draft.get("event")
    if task is None or SLATES not in draft:
        return
    form: RecommendForm | None = draft[SLATES]
    types = {name: feature.type for name, feature in event.features.items()} if event is not None else {}
    if not task.slates:
        if form is not None:
            yield Problem(SLATES, None, f"is for task {names_of(lambda one: one.slates)}; remove it")
        for name, kind in types.items():
            if kind in SLATE_TYPES:
                text = f"is for task {names_of(lambda one: one.slates)}; use another type"
                yield Problem(f"event.features.{name}.type", kind, text)
        return
    if form is None:
        yield Problem(SLATES, None, "is required for task recommend: {candidates: FEATURE, slate: 3}")
        return
    if draft.get("guard") is not None:
        yield Problem("guard", None, f"cannot be used with task {task.name}: a slate is no single value; remove it")
    if (form.candidates is None) == (not form.catalogue):
        text = "write either candidates (a feature of type items) or a catalogue (a list of item ids)"
        yield Problem(SLATES, None, text)
    if event is None:
        return
    for key, name, kind in (("candidates", form.candidates, "items"), ("shown", form.shown, "slate")):
        if name is not None and types.get(name) != kind:
            text = f"must name a feature of type {kind}; declare event.features.{name}: {kind}"
            yield Problem(f"recommend.{key}", name, text)
    if form.user is not None and types.get(form.user) not in ("string", "number"):
        yield Problem("recommend.user", form.user, "must name a feature of type string or number")
    for name, kind in types.items():
        if kind in SLATE_TYPES and name not in (form.candidates, form.shown):
            yield Problem(
                f"event.features.{name}", None, "is neither recommend.candidates nor recommend.shown; remove it"
            )


def check_limits(draft: Draft, _: Any = None) -> Iterator[Problem]:
    limits = draft.get("limits")
    if limits is not None and limits.slice_compute_max_ms == 0:
        yield Problem("limits.slice_compute_max", 0, "must be more than 0")
    snapshot = draft.get("snapshot")
    if snapshot is not None and snapshot.every_ms == 0:
        yield Problem("snapshot.every", 0, "must be more than 0")
