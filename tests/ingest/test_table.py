"""Files become rows: types by look or by declaration, ids, times, and rows that are no use."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from driftline.codec.decode import MISSING
from driftline.codec.wire import set_path
from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline
from driftline.ingest.column import Fields, read_cell
from driftline.ingest.rows import open_text
from driftline.ingest.table import Sample, Table
from tests.support.pipelines import pipeline

NOW_MS = 1_700_000_000_000


def loose(event: dict[str, Any] | None = None, **changes: Any) -> Pipeline:
    """One that takes rows without its features."""
    kinds = {"amount": "number", "country": "string"}
    features: dict[str, Any] = {name: {"type": kind, "missing": "omit"} for name, kind in kinds.items()}
    return pipeline(event={"id": "id", "features": features, **(event or {})}, **changes)


def table(path: Path, of: Pipeline | None = None, fields: Fields | None = None, **options: Any) -> Table:
    return Table(path, of or loose(), fields or Fields("fraud"), now_ms=NOW_MS, **options)


def written(folder: Path, text: str, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rows(path: Path, *arguments: Any, **options: Any) -> list[Sample]:
    return list(table(path, *arguments, **options).samples())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-7", -7), ("+7", 7), ("0", 0), ("1.5", 1.5), ("-0.5", -0.5), (".5", 0.5), ("5.", 5.0),
        ("1e3", 1000.0), ("2E-2", 0.02), (" 12 ", 12), ("9223372036854775807", 2**63 - 1),
        ("007", "007"), ("-01", "-01"), ("00.5", "00.5"), ("1_000", "1_000"), ("0x10", "0x10"), ("nan", "nan"),
        ("inf", "inf"), ("-inf", "-inf"), ("1e999", "1e999"), ("9223372036854775808", "9223372036854775808"),
        ("2018-06-01", "2018-06-01"), ("1.2.3", "1.2.3"), ("+", "+"), (".", "."), ("-", "-"), ("１２", "１２"),
        ("true", "true"), (" x", " x"),
    ],
)  # fmt: skip
def test_a_cell_becomes_a_number_only_if_it_stays_what_it_was(text: str, value: object) -> None:
    found = read_cell(text)
    assert (found, type(found)) == (value, type(value))


def test_columns_are_read_as_the_pipeline_declares_them(tmp_path: Path) -> None:
    amount = {"type": "number", "missing": "omit"}
    of = pipeline(
        event={
            "id": "id",
            "features": {"amount": amount, "country": "string", "night": {"type": "boolean", "missing": "omit"}},
        },
        model="(Select('amount', 'night') | StandardScaler()) + (Select('country') | OneHotEncoder())"
        " | LogisticRegression()",
    )
    path = written(tmp_path, "id,amount,country,night,fraud,extra\na,1.5,840,True,1,12\nb,,840,0,0,\n")
    first, second = rows(path, of)
    assert first.event == {"id": "a", "amount": 1.5, "country": "840", "night": True, "extra": 12}
    assert second.event == {"id": "b", "country": "840", "night": False}
    assert (first.label, second.label) == (1, 0)


def test_a_label_declared_as_text_stays_text(tmp_path: Path) -> None:
    of = loose(label={"id": "id", "value": "fraud", "wait": "7d", "positive": "1"})
    (row,) = rows(written(tmp_path, "id,fraud\na,1\n"), of)
    assert row.label == "1"


def test_a_row_without_label_is_no_bad_row(tmp_path: Path) -> None:
    found = table(written(tmp_path, "id,amount,fraud\na,1,\nb,2,1\n"))
    assert [row.label for row in found.samples()] == [MISSING, 1]
    assert found.bad.count == 0


def test_rows_without_id_are_numbered_at_the_pipelines_path(tmp_path: Path) -> None:
    of = loose({"id": "meta.id"})
    found = rows(written(tmp_path, "amount,fraud\n5,0\n6,1\n"), of)
    assert [row.event_id for row in found] == [0, 1]
    assert found[1].event == {"amount": 6, "meta": {"id": 1}}


def test_an_id_of_another_column_is_put_where_the_pipeline_reads_it(tmp_path: Path) -> None:
    (row,) = rows(written(tmp_path, "tx,fraud\nt9,0\n"), None, Fields("fraud", event_id="tx"))
    assert row.event_id == "t9"
    assert row.event == {"tx": "t9", "id": "t9"}


def test_a_column_named_as_a_path_of_the_pipeline_is_nested(tmp_path: Path) -> None:
    of = pipeline(
        event={
            "id": "id",
            "features": {
                "amount": {"type": "number", "missing": "omit"},
                "country": {"path": "card.country", "type": "string"},
            },
        }
    )
    (row,) = rows(written(tmp_path, "id,card.country,fraud,other.key\n1,7,0,8\n"), of)
    assert row.event == {"id": 1, "card": {"country": "7"}, "other.key": 8}


def test_times_of_a_column(tmp_path: Path) -> None:
    path = written(tmp_path, "id,at,fraud\n1,2018-06-01 00:01:11,0\n2,1527811272,0\n3,1527811273000,0\n")
    found = rows(path, None, Fields("fraud", time="at"))
    assert [row.time_ms for row in found] == [1527811271000, 1527811272000, 1527811273000]


def test_times_that_are_counted(tmp_path: Path) -> None:
    of = loose({"time": "at"})
    path = written(tmp_path, "id,fraud,at\n1,0,x\n2,0,y\n")
    found = rows(path, of, Fields("fraud", start_ms=5_000, step_ms=10))
    assert [row.time_ms for row in found] == [5_000, 5_010]
    assert [row.event["at"] for row in found] == [5_000, 5_010]  # what the pipeline reads agrees


def test_rows_without_times_end_before_now_and_leave_room_for_their_labels(tmp_path: Path) -> None:
    path = written(tmp_path, "id,fraud\n" + "1,0\n" * 5)
    found = rows(path, lead_ms=60_000)
    assert [row.time_ms for row in found] == [NOW_MS - 60_000 - (5 - i) * 1_000 for i in range(5)]


def test_a_long_file_without_times_spans_a_day(tmp_path: Path) -> None:
    path = written(tmp_path, "id,fraud\n" + "1,0\n" * 200_000)
    found = table(path)
    assert next(found.samples()).time_ms >= NOW_MS - 86_400_000


def test_bad_rows_are_counted_and_named_by_line(tmp_path: Path) -> None:
    path = written(tmp_path, "id,at,fraud\n1,2018-06-01,0\n2,yesterday,0\n3,0\n,2018-06-02,1\n\n5,1949-01-01,0\n")
    found = table(path, None, Fields("fraud", event_id="id", time="at"))
    assert [row.event_id for row in found.samples()] == [1]
    assert found.bad.count == 4
    assert [line.split(":")[0] for line in found.bad.lines] == ["line 3", "line 4", "line 5", "line 7"]
    assert "1970" in found.bad.lines[3]


def test_only_the_first_bad_rows_are_shown(tmp_path: Path) -> None:
    found = table(written(tmp_path, "id,fraud\n" + "1\n" * 50))
    assert list(found.samples()) == []
    assert (found.bad.count, len(found.bad.lines)) == (50, 10)


def test_json_lines(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '{"id": "a", "card": {"fraud": 1, "bank": 2}}\nnot json\n\n[1]\n{"id": "b", "card": {"fraud": null}}\n'
        '{"id": "c"}\n{"id": 1.5, "card": {"fraud": 0}}\n',
        "rows.jsonl",
    )
    found = table(path, None, Fields("card.fraud"))
    a, b, c = found.samples()
    assert (a.event, a.label) == ({"id": "a", "card": {"bank": 2}}, 1)
    assert b.label is MISSING
    assert c.label is MISSING
    assert [line.split(":")[0] for line in found.bad.lines] == ["line 2", "line 4", "line 7"]


def test_gzip_other_separators_quotes_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress('\ufeffid;country;fraud\n1;"a;\nb";0\n2;c;1\n'.encode(), mtime=0))
    first, second = rows(path)
    assert first.event == {"id": 1, "country": "a;\nb"}
    assert second.label == 1


def test_a_limit_counts_usable_rows(tmp_path: Path) -> None:
    path = written(tmp_path, "id,fraud\n1\n2,0\n3,0\n4,0\n")
    found = table(path, limit=2)
    assert [row.event_id for row in found.samples()] == [2, 3]
    assert found.count == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.parquet", b"", "name it .csv or .jsonl"),
        ("rows.csv", b"", "is empty"),
        ("rows.csv", b"id,frau\n1,0\n", "no column 'fraud' .--label.*did you mean 'frau'"),
        ("rows.csv", b"id,fraud,id\n1,0,1\n", "column id appears more than once"),
        ("rows.csv", b"id,fraud\n\xff,0\n", "not UTF-8"),
        ("rows.csv.gz", b"id,fraud\n1,0\n", "cannot read"),
        ("rows.jsonl", b'{"id": 1, "frau": 0}\n{"id": 2}\n', "no line of .* 'fraud' .--label.*did you mean 'frau'"),
        ("rows.jsonl", b"not json\n", "no line of .* the first has none"),
        ("rows.csv.gz", gzip.compress(b"id,fraud\n1,0\n" * 99, mtime=0)[:-12], "cannot read"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_clear_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputFileError, match=message):
        rows(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"cannot read .*none.csv"):
        table(tmp_path / "none.csv")


def test_a_value_in_the_way_of_a_path_is_an_error() -> None:
    with pytest.raises(ValueError, match="card is not an object"):
        set_path({"card": 1}, ("card", "country"), "x")


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\n", "more than 4 MB of blank lines in a row"),
        (b" \r\n", "more than 4 MB of blank lines in a row"),
        (b"[]\n", "unpacks to more than 250 times its size"),
        (b",\n", "unpacks to more than 250 times its size"),
    ],
)
def test_a_small_file_does_not_take_minutes(
    tmp_path: Path, name: str, line: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packed file of 400 kB can hold 400 MB of lines of which none is a row."""
    if "unpacks" in message:
        monkeypatch.setattr("driftline.ingest.rows.UNPACKED_MIN", 1_000_000)
    path = tmp_path / (name + ".gz")
    with gzip.GzipFile(path, "wb", mtime=0) as packed:
        packed.write(b"id,fraud\n" if name.endswith("csv") else b"{}\n")
        for _ in range(20):
            packed.write(line * (1_000_000 // len(line)))
    with pytest.raises(InputFileError, match=message), open_text(path) as lines:
        for _ in lines:
            pass


def test_blank_lines_between_rows_are_skipped_however_many_there_are(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"id,fraud\n" + b"".join(b"\n" * 2_000_000 + b"%d,1\n" % number for number in range(4)))
    with open_text(path) as lines:
        assert [row for row in lines if row.strip()] == ["id,fraud\n", "0,1\n", "1,1\n", "2,1\n", "3,1\n"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_a_line_without_end_fills_no_memory(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packed file of a few kB can hold a line larger than the machine."""
    monkeypatch.setattr("driftline.ingest.rows.LINE_BYTES_MAX", 10_000_000)
    path = tmp_path / (name + ".gz")
    with gzip.GzipFile(path, "wb", mtime=0) as packed:
        packed.write(b"id,fraud\n" if name.endswith("csv") else b"{}\n")
        for _ in range(200):
            packed.write(b"a" * 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(InputFileError, match=r"has a line longer than 9 MB; write one row per line"):
            rows(path)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
