"""Why bytes are no event, label or command, and why some that could be are skipped."""

from __future__ import annotations

from collections.abc import Mapping

REASONS: Mapping[str, str] = {
    "tombstone": "the record has no value",
    "empty": "the value has no bytes",
    "too_large": "the value is longer than limits.record_bytes_max",
    "registry_frame": "the value is in the frame of a schema registry's serializer, and not plain JSON",
    "not_json": "the value is no JSON document in UTF-8 (1e999 is none either)",
    "not_object": "the value is JSON, but no object",
    "envelope": "the record is not in the envelope that the pipeline declares",
    "key_unreadable": "the record's key is not what the pipeline says that it is",
    "id_missing": "there is no id at the pipeline's path",
    "id_type": "the id is neither text nor a number that is exact",
    "id_too_long": "the id has more than limits.string_max characters",
    "time_missing": "there is no time at the pipeline's path",
    "time_unreadable": "the time is neither ISO 8601 or such nor a number since 1970",
    "feature_missing": "a feature that the model needs is not there",
    "feature_type": "a feature is of another type than declared",
    "number_too_large": "a number is beyond limits.number_max",
    "string_too_long": "a text is longer than limits.string_max",
    "label_missing": "there is no label at the pipeline's path",
    "label_type": "the label does not fit the task",
    "control_unknown": "the command is none of freeze, unfreeze, reset, load, snapshot, acknowledge, silence",
    "control_invalid": "the command lacks an episode, or how long to be silent; or is no part of a model file",
    "load_too_large": "the model file is larger than 64 MiB",
    "duplicate_event": "an event with this id was scored before",
    "unexpected_label": "the pipeline declares no label",
    "too_many_classes": "the label would be one class more than limits.classes_max",
    "model_error": "the model raised an exception on this event",
    "episode_unknown": "no episode of that name is open",
    "load_over": "this load was superseded by a later one, or has come to its end",
    "load_mixed": "the part is of another file than the load's other parts",
    "load_damaged": "the parts do not make the model file that they name",
    "load_refused": "the model file cannot be put to work here",
    "control_refused": "the command is not signed as it must be, is for another pipeline, or was sent at another time",
    "control_repeated": "the command was taken before",
}
"""Every reason that a rejected record can carry; the last eleven are the core's."""


class RefusedError(Exception):
    """Carries the reason out of a reader; never leaves the codec."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail or REASONS[reason]
        super().__init__(reason)


class PassedOverError(Exception):
    """Carries the kind (`core.record.Passed`) of a record that is no event or label and no fault either."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)
