"""Which field is the event's time, and what names say beside the values."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from driftline.author.leak import Cell
from driftline.author.past import propose
from driftline.author.profile import Profile, profile
from driftline.author.word import looks_like_id, names_label, names_other_time, names_time, numbers_rows

ROWS = 300
RNG = random.Random(5)
DAYS = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=5 * place) for place in range(ROWS)]
LOGGED: list[Cell | None] = [day.isoformat() for day in DAYS]
ANY: list[Cell | None] = [f"{1950 + RNG.randrange(60)}-{1 + place % 12:02d}-11" for place in range(ROWS)]


def looked(**columns: list[Any]) -> Profile:
    table: dict[str, list[Cell | None]] = {"x": [RNG.random() for _ in range(ROWS)], **columns}
    return profile({**table, "label": [int(RNG.random() < 0.3) for _ in range(ROWS)]}, "label")


@pytest.mark.parametrize("backwards", [False, True])
def test_the_events_time_is_the_field_whose_order_the_rows_have(backwards: bool) -> None:
    logged = LOGGED[::-1] if backwards else LOGGED
    found = looked(updated=ANY, noted=logged)
    assert (found.time, found.follows) == ("noted", True)
    assert looked(exported=[LOGGED[-1]] * ROWS, noted=logged).time == "noted"  # says when the file was made


@pytest.mark.parametrize("name", ["date_of_birth", "Contract end", "valid until", "Geburtsdatum", "échéance", "Ablauf"])
def test_a_time_of_something_else_that_no_row_follows_is_not_the_events(name: str) -> None:
    found = looked(**{name: ANY})
    assert found.time is None
    assert next(one.why for one in found.left if one.name == name).startswith("it holds times")
    assert looked(**{name: LOGGED}).time == name  # but where the rows follow it, it may be


def test_a_time_of_shuffled_rows_is_taken_with_a_doubt() -> None:
    found = looked(created=ANY)
    assert (found.time, found.follows) == ("created", False)


def test_a_doubtful_date_beside_the_events_time_asks_nothing() -> None:
    doubtful: list[Any] = [f"0{place % 9 + 1}/01/2024" for place in range(ROWS)]
    assert looked(renewed=doubtful, at=LOGGED).time == "at"


def test_times_that_are_written_in_several_ways_are_read() -> None:
    ways = ("%Y-%m-%dT%H:%M:%S", "%d/%m/%Y %H:%M:%S")
    mixed: list[Any] = [
        str(int(day.timestamp() * 1_000)) if place % 5 == 4 else day.strftime(ways[place % 5 == 3])
        for place, day in enumerate(DAYS)
    ]
    found = looked(ts=mixed)
    assert (found.time, found.follows, found.untimed) == ("ts", True, 0)


def test_times_that_cannot_be_read_are_not_taken_for_ids() -> None:
    ways = ("%Y-%m-%d %H:%M", "week %j")
    mixed: list[Any] = [day.strftime(ways[place % 4 == 0]) for place, day in enumerate(DAYS)]
    left = next(one for one in looked(ts=mixed).left if one.name == "ts")
    assert left.why.startswith("most of it looks like times, but 'week 001' does not")


def test_ids_of_eight_digits_are_no_dates() -> None:
    ids = [f"{RNG.randrange(10**8):08d}" for _ in range(40)]
    found = looked(Kundennr=[RNG.choice(ids) for _ in range(ROWS)], day=[f"{day:%Y%m%d}" for day in DAYS])
    assert found.time == "day"
    cards = [f"{place * 250_003:08d}" for place in range(60)]
    cells: list[Any] = [RNG.choice(cards) for _ in range(ROWS)]
    key = next(one for one in looked(Kundennr=cells).left if one.name == "Kundennr")
    assert key.key


@pytest.mark.parametrize("name", ["Kunde", "client", "Kundennr.", "cliente", "klant", "conta", "customer", "rekening"])
def test_whole_numbers_that_are_called_ids_in_other_languages_have_a_past(name: str) -> None:
    people = [RNG.randrange(1, 80) for _ in range(ROWS)]
    assert next(one for one in looked(**{name: people}).left if one.name == name).key
    halves = [person / 2 for person in people]
    assert name in {field.name for field in looked(**{name: halves}).features}  # the values speak against it


def test_the_amount_of_a_past_is_what_is_called_money() -> None:
    columns: dict[str, Any] = {
        "at": LOGGED,
        "Betrag": [RNG.randrange(100) for _ in range(ROWS)],
        "kunde": [RNG.randrange(70) for _ in range(ROWS)],
        "distance": [RNG.random() for _ in range(ROWS)],
        "label": [int(RNG.random() < 0.3) for _ in range(ROWS)],
    }
    past = propose(profile(columns, "label"), columns, "label")
    assert past.features["kunde_mean_7d"]["history"] == "mean(Betrag)"


@pytest.mark.parametrize(
    ("said", "names", "others"),
    [
        (names_label, ["Betrug", "churn?", "Zielwert", "est_fraude", "etiqueta"], ["Betrugsart", "Ziel Ort", "x"]),
        (
            names_time,
            ["Zeitstempel", "Buchungsdatum", "fecha_alta", "date", "tijdstip", "ts"],
            ["tsunami", "holiday1x"],
        ),
        (names_other_time, ["dob", "Fälligkeit", "fim"], ["created", "final"]),
        (looks_like_id, ["PLZ-Schlüssel", "userId", "numero client", "row"], ["paid", "Skonto", "clients"]),
        (numbers_rows, ["Belegnummer", "numéro", "order no"], ["piano", "Anzahl"]),
    ],
)
def test_words_are_whole_words_but_for_compounds(said: Any, names: list[str], others: list[str]) -> None:
    assert [name for name in names if not said(name)] == []
    assert [name for name in others if said(name)] == []
