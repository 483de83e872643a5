"""Parses a file's content into a pipeline, or into a list of all its problems.

A person who writes a pipeline file wants all faults at once, each with its place, what stands there and what is
allowed. So each top-level section is read on its own, and the rules between sections run over whatever could be
read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from driftline.core.error import PipelineError, Problem
from driftline.core.notation import format_path
from driftline.core.pipeline.feature import FORMS, Form
from driftline.core.pipeline.forecast import write_out
from driftline.core.pipeline.form import Pipeline
from driftline.core.pipeline.intake import broken_intake_rules
from driftline.core.signal import DIRECT, FEATURE_KEYS
from driftline.core.task import SLATES, find_task

TOPIC_KINDS = (
    "events",
    "labels",
    "control",
    "scores",
    "outcomes",
    "alerts",
    "rejected",
    "review",
    "journal",
    "snapshots",
)
DEFAULT_DETECTOR = "ADWIN(delta=0.002)"
_AS_WAIT = ("early", "correct_for")  # spans of the label section that are as long as `wait` by default
_NODES_MAX = 20_000
_DEPTH_MAX = 20

_TYPE_WORDS = {
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping (key: value lines)",
    "model_type": "must be a mapping (key: value lines)",
    "tuple_type": "must be a list",
    "string_too_short": "must not be empty",
    "too_short": "must have at least one entry",
    "finite_number": "must be a finite number",
    "int_parsing_size": "is too large",
}


def parse_pipeline(doc: object, *, spare: bool = False) -> Pipeline:
    """The pipeline that a file's content describes.

    Builds the model, metrics and detectors once, to find what cannot work; a model factory is imported and
    called.

    Args:
        doc: mappings, lists and scalars, as a YAML or JSON reader gives them.
        spare: features that nothing uses are not a fault: in a backtest, candidates share a file's features.

    Raises:
        PipelineError: with every problem found.
    """
    from driftline.core.pipeline.rule import (  # River: a second that only building is worth
        broken_rules,
        fitting_metrics,
    )

    filled, draft, faults = _drafted_file(doc)
    problems = faults + broken_rules(draft, spare=spare)
    if problems:
        raise PipelineError(problems)
    if "metrics" not in filled:
        filled["metrics"] = fitting_metrics(draft)
    return Pipeline.model_validate(filled)


def read_outline(doc: object) -> Pipeline:
    """The pipeline that a file's content describes, for whoever needs its topics and not its model.

    Nothing is built, and River is not loaded: expressions are read as text, right or wrong, and metrics that the file
    leaves out stay out.

    Args:
        doc: as of `parse_pipeline`.

    Raises:
        PipelineError: with every problem in the form of its sections, its topics, and how events and labels are read.
    """
    filled, draft, faults = _drafted_file(doc)
    problems = faults + broken_intake_rules(draft)
    if problems:
        raise PipelineError(problems)
    return Pipeline.model_validate({"metrics": (), **filled})


def read_pipeline(doc: object) -> Pipeline:
    """The pipeline that a resolved document describes, with nothing of it built, imported or called.

    For documents that others may have written: what they say is compared before anything of it is made.

    Args:
        doc: as `Pipeline.resolved` gives it; settings that have come up since stand at their defaults.

    Raises:
        PipelineError: it has not the form of a resolved pipeline.
    """
    filled, _, faults = _drafted(doc)
    if not faults and "metrics" not in filled:  # those that fit the model are found by building it
        faults = [Problem("metrics", None, "is required in a resolved pipeline")]
    if faults:
        raise PipelineError(faults)
    return Pipeline.model_validate(filled)


def _drafted_file(doc: object) -> tuple[dict[str, Any], dict[str, Any], list[Problem]]:
    """`_drafted` for a person's file: what is wrong with a setting that stands in for others is reported once."""
    filled, draft, faults = _drafted(doc)
    for span in _AS_WAIT:
        if not _gives(doc, "label", span):
            faults = [fault for fault in faults if fault.path != f"label.{span}"]  # it is `wait`, which is reported
    return filled, draft, faults


