"""The score of one event derived again, and outcomes as a table, over a run with crashes."""

from __future__ import annotations

import csv
from math import exp
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from driftline import __version__
from driftline.backtest.explain import Explanation, explain
from driftline.backtest.export import columns_of, export
from driftline.backtest.score import put_together
from driftline.backtest.served import Served
from driftline.cli.explain import lines
from driftline.codec.keyring import NO_KEYS
from driftline.core.error import InputFileError
from driftline.core.fingerprint import versions
from driftline.core.pipeline import Pipeline
from driftline.core.place import Layout
from driftline.engine.published import value_field
from driftline.operate.verify import Span, audit_shards
from driftline.transport.port import Place
from tests.parity.rig import NOW_MS, STEP_MS, documents, pipeline, produce, run_through, tamper, worked
from tests.support.cluster import MemoryCluster
from tests.support.memory import MemoryBroker
from tests.support.reworded import Reworded

COUNT = 1_200
WHEN = "2023-11-14 22:18:26+00:00"  # the latest record's time


async def explained(cluster: MemoryCluster, chosen: Pipeline, event_id: int) -> Explanation:
    broker = MemoryBroker(cluster, chosen, client="explain")
    return await explain(broker, chosen, Layout(2), [0, 1], str(event_id), NO_KEYS)


@pytest.mark.parametrize("snapshot", [{}, {"every_records": 300}])
async def test_every_derived_score_is_the_served_one(snapshot: dict[str, int]) -> None:
    chosen = pipeline("explained", snapshot=snapshot)
    cluster = await worked(chosen, COUNT, partitions=2)
    served = {one["event_id"]: one for one in documents(cluster, chosen.topics.scores)}
    outcomes = {one["event_id"]: one for one in documents(cluster, chosen.topics.outcomes)}
    began = set()
    for event_id in (0, 1, 449, 700, 1_199):
        found = await explained(cluster, chosen, event_id)
        assert found.same
        assert found.served == found.derived == served[event_id]
        assert found.version == served[event_id]["model_version"]
        assert found.features == outcomes[event_id]["features"]
        assert found.outcome == outcomes[event_id]
        began.add(found.began)
        # A linear model's parts make its answer: sigmoid of their sum.
        total = sum(one.adds for one in found.weights) + (found.intercept or 0.0)
        assert 1 / (1 + exp(-total)) == pytest.approx(served[event_id]["probability"], rel=1e-12)
        assert max(map(len, lines(found))) <= 100
    assert any("snapshot" in text for text in began) == bool(snapshot)


async def test_trees_explain_themselves() -> None:
    chosen = pipeline("tree", model="Select('x', 'z', 'word') | HoeffdingTreeClassifier(grace_period=50)")
    cluster = await worked(chosen, COUNT, partitions=2)
    found = await explained(cluster, chosen, 1_000)
    assert found.same
    assert not found.weights
    assert found.river
    assert "River's explanation" in "\n".join(lines(found))


