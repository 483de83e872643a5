"""Rows of files become the records that a pipeline reads, wherever it looks for things."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import orjson
import pytest

from driftline.codec.decode import Decoder
from driftline.codec.json import NotFinite
from driftline.codec.wire import Wire
from driftline.core.pipeline import Pipeline
from driftline.core.record import Event, InputRecord, Label, Malformed, Passed, Source
from driftline.ingest.column import Fields
from driftline.ingest.history import TableSource
from driftline.ingest.label_form import LabelForm
from driftline.ingest.log import LogSource
from driftline.ingest.table import Table
from tests.support.small import NOW_MS, small

FEATURES = {"x": "number", "word": {"path": "$headers.word", "type": "string"}}
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {"event": {"features": {"x": "number", "word": "string"}}},
    "text key": {"event": {"id": "$key", "features": FEATURES}},
    "text key for both": {"event": {"id": "$key", "features": FEATURES}, "label": {"id": "$key"}},
    "whole numbers": {"event": {"id": "$key", "key": "integer", "features": FEATURES}},
    "binary keys": {
        "event": {"id": "$key", "key": "binary", "features": FEATURES},
        "label": {"id": "$key", "key": "binary", "value": "$headers.y", "time": "$headers.at"},
    },
    "JSON keys": {
        "event": {"id": "$key.a.id", "time": "$headers.at", "features": FEATURES},
        "label": {"id": "$key.id"},
    },
    "debezium": {
        "event": {"envelope": "debezium", "id": "$key.id", "time": "$envelope.ts_ms", "features": FEATURES},
        "label": {"envelope": "debezium", "select": {"$envelope.op": ["u", "c"], "kind": "final"}},
    },
    "cloudevents": {
        "event": {"envelope": "cloudevents", "id": "$envelope.id", "time": "$envelope.time", "features": FEATURES},
        "label": {"envelope": "cloudevents", "id": "$envelope.subject", "value": "y"},
    },
    "select": {"event": {"select": {"a.b": [3, 4], "$headers.v": 2}, "features": FEATURES}},
}


def shaped(name: str) -> Pipeline:
    return small(**SHAPES[name])


def samples(path: Path, chosen: Pipeline, **fields: Any) -> Table:
    return Table(path, chosen, Fields("y", **fields), now_ms=NOW_MS)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_row_is_read_as_it_was_written(tmp_path: Path, name: str, kind: str) -> None:
    """What `produce` and backtests make of one row, with its label, wherever the pipeline looks for its parts."""
    chosen = shaped(name)
    rows = [{"id": number, "x": number / 2, "word": "ab"[number % 2], "y": number % 2} for number in range(6)]
    if kind == "jsonl":
        rows = [{**row, "$headers": {"word": row.pop("word")}} if name != "plain" else row for row in rows]
        (tmp_path / "rows.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)))
    else:
        with (tmp_path / "rows.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    fields = Fields("y", event_id="id", start_ms=NOW_MS, step_ms=1_000)
    opened = TableSource(tmp_path / f"rows.{kind}", fields, 500).open(chosen)
    found = [record for batch in opened.batches() for record in batch]
    assert opened.bad.lines == []
    events = [one for one in found if isinstance(one, Event)]
    labels = [one for one in found if isinstance(one, Label)]
    assert [one.features for one in events] == [(number / 2, "ab"[number % 2]) for number in range(6)]
    assert [one.time_ms for one in events] == [NOW_MS + number * 1_000 for number in range(6)]
    assert [one.event_id for one in labels] == [one.event_id for one in events]
    assert {type(one.event_id) for one in labels} == {type(one.event_id) for one in events}
    assert [one.value for one in labels] == [False, True] * 3
    assert [one.time_ms for one in labels] == [NOW_MS + number * 1_000 + 500 for number in range(6)]


def test_what_a_row_says_itself_is_not_replaced() -> None:
    chosen = small(event={"envelope": "debezium", "select": {"kind": ["a", "b"]}, "features": {"x": "number"}},
                   model="LogisticRegression()")  # fmt: skip
    wire, decode = Wire(chosen.event), Decoder(chosen).event

    def read(document: dict[str, Any]) -> InputRecord:
        key, value, headers = wire.write(wire.rooted(document), 1, NOW_MS)
        return decode(Source("p.events", 0, 0, NOW_MS, key, value, headers))

    assert isinstance(read({"id": 1, "x": 2}), Event)
    assert isinstance(read({"id": 1, "x": 2, "kind": "b"}), Event)
    assert isinstance(read({"id": 1, "x": 2, "kind": "c"}), Passed)
    refused = read({"id": 1, "x": NotFinite("NaN")})
    assert isinstance(refused, Malformed)
    assert "x is NaN" in refused.detail


def test_a_label_of_a_row_that_is_not_meant_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,kind,x,y\n1,a,1,1\n2,b,2,1\n3,a,3,0\n")
    chosen = small(event={"select": {"kind": "a"}, "features": {"x": "number"}}, model="LogisticRegression()")
    opened = TableSource(path, Fields("y", start_ms=NOW_MS, step_ms=1)).open(chosen)
    found = [type(record) for batch in opened.batches() for record in batch]
    assert sorted(map(repr, found)) == sorted(map(repr, [Event, Event, Label, Label, Passed]))


def test_ids_that_the_key_cannot_hold_are_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,x,y\na,1,1\n7,2,1\n")
    chosen = small(event={"id": "$key", "key": "binary", "features": {"x": "number"}}, model="LogisticRegression()")
    table = samples(path, chosen, event_id="id", start_ms=NOW_MS, step_ms=1)
    assert len(list(table.samples())) == 1
    assert "whole number" in table.bad.lines[0]


def test_columns_of_the_paths_own_names(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("$key,$headers.word,$headers.at,x,y\nk1,a,2024-03-01T10:00:00Z,1,1\n")
    chosen = small(event={"id": "$key", "time": "$headers.at", "features": FEATURES})
    (sample,) = samples(path, chosen).samples()
    assert isinstance(sample.record, Event)
    assert (sample.record.event_id, sample.record.time_ms) == ("k1", 1_709_287_200_000)
    assert sample.record.features == (1, "a")
    assert orjson.loads(sample.record.source.value or b"") == {"x": 1}
    form = LabelForm(chosen)
    assert form.encode("k1", 1, NOW_MS).value == b'{"id":"k1","y":1}'


def test_lines_that_are_records_carry_key_and_headers(tmp_path: Path) -> None:
    chosen = small(event={"id": "$key", "features": FEATURES}, label={"id": "$key.id"})
    events, labels = tmp_path / "events.jsonl", tmp_path / "labels.jsonl"
    events.write_text(
        '{"$key": "k1", "$headers": {"word": "a"}, "x": 1, "at": 1700000000}\n'
        '{"$key": "k2", "x": 2, "at": 1700000001}\n{"$key": "k3", "$headers": 5, "x": 2, "at": 1700000001}\n'
    )
    labels.write_text('{"$key": {"id": "k1"}, "y": 1, "at": 1700000005}\n')
    opened = LogSource(events, labels, "at", "at").open(chosen)
    event, refused, label = (record for batch in opened.batches() for record in batch)
    assert isinstance(event, Event)
    assert (event.event_id, event.features) == ("k1", (1, "a"))
    assert isinstance(refused, Malformed)
    assert refused.reason == "feature_missing"
    assert isinstance(label, Label)
    assert label.event_id == "k1"
    assert "$headers" in opened.bad.lines[0]
