"""A changed pipeline file: which keys the state follows, and what becomes of each part of it."""

from __future__ import annotations

from typing import Any

import pytest

from driftline.core.output import Outcome
from driftline.core.pipeline import Pipeline
from driftline.core.record import Tick
from driftline.core.shard.state import Shard
from driftline.core.state.adopt import FOLLOWED, adopt, changed_keys, refused_keys
from driftline.core.state.freeze import dump, load
from tests.support.small import NOW_MS, chosen, event, fold, label, small

WATCHED: dict[str, Any] = {
    "metrics": ["Accuracy", "LogLoss", "MacroF1"],
    "metric_window": 20,
    "drift": {"error": ["ADWIN()", "DDM()"], "features": {"x": "ADWIN(delta=$d)"}, "reference_size": 10},
    "params": {"d": 0.01, "lr": 0.1},
    "model": "Select('x') | StandardScaler() | LogisticRegression(optimizer=SGD($lr))",
    "event": {"id": "id", "features": {"x": "number"}},
}


def watched(**changed: Any) -> Pipeline:
    return small(**{**WATCHED, **changed})


def lived(pipeline: Pipeline, count: int = 40) -> Shard:
    """A shard that scored and learned some events, and has three more that wait, a second apart."""
    shard = Shard(pipeline, 0)
    for number in range(count):
        fold(shard, event(number, NOW_MS, number % 7, word=False), label(number, number % 2 == 0, NOW_MS))
    for number in range(3):
        fold(shard, event(f"waits {number}", NOW_MS + 1_000 * number, word=False))
    fold(shard, label("early", True, NOW_MS + 2_000))
    return shard


def follow(shard: Shard, after: Pipeline) -> Shard:
    made = load(after, 0, dump(shard))
    adopt(made, shard.pipeline)
    return made


LOSS = {"loss": {"unit": "EUR", "costs": {"false_negative": "x"}}}

