"""Which history features are proposed for a table, and why others are not."""

from __future__ import annotations

import random
from typing import Any

import pytest

from driftline.author.past import Proposal, propose
from driftline.author.profile import profile

ROWS = 400


def proposed(columns: dict[str, Any], label: str | None) -> Proposal:
    return propose(profile(columns, label), columns, label)


def payments(**more: Any) -> dict[str, Any]:
    rng = random.Random(3)
    return {
        "payment_id": list(range(ROWS)),
        "time": [1_700_000_000 + 60 * number for number in range(ROWS)],
        "card_id": [rng.randint(1, 90) for _ in range(ROWS)],
        "session_id": [f"s{rng.randint(1, 10**9)}" for _ in range(ROWS)],
        "amount": [round(rng.expovariate(0.02), 2) for _ in range(ROWS)],
        "fraud": [int(rng.random() < 0.2) for _ in range(ROWS)],
        **more,
    }


def test_an_id_that_repeats_becomes_a_key() -> None:
    found = proposed(payments(), "fraud")
    assert found.context == ("card_id",)
    assert found.features["card_id_count_1d"] == {"history": "count", "by": "card_id", "over": "1d"}
    assert found.features["card_id_mean_7d"] == {"history": "mean(amount)", "by": "card_id", "over": "7d"}
    assert found.features["card_id_label_30d"] == {"history": "label_mean", "by": "card_id", "over": "30d"}
    assert found.features["card_id_since_last"]["history"] == "since_last"
    assert any("card_id is not a feature itself; counts" in note for note in found.notes)
    assert not any("session_id" in str(form) for form in found.features.values())


def test_what_gives_the_label_away_is_in_no_history() -> None:
    columns = payments()
    columns["case_id"] = [f"case {label}" for label in columns["fraud"]]
    columns["review"] = [label * 2.5 for label in columns["fraud"]]
    found = proposed(columns, "fraud")
    assert not any(name in str(form) for form in found.features.values() for name in ("case_id", "review", "fraud"))


def test_classes_give_no_label_history_but_counts() -> None:
    found = proposed(payments(fraud=["a", "b", "c", "a"] * (ROWS // 4)), "fraud")
    assert "card_id_count_1d" in found.features
    assert not any(form["history"].startswith("label") for form in found.features.values())


def test_without_times_history_has_no_windows_and_it_says_why() -> None:
    columns = payments()
    del columns["time"]
    found = proposed(columns, "fraud")
    assert found.context == ("card_id",)
    assert found.features == {
        "card_id_count": {"history": "count", "by": "card_id"},
        "card_id_mean": {"history": "mean(amount)", "by": "card_id"},
        "card_id_label": {"history": "label_mean", "by": "card_id"},
    }
    assert found.notes[0].startswith("no field holds the event's time, so records count by their own time")


def test_a_text_of_many_values_that_come_again_is_a_key_whatever_its_name() -> None:
    """A card is known by its past, and a burst shows within the hour. A mean of no label is left out, not 0."""
    rng = random.Random(4)
    columns = payments()
    columns["card"] = [f"c{rng.randint(1, 90):03d}" for _ in range(ROWS)]
    del columns["card_id"], columns["session_id"]
    found = proposed(columns, "fraud")
    assert found.context == ()
    assert found.features["card_count_1d"] == {"history": "count", "by": "card", "over": "1d"}
    assert found.features["card_count_1h"] == {"history": "count", "by": "card", "over": "1h"}
    assert found.features["card_count_10m"] == {"history": "count", "by": "card", "over": "10m"}
    label = {"history": "label_mean", "by": "card", "over": "30d", "missing": "omit"}
    assert found.features["card_label_30d"] == label
    assert "card has many values that come again: counts, means and times by it are features too" in found.notes


def test_without_bursts_no_count_within_the_hour_is_proposed() -> None:
    rng = random.Random(4)
    columns = payments(card=[f"c{rng.randint(1, 90):03d}" for _ in range(ROWS)])
    columns["time"] = [1_700_000_000 + 7_200 * number for number in range(ROWS)]
    del columns["card_id"], columns["session_id"]
    found = proposed(columns, "fraud")
    assert "card_count_1d" in found.features
    assert "card_count_1h" not in found.features


@pytest.mark.parametrize("classes", [(0, 1), ("calm", "busy"), ("a", "b", "c")])
def test_parts_of_the_time_by_which_classes_differ_are_features(classes: tuple[Any, ...]) -> None:
    rng = random.Random(6)
    step = 3_000
    columns = payments(time=[1_700_000_000 + step * number for number in range(ROWS)])
    nights = [(1_700_000_000 + step * number) // 3_600 % 24 < 5 for number in range(ROWS)]
    columns["fraud"] = [classes[-1] if night and rng.random() < 0.8 else rng.choice(classes[:-1]) for night in nights]
    found = proposed(columns, "fraud")
    assert found.features["hour"] == {"calendar": "hour"}
    assert found.calendar == ("hour",)
    assert "labels differ by hour, so these parts of time are features" in found.notes
    even = [rng.choice(classes) for _ in range(ROWS)]
    assert "hour" not in proposed(columns | {"fraud": even}, "fraud").features


def test_rows_without_time_or_order_get_no_past_of_the_label() -> None:
    """The label of another row says nothing of this one, and noise costs."""
    rng = random.Random(7)
    columns = {"x": [rng.random() for _ in range(ROWS)], "y": [rng.random() for _ in range(ROWS)]}
    assert proposed(columns, "y") == Proposal()


@pytest.mark.parametrize(("hours", "warned"), [("hr", True), ("pickup_hour", True), ("shift", False)])
def test_a_date_beside_the_hour_is_pointed_out(hours: str, warned: bool) -> None:
    columns = payments(time=[f"2024-01-{1 + number // 24 % 28:02d}" for number in range(ROWS)])
    columns[hours] = [number % 24 for number in range(ROWS)]
    notes = [note for note in proposed(columns, "fraud").notes if "without a time of day" in note]
    assert [f"{hours} looks like the hour" in note for note in notes] == [True] * warned


def test_anomalies_get_none() -> None:
    columns = payments()
    del columns["fraud"]
    assert proposed(columns, None) == Proposal()


def test_a_number_is_predicted_from_what_it_was_in_events_alike() -> None:
    """The fields by which it is told are those that explain most of it."""
    rng = random.Random(5)
    hours = [number % 24 for number in range(ROWS)]
    off = [number // 24 % 7 >= 5 for number in range(ROWS)]
    riders = [hour * (1 + 2 * free) * 10 + rng.random() for hour, free in zip(hours, off, strict=True)]
    found = proposed(
        {
            "time": [1_700_000_000 + 3600 * number for number in range(ROWS)],
            "hour": hours,
            "noise": [rng.randint(0, 5) for _ in range(ROWS)],
            "off": off,
            "riders": riders,
        },
        "riders",
    )
    assert found.features["label_last"] == {"history": "label_last"}
    assert found.features["hour_label_7d"] == {"history": "label_mean", "by": "hour", "over": "7d"}
    assert found.features["hour_off_label_last"] == {"history": "label_last", "by": ["hour", "off"]}
    assert not any("noise" in name for name in found.features)
