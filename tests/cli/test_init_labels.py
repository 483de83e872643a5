"""`driftline init --labels`: labels in a file of their own, joined with the rows of their events."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from driftline.cli import main
from driftline.config import load_pipeline
from driftline.core.pipeline import Pipeline
from tests.cli.command import init

ROWS = 400
BEGUN = datetime(2024, 3, 1, tzinfo=UTC)
DELAY = timedelta(hours=5)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(name: str, rows: Sequence[Sequence[Any]], separator: str = ",") -> str:
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    return name


def orders(ids: Sequence[Any]) -> list[list[Any]]:
    rng = random.Random(3)
    rows: list[list[Any]] = [["order_no", "placed_at", "amount", "shop"]]
    for place, number in enumerate(ids):
        when = BEGUN + timedelta(minutes=place)
        rows.append([number, when.isoformat(), f"{rng.uniform(5, 300):.2f}", rng.choice(["web", "till"])])
    return rows


def returns(ids: Sequence[Any], values: Sequence[Any]) -> list[list[Any]]:
    rows: list[list[Any]] = [["order_no", "decided_at", "returned"]]
    for place, (number, value) in enumerate(zip(ids, values, strict=True)):
        rows.append([number, (BEGUN + timedelta(minutes=place) + DELAY).isoformat(), value])
    return rows


def joined(name: str = "orders.joined.csv", separator: str = ",") -> list[dict[str, str]]:
    with Path(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=separator))


def made(*arguments: str, label: str = "returned") -> tuple[Result, Pipeline]:
    result = init("--input", arguments[0], "--labels", arguments[1], "--label", label, *arguments[2:])
    assert result.exit_code == 0, result.output
    return result, load_pipeline(Path("orders.yaml"))


VALUES = [int(place % 5 == 0) for place in range(ROWS)]


@pytest.mark.parametrize(
    ("event_ids", "label_ids"),
    [
        ([f"A-{place}" for place in range(ROWS)],) * 2,
        ([f"{place:06d}" for place in range(ROWS)], [f"{place}.0" for place in range(ROWS)]),
        (list(range(ROWS)), [f"{place:05d}" for place in range(ROWS)]),
    ],
    ids=["alike", "zeros in front", "zeros in front of a label's"],
)
def test_a_label_finds_its_event(event_ids: Sequence[Any], label_ids: Sequence[Any]) -> None:
    shuffled = returns(label_ids, VALUES)
    random.Random(1).shuffle(rest := shuffled[1:])
    result, pipeline = made(table("orders.csv", orders(event_ids)), table("returns.csv", [shuffled[0], *rest]))
    rows = joined()
    assert [row["order_no"] for row in rows] == [str(one) for one in event_ids]
    assert [row["returned"] for row in rows] == [str(value) for value in VALUES]
    assert "400 of 400 events have a label, joined by order_no; labels come 5 hours after their events" in result.output
    assert ("written in two ways" in result.output) == (event_ids != label_ids)
    assert pipeline.label is not None
    assert (pipeline.label.id, pipeline.label.value, pipeline.task) == ("order_no", "returned", "binary")
    assert "--input orders.joined.csv --label returned --label-delay 5h" in Path("orders.yaml").read_text()
    again = CliRunner().invoke(
        main, ["backtest", "-p", "orders.yaml", "--input", "orders.joined.csv", "--label", "returned"]
    )
    assert again.exit_code == 0, again.output


@pytest.mark.parametrize(("listed", "other"), [("1", 0), ("true", False), ("yes", "no")])
def test_a_list_of_one_class_makes_the_rest_the_other(listed: str, other: object) -> None:
    """Such as chargebacks: nobody sends a label for a payment that was not charged back."""
    ids = [place for place in range(ROWS) if VALUES[place]]
    result, pipeline = made(
        table("orders.csv", orders(range(ROWS))), table("returns.csv", returns(ids, [listed] * len(ids)))
    )
    assert [row["returned"] == listed for row in joined()] == [bool(value) for value in VALUES]
    assert "is the same in every label, so events without one count as" in result.output
    assert pipeline.label is not None
    assert pipeline.label.missing not in ("drop", None)
    assert "assume" in Path("orders.yaml").read_text()
    assert CliRunner().invoke(main, ["check", "-p", "orders.yaml"]).exit_code == 0


def test_events_without_a_label_have_none() -> None:
    result, _ = made(
        table("orders.csv", orders(range(ROWS))), table("returns.csv", returns(range(0, ROWS, 2), VALUES[::2]))
    )
    assert [row["returned"] for row in joined()][:4] == ["1", "", "0", ""]
    assert "200 of 400 events have a label" in result.output


def test_the_last_of_several_labels_counts_and_is_told() -> None:
    rows = returns([*range(ROWS), 1, 1], [*VALUES, 0, 1])
    result, _ = made(table("orders.csv", orders(range(ROWS))), table("returns.csv", rows))
    assert joined()[1]["returned"] == "1"
    assert "2 labels in returns.csv are of an event that has another; the last one counts" in result.output


def test_numbers_of_a_spreadsheet_stay_as_they_are_written() -> None:
    rows = [[cell.replace(".", ",") if at == 2 else cell for at, cell in enumerate(row)] for row in orders(range(ROWS))]
    made(table("orders.csv", rows, ";"), table("returns.csv", returns(range(ROWS), VALUES), ";"))
    assert joined(separator=";")[0]["amount"] == rows[1][2]
    assert "amount: number" in Path("orders.yaml").read_text()


def test_rows_of_json_get_the_label_as_json() -> None:
    header, *rows = orders(range(ROWS))
    documents = [dict(zip(header, [*row[:2], float(row[2]), row[3]], strict=True)) for row in rows]
    Path("orders.jsonl").write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in documents))
    made("orders.jsonl", table("returns.csv", returns(range(ROWS), VALUES)))
    lines = [orjson.loads(line) for line in Path("orders.joined.jsonl").read_bytes().splitlines()]
    assert lines == [{**one, "returned": value} for one, value in zip(documents, VALUES, strict=True)]


def test_a_slow_label_lengthens_the_wait() -> None:
    rows = [[number, "2024-05-01T00:00:00", value] for number, _, value in returns(range(ROWS), VALUES)[1:]]
    _, pipeline = made(
        table("orders.csv", orders(range(ROWS))), table("returns.csv", [["order_no", "decided_at", "returned"], *rows])
    )
    assert pipeline.label is not None
    assert pipeline.label.wait_ms >= 2 * 60 * 24 * 3_600_000


def without(name: str, rows: list[list[Any]]) -> list[list[Any]]:
    at = rows[0].index(name)
    return [[cell for place, cell in enumerate(row) if place != at] for row in rows]


@pytest.mark.parametrize(
    ("left", "right", "more", "said"),
    [
        (orders(range(ROWS)), [["nr", "returned"], ["1", "0"]], (), "have no field in common"),
        (
            orders(range(ROWS)),
            [["shop", "returned"], *[["web", "0"]] * 20],
            (),
            "share shop, but that is no id: several rows of orders.csv have the same value",
        ),
        (
            orders([f"A{place}" for place in range(ROWS)]),
            returns([f"B{place}" for place in range(ROWS)], VALUES),
            (),
            "no label in returns.csv has the order_no of an event: it is 'B0' there and 'A0' in orders.csv",
        ),
        (orders(range(ROWS)), returns(range(ROWS), VALUES), ("--id", "order"), "--id order: no such field"),
        (orders(range(ROWS)), without("returned", returns(range(ROWS), VALUES)), (), "--label returned: no such field"),
        (
            [[*row, "0" if at else "returned"] for at, row in enumerate(orders(range(ROWS)))],
            returns(range(ROWS), VALUES),
            (),
            "both orders.csv and returns.csv have a field 'returned'",
        ),
    ],
    ids=["no field", "no id", "other ids", "no such id", "no label", "two labels"],
)
def test_what_cannot_be_joined_says_why(
    left: list[list[Any]], right: list[list[Any]], more: Sequence[str], said: str
) -> None:
    table("orders.csv", left)
    table("returns.csv", right)
    result = init("--input", "orders.csv", "--labels", "returns.csv", "--label", "returned", *more)
    assert result.exit_code == 2, result.output
    assert said in result.output.replace("\n", " ")
    assert not Path("orders.joined.csv").exists()
    assert not Path("orders.yaml").exists()


def test_nothing_is_left_where_the_rest_fails_and_nothing_overwritten_unasked() -> None:
    table("orders.csv", orders(range(ROWS)))
    table("returns.csv", returns(range(ROWS), ["0"] * ROWS))
    arguments = ("--input", "orders.csv", "--labels", "returns.csv", "--label", "returned")
    assert init(*arguments).exit_code == 2, "nothing to learn"
    assert not Path("orders.joined.csv").exists()
    table("returns.csv", returns(range(ROWS), VALUES))
    Path("orders.joined.csv").write_text("mine")
    assert "orders.joined.csv already exists" in init(*arguments).output
    assert Path("orders.joined.csv").read_text() == "mine"
    assert init(*arguments, "--force").exit_code == 0
    assert "--label FIELD" in init(*arguments[:4], "--force").output


def test_what_is_left_out_is_told() -> None:
    """Rows that cannot be read, in either file, and labels of events that are not there."""
    events, labels = orders(range(ROWS)), returns(range(ROWS + 40), [*VALUES, *VALUES[:40]])
    result, _ = made(table("orders.csv", [*events, ["1", "2"]]), table("returns.csv", [*labels, ["3"]]))
    assert "40 of 440 labels are of no event in orders.csv and are left out" in result.output
    assert "1 rows of orders.csv cannot be read; the first of 1: line 402: has 2 cells" in result.output
    assert "1 rows of returns.csv cannot be read; the first of 1: line 442: has 1 cells" in result.output
