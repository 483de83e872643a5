"""The kinds of alert by name; what each is, and for whom, is in `core.alert.kind`."""

from __future__ import annotations

from typing import Literal, TypeAlias

AlertKind: TypeAlias = Literal[
    "data_drift",
    "concept_drift",
    "score_drift",
    "performance",
    "label_coverage",
    "label_delay",
    "label_match",
    "data_quality",
    "model_failure",
    "model_change",
    "throughput",
    "guard",
    "kpi",
    "quarantine",
]