async def test_where_nothing_was_served_no_score_is_shown() -> None:
    chosen = pipeline("held")
    found = await explained(await worked(chosen, 200, partitions=2), chosen, 3)
    assert lines(found)[1] == f"score {found.served['probability']:.6g}, class {found.served['prediction']}, served"
    held = {**found.served, "probability": None, "prediction": None, "guard": "held"}
    assert lines(msgspec.structs.replace(found, served=held))[1] == "no prediction, held"


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({}, "review: no one has decided; the deadline is "),
        ({"decision": "approve", "why": "a regular"}, f"review: approved by ana at {WHEN}: a regular; {{}} was served"),
        ({"decision": "edit", "value": 0.25}, f"review: edited by ana at {WHEN}; 0.25 was served"),
        ({"decision": "refuse"}, f"review: refused by ana at {WHEN}; nothing was served"),
    ],
)
async def test_what_was_decided_of_a_held_prediction(asked: dict[str, Any], line: str) -> None:
    guard = {"range": {"max": 0.6, "action": "hold"}, "hold": {"wait": "30d", "then": "withhold"}}
    chosen = pipeline("decided", guard=guard)
    cluster = await worked(chosen, 300, partitions=2)
    held = [one for one in documents(cluster, chosen.topics.scores) if one["guard"] == "held"][-2]
    if asked:
        command = orjson.dumps({"command": "review", "by": "ana", "event_id": held["event_id"], **asked})
        for number in range(2):
            cluster.produce(chosen.topics.control, number, command, NOW_MS)
        await run_through(cluster, chosen)
    found = await explained(cluster, chosen, held["event_id"])
    assert found.served == held
    (decided,) = [text for text in lines(found) if text.startswith("review: ")]
    assert decided.startswith(line.format(f"{found.unserved[0].prediction.value:.6g}"))
    assert lines(found)[1] == "no prediction, held"
    assert next(text for text in lines(found) if text.startswith("label")).startswith("label ")
    other = next(one for one in documents(cluster, chosen.topics.scores) if one["guard"] == "served")
    assert (await explained(cluster, chosen, other["event_id"])).review is None


async def test_a_deleted_outcome_is_no_label_that_has_not_come() -> None:
    chosen = pipeline("deleted")
    cluster = await worked(chosen, 200, partitions=2)
    assert (await explained(cluster, chosen, 3)).outcome is not None
    for number in range(2):
        place = Place(chosen.topics.outcomes, number)
        cluster.delete_before(place, len(cluster.records(*place)))
    found = await explained(cluster, chosen, 3)
    assert (found.outcome, found.outcomes_deleted) == (None, True)
    assert "label: none yet, or its outcome has been deleted, as earlier ones have" in lines(found)


async def test_a_score_that_was_changed_is_told() -> None:
    chosen = pipeline("changed")
    cluster = await worked(chosen, COUNT, partitions=2)
    source = cluster.records(chosen.topics.scores, 0)[10]
    document: dict[str, Any] = orjson.loads(source.value or b"")
    tamper(cluster, Place(chosen.topics.scores, 0), source.offset, orjson.dumps({**document, "probability": 0.5}))
    found = await explained(cluster, chosen, document["event_id"])
    assert not found.same
    assert found.derived == document
    assert "DIFFERENT" in "\n".join(lines(found))


async def test_a_score_that_an_earlier_version_wrote_otherwise_is_no_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = pipeline("earlier")
    with monkeypatch.context() as earlier:
        earlier.setitem(versions(), "app", "0.2.0")
        cluster = await worked(chosen, COUNT, partitions=2)
    for module in ("engine.fold", "backtest.explain"):
        monkeypatch.setattr(f"driftline.{module}.Encoder", Reworded)
    found = await explained(cluster, chosen, 700)
    assert (found.same, found.made_by) == (False, f"Driftline 0.2.0 (here {__version__})")
    assert f"the same prediction, in a record made by {found.made_by}" in "\n".join(lines(found))
    other = msgspec.structs.replace(found, derived={**found.derived, "probability": 0.125})
    assert f"0.125, not verifiable: served by {found.made_by}" in "\n".join(lines(other))


async def test_alerts_open_at_the_time_are_named() -> None:
    chosen = pipeline("alerted", drift={"error": "DummyDriftDetector(t_0=300, seed=1)", "score": [], "features": {}})
    cluster = await worked(chosen, COUNT, partitions=2)
    alerts = documents(cluster, chosen.topics.alerts)
    assert alerts
    last = await explained(cluster, chosen, COUNT - 1)
    assert last.alerts
    assert (await explained(cluster, chosen, 0)).alerts == []
    shard = last.place[1]
    offset = last.place[2]
    mine = [one for one in alerts if one["episode"].startswith(f"alerted-{shard}-")]
    open_then = [one["episode"] for one in mine if one["positions"][chosen.topics.events] <= offset]
    assert [one["episode"] for one in last.alerts] == open_then


