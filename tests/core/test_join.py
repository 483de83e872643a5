"""What waits for what: in order of deadline, bounded, and forgotten in time."""

from __future__ import annotations

from app.core.join import EarlyLabels, Held, Pending, Seen, Waiting
from app.core.output import ModelVersion, Prediction
from tests.support.small import label


def waiting(deadline_ms: int) -> Waiting:
    return Waiting(deadline_ms, "o", None, 0, 0, (1.0,), Prediction(), ModelVersion(0, 0))


def held(event_id: str, deadline_ms: int) -> Held:
    return Held(deadline_ms, label(event_id, True))


def test_pending_gives_back_what_was_put_in_once() -> None:
    pending = Pending(10)
    assert pending.add("a", waiting(5)) is None
    assert "a" in pending
    assert pending.take("a") == waiting(5)
    assert pending.take("a") is None
    assert "a" not in pending
    assert len(pending) == 0


def test_pending_makes_room_by_its_oldest() -> None:
    pending = Pending(2)
    assert pending.add("a", waiting(1)) is None
    assert pending.add("b", waiting(2)) is None
    assert pending.add("c", waiting(3)) == ("a", waiting(1))
    assert (len(pending), "a" in pending, "b" in pending, "c" in pending) == (2, False, True, True)


def test_pending_expires_what_lies_before_the_watermark() -> None:
    pending = Pending(10)
    for name, deadline_ms in (("a", 1), ("b", 2), ("c", 2), ("d", 5)):
        pending.add(name, waiting(deadline_ms))
    assert [pending.next_deadline_ms] == [1]
    assert list(pending.expire(1)) == []
    assert [name for name, _ in pending.expire(2)] == ["a"]
    assert [pending.next_deadline_ms] == [2]
    pending.take("b")
    assert [name for name, _ in pending.expire(6)] == ["c", "d"]
    assert list(pending.expire(10**15)) == []
    assert len(pending) == 0


def test_early_labels_are_held_and_let_go_alike() -> None:
    early = EarlyLabels(2)
    assert early.hold(held("a", 1)) is None
    assert early.hold(held("b", 2)) is None
    assert early.hold(held("c", 3)) == held("a", 1)
    assert ("a" in early, "b" in early, len(early), early.next_deadline_ms) == (False, True, 2, 2)
    assert early.take("b") == held("b", 2)
    assert early.take("b") is None
    assert list(early.expire(3)) == []
    assert list(early.expire(4)) == [held("c", 3)]
    assert early.next_deadline_ms is None


def test_seen_knows_what_became_of_an_event() -> None:
    seen = Seen(100, 10)
    assert seen.fate("a", 0) is None
    seen.add("a", 0)
    assert seen.fate("a", 0) == "waiting"
    seen.settle("a", "labelled")
    assert seen.fate("a", 0) == "labelled"
    seen.settle("unknown", "expired")
    assert seen.fate("unknown", 0) is None
    assert (seen.fate(1, 0), seen.fate("1", 0)) == (None, None)
    seen.add(1, 0)
    assert (seen.fate(1, 0), seen.fate("1", 0)) == ("waiting", None)


def test_seen_forgets_behind_its_horizon_also_when_nothing_new_comes() -> None:
    seen = Seen(100, 10)
    seen.add("a", 50)
    seen.add("b", 60)
    assert seen.fate("a", 150) == "waiting"
    assert seen.fate("a", 151) is None
    assert len(seen) == 1
    seen.add("a", 151)
    assert seen.fate("b", 161) is None
    assert seen.fate("a", 251) == "waiting"
    seen.settle("a", "labelled")  # does not make it younger
    assert seen.fate("a", 252) is None


def test_seen_forgets_the_oldest_beyond_its_maximum() -> None:
    seen = Seen(10**9, 3)
    for number in range(5):
        seen.add(number, number)
    assert [number for number in range(5) if seen.fate(number, 5) is not None] == [2, 3, 4]
    assert len(seen) == 3


def test_a_lower_maximum_is_kept_from_the_next_event_on() -> None:
    seen = Seen(10**9, 10)
    for number in range(10):
        seen.add(number, 0)
    seen.id_max = 3
    seen.add(10, 0)
    assert [number for number in range(11) if seen.fate(number, 0) is not None] == [8, 9, 10]
