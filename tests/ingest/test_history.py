"""Files as records: the short way and the long way give the same, in the order in which a worker folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from driftline.core.error import InputFileError
from driftline.core.pipeline import Pipeline
from driftline.core.record import Event, InputRecord, Label, Malformed
from driftline.ingest.column import Fields
from driftline.ingest.history import TableSource
from driftline.ingest.log import LogSource
from tests.backtest import history


def records(path: Path, chosen: Pipeline, delay_ms: int = 0, **more: Any) -> list[InputRecord]:
    opened = TableSource(path, Fields("y", **more), delay_ms).open(chosen)
    return [record for batch in opened.batches() for record in batch]


def told(found: list[InputRecord]) -> list[Any]:
    """What the core reads of records: all but the bytes that they came as."""
    return [structs.replace(one, source=structs.replace(one.source, key=None, value=None)) for one in found]


@pytest.mark.parametrize("delay_ms", [0, 1, 1_000, 40_000])
def test_short_way_gives_the_records_of_the_long_way(tmp_path: Path, delay_ms: int) -> None:
    path = history.table(tmp_path, 1_000)
    as_json = tmp_path / "data.jsonl"
    as_json.write_bytes(
        b"\n".join(orjson.dumps(dict(zip((*history.FEATURES, "y"), row, strict=True))) for row in history.rows(1_000))
    )
    short = records(path, history.pipeline(), delay_ms)
    assert told(short) == told(records(as_json, history.pipeline(), delay_ms))
    assert len(short) == 2_000


@given(
    cells=st.lists(
        st.lists(
            st.sampled_from(
                ["1", "-0", "007", "1.5", "", "1e3", "+4", "nan", " 2", "1_0", '"3"', "x", "9" * 20, "-1e16"]
            ),
            min_size=4,
            max_size=5,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_odd_cells_are_read_as_produce_reads_them(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    text = "x1,x2,x3,y\n" + "\n".join(",".join(row) for row in cells) + "\n"
    (folder / "short.csv").write_text(text)
    chosen = history.pipeline()
    source = TableSource(folder / "short.csv", Fields("y"))
    try:
        short, long = source.open(chosen), source.open(chosen)
    except InputFileError:  # no label can be used, which is found before either way is gone
        return
    long.plain_reader = lambda *_: None  # type: ignore[method-assign]  # the other way
    found, expected = ([one for batch in opened.batches() for one in batch] for opened in (short, long))
    assert told(found) == told(expected)
    assert (short.bad, short.done) == (long.bad, long.done)


def test_block_with_a_quoted_line_break_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text('x1,x2,x3,note,y\n1,2,3,4,1\n1,2,3,"two\nlines",0\n1,2,3,4,1\n')
    found = records(path, history.pipeline())
    assert [type(one) for one in found] == [Label, Event] * 3


def test_limit_reads_no_further(tmp_path: Path) -> None:
    path = history.table(tmp_path, 1_000)
    opened = TableSource(path, Fields("y"), 0, 300).open(history.pipeline())
    assert sum(isinstance(one, Event) for batch in opened.batches() for one in batch) == 300
    assert opened.done == 300


def test_label_comes_before_the_event_of_its_time_and_after_earlier_ones(tmp_path: Path) -> None:
    path = history.table(tmp_path, 5)
    found = records(path, history.pipeline(), 2_000)
    order = [(type(one).__name__[0], one.event_id) for one in found if isinstance(one, Event | Label)]
    assert order == [
        *[("E", 0), ("E", 1), ("L", 0), ("E", 2), ("L", 1), ("E", 3)],
        *[("L", 2), ("E", 4), ("L", 3), ("L", 4)],
    ]


def test_row_with_too_many_cells_is_counted_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("x1,x2,x3,y\n1,2,3,1\n1,2,3,4,1\n1,2,3,0\n")
    opened = TableSource(path, Fields("y")).open(history.pipeline())
    assert len([one for batch in opened.batches() for one in batch]) == 4
    assert opened.bad.lines == ["line 3: has 5 cells, the header has 4"]


def test_missing_column_is_named_before_anything_is_read(tmp_path: Path) -> None:
    path = history.table(tmp_path, 3)
    with pytest.raises(InputFileError, match=r"no column 'x9', which feature x9 of first needs.*x1, x2, x3, y"):
        TableSource(path, Fields("y")).open(history.pipeline(features=("x1", "x9")))


def test_no_utf8_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes("x1,x2,x3,y\n1,2,3,1\né,2,3,1\n".encode("latin-1"))
    with pytest.raises(InputFileError, match="not UTF-8"):
        TableSource(path, Fields("y")).open(history.pipeline())


# -- topics as files


def logs(folder: Path, events: list[Any], labels: list[Any]) -> tuple[Path, Path]:
    paths = folder / "events.jsonl", folder / "labels.jsonl"
    for path, lines in zip(paths, (events, labels), strict=True):
        path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return paths


def timed(**more: Any) -> Pipeline:
    event = {"id": "id", "time": "at", "features": {"x1": "number"}}
    label = {"id": "id", "value": "y", "time": "at", "wait": "1h"}
    return history.pipeline(event=event, label=label, **more)


def test_two_files_merge_by_time(tmp_path: Path) -> None:
    at = history.START_MS
    events = [{"id": n, "at": at + n * 1_000, "x1": n} for n in range(700)]
    labels = [{"id": n, "at": at + n * 1_000 + 2_500, "y": n % 2} for n in range(700)]
    opened = LogSource(*logs(tmp_path, events, labels)).open(timed())
    found = [one for batch in opened.batches() for one in batch]
    assert [one.order_ms for one in found] == sorted(one.order_ms for one in found)
    assert len(found) == 1_400 == opened.done


def test_equal_times_put_the_label_first(tmp_path: Path) -> None:
    at = history.START_MS
    files = logs(tmp_path, [{"id": 1, "at": at, "x1": 1}], [{"id": 1, "at": at, "y": 1}])
    found = [one for batch in LogSource(*files).open(timed()).batches() for one in batch]
    assert [type(one) for one in found] == [Label, Event]


def test_line_that_is_no_json_is_a_malformed_record(tmp_path: Path) -> None:
    files = logs(tmp_path, [{"id": 1, "at": history.START_MS, "x1": 1}], [])
    files[0].write_bytes(b"{]\n" + files[0].read_bytes())
    found = [one for batch in LogSource(*files).open(timed()).batches() for one in batch]
    assert [type(one) for one in found] == [Malformed, Event]


@pytest.mark.parametrize(("shuffled", "expected"), [((), 0), (("labels",), 150), (("events", "labels"), 300)])
def test_disorder_is_counted_in_each_file(tmp_path: Path, shuffled: tuple[str, ...], expected: int) -> None:
    times = [history.START_MS + n * 1_000 for n in range(300)]
    swapped = [times[n ^ 1] for n in range(300)]
    events = [{"id": n, "at": at, "x1": 1} for n, at in enumerate(swapped if "events" in shuffled else times)]
    labels = [{"id": n, "at": at, "y": 1} for n, at in enumerate(swapped if "labels" in shuffled else times)]
    opened = LogSource(*logs(tmp_path, events, labels)).open(timed())
    assert sum(len(batch) for batch in opened.batches()) == 600
    assert opened.disordered == expected


def test_lines_without_a_time_are_no_disorder(tmp_path: Path) -> None:
    at = history.START_MS
    files = logs(tmp_path, [{"id": n, "at": at + n, "x1": 1} for n in range(3)], [{"id": 1, "at": at, "y": 1}])
    for path in files:
        path.write_bytes(path.read_bytes() + b"{]\nno line\n")
    opened = LogSource(*files).open(timed())
    assert sum(isinstance(one, Malformed) for batch in opened.batches() for one in batch) == 4
    assert opened.disordered == 0


def test_lines_without_times_say_what_to_give(tmp_path: Path) -> None:
    files = logs(tmp_path, [{"id": 1, "x1": 1}], [])
    with pytest.raises(InputFileError, match="--time FIELD"):
        LogSource(*files).open(history.pipeline(event={"id": "id", "features": {"x1": "number"}}))


def test_rows_far_ahead_count_as_of_the_row_before_and_are_named(tmp_path: Path) -> None:
    """In a table and in two files: everybody else comes in the order in which they would come without it."""
    lines = [{"id": number, "x1": 1.0, "at": 1_700_000_000_000 + 60_000 * number} for number in range(60)]
    labels = [{"id": one["id"], "y": 1, "at": one["at"] + 600_000} for one in lines]
    far, its = {"id": 99, "x1": 1.0, "at": 4_102_358_400_000}, {"id": 99, "y": 1, "at": 4_102_358_400_001}
    source = LogSource(*logs(tmp_path, [*lines[:30], far, *lines[30:]], [*labels[:30], its, *labels[30:]]))
    chosen = timed()
    opened = source.open(chosen)
    found = [record for batch in opened.batches() for record in batch]
    (tmp_path / "clean").mkdir()
    clean = LogSource(*logs(tmp_path / "clean", lines, labels)).open(chosen)
    expected = [(type(one), one.event_id) for batch in clean.batches() for one in batch]  # type: ignore[union-attr]
    assert [(type(one), one.event_id) for one in found if one.event_id != 99] == expected  # type: ignore[union-attr]
    assert [one.time_ahead for one in found if one.event_id == 99] == [True, True]  # type: ignore[union-attr]
    assert (opened.ahead, opened.disordered) == (2, 0)
    assert "id 99, time 2099-12-31" in opened.ahead_rows[0]


def test_a_table_row_far_ahead_has_its_label_when_its_neighbours_do(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    times = [1_700_000_000_000 + 60_000 * number for number in range(60)]
    times.insert(30, 4_102_358_400_000)
    path.write_bytes(b"\n".join(orjson.dumps({"id": n, "x1": 1.0, "at": at, "y": 1}) for n, at in enumerate(times)))
    opened = TableSource(path, Fields("y"), 120_000).open(timed())
    found = [record for batch in opened.batches() for record in batch]
    order = [(type(one), one.event_id) for one in found]  # type: ignore[union-attr]
    assert [one for kind, one in order if kind is Event] == list(range(61))
    assert abs(order.index((Label, 30)) - order.index((Label, 29))) <= 2
    assert [one.event_id for one in found if isinstance(one, Event) and one.time_ahead] == [30]
    assert (opened.ahead, opened.disordered) == (1, 0)
    assert opened.ahead_rows == ["id 30, time 2099-12-31T00:00:00+00:00"]