def _drafted(doc: object) -> tuple[dict[str, Any], dict[str, Any], list[Problem]]:
    """The document filled in, the sections that can be read, and what is wrong with the others."""
    problems = _shape_problems(doc)
    if problems:
        raise PipelineError(problems)
    filled = _fill_in(dict(doc))  # type: ignore[call-overload]  # a mapping, or there were problems
    return filled, *_read_sections(filled)


def _gives(doc: object, section: str, key: str) -> bool:
    """Whether the file itself says that setting."""
    inner = doc.get(section) if isinstance(doc, Mapping) else None
    return isinstance(inner, Mapping) and inner.get(key) is not None


def close_match(word: str, allowed: list[str]) -> str:
    """`; did you mean X?`, or nothing when no allowed word is close."""
    matches = get_close_matches(word, allowed, n=1, cutoff=0.6)
    if not matches:
        matches = [other for other in allowed if other.lower() == word.lower()]
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _shape_problems(doc: object) -> list[Problem]:
    """What makes the content no plain tree of mappings with text keys, of a sane size."""
    if not isinstance(doc, Mapping):
        kind = "empty" if doc is None else f"a {type(doc).__name__}"
        return [Problem("", None, f"the file is {kind}; it must be a mapping that starts with 'pipeline: NAME'")]
    problems: list[Problem] = []
    nodes = 0
    todo: list[tuple[tuple[str, ...], object]] = [((), doc)]
    while todo:
        path, node = todo.pop()
        nodes += 1
        if nodes > _NODES_MAX or len(path) > _DEPTH_MAX:
            limit = f"{_NODES_MAX} entries and {_DEPTH_MAX} levels"
            return [
                Problem(_dotted(path[:4]), None, f"the file is too large or nested too deeply; the limit is {limit}")
            ]
        if isinstance(node, Mapping):
            for key, value in node.items():
                if isinstance(key, str):
                    todo.append(((*path, key), value))
                else:
                    problems.append(Problem(_dotted(path), key, f"the key {key!r} is not a string; put it in quotes"))
        elif isinstance(node, list | tuple):
            todo += [((*path, str(index)), value) for index, value in enumerate(node)]
    return problems


def _fill_in(doc: dict[str, Any]) -> dict[str, Any]:
    """The content with short forms written out and with the defaults that depend on other settings."""
    name, label, task = doc.get("pipeline"), doc.get("label"), find_task(doc.get("task"))
    supervised, judged = task is None or task.supervised, task is None or task.judged
    event = doc.get("event")
    if isinstance(event, Mapping):
        features, forecast = event.get("features"), doc.get("forecast")
        if isinstance(features, Mapping) and isinstance(forecast, Mapping):
            event = {**event, "features": write_out(features, forecast)}
        doc["event"] = _write_out_event(event)
        if isinstance(doc.get(SLATES), Mapping):
            _add_shown(doc["event"], doc[SLATES])
    if isinstance(label, Mapping):
        doc["label"] = dict(label)
        for span in _AS_WAIT:
            if doc["label"].get(span) is None:
                doc["label"][span] = label.get("wait", 0)
    if isinstance(name, str):
        given = doc.get("topics")
        if given is None or isinstance(given, Mapping):
            left = [] if label is not None or supervised else ["labels"]
            left += [] if _holds(doc.get("guard")) else ["review"]
            doc["topics"] = _write_out_topics(name, dict(given or {}), left)
    for optional in (
        "params",
        "alerts",
        "guard",
        "kpi",
        "learning",
        "digests",
        "dedupe",
        "snapshot",
        "limits",
        "seed",
        "metric_window",
        "delivery",
        "start",
    ):
        if optional in doc and doc[optional] is None:
            del doc[optional]  # a key with nothing behind it, as a file with all its lines commented out has
    drift = doc.get("drift")
    if drift is None or isinstance(drift, Mapping):
        watched = dict(drift or {})
        if watched.get("error") is None and "error" not in watched:
            watched["error"] = DEFAULT_DETECTOR if judged else []
        doc["drift"] = _write_out_drift(watched)
    elif drift == "none":
        doc["drift"] = {"error": ()}
    if doc.get("metrics") is None:
        doc.pop("metrics", None)
    else:
        doc["metrics"] = _listed(doc["metrics"])
    return doc