CHANGES: dict[str, tuple[Any, list[str]]] = {
    # what changes, and the keys that are refused
    "decision": ({"decision": {"threshold": 0.9}}, []),
    "metrics": ({"metrics": ["Accuracy"]}, []),
    "metric_window": ({"metric_window": 7}, []),
    "splits": ({"metric_by": {"ages": ["1h"]}, "metric_span": "1d"}, []),
    "drift": ({"drift": {"error": "none", "features": {"x": ["ADWIN(delta=$d)", "KSWIN()"]}}}, []),
    "wait": ({"label": {"wait": "5s"}}, []),
    "assume": ({"label": {"missing": {"assume": 0}}}, []),
    "limits": ({"limits": {"number_max": 10.0}}, []),
    "dedupe": ({"dedupe": {"max": 3}}, []),
    "outputs": ({"topics": {"scores": "elsewhere"}}, []),
    "a parameter of a detector": ({"params": {"d": 0.02, "lr": 0.1}}, []),
    "a parameter of the model": ({"params": {"d": 0.01, "lr": 0.2}}, ["params.lr"]),
    "model": ({"model": "Select('x') | LogisticRegression(optimizer=SGD($lr))"}, ["model"]),
    "kpi": ({"kpi": LOSS}, []),
    "digests": ({"digests": {"weekly": {"to": "team"}}}, []),
    "seed": ({"seed": 7}, ["seed"]),
    "label id": ({"label": {"id": "other"}}, ["label.id"]),
    "label value": ({"label": {"value": "other", "positive": 1}}, ["label.positive", "label.value"]),
    "inputs": ({"topics": {"events": "other"}}, ["topics.events"]),
    "a feature's path": (
        {"event": {"id": "id", "features": {"x": {"path": "y", "type": "number"}}}},
        ["event.features.x.path"],
    ),
    "a feature's name": (
        {
            "event": {"id": "id", "features": {"y": "number"}},
            "model": WATCHED["model"].replace("'x'", "'y'"),
            "drift": {"features": {"y": "ADWIN(delta=$d)"}},
        },
        ["event.features", "model"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_key_is_followed_or_refused_by_name(change: str) -> None:
    changed, refused = CHANGES[change]
    before, after = watched().resolved(), watched(**changed).resolved()
    assert changed_keys(before, after)
    assert refused_keys(before, after) == refused


def test_a_task_that_changes_is_refused() -> None:
    before, after = small().resolved(), small("regression", drift={"error": "ADWIN()"}).resolved()
    assert "task" in refused_keys(before, after)


def test_every_key_of_a_pipeline_is_decided() -> None:
    """A key that is new in the file is refused until somebody thinks about it here."""
    first = {key.partition(".")[0] for key in FOLLOWED}
    refused = {"pipeline", "task", "seed", "event", "params", "model"}
    assert (
        set(watched(kpi=LOSS, learning={"quarantine": "alert"}, digests={"weekly": {"to": "team"}}).resolved())
        == first | refused
    )


def test_nothing_changes_where_nothing_changed() -> None:
    shard = lived(watched())
    before = shard.summary()
    assert follow(shard, watched()).summary() == before


def test_metrics_that_stay_keep_their_past() -> None:
    shard = lived(watched())
    made = follow(shard, watched(metrics=["LogLoss", "ROCAUC"], metric_window=5))
    assert made.evaluation.label_count == shard.evaluation.label_count == 40
    assert made.evaluation.values()["LogLoss"] == shard.evaluation.values()["LogLoss"]
    assert made.evaluation.values()["ROCAUC"] is None
    assert list(made.evaluation.tracks) == ["LogLoss", "ROCAUC"]
    assert len(made.evaluation.tracks["LogLoss"].recent) == 5
    fold(made, label("waits 0", True, NOW_MS + 2_000))
    assert made.evaluation.label_count == 41
    assert made.evaluation.values()["LogLoss"] != shard.evaluation.values()["LogLoss"]


def test_splits_that_stay_keep_their_past() -> None:
    split: dict[str, Any] = {"metric_by": {"segment": "flag", "ages": ["1s", "1h"]}, "metric_span": "1d"}
    flagged: dict[str, Any] = {
        "event": {"id": "id", "features": {"flag": "string"}},
        "model": "Select('flag') | OneHotEncoder() | LogisticRegression()",
    }
    before = small(**flagged, **split, metric_window=20)
    shard = Shard(before, 0)
    for number in range(40):
        made = event(number, NOW_MS, "ab"[number % 2], word=False)
        fold(shard, made, label(number, number % 2 == 0, NOW_MS))
    old = shard.maturity.values(before)
    same = follow(shard, small(**flagged, **split, metric_window=5)).maturity
    assert (same.scored, same.joined, same.delays.count) == (40, 40, 40)
    assert same.expected is not None
    assert len(same.expected.pairs) == 5
    now = same.values(small(**flagged, **split, metric_window=5))
    assert now["by_segment"] == old["by_segment"] != {}
    assert now["by_age"] == old["by_age"]
    assert now["span"] == old["span"]
    other = follow(shard, small(**flagged, metric_by={"ages": ["1m"]})).maturity
    assert (other.scored, len(other.ages), other.segments, len(other.span)) == (40, 2, {}, 0)
    assert [part.label_count for part in other.ages] == [0, 0]


def test_detectors_that_stay_go_on() -> None:
    shard = lived(watched())
    made = follow(shard, watched(drift={"error": ["DDM()"], "features": {"x": "ADWIN(delta=$d)"}}))
    observed = {one.expression: (one.name, one.observed) for one in made.monitors.every()}
    assert observed == {"DDM()": ("error", 40), "ADWIN(delta=$d)": ("feature:x", 0)}, "its reference has another size"
    other = follow(shard, watched(params={"d": 0.02, "lr": 0.1}))
    assert [one.observed for one in other.monitors.every()] == [40, 40, 0], "its parameter changed"
    assert made.monitors.label_count == 40


def test_a_reaction_may_change_while_its_detector_goes_on() -> None:
    shard = lived(watched())
    error = [{"detector": "ADWIN()", "reaction": "reset"}, {"detector": "DDM()", "warning": "ADWIN()"}]
    made = follow(shard, watched(drift={**WATCHED["drift"], "error": error}))
    first, second, _ = made.monitors.every()
    assert (first.observed, first.act) == (40, "reset")
    assert second.observed == 0, "another warning than its own"


def test_watches_of_texts_and_missing_values_go_on_where_nothing_of_theirs_changed() -> None:
    event_form = {"id": "id", "features": {"x": {"type": "number", "missing": "omit"}, "word": "string"}}
    asked: dict[str, Any] = {"event": event_form, "model": "Select('x') | StandardScaler() | LogisticRegression()"}
    asked["model"] = "(Select('x') | StandardScaler()) + (Select('word') | OneHotEncoder()) | LogisticRegression()"
    drift: dict[str, Any] = {"features": {"word": "ADWIN()"}, "missing": {"x": "ADWIN()"}, "reference_size": 10}
    shard = Shard(small(**asked, drift={"correction": "none", **drift}), 0)
    for number in range(40):
        fold(shard, event(number, NOW_MS, number))
    before = shard.monitors.state()
    same = follow(shard, small(**asked, drift={"correction": "none", **drift, "error": "DDM()"})).monitors
    assert {name: told for name, told in same.state().items() if name != "error"} == {
        name: told for name, told in before.items() if name != "error"
    }
    other = follow(shard, small(**asked, drift={"correction": "none", **drift, "categories_max": 1})).monitors
    observed = {monitor.signal: monitor.observed for monitor in other.every()}
    assert (observed["missing:x"], observed["novelty:word"]) == (40, 0)
    stricter = follow(shard, small(**asked, drift=drift)).monitors
    assert [monitor.observed for monitor in stricter.every() if monitor.signal != "error"] == [0, 0], "stricter now"


@pytest.mark.parametrize(("wait_s", "expired"), [(100, []), (1, ["waits 0", "waits 1"]), (0, ["waits 0", "waits 1"])])
def test_what_waits_waits_as_long_as_the_file_says_now(wait_s: int, expired: list[str]) -> None:
    shard = lived(watched(label={"wait": "10s"}))
    made = follow(shard, watched(label={"wait": f"{wait_s}s" if wait_s else 0, "early": "10s"}))
    out = fold(made, Tick(0, 1, NOW_MS + 2_001))
    assert [one.event_id for one in chosen(out, Outcome)] == (expired if wait_s else [*expired, "waits 2"])


def test_a_longer_wait_is_for_those_that_wait_already_too() -> None:
    made = follow(lived(watched(label={"wait": "10s"})), watched(label={"wait": "20s"}))
    assert fold(made, Tick(0, 1, NOW_MS + 15_000)) == []
    out = fold(made, Tick(0, 2, NOW_MS + 20_001))
    assert [(one.event_id, one.kind) for one in chosen(out, Outcome)] == [("waits 0", "expired")]


CORRECTED: dict[str, Any] = {
    "metrics": ["Accuracy", "LogLoss"],
    "metric_window": 20,
    "label": {"second": "correct", "retract": True, "wait": "30d"},
}


@pytest.mark.parametrize(
    "changed",
    [
        {"metrics": ["Accuracy", "LogLoss", "ROCAUC", "MacroF1"]},
        {"metrics": ["Accuracy"]},
        {"metric_window": 7},
        {"metric_window": 60},
        {"metric_by": {"segment": "word"}},
        {"metric_by": {"ages": ["1h"]}},
        {"metric_by": {"segment": "word", "ages": ["1h"]}, "metric_span": "1d", "metrics": ["Accuracy", "F1"]},
    ],
    ids=" ".join,
)
def test_labels_of_before_are_corrected_under_other_metrics(changed: dict[str, Any]) -> None:
    before = small(**CORRECTED)
    shard = Shard(before, 0)
    served: dict[int, Any] = {}
    for number in range(40):
        (score,) = fold(shard, event(number, NOW_MS, number % 7))
        served[number] = score.prediction.label  # type: ignore[union-attr]  # an event makes its score
        fold(shard, label(number, number % 2 == 0, NOW_MS))
    shard = follow(shard, small(**{**CORRECTED, **changed}))
    truth = {number: number % 2 == 0 for number in range(40)}
    for number in range(40, 50):
        (score,) = fold(shard, event(number, NOW_MS, number % 7))
        served[number], truth[number] = score.prediction.label, number % 2 == 0  # type: ignore[union-attr]  # as above
        fold(shard, label(number, truth[number], NOW_MS))
    for number in (0, 19, 25, 39, 40, 49):
        truth[number] = not truth[number]
        (outcome,) = fold(shard, label(number, truth[number], NOW_MS))
        assert outcome.kind == "corrected"  # type: ignore[union-attr]  # a label makes its outcome
    for number in (1, 38, 45):
        del truth[number]
        (outcome,) = fold(shard, label(number, None, NOW_MS))
        assert outcome.kind == "retracted"  # type: ignore[union-attr]  # a label makes its outcome
    values = shard.evaluation.values()
    hits = [served[number] == value for number, value in truth.items() if served[number] is not None]
    assert values["label_count"] == len(truth)
    assert values["Accuracy"] == pytest.approx(sum(hits) / len(hits))
    summary = shard.summary()
    for split in ("by_age", "by_segment"):
        for part in summary.get(split, {}).values():
            # Since it began: 10 labels, 4 corrections of older ones, a retraction; all of one segment and one age.
            assert part["label_count"] in (0, 13)
            assert part["Accuracy"] is None or 0 <= part["Accuracy"] <= 1
    for track in shard.evaluation.tracks.values():
        assert len(track.recent) == len(track.numbers)


def test_the_time_for_corrections_follows_the_file() -> None:
    section = CORRECTED["label"]
    shard = Shard(small(**{**CORRECTED, "label": {**section, "correct_for": "10s"}}), 0)
    for number in range(50):
        fold(shard, event(number, NOW_MS, 1.0), label(number, True, NOW_MS))
    longer = follow(shard, small(**{**CORRECTED, "label": {**section, "correct_for": "10d", "correct_max": 20}}))
    (outcome,) = chosen(fold(longer, label(49, False, NOW_MS + 60_000)), Outcome)
    assert outcome.kind == "corrected"
    fold(longer, event("next", NOW_MS + 60_000, 1.0), label("next", True, NOW_MS + 60_000))
    assert longer.pending.kept_count == 20
    shorter = follow(longer, small(**{**CORRECTED, "label": {**section, "correct_for": "5s"}}))
    fold(shorter, Tick(0, 1, NOW_MS + 66_000))
    assert shorter.pending.kept_count == 0
