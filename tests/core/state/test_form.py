"""What a state holds has the form that our code gives it, or the state is refused, where no key vouches for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import partial
from importlib import import_module
from math import nan
from random import Random
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from msgspec import Struct, structs

from driftline.core.error import SnapshotError
from driftline.core.guard.quarantine import Pair, Seen
from driftline.core.output import Forecast
from driftline.core.pickle.allowlist import OWN
from driftline.core.river.ahead import Ahead
from driftline.core.state.form import attributes
from driftline.core.state.freeze import KEPT, dump, dump_model, load
from driftline.core.state.model_file import UnfitError, model_of
from driftline.engine.note import note_of
from driftline.engine.trial import check_works
from tests.support.lived import Life, pipelines

PIPELINES = pipelines()
LIVED_FOR = 123
FORECAST = Forecast(("a",), 0, 1, (1.0,), (0.5,), (1.5,), (1.0,), 0.9)
OTHERS = frozenset(  # River's kind: a model, a metric or a part of one, whose exceptions are the model's
    {
        "Arrivals", "Boosted", "Brier", "ClickRate", "Confusion", "Coverage", "ECE",
        "EchoClassifier", "EchoRegressor", "Explored", "Hit", "LogTargetRegressor", "Logarithms", "NDCG",
        "PopularityReward", "Reward", "Select", "Uplift", "_Counts", "_Rows",
        "Ledger", "EarlyLabels",  # looked at event by event, and label by label
        "ValueWatch",  # an abstract base
    }
)  # fmt: skip


def _parts(thing: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """A thing of a state and all that is in it, as far as it is of our own making."""
    if id(thing) in seen:
        return
    seen[id(thing)] = thing
    inner: Any = ()
    if isinstance(thing, Mapping):
        inner = thing.values()
    elif isinstance(thing, list | tuple | deque):
        inner = thing
    elif type(thing).__module__.startswith("driftline.core.") and not isinstance(thing, Struct | Enum):
        yield thing
        inner = _state_of(thing).values()
    for one in list(inner):
        yield from _parts(one, seen)


def _state_of(thing: Any) -> dict[str, Any]:
    """The attributes that are pickled."""
    state = thing.__reduce_ex__(4)[2]
    parts = [one for one in (state if isinstance(state, tuple) else (state,)) if isinstance(one, dict)]
    return {name: one for part in parts for name, one in part.items()}


def test_every_attribute_that_is_kept_has_a_form(lived: dict[str, bytes]) -> None:
    """What has none is looked at no closer than its type: a list in the wrong place ended the worker later on."""
    elsewhere = {*OTHERS, "Learner", "DriftMonitors"}  # those write their state under other names
    missing = set()
    for name, frozen in lived.items():
        shard, seen = load(PIPELINES[name], 0, frozen), dict[int, Any]()
        for part in KEPT:
            for thing in _parts(getattr(shard, part), seen):
                if type(thing).__name__ in elsewhere or (form := attributes(type(thing))) is None:
                    continue
                missing |= {f"{type(thing).__name__}.{one}" for one in _state_of(thing) if one not in form}
    assert missing == set()


@pytest.fixture(scope="module")
def lived() -> dict[str, bytes]:
    """The states of all pipelines."""
    found = {}
    for name, pipeline in PIPELINES.items():
        life = Life(pipeline)
        life.run(LIVED_FOR)
        found[name] = dump(life.shard)
    return found


def test_every_class_that_a_state_may_hold_has_a_form() -> None:
    for module, names in OWN.items():
        for name in names.split():
            kind = getattr(import_module(f"driftline.core.{module}"), name)
            assert (attributes(kind) is not None) != (name in OTHERS), f"{name} is in no table"


@pytest.mark.parametrize("name", PIPELINES)
def test_a_state_of_ours_has_it_at_any_age(name: str) -> None:
    life = Life(PIPELINES[name])
    for count in (0, 1, 30, 100):
        life.run(count)
        check_works(load(life.pipeline, 0, dump(life.shard)))
    life.end()
    check_works(load(life.pipeline, 0, dump(life.shard)))


def past(change: Callable[[list[Any]], object]) -> Callable[[Any], object]:
    """A change of what is kept of one series."""

    def changed(shard: Any) -> None:
        segment = shard.history.series._open
        place = max(number for number, kept in enumerate(segment.pasts) if kept is not None)
        kept = msgspec.msgpack.decode(segment.pasts[place])
        change(kept)
        segment.pasts[place] = msgspec.msgpack.encode(kept)

    return changed


def held(**changes: Any) -> Callable[[Any], object]:
    def changed(shard: Any) -> None:
        event_id, one = next(iter(shard.kept.held.items()))
        shard.kept.held[event_id] = structs.replace(one, **changes)

    return changed


def put(path: str, value: object) -> Callable[[Any], object]:
    """Put something in the place of an attribute."""

    def changed(shard: Any) -> None:
        *way, last = path.split(".")
        for name in way:
            shard = getattr(shard, name)
        object.__setattr__(shard, last, value)

    return changed


def one_dict(whole: Any, name: str, other: Any, also: str) -> None:
    """Put one dict, of either form as it is empty, in two places."""
    empty: dict[Any, Any] = {}
    setattr(whole, name, empty)
    setattr(other, also, empty)


HOSTILE: dict[str, tuple[str, Callable[[Any], object]]] = {
    "the sizes of a series are texts": ("forecast", put("forecasts.sizes", np.array(["a", "b"]))),
    "sums that are not finite": ("forecast", put("forecasts.swung", nan)),
    "a board of no horizons": ("forecast", lambda shard: put("sums", np.zeros((0, 13)))(shard.forecasts.segments["t"])),
    "a board with no count": ("forecast", put("forecasts.board.sums", np.full((4, 13), nan))),
    "intervals of one horizon": ("forecast", lambda shard: shard.forecasts.intervals.alphas.pop()),
    "residuals without an order": ("forecast", lambda shard: shard.forecasts.intervals._kept[0].append(nan)),
    "a window without an end": ("forecast", put("forecasts.intervals.window", 2**40)),
    "data in place of a method": ("forecast", put("forecasts.intervals.halves", 1)),
    "a series of half a number": ("forecast", past(lambda kept: kept.__setitem__(2, kept[2][:-1]))),
    "a series without values": ("forecast", past(lambda kept: kept.__setitem__(slice(2, 4), [b"", b""]))),
    "a series of no time": ("forecast", past(lambda kept: kept.__setitem__(0, "then"))),
    "a series longer than is kept": (
        "forecast", past(lambda kept: kept.__setitem__(slice(2, 4), [bytes(8 * 9_000), bytes(9_000)])),
    ),
    "a forecast from before its series": ("forecast", past(lambda kept: kept[7][0].__setitem__(0, -5))),
    "a forecast of few horizons": ("forecast", past(lambda kept: kept[7][0].__setitem__(2, b""))),
    "a forecast of no scale": ("forecast", past(lambda kept: kept[7][0].__setitem__(4, 0.0))),
    "a level of no season": ("series", past(lambda kept: kept[8].__setitem__(0, b""))),
    "a forecast of the guard without rungs": ("forecast", past(
        lambda kept: kept[7].__setitem__(0, [*kept[7][0][:9], [bytes(32), bytes(32), bytes(32), bytes(32), []]])
    )),
    "fewer models than horizons": ("forecast", lambda shard: shard.learner.model.models.pop()),
    "a generation that is a text": ("slates", put("learner.generation", "\x1b[31m")),
    "an item in no row": ("slates", lambda shard: shard.learner.model.model._rows.update(a=77)),
    "rows of less than their width": ("slates", put("learner.model.model._precision", np.zeros((1, 2, 2)))),
    "items let go that are a text": ("slates", put("learner.model.popularity.evicted", "many")),
    "popularity without a bound": ("popular", put("learner.model.popularity.items_max", 2**40)),
    "rewards that are texts": ("popular", lambda shard: shard.learner.model.popularity._seen.update(a=("1", "2"))),
    "another model within": ("popular", lambda shard: put("model", shard.learner.model.model["LinearRegression"])(
        shard.learner.model
    )),
    "a deadline that is a text": ("guarded number", held(deadline_ms="soon")),
    "a review of nothing": ("guarded number", lambda shard: shard.kept.held.update(e=None)),
    "tripped by no rung": ("guarded class", held(tripped=[1])),
    "a key that is a list": ("guarded number", held(series=[1])),
    "decisions that are numbers": ("guarded class", lambda shard: shard.kept.decided.update(e5=0.5)),
    "held features of few": ("guarded number", held(features=(1.0,))),
    "a held number with a forecast": ("guarded number", held(ahead=FORECAST)),
    "a last value that is a text": ("guarded number", lambda shard: next(iter(shard.kept.series.values())).__setitem__(
        0, "much"
    )),
    "a season of a part too many": ("guarded number", lambda shard: next(iter(shard.kept.series.values()))[2].update(
        {99: [1, 2.0, None]}
    )),
    "a count of clean ones that is none": ("guarded number", put("kept.clean", None)),
    "known values of few parts": ("guarded class", lambda shard: shard.kept.known[0].pop()),
    "a crowd of two numbers": ("guarded class", lambda shard: shard.kept.crowds.append([1, 2])),
    "trips that are texts": ("guarded class", lambda shard: shard.kept.trips.update(untrained="x")),
    "an amount that no entry holds": ("guarded class", lambda shard: shard.kpis.each["loss"].total.known.update(
        false_negative=[1, 10**400, 0]
    )),
    "a tally of few codes": ("held back", put("quarantine.test.reference", [0.0] * 30)),
    "a tally below 0": ("held back", put("quarantine.test.reference", [1e6, -1e5] * 16)),
    "a block that is more than is remembered": ("held back", put("quarantine.test.before", [1e5] * 32)),
    "prices of few codes": ("held back", put("quarantine.test.gains", [(1.0, 1.0, 1.0)] * 5)),
    "prices of two shares": ("held back", lambda shard: (
        put("gains", [(1.0, 1.0)] * 32)(shard.quarantine.test), put("rates", [0.1] * 16)(shard.quarantine.test),
        put("all_gains", [(1.0, 1.0, 1.0)] * 2)(shard.quarantine.test)
    )),
    "a price of all for no contradiction": ("held back", lambda shard: (
        put("gains", [(1.0, 1.0, 1.0)] * 32)(shard.quarantine.test), put("rates", [0.1] * 16)(shard.quarantine.test),
        put("all_gains", [(1.0, 1.0, 1.0)])(shard.quarantine.test)
    )),
    "labels that are suspect at no rate": ("held back", put("quarantine.test.suspect", True)),
    "rates of nothing": ("held back", lambda shard: (
        put("gains", [(1.0, 1.0, 1.0)] * 32)(shard.quarantine.test), put("rates", [0.0] * 16)(shard.quarantine.test),
        put("all_gains", [(1.0, 1.0, 1.0)] * 2)(shard.quarantine.test)
    )),
    "one bet": ("held back", put("quarantine.test.bets", (1.0,))),
    "a bet that never began": ("held back", put("quarantine.test.begun", [0])),
    "pairs that wait for ever": ("held back", lambda shard: shard.quarantine.held.append(
        Pair("o", "e", (0.0,) * 5, True, 5, 5)
    )),
    "a pair of no code": ("held back", lambda shard: shard.quarantine.seen.append(Seen(1, 99, (0.0,) * 5, 0))),
    "a pair of other features": ("held back", lambda shard: shard.quarantine.seen.append(Seen(1, 3, (0.0,), 0))),
    "a vocabulary of few slots": ("texts", lambda shard: put("_slots", bytearray(3))(shard.monitors.watches[0][1])),
    "a warm-up that is a list": ("texts", put("monitors.warmup_labels", [1])),
    "a class counted by a deque": ("texts", lambda shard: shard.classes.update(b=deque([1]))),
    "commands in a tuple": ("texts", put("commands.latest", ())),
    "a metric's window without an end": ("texts", lambda shard: put("recent", deque())(
        next(iter(shard.evaluation.tracks.values()))
    )),
    "a number of labels that is a tuple": ("texts", put("evaluation.taken", (1,))),
    "held predictions that are lost labels": (
        "series", lambda shard: one_dict(shard.kept, "held", shard.strays, "fresh")
    ),
    "counts that are metrics": ("held back", lambda shard: one_dict(shard, "drifts", shard.evaluation, "tracks")),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_has_not_is_refused(name: str, lived: dict[str, bytes]) -> None:
    kind, change = HOSTILE[name]
    shard = load(PIPELINES[kind], 0, lived[kind])
    change(shard)
    with pytest.raises(SnapshotError):
        check_works(load(PIPELINES[kind], 0, dump(shard)))


@pytest.fixture(scope="module")
def holding() -> bytes:
    """A shard that holds a forecast."""
    life = Life(PIPELINES["series"])
    while not life.shard.kept.held:
        life.run(1)
    return dump(life.shard)


@pytest.mark.parametrize(
    "changes",
    [
        {"series": ()},
        {"values": (1.0,)},
        {"lower": ()},
        {"naive": (1.0,) * 5},
        {"guard": ("held",)},
        {"instead": (None, None)},
        None,
    ],
    ids=str,
)
def test_a_held_forecast_is_of_the_pipeline(changes: dict[str, Any] | None, holding: bytes) -> None:
    kind = PIPELINES["series"]
    check_works(load(kind, 0, holding))
    shard = load(kind, 0, holding)
    event_id, one = next(iter(shard.kept.held.items()))
    ahead = None if changes is None or one.then_ahead is None else structs.replace(one.then_ahead, **changes)
    shard.kept.held[event_id] = structs.replace(one, then_ahead=ahead)
    with pytest.raises(SnapshotError):
        check_works(load(kind, 0, dump(shard)))


OF_MODELS = (
    "fewer models than horizons", "an item in no row", "rows of less than their width", "items let go that are a text",
    "popularity without a bound", "rewards that are texts", "another model within",
)  # fmt: skip


@pytest.mark.parametrize("name", OF_MODELS)
def test_a_model_file_whose_model_has_not_is_refused(name: str, lived: dict[str, bytes]) -> None:
    kind, change = HOSTILE[name]
    shard = load(PIPELINES[kind], 0, lived[kind])
    change(shard)
    with pytest.raises(UnfitError):
        model_of(PIPELINES[kind], dump_model(shard.learner.model))


@pytest.mark.parametrize("name", PIPELINES)
def test_a_model_file_of_ours_has_it(name: str, lived: dict[str, bytes]) -> None:
    model = load(PIPELINES[name], 0, lived[name]).learner.model
    assert type(model_of(PIPELINES[name], dump_model(model))) is type(model)


# -- any part, by chance

VALUES: list[Any] = [
    None, True, -1, 0, 3, 2**31, 2**65, 2**70, 10**400, -2.5, nan, float("inf"), 1e308, "", "x", "\x1b[31m\0", b"",
    b"xy", [], {}, (), [[[1]]], {"a": 1}, np.zeros((2, 3)), np.array(["a"]), 1j, deque(maxlen=0), {1, 2},
]  # fmt: skip
LEFT_ALONE = frozenset({"pipeline", "_form", "_rows", "_pipeline", "_conditions", "plan", "_transform", "_updates"})


def places(whole: Any) -> Iterator[tuple[Any, Callable[[Any], object]]]:
    """What something holds, and how to put something else there."""
    if isinstance(whole, dict):
        yield from [(one, partial(whole.__setitem__, key)) for key, one in list(whole.items())[:50]]
    elif isinstance(whole, list | deque):
        yield from [(one, partial(whole.__setitem__, place)) for place, one in enumerate(list(whole)[:50])]
    elif isinstance(whole, Struct):
        yield from [
            (getattr(whole, name), partial(structs.force_setattr, whole, name)) for name in whole.__struct_fields__
        ]
    else:
        slots = [name for kind in type(whole).__mro__ for name in kind.__dict__.get("__slots__", ())]
        for name in [*getattr(whole, "__dict__", {}), *(slots if not isinstance(whole, Ahead) else ())]:
            if name not in LEFT_ALONE and hasattr(whole, name):
                yield getattr(whole, name), partial(object.__setattr__, whole, name)


def spoil(shard: Any, random: Random) -> str:
    """Put something somewhere; returns where and what."""
    name = random.choice([one for one in KEPT if one not in ("pending", "early", "history")])
    part = getattr(shard, name)
    place: Callable[[Any], object] = partial(setattr, shard, name)
    for _ in range(random.choice((0, 1, 1, 2, 2, 3, 4, 6))):
        inner = list(places(part)) if not callable(part) or hasattr(part, "__dict__") else []
        if not inner:
            break
        part, place = random.choice(inner)
    value = random.choice(VALUES)
    place(value)
    return f"{name}: {value!r:.50} in place of {part!r:.50}"


@pytest.mark.parametrize("name", PIPELINES)
def test_whatever_stands_anywhere_is_refused_or_harmless(name: str, lived: dict[str, bytes]) -> None:
    random, pipeline, refused = Random(name), PIPELINES[name], 0
    for _ in range(12):
        shard = load(pipeline, 0, lived[name])
        spoilt = spoil(shard, random)
        try:
            frozen = dump(shard)
        except Exception:  # noqa: BLE001 - it cannot even be written
            continue
        try:
            other = load(pipeline, 0, frozen)
            check_works(other)
        except SnapshotError:
            refused += 1
            continue
        try:
            life = Life(pipeline, other, at=LIVED_FOR)
            life.run(40)
            life.end()
            orjson.dumps(note_of(other, {}), option=orjson.OPT_NON_STR_KEYS)
            check_works(load(pipeline, 0, dump(other)))
        except Exception as error:  # any is a fault; which part it was is what one wants to know
            raise AssertionError(spoilt) from error
    assert refused >= 3