def _write_out_event(event: Mapping[str, Any]) -> dict[str, Any]:
    written = dict(event)
    if isinstance(features := event.get("features"), Mapping):
        parts = [_write_out_feature(name, value) for name, value in features.items()]
        written["features"] = {name: value for part in parts for name, value in part.items()}
    if isinstance(context := event.get("context"), Mapping):
        written["context"] = {name: _write_out_context(name, value) for name, value in context.items()}
    elif "context" in event and context is None:
        del written["context"]
    return written


def _add_shown(event: dict[str, Any], recommend: Mapping[str, Any]) -> None:
    """The feature that holds what another policy showed, where the file does not declare it."""
    name, features = recommend.get("shown", "shown"), event.get("features")
    if isinstance(features, Mapping) and isinstance(name, str) and name not in features:
        event["features"] = {**features, name: {"type": "slate", "path": name, "missing": "omit"}}


def _write_out_feature(name: str, value: object) -> dict[str, object]:
    """A feature, or the two that a cyclic one is."""
    if isinstance(value, Mapping) and "calendar" in value and isinstance(value.get("cyclic"), bool):
        if not value["cyclic"]:
            return {name: {key: part for key, part in value.items() if key != "cyclic"}}
        return {f"{name}_{part}": {**value, "cyclic": part} for part in ("sin", "cos")}
    if isinstance(value, Mapping) and ("history" in value or "calendar" in value):
        return {name: value}
    return {name: _with_path(name, value)}


def _write_out_context(name: str, value: object) -> object:
    written = _with_path(name, value)
    return {"missing": "omit", **written} if isinstance(written, Mapping) else written


def _with_path(name: str, value: object) -> object:
    if isinstance(value, str):
        value = {"type": value}
    if isinstance(value, Mapping) and value.get("path") is None:
        return {**value, "path": name}
    return value


def _write_out_topics(name: str, given: dict[str, Any], left: Sequence[str]) -> dict[str, Any]:
    """The topics by kind, without those that this pipeline does not need."""
    for kind in TOPIC_KINDS:
        if given.get(kind) is None:
            given[kind] = None if kind in left else f"{name}.{kind}"
    return given


def _holds(guard: object) -> bool:
    """Whether a rung of the guard has a person decide."""
    rungs = guard.values() if isinstance(guard, Mapping) else ()
    return any(isinstance(rung, Mapping) and rung.get("action") == "hold" for rung in rungs)


def _write_out_drift(watched: dict[str, Any]) -> dict[str, Any]:
    for signal in DIRECT:
        if (key := signal.row.key) in watched:
            watched[key] = _watches(watched[key])
    for key in FEATURE_KEYS:
        if isinstance(watched.get(key), Mapping):
            watched[key] = {name: _watches(value) for name, value in watched[key].items()}
        elif key in watched and watched[key] is None:
            del watched[key]
    return watched


def _watches(value: object) -> object:
    """Detectors of one signal, each written out: an expression alone, or a mapping with more."""
    listed = _listed((value,) if isinstance(value, Mapping) else value)
    if not isinstance(listed, tuple):
        return listed
    return tuple({"detector": one} if isinstance(one, str) else one for one in listed)


def _listed(value: object) -> object:
    """One expression or a list of them as a tuple; `none` and nothing as an empty one."""
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return ()
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _annotation(key: str) -> Any:
    field = Pipeline.model_fields[key]
    return Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