async def test_an_id_that_was_scored_again_is_told() -> None:
    """It was forgotten in between; score and label are those of the last event with it."""
    chosen = pipeline("again", dedupe={"max": 100}, label={"pending_max": 50})
    cluster = MemoryCluster()
    cluster.create_for(chosen, 1)
    produce(cluster, chosen, 400)
    late_ms = NOW_MS + 500 * STEP_MS
    event, label = {"id": 3, "x": 1.0, "z": 0.5, "word": "a"}, {"id": 3, "y": 1}
    cluster.produce(chosen.topics.events, 0, orjson.dumps(event), late_ms)
    cluster.produce(chosen.topics.labels or "", 0, orjson.dumps(label), late_ms + STEP_MS)
    await run_through(cluster, chosen)
    found = await explained(cluster, chosen, 3)
    assert (found.times, found.place[2], found.same) == (2, 400, True)
    assert found.outcome is not None
    assert found.outcome["output_id"] == f"{chosen.topics.events}-0-400-1"
    assert "scored 2 times" in lines(found)[1]
    once = await explained(cluster, chosen, 4)
    assert once.times == 1
    assert not any("times" in line for line in lines(once))


STRANGE = (
    b"", b"{", b"[3]", b"null", b'{"event_id":3}', b'{"event_id":3,"output_id":[1]}', b'{"event_id":3,"output_id":"3"}',
    b'{"event_id":3,"output_id":"x-0-' + b"9" * 5_000 + b'-0"}', b'{"positions":[3],"episode":"e"}',
    b'{"positions":{"strange.events":"3"}}', b'{"kind":["joined"],"event_time_ms":3}',
    b'{"kind":"joined","event_time_ms":"3","event_id":3,"output_id":"o"}',
    b'{"kind":"joined","event_time_ms":3,"event_id":3,"output_id":"o","features":[3]}',
    b'{"event_id":' + b"[" * 900 + b"3" + b"]" * 900 + b',"output_id":"strange.events-0-3-0"}',
    b'{"episode":' + b"[" * 900 + b"3" + b"]" * 900 + b',"positions":{"strange.events":0}}',
    b'{"kind":"joined","event_time_ms":9223372036854775808,"event_id":3,"output_id":"o"}',
    b'{"kind":"joined","event_time_ms":3,"event_id":3,"output_id":"o","features":{"x":"many"}}',
    b'{"kind":"joined","event_time_ms":3,"event_id":3,"output_id":"o","features":{"word":[]}}',
    b'{"kind":"joined","event_time_ms":3,"event_id":3,"output_id":"o","label_time_ms":"soon"}',
    b'{"kind":"joined","event_time_ms":3,"event_id":3,"output_id":"o","probability":{}}',
    b'{"kind":"joined","event_time_ms":3,"event_id":3,"output_id":"o","label":{}}',
    *(
        b'{"event_id":3,"output_id":"strange.events-%d-%d-0",%s}' % (partition, offset, more)
        for more in (b'"slate":[1]', b'"slate":{}', b'"forecast":[1]', b'"forecast":{"values":1}')
        for partition in (0, 1)
        for offset in range(4)
    ),
    b'{"event_id":3,"prediction":' + b"[" * 900 + b"3" + b"]" * 900 + b"}",
)  # fmt: skip


