"""What `driftline demo` makes of the worker's metrics."""

from __future__ import annotations

from driftline.cli.demo import Scene, read_metrics, summary

PAGE = """\
# TYPE driftline_labels_joined counter
driftline_labels_joined_total{{partition="0"}} {joined}
# TYPE driftline_labels_learned gauge
driftline_labels_learned{{partition="0"}} {learned}
# TYPE driftline_metric gauge
driftline_metric{{partition="0",metric="Accuracy",span="window"}} {accuracy}
"""


def test_metrics_are_dated_by_what_the_model_has_learned() -> None:
    """A slice that is not committed yet moves the rolling metrics, and not the count of joined labels."""
    scene = Scene(payments=3_000, change_at=1_000)
    for joined, learned, accuracy in ((900, 950, 0.9), (950, 1_100, 0.6), (1_500, 1_900, 0.8)):
        read_metrics(scene, PAGE.format(joined=joined, learned=learned, accuracy=accuracy))
    assert summary(scene)["rolling_accuracy"] == {"before": 0.9, "worst": 0.6, "end": 0.8}
    assert scene.joined == 1_500