_FIELD_OF_KEY = {field.alias or name: name for name, field in Pipeline.model_fields.items()}
_ADAPTERS: dict[str, TypeAdapter[Any]] = {key: TypeAdapter(_annotation(name)) for key, name in _FIELD_OF_KEY.items()}


def _read_sections(doc: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Every section that can be read, by its key in the file, and what is wrong with the others."""
    draft: dict[str, Any] = {}
    problems: list[Problem] = []
    suggested = ""
    for key in doc:
        if key not in _FIELD_OF_KEY:
            hint = close_match(key, list(_FIELD_OF_KEY))
            suggested += hint
            problems.append(Problem(key, doc[key], f"unknown key{hint or ';'} Allowed: {', '.join(_FIELD_OF_KEY)}"))
    for key, name in _FIELD_OF_KEY.items():
        field = Pipeline.model_fields[name]
        if key not in doc:
            if not field.is_required():
                draft[key] = field.get_default(call_default_factory=True)
            elif key not in {"metrics", "topics"} and f"{key!r}" not in suggested:
                problems.append(Problem(key, None, f"is required: {field.description}"))
            continue
        try:
            draft[key] = _ADAPTERS[key].validate_python(doc[key], strict=True)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=True)
            problems += [_problem(key, detail, details) for detail in details]
    return draft, problems


def _problem(key: str, detail: ErrorDetails, details: list[ErrorDetails]) -> Problem:
    loc = (key, *detail["loc"])
    owner = _form_at(loc[:-1])
    value = None if detail["type"] == "missing" else detail["input"]
    if loc[:2] == ("event", "features") and len(loc) > 3 and loc[3] in FORMS:
        loc = (*loc[:3], *loc[4:])  # which form of feature it is stands in the value
    return Problem(_dotted(loc), value, _message(detail, loc, owner))


def _message(detail: ErrorDetails, loc: tuple[str | int, ...], owner: type[Form] | None) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    keys = {field.alias or name: field for name, field in owner.model_fields.items()} if owner else {}
    about = keys[str(loc[-1])].description if str(loc[-1]) in keys else None
    if kind == "extra_forbidden":
        return f"unknown key{close_match(str(loc[-1]), list(keys)) or ';'} Allowed: {', '.join(keys)}"
    if kind == "missing":
        return f"is required: {about}" if about else "is required"
    if kind == "literal_error":
        allowed = str(context.get("expected", ""))
        hint = close_match(str(detail["input"]), [word.strip(" '") for word in allowed.replace(" or ", ",").split(",")])
        return f"must be {allowed}{hint}"
    if kind == "value_error":
        return str(context.get("error", detail["msg"]))
    if kind in _TYPE_WORDS:
        text = _TYPE_WORDS[kind]
    else:
        text = detail["msg"].replace("Input should be", "must be").replace("Value error, ", "")
    return f"{text}: {about}" if about else text


def _form_at(loc: tuple[str | int, ...]) -> type[Form] | None:
    """The form that a place in the file holds, to name its keys."""
    here: Any = Pipeline
    for part in loc:
        if get_origin(here) is Annotated and part in FORMS:
            here = FORMS[str(part)]
            continue
        here = _form_of(here)
        if isinstance(here, type) and issubclass(here, Form):
            fields = {field.alias or name: field for name, field in here.model_fields.items()}
            here = fields[str(part)].annotation if str(part) in fields else None
        elif get_origin(here) is dict:
            here = get_args(here)[1]
        elif get_origin(here) is tuple:
            here = get_args(here)[0]
        else:
            return None
    here = _form_of(here)
    return here if isinstance(here, type) and issubclass(here, Form) else None


def _form_of(annotation: Any) -> Any:
    """The annotation without None and metadata."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        annotation = get_args(annotation)[0]
    return annotation


def _dotted(loc: tuple[str | int, ...]) -> str:
    return format_path(tuple(str(part) if isinstance(part, str) else part for part in loc)).replace("\\", "")