async def test_what_others_write_into_the_outputs_stops_no_reader(tmp_path: Path) -> None:
    chosen = pipeline("strange")
    cluster = await worked(chosen, COUNT, partitions=2)
    before = await explained(cluster, chosen, 3)
    topics = chosen.topics
    for topic in (topics.scores, topics.outcomes, topics.alerts, topics.rejected):
        for value in STRANGE:
            for partition in (0, 1):
                cluster.produce(topic, partition, value, NOW_MS)
    assert await explained(cluster, chosen, 3) == before
    assert await exported(cluster, chosen, tmp_path / "all.csv") == COUNT
    assert await exported(cluster, chosen, tmp_path / "all.parquet") == COUNT
    reader = MemoryBroker(cluster, chosen, client="against").reader()
    await reader.open({Place(topics.scores, before.place[1]): 0})
    served = Served(reader, chosen, Layout(2), before.place[1])
    await served.reach(before.place[1], 10**6)
    assert served.until[before.place[1]] < COUNT


async def test_verify_names_what_others_wrote_into_the_outputs() -> None:
    chosen = pipeline("strange")
    cluster = await worked(chosen, 100, partitions=1)
    place = Place(chosen.topics.scores, 0)
    for value in (STRANGE[7], STRANGE[-1]):
        last = cluster.records(*place)[-1]
        tamper(cluster, place, last.offset, value)
        (made,) = await audit_shards(
            MemoryBroker(cluster, chosen, client="audit"), chosen, Layout(1), Span(outputs=True)
        )
        assert made.difference is not None
    deep = value_field(b'{"a":1}', b'{"a":' + b"[" * 900 + b"]" * 900 + b"}")
    assert deep == ("value.a", "1", "JSON nested too deeply to be written")


async def test_an_event_that_was_never_scored_is_an_error() -> None:
    chosen = pipeline("never")
    cluster = await worked(chosen, COUNT, partitions=2)
    with pytest.raises(InputFileError, match="has no score of event '99999'"):
        await explained(cluster, chosen, 99_999)


# -- export


async def exported(cluster: MemoryCluster, chosen: Pipeline, path: Path, **asked: Any) -> int:
    broker = MemoryBroker(cluster, chosen, client="export")
    parts = []
    for partition in (0, 1):
        parts.append(path.parent / f"part-{partition}")
        wanted = {"from_ms": None, "to_ms": None, "kinds": ("joined", "assumed"), **asked}
        await export(broker, chosen, partition, parts[-1], moved=lambda read: None, **wanted)
    return put_together(parts, path, columns_of(chosen))


async def test_export_is_the_outcomes(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    chosen = pipeline("exported")
    cluster = await worked(chosen, COUNT, partitions=2)
    assert await exported(cluster, chosen, tmp_path / "all.csv") == COUNT
    assert await exported(cluster, chosen, tmp_path / "all.parquet") == COUNT
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = {int(row["event_id"]): row for row in csv.DictReader(file)}
    typed = {int(row["event_id"]): row for row in parquet.read_table(tmp_path / "all.parquet").to_pylist()}
    for outcome in documents(cluster, chosen.topics.outcomes):
        row, other = rows[outcome["event_id"]], typed[outcome["event_id"]]
        assert (float(row["x"]), float(row["z"]), row["word"]) == tuple(outcome["features"].values())
        assert (other["x"], other["z"], other["word"]) == tuple(outcome["features"].values())
        assert float(row["value"]) == other["value"] == outcome["probability"]
        assert row["label"] == str(outcome["label"]).lower()
        assert int(row["label_delay_ms"]) == other["label_delay_ms"] == outcome["label_delay_ms"]
        assert row["model_version"] == outcome["model_version"]


async def test_export_takes_a_range(tmp_path: Path) -> None:
    chosen = pipeline("ranged")
    cluster = await worked(chosen, COUNT, partitions=2)
    span = {"from_ms": NOW_MS + 100 * STEP_MS, "to_ms": NOW_MS + 150 * STEP_MS}
    assert await exported(cluster, chosen, tmp_path / "some.csv", **span) == 50
    with (tmp_path / "some.csv").open(newline="") as file:
        assert {int(row["event_id"]) for row in csv.DictReader(file)} == set(range(100, 150))
    assert await exported(cluster, chosen, tmp_path / "none.csv", kinds=("expired",)) == 0
