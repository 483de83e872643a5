"""The JSON Schema of a pipeline file, so that editors complete and check it while it is written.

It is made from the forms themselves; what a file may leave out or write short is opened up here. Rules between
settings cannot be expressed in a schema: `driftline check` has them.
"""

from __future__ import annotations

from typing import Any

from driftline.core.pipeline.feature import CONTEXT_TYPES, FEATURE_TYPES, Form
from driftline.core.pipeline.form import Pipeline
from driftline.core.pipeline.watch import DetectorForm, FeatureDetectorForm
from driftline.core.signal import DIRECT, FEATURE_KEYS

_REQUIRED = {
    "Pipeline": ["pipeline", "task", "event", "model"],
    "Topics": [],
    "Feature": ["type"],
    "ForecastForm": ["target", "step", "horizons"],
    "HistoryFeature": ["history"],
    "CalendarFeature": ["calendar"],
    "LabelForm": ["id", "value", "wait"],
    "DetectorForm": ["detector"],
    "FeatureDetectorForm": ["detector"],
}
_EXPRESSIONS = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}},
        {"type": "null"},
    ]
}


def pipeline_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a pipeline file, short forms included."""
    schema = Pipeline.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    for name, required in _REQUIRED.items():
        _require(schema if name == "Pipeline" else definitions[name], required)
    features = definitions["EventForm"]["properties"]["features"]
    computed = [{"$ref": f"#/$defs/{name}"} for name in ("HistoryFeature", "CalendarFeature")]
    features["additionalProperties"] = {
        "anyOf": [{"enum": list(FEATURE_TYPES)}, {"$ref": "#/$defs/Feature"}, *computed]
    }
    context = definitions["EventForm"]["properties"]["context"]
    context["additionalProperties"] = {"anyOf": [{"enum": list(CONTEXT_TYPES)}, {"$ref": "#/$defs/Feature"}]}
    cyclic = definitions["CalendarFeature"]["properties"]["cyclic"]
    cyclic["anyOf"] = [{"type": "boolean"}, *cyclic["anyOf"]]
    definitions["DetectorForm"], definitions["FeatureDetectorForm"] = _form(DetectorForm), _form(FeatureDetectorForm)
    drift = definitions["Drift"]["properties"]
    for signal in DIRECT:
        field = drift[signal.row.key]
        drift[signal.row.key] = {**_watches(field["items"]), "description": field["description"]}
    for key in FEATURE_KEYS:
        drift[key]["additionalProperties"] = _watches(drift[key]["additionalProperties"]["items"])
    quarantine = definitions["LearningForm"]["properties"]["quarantine"]
    form = {"$ref": "#/$defs/QuarantineForm"}
    quarantine["anyOf"] = [definitions["QuarantineForm"]["properties"]["action"], form]
    quarantine.pop("$ref", None)
    quarantine.pop("allOf", None)
    schema["properties"]["metrics"] = {
        **_EXPRESSIONS,
        "description": schema["properties"]["metrics"]["description"],
    }
    schema["properties"]["drift"] = {
        "anyOf": [{"$ref": "#/$defs/Drift"}, {"enum": ["none", None]}],
        "description": schema["properties"]["drift"]["description"],
    }
    for name in ("topics", "params", "alerts", "dedupe", "snapshot", "limits"):
        schema["properties"][name] = {"anyOf": [schema["properties"][name], {"type": "null"}]}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Driftline pipeline"
    return schema


def _form(form: type[Form]) -> dict[str, Any]:
    return form.model_json_schema(by_alias=True)


def _watches(form: dict[str, Any]) -> dict[str, Any]:
    """One detector or a list of them, each an expression or a mapping with more.

    Args:
        form: a reference to the mapping.
    """
    one: list[dict[str, Any]] = [{"type": "string", "minLength": 1}, form]
    return {"anyOf": [*one, {"type": "array", "items": {"anyOf": one}}, {"type": "null"}]}


def _require(form: dict[str, Any], keys: list[str]) -> None:
    """Only these keys must be there; the others may also be null where the reader fills them in."""
    for key, field in form["properties"].items():
        if key not in keys and key in form.get("required", []) and "anyOf" not in field and "$ref" not in field:
            description = {"description": field.pop("description")} if "description" in field else {}
            form["properties"][key] = {"anyOf": [field, {"type": "null"}], **description}
    form["required"] = keys
    if not keys:
        del form["required"]
