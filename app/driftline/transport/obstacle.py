"""What blocks records although Kafka is available: partitions that no one reads, or of which no answer comes (as to a
user who may not read them any more), and others' transactions.

All last until a person acts, so each is one warning when it is seen and one line when it is over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from driftline.core.timestamp import written
from driftline.transport.clock import REAL, Clock
from driftline.transport.port import Feed, Place

log = logging.getLogger(__name__)

SILENT_S = 30.0  # a leader is elected within seconds
HELD_S = 10.0  # a transaction that is open for less is another producer at its ordinary work


def wider_text(counts: Mapping[str, int], partitions: int) -> str:
    """What to know of topics that have more partitions than the pipeline works with.

    Args:
        counts: these topics, each with its number of partitions.
        partitions: that the pipeline works with.
    """
    topics = ", ".join(f"{topic} has {count}" for topic, count in sorted(counts.items()))
    return (
        f"partitions were added: {topics}, but the pipeline uses {partitions}. Records in the new ones are not "
        "read, and a label may now be in another partition than its event. Stop the workers, give every topic of the "
        "pipeline the same number (`driftline topics check -p FILE` names those that differ), and start them again, "
        "once with --on-gap continue"
    )


def open_text(place: Place, offset: int, since_ms: int | None, behind: int | None) -> str:
    """What to know of another producer's transaction that stays open.

    Args:
        offset: of its first record.
        since_ms: since when it is known to be open.
        behind: offsets that wait behind it, or None if that is not known.
    """
    since = "" if since_ms is None else f" since {written(since_ms, '%Y-%m-%d %H:%M:%S')} UTC"
    waiting = "" if behind is None else f" ({behind:,} offsets are waiting)"
    where = f"{place.topic}-{place.partition}"
    return (
        f"a transaction of another producer is open in {where}{since}, from offset {offset}: nothing after it is "
        f"read until it ends{waiting}. Check that producer, or abort the transaction: kafka-transactions "
        "--bootstrap-server HOST "
        f"abort --topic {place.topic} --partition {place.partition} --start-offset {offset}"
    )


def silent_text(places: Iterable[Place]) -> str:
    """What to know of partitions that are asked for in vain."""
    named = ", ".join(f"{place.topic}-{place.partition}" for place in sorted(places))
    return (
        f"Kafka answers, but not for {named}: nothing of it is read. This user may not read it (any more), or no "
        "broker leads the partition"
    )


class Lookout:
    """Looks at the inputs of one worker now and then.

    Attributes:
        wider: topics with partitions that no one reads, each with its number of partitions.
        partitions: how many of theirs the pipeline works with.
    """

    def __init__(self, clock: Clock = REAL) -> None:
        self.wider: dict[str, int] = {}
        self._clock = clock
        self.partitions = 0
        self._held: dict[Place, tuple[int, float, int]] = {}  # offset, when it was seen first by both clocks
        self._warned: set[Place] = set()
        self._answered: dict[Place, tuple[int, float]] = {}  # how often Kafka had answered, and since when
        self._silent: frozenset[Place] = frozenset()

    @property
    def trouble(self) -> str | None:
        """Why not everything is read that should be; None if it is."""
        if self._silent:
            return silent_text(self._silent)
        return wider_text(self.wider, self.partitions) if self.wider else None

    def open_s(self, place: Place) -> float | None:
        """For how long another producer's transaction has held a partition back; None if none does."""
        held = self._held.get(place)
        return None if held is None or place not in self._warned else self._clock.now_s() - held[1]

    def look(self, feed: Feed, places: Iterable[Place]) -> None:
        """Look at the partitions that are read: at those that are silent, and at transactions that are open."""
        places = set(places)
        self._look_for_silence(feed, places)
        for place in self._held.keys() - places:
            self._forget(place)
        for place in sorted(places):
            self._look_at(place, feed.held_at(place), feed.lag_to_end(place))

    def away(self) -> None:
        """Kafka does not answer at all: its silence says nothing of single partitions."""
        self._answered.clear()

    def _look_for_silence(self, feed: Feed, places: set[Place]) -> None:
        now_s, before = self._clock.now_s(), self._answered
        self._answered = {}
        for place in places:
            count, since_s = before.get(place, (-1, now_s))
            looks = feed.looks(place)
            self._answered[place] = looks, now_s if looks != count or feed.is_paused(place) else since_s
        silent = frozenset(place for place, (_, since_s) in self._answered.items() if now_s - since_s >= SILENT_S)
        if silent != self._silent:
            self._silent = silent
            log.warning("%s", silent_text(silent) if silent else "every partition that is read is answered for again")

    def note_unread(self, wider: Mapping[str, int], partitions: int) -> None:
        """Which topics have partitions that are not read; see `wider` and `partitions`."""
        if wider != self.wider:
            self.wider, self.partitions = dict(wider), partitions
            text = wider_text(wider, partitions) if wider else "every partition of the inputs is read again"
            log.warning("%s", text)

    def _look_at(self, place: Place, offset: int | None, behind: int | None) -> None:
        held = self._held.get(place)
        if held is not None and held[0] != offset:
            if place in self._warned and offset is None:
                log.warning("the transaction in %s-%d has ended, reading continues", place.topic, place.partition)
            self._forget(place)
            held = None
        if offset is None:
            return
        if held is None:
            self._held[place] = offset, self._clock.now_s(), int(self._clock.wall_s() * 1000)
        elif place not in self._warned and self._clock.now_s() - held[1] >= HELD_S:
            self._warned.add(place)
            log.warning("%s", open_text(place, offset, held[2], behind))

    def _forget(self, place: Place) -> None:
        self._held.pop(place, None)
        self._warned.discard(place)
