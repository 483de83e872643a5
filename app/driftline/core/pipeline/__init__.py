"""The pipeline file: its shape, its rules, and how it is read.

`feature` -> `form` (the shape; with `input`, `watch` and the files of other sections) -> `intake` and `rule` (what must
hold between settings) -> `parse` (from a file's content to a `Pipeline`, or to every problem it has) -> `foreign` (the
same for documents that others may have written); `schema` is for editors.

Only `rule`, `fitness`, `bound` and `foreign` need River, which takes a second to load: the others do without until a
pipeline is built, so that commands that only ask Kafka answer at once.
"""

from driftline.core.notation import PathPart, Scalar, format_path, parse_path
from driftline.core.pipeline.feature import (
    CalendarFeature,
    Feature,
    FeatureType,
    Fill,
    HistoryFeature,
)
from driftline.core.pipeline.forecast import ForecastForm
from driftline.core.pipeline.form import Decision, Dedupe, Limits, Pipeline, Snapshot, Topics
from driftline.core.pipeline.input import Assume, EventForm, LabelForm
from driftline.core.pipeline.kind import AlertKind
from driftline.core.pipeline.kpi import KpiForm, Price
from driftline.core.pipeline.parse import close_match, parse_pipeline, read_outline, read_pipeline
from driftline.core.pipeline.schema import pipeline_schema
from driftline.core.pipeline.watch import (
    Alerts,
    Detector,
    DetectorForm,
    Drift,
    FeatureDetectorForm,
    Limit,
    Role,
    Severity,
    Throughput,
)

__all__ = [
    "AlertKind",
    "Alerts",
    "Assume",
    "CalendarFeature",
    "Decision",
    "Dedupe",
    "Detector",
    "DetectorForm",
    "Drift",
    "EventForm",
    "Feature",
    "FeatureDetectorForm",
    "FeatureType",
    "Fill",
    "ForecastForm",
    "HistoryFeature",
    "KpiForm",
    "LabelForm",
    "Limit",
    "Limits",
    "PathPart",
    "Pipeline",
    "Price",
    "Role",
    "Scalar",
    "Severity",
    "Snapshot",
    "Throughput",
    "Topics",
    "close_match",
    "format_path",
    "parse_path",
    "parse_pipeline",
    "pipeline_schema",
    "read_outline",
    "read_pipeline",
]
