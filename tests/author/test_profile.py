"""What a table seems to be."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from driftline.author.leak import Cell
from driftline.author.profile import Field, Profile, ProfileError, profile
from driftline.author.word import looks_like_id

ROWS = 400
RNG = random.Random(3)
AMOUNTS = [round(RNG.lognormvariate(3, 1), 2) for _ in range(ROWS)]
LABELS = [int(RNG.random() < 0.3) for _ in range(ROWS)]


def looked(label: list[Any] | None = None, **columns: list[Any]) -> Profile:
    table: dict[str, list[Cell | None]] = {"amount": list(AMOUNTS), **columns}
    if label is not None:
        table["label"] = label
    return profile(table, None if label is None else "label")


def why(found: Profile, name: str) -> str:
    return next(left.why for left in found.left if left.name == name)


def feature(found: Profile, name: str) -> Field:
    return next(field for field in found.features if field.name == name)


# -- the label


@pytest.mark.parametrize(
    ("values", "task", "positive"),
    [
        ([0, 1], "binary", None), ([True, False], "binary", None), ([0.0, 1.0], "binary", None),
        ([-1, 1], "binary", 1),
        ([1, 2], "binary", 2), (["ham", "ham", "spam"], "binary", "spam"), (["no", "no", "yes"], "binary", "yes"),
        (["yes", "yes", "no"], "binary", "yes"), (["a", "a", "b"], "binary", "b"), (["a", "b",
        "c"], "multiclass", None),
        ([1, 2, 3], "multiclass", None), ([0.5, 1.5, 2.5], "regression", None), (list(range(100)),
        "regression", None),
    ],
)  # fmt: skip
def test_task_and_positive_value(values: list[Any], task: str, positive: object) -> None:
    target = looked([values[place % len(values)] for place in range(ROWS)]).target
    assert (target.task, target.positive) == (task, positive)


@pytest.mark.parametrize("values", [["yes", "Yes ", "no"], ["Paid", "paid"], ["red", "blue", "dark  red", "Dark red"]])
def test_values_that_differ_only_in_case_or_blanks_are_refused_unless_they_are_meant(values: list[Any]) -> None:
    cells = [values[place % len(values)] for place in range(ROWS)]
    with pytest.raises(ProfileError, match="differ only in case or spaces; write them alike .* --task multiclass"):
        looked(cells)
    table: dict[str, list[Cell | None]] = {"amount": list(AMOUNTS), "label": cells}
    assert profile(table, "label", task="multiclass").target.task == "multiclass"


def test_a_rare_class_is_seen() -> None:
    assert looked([int(place % 50 == 0) for place in range(ROWS)]).target.rare == 0.02


def test_without_a_label_anomalies_are_scored() -> None:
    assert looked().target.task == "anomaly"


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ([None] * ROWS, "empty in every row"),
        ([1] * ROWS, "is 1 in every row"),
        ([f"text {place}" for place in range(ROWS)], "too many for classes"),
    ],
)
def test_labels_that_are_none(label: list[Any], told: str) -> None:
    with pytest.raises(ProfileError, match=told):
        looked(label)


@pytest.mark.parametrize(("task", "told"), [("regression", "needs numbers"), ("binary", "needs two")])
def test_tasks_that_the_label_does_not_fit(task: Any, told: str) -> None:
    table: dict[str, list[Cell | None]] = {"amount": list(AMOUNTS), "label": list("abcd" * 100)}
    with pytest.raises(ProfileError, match=told):
        profile(table, "label", task=task)


def test_the_task_can_be_said() -> None:
    table: dict[str, list[Cell | None]] = {"amount": list(AMOUNTS), "stars": [1, 2, 3, 4] * 100}
    assert profile(table, "stars").target.task == "multiclass"
    assert profile(table, "stars", task="regression").target.task == "regression"


# -- id and time


def test_id_and_time_are_found() -> None:
    found = looked(
        LABELS,
        customer_id=[place % 90 for place in range(ROWS)],
        payment_id=[place * 7 for place in range(ROWS)],
        at=[f"2024-01-{1 + place // 30:02d} 10:00:00" for place in range(ROWS)],
    )
    assert (found.id, found.time, found.in_order) == ("payment_id", "at", True)
    assert why(found, "customer_id").startswith("an id")


def test_what_the_user_says_counts() -> None:
    table: dict[str, list[Cell | None]] = {
        "a_id": list(range(ROWS)),
        "b_id": [f"b{place}" for place in range(ROWS)],
        "x": list(AMOUNTS),
        "y": list(LABELS),
    }
    assert profile(table, "y").id == "a_id"
    found = profile(table, "y", event_id="b_id")
    assert found.id == "b_id"
    assert why(found, "a_id")


@pytest.mark.parametrize(
    ("name", "cells", "taken"),
    [
        ("created_at", [1_700_000_000 + place for place in range(ROWS)], True),
        ("timestamp", [1_700_000_000_000 - place for place in range(ROWS)], True),
        ("amount_2", [1_700_000_000 - place for place in range(ROWS)], False),
        ("elapsed_time", [ROWS - place for place in range(ROWS)], False),
        ("when", ["2024-01-01T00:00:00Z"] * ROWS, True),
        ("day", ["Monday", "Tuesday"] * (ROWS // 2), False),
        ("date", ["2024-01-01"] * (ROWS - 1) + ["n/a"], True),
        ("date", ["2024-01-01", "n/a"] * (ROWS // 2), False),
    ],
)
def test_what_a_time_looks_like(name: str, cells: list[Any], taken: bool) -> None:
    assert looked(LABELS, **{name: cells}).time == (name if taken else None)


def test_rows_out_of_order_are_told() -> None:
    assert not looked(LABELS, at=["2024-01-02", "2024-01-01"] * (ROWS // 2)).in_order


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("id", True), ("ID", True), ("TX_ID", True), ("customerId", True), ("user-id", True), ("uuid", True),
        ("row.id", True),
        ("instant", True), ("humid", False), ("paid", False), ("valid", False), ("amount", False), ("", False),
        ("idea", False),
    ],
)  # fmt: skip
def test_names_of_ids(name: str, expected: bool) -> None:
    assert looks_like_id(name) is expected


# -- features


@pytest.mark.parametrize(
    ("cells", "kind", "use"),
    [
        ([1, 2.5] * 200, "number", "number"), ([5, 3, 8, 0] * 100, "number", "number"),
        ([True, False] * 200, "boolean", "boolean"),
        (["true", "false"] * 200, "boolean", "boolean"), (["Yes", "no"] * 200, "boolean", "boolean"),
        (["red", "blue", "green", "red"] * 100, "string", "category"),
        ([f"shop {place % 80}" for place in range(ROWS)], "string", "hashed"),
    ],
)  # fmt: skip
def test_types_and_uses(cells: list[Any], kind: str, use: str) -> None:
    field = feature(looked(LABELS, field=cells), "field")
    assert (field.type, field.use, field.fill) == (kind, use, None)


@pytest.mark.parametrize(
    ("cells", "fill"),
    [([1, 2, 3, None] * 100, 2), ([True, False, None, True] * 100, False), (["a", "b", None, "c"] * 100, "missing")],
)
def test_gaps_are_filled(cells: list[Any], fill: object) -> None:
    assert feature(looked(LABELS, field=cells), "field").fill == fill


@pytest.mark.parametrize(
    ("name", "cells", "told"),
    [
        ("empty", [None] * ROWS, "empty in every row"),
        ("constant", ["x"] * ROWS, "one value in every row"),
        ("counter", [place // 3 for place in range(ROWS)], "only increases"),
        ("hash", [f"{place * 7919 % 10007:x}" for place in range(ROWS)], "almost every value is unique"),
        ("shop_id", [f"shop {place % 80}" for place in range(ROWS)], "an id"),
        ("mixed", ["a", 1] * (ROWS // 2), "text in some rows and numbers"),
        ("huge", [10**17, 1] * (ROWS // 2), "number_max"),
        ("a\nb", [1, 2] * (ROWS // 2), "printable"),
    ],
)
def test_what_is_left_out(name: str, cells: list[Any], told: str) -> None:
    found = looked(LABELS, **{name: cells})
    assert told in why(found, name)
    assert [field.name for field in found.features] == ["amount"]


def test_numbers_and_texts_are_all_text_in_a_file_without_types() -> None:
    codes: list[Cell | None] = ["0123", 1234, "0456", 789] * (ROWS // 4)
    table: dict[str, list[Cell | None]] = {"code": codes, "amount": list(AMOUNTS), "label": list(LABELS)}
    assert [field.name for field in profile(table, "label").features] == ["amount"]
    untyped = profile(table, "label", typed=False)
    assert [(field.name, field.use) for field in untyped.features] == [("code", "category"), ("amount", "number")]


def test_a_few_texts_in_a_column_of_numbers_are_told() -> None:
    field = feature(looked(LABELS, field=[1, 2] * 199 + ["n/a", 3]), "field")
    assert field.type == "number"
    assert "'n/a'" in field.note


def test_prose_alone_is_a_feature_of_classes() -> None:
    prose: list[Cell | None] = [f"the quick brown fox number {place}" for place in range(ROWS)]
    found = profile({"text": prose, "label": list(LABELS)}, "label")
    assert [field.use for field in found.features] == ["text"]


def test_prose_is_a_feature_of_numbers() -> None:
    prose: list[Cell | None] = [f"the quick brown fox number {place}" for place in range(ROWS)]
    amounts: list[Cell | None] = list(AMOUNTS)
    found = profile({"text": prose, "b": [place % 9 for place in range(ROWS)], "label": amounts}, "label")
    assert feature(found, "text").use == "text"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([10**10 + 7_919 * place**2 for place in range(90)], True),  # cards
        ([10_001 + 137 * place for place in range(90)], True),  # postcodes
        ([20_000 + 500 * place for place in range(90)], False),  # pay, rounded
        ([9_001 + 137 * place for place in range(90)], False),  # of several lengths
        ([20_240_101 + 100 * (place % 12) + place // 12 for place in range(90)], False),  # days
        ([10**10 + place for place in range(ROWS)], False),  # each is another
        ([100 + place for place in range(90)], False),
    ],
)
def test_long_numbers_that_come_again_are_ids_whatever_their_name(values: list[int], named: bool) -> None:
    rng = random.Random(8)
    found = looked(LABELS, card=[values[place] if len(values) == ROWS else rng.choice(values) for place in range(ROWS)])
    keys = [left.name for left in found.left if left.key]
    assert keys == (["card"] if named else [])


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%Y-%m-%d", "%d.%m.%Y %H:%M"])
def test_other_times_than_the_events_are_left_out(form: str) -> None:
    days = [datetime(2024, 1, 1) + timedelta(days=place % 80) for place in range(ROWS)]  # noqa: DTZ001 - as text only
    at = [f"2024-01-{1 + place // 30:02d} 10:00" for place in range(ROWS)]
    shop = [f"shop {place % 80}" for place in range(ROWS)]
    found = looked(LABELS, at=at, until=[day.strftime(form) for day in days], shop=shop)
    assert found.time == "at"
    assert why(found, "until").startswith("it holds times")
    assert feature(found, "shop").use == "hashed"


def test_a_copy_of_a_field_is_left_out() -> None:
    found = looked(LABELS, celsius=list(AMOUNTS), other=[amount + 1 for amount in AMOUNTS], of=["a", "b"] * (ROWS // 2))
    assert why(found, "celsius") == "it is the same as amount in every row"
    assert {"amount", "other", "of"} <= {field.name for field in found.features}


def test_a_text_that_stands_in_some_rows_only_says_something_by_that() -> None:
    closed = [(lambda label: "default" if label else None)(RNG.random() < 0.3) for _ in range(ROWS)]
    assert feature(looked(LABELS, closed=closed), "closed").fill == "missing"
    revealing = ["default" if label else None for label in LABELS]
    assert why(looked(LABELS, closed=revealing), "closed").startswith("reveals the label")
    assert why(looked(LABELS, flag=[1, None] * (ROWS // 2)), "flag") == "it has one value in every row that has one"


@pytest.mark.parametrize("name", ["invoice_no", "Ticket-Nr.", "order number", "case_ref"])
def test_a_number_that_tells_rows_apart_is_the_id(name: str) -> None:
    rows: list[Any] = [f"INV-{place}" for place in range(ROWS)]
    both: dict[str, list[Any]] = {name: rows, "id": list(range(ROWS))}
    assert looked(LABELS, **{name: rows}).id == name
    assert looked(LABELS, **both).id == "id"
    assert looked(LABELS, **{name: [*rows[:-1], rows[0]]}).id is None


@pytest.mark.parametrize(
    ("name", "values", "task"),
    [
        ("sales", [0, 0, 0, 1, 1, 2, 0, 1, 3, 0], "regression"),
        ("stars", [1, 5, 5, 5, 5, 5, 4, 5, 5, 5], "regression"),
        ("wait", [0, 5, 10, 15, 0, 5, 10, 15, 5, 10], "regression"),
        ("species", [0, 0, 0, 0, 0, 0, 0, 1, 2, 0], "multiclass"),
        ("digit", [3, 4, 7, 7, 7], "multiclass"),
        ("answer", [0, 1, 2, 0, 1, 2, 2], "multiclass"),
    ],
)
def test_whole_numbers_are_classes_only_where_they_look_like_it(name: str, values: list[Any], task: str) -> None:
    label = [values[place % len(values)] for place in range(ROWS)]
    found = profile({"amount": list(AMOUNTS), name: label}, name)
    assert found.target.task == task


def test_seconds_since_1970_are_a_time_whatever_they_are_called() -> None:
    seconds: list[Cell | None] = [1_709_251_200 + 60 * place for place in range(ROWS)]
    assert looked(LABELS, logged=seconds).time == "logged"
    assert looked(LABELS, logged=list(reversed(seconds))).time is None


def test_dates_that_can_be_read_two_ways_are_asked_about() -> None:
    dates: list[Cell | None] = [f"{place % 12 + 1:02d}/01/2024" for place in range(ROWS)]
    with pytest.raises(ProfileError, match="column created: '01/01/2024'.*|column created: '02/01/2024' may have"):
        looked(LABELS, created=dates)
    found = looked(LABELS, created=[*dates[1:], "13/01/2024"])
    assert (found.time, found.time_form.name) == ("created", "day-first")


def test_leaks_are_left_out_in_the_files_order() -> None:
    found = looked(LABELS, scenario=[2 * label for label in LABELS], constant=[1] * ROWS)
    assert [(left.name, left.leak) for left in found.left] == [("scenario", True), ("constant", False)]


def test_nothing_to_learn_from_is_told() -> None:
    with pytest.raises(ProfileError, match="no usable feature"):
        profile({"constant": [1] * ROWS, "label": list(LABELS)}, "label")
