"""Why bytes are not an event, label or command, and why some that could be are skipped."""

from __future__ import annotations

from collections.abc import Mapping

REASONS: Mapping[str, str] = {
    "tombstone": "the record has no value",
    "empty": "the value is empty",
    "too_large": "the value is longer than limits.record_bytes_max",
    "registry_frame": "the value has a schema registry's prefix instead of being plain JSON",
    "not_json": "the value is not a JSON document in UTF-8 (1e999 is not valid either)",
    "not_object": "the value is JSON but not an object",
    "envelope": "the record is not in the envelope that the pipeline declares",
    "key_unreadable": "the record's key does not have the form that the pipeline declares",
    "id_missing": "there is no id at the pipeline's path",
    "id_type": "the id is neither a string nor an exact number",
    "id_too_long": "the id is longer than limits.string_max",
    "time_missing": "there is no time at the pipeline's path",
    "time_unreadable": "the time is neither a readable date nor a number counted from 1970",
    "feature_missing": "a feature that the model needs is missing",
    "feature_type": "a feature does not have the declared type",
    "number_too_large": "a number is beyond limits.number_max",
    "string_too_long": "a string is longer than limits.string_max",
    "label_missing": "there is no label at the pipeline's path",
    "label_type": "the label does not fit the task",
    "control_unknown": "the command is not one of `driftline control`, nor review",
    "control_invalid": "the command lacks an episode, a duration or a decision, or is not a valid part of a model file",
    "load_too_large": "the model file is larger than 64 MiB",
    "duplicate_event": "an event with this id was already scored",
    "time_ahead": "the time of an observation lies too far ahead, so it has no place in its series",
    "unexpected_label": "the pipeline declares no label",
    "too_many_classes": "the label would exceed limits.classes_max",
    "model_error": "the model raised an exception on this event",
    "episode_unknown": "no episode with that name is open",
    "load_over": "this load was superseded by a later one, or has already ended",
    "load_mixed": "the part belongs to another file than the load's other parts",
    "load_damaged": "the parts do not make up the model file that they name",
    "load_refused": "the model file cannot be used here",
    "control_refused": "the command is not signed as required, is for another pipeline, too old or ahead of time",
    "control_repeated": "the command was already executed",
    "review_unknown": "no such event is held, or it was decided already",
    "review_invalid": "the value is not a prediction, or lies outside the guard's range",
    "quarantine_empty": "no labels are held back from learning",
    "quarantine_frozen": "learning is frozen, so nothing could be learned; unfreeze first",
}
"""Every reason that a rejected record can carry; the last sixteen are the core's."""


class RefusedError(Exception):
    """Carries the reason out of a reader; never leaves the codec."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail or REASONS[reason]
        super().__init__(reason)


class PassedOverError(Exception):
    """Carries the kind (`core.record.Passed`) of a record that is neither an event or label nor a fault."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)
