"""What waits for what: in order of deadline, bounded, forgotten in time, and the same behind a pickle."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest

from driftline.core.digest import digest_of
from driftline.core.label import early as early_labels
from driftline.core.label import store
from driftline.core.label.early import EarlyLabels, Held
from driftline.core.label.fate import ASSUMED, EXPIRED, GONE, LABELLED, RETRACTED, WAITING
from driftline.core.label.ledger import Ledger
from driftline.core.label.pending import Waiting, pack, unpack
from driftline.core.label.segment import SEGMENT, SegmentState, View
from driftline.core.output import ModelVersion, Prediction, Unserved
from driftline.core.record import LabelValue

FOREVER = 10**15


def waiting(offset: int = 0, **changed: Any) -> Waiting:
    given: dict[str, Any] = {
        "offset": offset,
        "key": b"k",
        "time_ms": 7,
        "features": (1.5, "a", None, True),
        "prediction": Prediction(True, {False: 0.25, True: 0.75}, 0.75),
        "version": ModelVersion(1, 2),
    }
    return Waiting(**{**given, **changed})


def unserved(name: str, label: LabelValue = True) -> Unserved:
    return Unserved(name, Prediction(label, {False: 0.125, True: 0.875}, 0.875), ModelVersion(3, 4))


def ledger(**bounds: Any) -> Ledger:
    given = {"wait_ms": 10, "pending_max": 10**6, "horizon_ms": FOREVER, "id_max": 10**6}
    return Ledger(**{**given, **bounds})


def held(event_id: str, deadline_ms: int, value: bool = True) -> Held:
    return Held(deadline_ms, event_id, 0, b"k", 3, value)


@pytest.mark.parametrize(
    ("event_id", "given"),
    [
        ("e", waiting()),
        ("k", waiting()),  # the key is the id
        (107, waiting(key=b"107")),
        (1.5, waiting(key=None)),
        ("", waiting(key=b"")),
        ("e", waiting(key=b"")),
        ("e", waiting(prediction=Prediction())),
        ("e", waiting(prediction=Prediction(None, {}))),
        ("e", waiting(prediction=Prediction(False, {True: 0.25, False: 0.75}, 0.25))),
        ("e", waiting(prediction=Prediction(True, {True: 1.0}, 1.0))),
        ("e", waiting(prediction=Prediction("b", {"a": 0.25, "b": 0.75}))),
        ("e", waiting(prediction=Prediction(1, {0: 0.25, 1: 0.75}))),
        ("e", waiting(prediction=Prediction(value=2.5))),
        ("e", waiting(unserved=(Unserved("model", Prediction(), ModelVersion(0, 9)),))),
        ("k", waiting(unserved=(unserved("a"), unserved("b", 3)))),
        ("e", waiting(prediction=Prediction(), unserved=(unserved("a"),))),
        ("e", waiting(unserved=(Unserved("own", Prediction((1, 2)), ModelVersion(0, 9)),))),  # type: ignore[arg-type]  # a user's own
        ("e", waiting(prediction=Prediction((1, 2), {(1, 2): 1.0}))),  # type: ignore[arg-type, dict-item]  # a user's own
    ],
)
def test_what_waits_comes_back_as_it_was(event_id: str | int | float, given: Waiting) -> None:
    here = ledger()
    place = here.add(event_id, 0, given)
    back = here.waiting(place)
    assert back == given
    assert back is not None
    shares = given.prediction.probabilities
    if shares is not None and back.prediction.probabilities is not None:
        assert [*map(repr, back.prediction.probabilities.items())] == [*map(repr, shares.items())]


def test_one_prediction_takes_the_bytes_that_it_always_took() -> None:
    """Snapshots hold them; what is predicted beside it comes after."""
    room = bytearray()
    alone = pack("k", waiting(3), room)
    beside = pack("k", waiting(3, unserved=(unserved("a"),)), room)
    assert isinstance(alone, bytes)
    assert isinstance(beside, bytes)
    assert alone.hex() == "9903c30794cb3ff8000000000000a161c0c3c3c3cb3fe80000000000000102"
    assert beside[1 : len(alone)] == alone[1:]
    assert (alone[0], beside[0]) == (0x99, 0x9A)  # arrays of nine and ten
    assert unpack("k", alone) == waiting(3)


def test_an_event_waits_until_it_is_settled_and_is_remembered_then() -> None:
    here = ledger()
    place = here.add("a", 5, waiting())
    assert (len(here), "a" in here, here.find("a", 5), here.next_deadline_ms) == (1, True, place, 15)
    here.settle(place, LABELLED, 6)
    assert (len(here), "a" in here, here.next_deadline_ms) == (0, False, None)
    assert (here.find("a", 6), here.fate(place), here.waiting(place)) == (place, LABELLED, None)
    assert here.find("b", 6) is None


def test_the_oldest_is_found_when_too_many_wait() -> None:
    here = ledger(pending_max=2)
    first, *_ = [here.add(name, 0, waiting()) for name in "abc"]
    assert here.crowded() == first
    here.settle(first, EXPIRED, 0)
    assert here.crowded() is None


def test_what_lies_before_the_watermark_is_due_once() -> None:
    here = ledger()
    places = [here.add(name, seen, waiting()) for name, seen in (("a", 1), ("b", 2), ("c", 2), ("d", 5))]
    assert list(here.due(11)) == []
    assert here.due(12) == places[:1]
    here.settle(places[0], EXPIRED, 12)
    here.settle(places[1], LABELLED, 12)
    assert here.next_deadline_ms == 12
    assert here.due(16) == places[2:]
    for place in places[2:]:
        here.settle(place, EXPIRED, 16)
    assert list(here.due(FOREVER)) == []
    assert len(here) == 0


def test_ids_are_forgotten_behind_the_horizon_and_beyond_the_maximum() -> None:
    here = ledger(horizon_ms=100, id_max=3)
    here.settle(here.add("a", 50, waiting()), LABELLED, 50)
    here.settle(here.add("b", 60, waiting()), LABELLED, 60)
    assert here.find("a", 150) is not None
    assert here.find("a", 151) is None
    assert here.remembered_count == 1
    for number in range(5):
        here.settle(here.add(number, 160, waiting()), LABELLED, 160)
    assert [number for number in range(5) if here.find(number, 160) is not None] == [2, 3, 4]
    assert here.find("b", 160) is None


def test_an_event_that_waits_is_known_although_its_id_is_forgotten() -> None:
    here = ledger(id_max=1)
    first, second = here.add("a", 0, waiting()), here.add("b", 0, waiting())
    assert here.find("a", 0) == first
    here.settle(first, LABELLED, 0)
    assert here.find("a", 0) is None
    assert here.find("b", 0) == second


def test_a_lower_maximum_is_kept_from_the_next_event_on() -> None:
    here = ledger()
    for number in range(10):
        here.add(number, 0, None)
    here.id_max = 3
    here.add(10, 0, None)
    assert [number for number in range(11) if here.find(number, 0) is not None] == [8, 9, 10]


def test_a_label_may_be_corrected_for_a_while_and_of_so_many_events() -> None:
    here = ledger(correct_ms=100, correct_max=2, keep=frozenset({LABELLED, RETRACTED}), id_max=1)
    places = [here.add(name, 0, waiting(offset)) for offset, name in enumerate("abcd")]
    here.settle(places[0], EXPIRED, 5, 1, True, 4)
    assert here.find("a", 5) is None
    for number, place in enumerate(places[1:3], 2):
        here.settle(place, LABELLED, number, number, True, 4)
    note = here.settled(places[1])
    assert note is not None
    assert (note.until_ms, note.number, note.label, note.label_time_ms) == (102, 2, True, 4)
    assert here.waiting(places[1]) == waiting(1)
    here.change(places[1], RETRACTED, 0, None, None)
    assert here.fate(places[1]) == RETRACTED
    here.settle(places[3], LABELLED, 5, 4, False, 4)  # one more than may be: the oldest goes
    assert here.find("b", 5) is None
    assert here.kept_count == 2
    here.let_go_corrected(103)
    assert here.kept_count == 2
    here.let_go_corrected(104)
    assert (here.find("c", 104), here.kept_count) == (None, 1)
    here.let_go_corrected(FOREVER)
    assert here.find("d", 104) == places[3]  # still remembered
    assert here.settled(places[3]) is None
    assert here.waiting(places[3]) is None


def test_time_that_begins_late_moves_all_that_came_before() -> None:
    here = ledger(horizon_ms=100)
    place = here.add("a", 0, waiting())
    here.begin_at(1_000)
    assert here.next_deadline_ms == 1_010
    assert list(here.due(1_010)) == []
    assert here.due(1_011) == [place]
    here.settle(place, EXPIRED, 1_011)
    assert here.find("a", 1_100) == place
    assert here.find("a", 1_101) is None


def course(here: Ledger, rng: random.Random, count: int, first: int = 0) -> None:
    """Events, of which some are settled at once, some later, and some expire."""
    for number in range(first, first + count):
        now_ms = number // 7
        for place in here.due(now_ms):
            here.settle(place, EXPIRED, now_ms)
        here.let_go_corrected(now_ms)
        if here.find(number, now_ms) is None:
            here.add(number, now_ms, waiting(number))
        earlier = number - rng.randrange(1, 60)
        place_found = here.find(earlier, now_ms)
        if place_found is not None and here.fate(place_found) == WAITING:
            here.settle(place_found, rng.choice([LABELLED, ASSUMED]), now_ms, number, True, 1)


BOUNDS: dict[str, Any] = {"id_max": 3_000, "correct_ms": 40, "correct_max": 900, "keep": frozenset({LABELLED})}


def test_segments_whose_events_are_all_gone_are_let_go() -> None:
    here = ledger(**BOUNDS)
    course(here, random.Random(1), 5 * SEGMENT)
    assert here.view().numbers["end"] == 5 * SEGMENT
    assert len(here.segments) <= 2
    assert here.known_count < 4_500
    alive = sum(segment.alive for segment in here.segments)
    assert alive == here.known_count == sum(fate != GONE for segment in here.segments for fate in segment.fates)


def test_a_pickle_goes_on_as_the_original() -> None:
    here = ledger(**BOUNDS)
    course(here, random.Random(1), SEGMENT + 100)
    there = pickle.loads(pickle.dumps(here))
    assert digest_of(there) == digest_of(here)
    for one in (here, there):
        course(one, random.Random(2), SEGMENT + 500, SEGMENT + 100)
    assert digest_of(there) == digest_of(here)
    assert (len(there), there.kept_count, there.known_count) == (len(here), here.kept_count, here.known_count)
    known = range(2 * SEGMENT)
    assert [there.find(one, 0) for one in known] == [here.find(one, 0) for one in known]


def test_a_view_stays_as_it_was_whatever_comes_after() -> None:
    here = ledger(**BOUNDS)
    course(here, random.Random(1), 2 * SEGMENT + 100)
    before = pickle.loads(pickle.dumps(here))
    view = here.view()
    course(here, random.Random(2), 3 * SEGMENT, 2 * SEGMENT + 100)
    assert digest_of(restored(view)) == digest_of(before)
    assert digest_of(here) != digest_of(before)


def restored(view: View) -> Ledger:
    states: list[SegmentState] = [segment.state() for segment in view.segments]
    return Ledger.of(view.numbers, view.kept, states)


@pytest.mark.parametrize("keep", [frozenset(), frozenset({LABELLED})])
def test_when_what_waits_is_packed_shows_nowhere(keep: frozenset[int], monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for loose in (0, 3, 10**6):
        monkeypatch.setattr(store, "LOOSE", loose)
        source, here = (
            random.Random(4),
            ledger(pending_max=40, id_max=100, correct_ms=FOREVER, correct_max=20, keep=keep),
        )
        read: list[object] = []
        for number in range(500):
            here.add(f"e{number}", number, waiting(number))
            place = here.find(f"e{number - source.randrange(60)}", number)
            if place is not None and here.fate(place) == WAITING:
                read.append(here.waiting(place))
                if source.random() < 0.3:
                    read.append(here.count_label(place))
                    assert here.waiting(place) is not read[-2]
                here.settle(place, LABELLED, number, number, True, number)
                if keep:
                    assert here.waiting(place) == read[-1] or isinstance(read[-1], int)
                    assert here.waiting(place) is not here.waiting(place)
            while (oldest := here.crowded()) is not None:
                here.settle(oldest, EXPIRED, number)
            if number % 97 == 0:
                read += [digest_of(here), list(here.entries())]
        found.append((read, digest_of(here)))
    assert found[0] == found[1] == found[2]


def test_when_an_early_label_is_packed_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for loose in (0, 3, 10**6):
        monkeypatch.setattr(early_labels, "LOOSE", loose)
        early, read = EarlyLabels(50, each_max=2), list[object]()
        for number in range(200):
            early.hold(held(f"e{number % 70}", number))
            read += [early.take(f"e{number % 7}"), early.crowded(), early.look(f"e{number % 11}")]
            if number == 120:
                early.begin_at(1_000)
            if number % 37 == 0:
                read.append(digest_of(early))
        found.append((read, digest_of(early)))
    assert found[0] == found[1] == found[2]


def test_early_labels_are_held_in_order_and_let_go_alike() -> None:
    early = EarlyLabels(2)
    assert early.hold(held("a", 1))
    assert early.hold(held("b", 2))
    assert early.crowded() is None
    assert not early.hold(held("b", 5))
    assert early.hold(held("c", 3))
    assert early.crowded() == held("a", 1)
    assert ("a" in early, "b" in early, len(early), early.next_deadline_ms) == (False, True, 2, 2)
    assert early.take("b") == (held("b", 2),)
    assert early.take("b") == ()
    assert list(early.expire(3)) == []
    assert list(early.expire(4)) == [held("c", 3)]
    assert early.next_deadline_ms is None


def test_another_early_label_takes_the_place_of_the_first() -> None:
    early = EarlyLabels(5)
    early.hold(held("a", 1))
    early.hold(held("b", 2))
    early.replace(held("a", 9, value=False))
    assert early.next_deadline_ms == 1
    assert early.take("a") == (held("a", 1, value=False),)


def test_several_early_labels_of_one_event_come_back_in_order() -> None:
    early = EarlyLabels(10, each_max=3)
    for deadline_ms in (1, 2, 3):
        assert early.hold(held("a", deadline_ms))
    assert not early.hold(held("a", 4))
    assert list(early.expire(2)) == [held("a", 1)]
    assert "a" in early
    assert early.take("a") == (held("a", 2), held("a", 3))


@pytest.mark.parametrize("ids", [["a", "b"], [1, 2**63], [1.5, -2], ["", "\u00e9"]])
def test_early_labels_come_back_from_a_pickle_as_they_were(ids: list[Any]) -> None:
    early = EarlyLabels(10, each_max=3)
    for number, event_id in enumerate([*ids, *ids, *ids]):
        assert early.hold(Held(number, event_id, 0, b"k", 3, True))
    early.expire(1)
    again = pickle.loads(pickle.dumps(early))
    assert digest_of(again) == digest_of(early)
    alike = EarlyLabels(10, each_max=3)
    assert list(again.checked(alike)) == list(early.checked(alike))
    for one in (early, again):
        one.begin_at(7)
        assert one.hold(Held(99, ids[0], 0, b"k", 3, False))
        assert not one.hold(Held(99, ids[1], 0, b"k", 3, False))
    assert list(early.expire(FOREVER)) == list(again.expire(FOREVER)) != []


def test_early_labels_of_before_time_began_count_from_there() -> None:
    early = EarlyLabels(5)
    early.hold(held("a", 5))
    early.begin_at(1_000)
    assert early.next_deadline_ms == 1_005
    early.hold(held("b", 1_006))
    assert list(early.expire(1_005)) == []
    assert list(early.expire(FOREVER)) == [held("a", 1_005), held("b", 1_006)]
