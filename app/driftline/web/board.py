"""All that the page knows of a pipeline: a bounded window on what its topics say, the same on every worker.

No I/O and no clock: `web.feed` brings the records and the time, `web.view` makes documents of it. Of the topics the
journal is what counts (numbers, and which episodes are open); alerts and reviews give the words.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from driftline.web.backlog import Backlog, First
from driftline.web.change import Version, first_version, from_ms_of, marks_of, next_version, trips_between, version_mark
from driftline.web.curve import MARKS_MAX, POINTS_MAX, POINTS_MIN, Curve, Mark, Point, point_of
from driftline.web.record import ID_MAX, NAME_MAX, NUMBER_MAX, Alert, Command, Guard, Note, Review, Score, cut

EPISODES_MAX = 200
REVIEWS_MAX = 1_000
SCORES_MAX = 30
RATES_MAX = 240  # looks at the counts of a shard
RATE_MS = 15_000  # span over which events a second are counted
VERSIONS_MAX = 100
WORKERS_MAX = 50
GONE_MAX = 5  # workers that left and are still shown
ENDED_MS = 5_000  # so long after an alert, a journal that does not know its episode means that it is over
TRIPS_TOGETHER_MS = 30_000
HELD = "held"
CRITICAL = "critical"
ONCE = "model_change"  # kind of what is reported once, as resolved: nothing got better with it
DATING = {"drift": ("concept_drift", "data_drift", "score_drift"), "model": (ONCE,), "guard": ("guard",)}
"""Kinds of alerts that date a mark, by its kind."""


@dataclass(slots=True)
class Shard:
    """What is known of one shard.

    Attributes:
        note: the last one; None before it.
        noted_ms: when that was written.
        moved_ms: when the last journal entry was written.
        labelled_ms: when labels were last seen to come; 0 before any.
        backlog: what it still has to read.
        counts: looks at how many events and labels it had: wall time, events, labels.
    """

    number: int
    note: Note | None = None
    noted_ms: int = 0
    moved_ms: int = 0
    backlog: Backlog = field(default_factory=Backlog)
    labelled_ms: int = 0
    counts: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=RATES_MAX))
    curve: Curve = field(default_factory=lambda: Curve(POINTS_MIN))

    @property
    def behind(self) -> dict[str, int]:
        """Records between its positions and the ends of its inputs, by topic; empty while not known."""
        return self.backlog.behind

    def rates(self, now_ms: int) -> tuple[float, float]:
        """Events and labels a second, lately."""
        counts = self.counts
        if not counts:
            return 0.0, 0.0
        first = counts[0]
        for look in counts:
            if look[0] > now_ms - RATE_MS:
                break
            first = look
        last = counts[-1]
        span_s = max(now_ms - max(first[0], now_ms - RATE_MS), 1_000) / 1000
        return (last[1] - first[1]) / span_s, (last[2] - first[2]) / span_s


@dataclass(slots=True)
class Worker:
    """A member of the workers' group.

    Attributes:
        gone_ms: when it was missed; None while it is there.
    """

    name: str
    host: str
    shards: tuple[int, ...]
    since_ms: int
    gone_ms: int | None = None


@dataclass(slots=True)
class Episode:
    """An episode, by its last message.

    Attributes:
        opening: what its first message that was read says.
        opened_wall_ms, wall_ms: when its first and its last message came, as far as that is known (`Board.settle`).
        state: of the last message, or `ended` where its shard started over without it.
    """

    alert: Alert
    shard: int
    opening: str
    opened_wall_ms: int
    wall_ms: int
    state: str

    @property
    def is_open(self) -> bool:
        return self.state in ("opened", "ongoing")


class Board:
    """See the module.

    Attributes:
        shards: by number, one for each partition of the journal.
        episodes: by name; the one that was heard of last comes last.
        reviews: those that wait for a person, by id of the event.
        decided: how many were decided since the board began.
        versions: of all shards' models, as they came.
        fresh: points that are new since they were last taken.
        workers: by their name in the group; None while the broker has not said.
        whole: they are all there are.
        reading: it is given history, whose topics come side by side; `settle` ends that.
        round_ms, read_ms: time of the page: when what comes now was asked for, and up to when all has been read.
    """

    def __init__(self) -> None:
        self.reading = False
        self.round_ms = self.read_ms = 0
        self.shards: dict[int, Shard] = {}
        self.episodes: OrderedDict[str, Episode] = OrderedDict()
        self.reviews: OrderedDict[str, Review] = OrderedDict()
        self.decided = 0
        self.scores: deque[Score] = deque(maxlen=SCORES_MAX)
        self.marks: deque[Mark] = deque(maxlen=MARKS_MAX)
        self.versions: deque[Version] = deque(maxlen=VERSIONS_MAX)
        self.fresh: list[Point] = []
        self.workers: dict[str, Worker] | None = None
        self.whole = True
        self._commands: set[tuple[str, str, int]] = set()
        self._tripped: dict[
            int, tuple[Mark, Guard | None]
        ] = {}  # by shard: the guard's last mark, its counts before it
        self._trips: dict[int, deque[tuple[int, Guard | None]]] = {}  # by shard: when marks began, the counts before

    def begin(self, shards: int) -> None:
        """A pipeline of so many shards."""
        most = max(POINTS_MIN, POINTS_MAX // max(1, shards))
        for number in range(shards):
            self.shards.setdefault(number, Shard(number, curve=Curve(most)))

    def keep(self, old: Board) -> None:
        """Take over from another board what no topic has."""
        self.workers, self.whole, self.scores, self.decided = old.workers, old.whole, old.scores, old.decided
        for mark in old.marks:
            if mark.kind in ("worker", "kafka"):
                self.marks.append(mark)

    def settle(self) -> None:
        """The history has been read.

        An alert's record carries the event time at which it was made, in which history may be months: when people
        could read it is known from the journal, by that time.
        """
        self.reading = False
        for episode in self.episodes.values():
            curve, alert = self.shards[episode.shard].curve, episode.alert
            episode.opened_wall_ms = curve.wall_of(alert.opened_ms, episode.opened_wall_ms)
            episode.wall_ms = curve.wall_of(alert.time_ms, episode.wall_ms)
        for at, mark in enumerate(self.marks):
            if mark.episode and mark.shard is not None:
                curve = self.shards[mark.shard].curve
                self.marks[at] = replace(mark, wall_ms=curve.wall_of(mark.time_ms, mark.wall_ms))
        for shard in self.shards.values():
            self._end_episodes(shard)

    # -- the journal

    def take_entry(self, number: int, wall_ms: int, note: Note | None) -> None:
        """The next entry of a shard's journal."""
        shard = self.shards.setdefault(number, Shard(number))
        shard.moved_ms = max(shard.moved_ms, wall_ms)
        if not self.reading:
            shard.backlog.hear(self.round_ms)
        if note is None:
            return
        before = shard.note
        if before is None:
            self.versions.append(first_version(number, note, wall_ms))
        else:
            self._compare(shard, before, note, wall_ms)
        shard.note, shard.noted_ms = note, wall_ms
        shard.backlog.take_positions(note.positions)
        labels = sum(note.labels.get(fate, 0) for fate in ("joined", "orphan", "late", "duplicate", "rejected"))
        if labels > (shard.counts[-1][2] if shard.counts else 0):
            shard.labelled_ms = wall_ms
        shard.counts.append((wall_ms, note.counts.get("scored", 0), labels))
        for command in note.commands:
            self._take_command(command)
        point = point_of(number, wall_ms, note, before)
        if point is not None and shard.curve.add(point):
            self.fresh.append(point)
        self._end_episodes(shard)

    def _compare(self, shard: Shard, old: Note, new: Note, wall_ms: int) -> None:
        """Mark what changed between two notes."""
        version = next_version(shard.number, old, new, wall_ms)
        if version is not None:
            self.versions.append(version)
            self.marks.append(version_mark(version, old))
        self.marks.extend(marks_of(shard.number, old, new, wall_ms))
        if trips_between(old.guard, new.guard)[0]:
            self._trip(shard.number, old, new, wall_ms)
        self._date(shard.number)

    def _date(self, number: int) -> None:
        """Date what happened between two notes by the alert about it.

        In a replay there may be hours of event time between two notes; an alert names the time of its record.
        """
        for at, mark in enumerate(self.marks):
            if mark.shard == number and mark.from_ms is not None:
                time_ms = self._alerted(number, mark.from_ms, mark.time_ms, DATING.get(mark.kind, ()))
                if time_ms is not None:
                    dated = self.marks[at] = replace(mark, time_ms=time_ms, from_ms=None)
                    if (trip := self._tripped.get(number)) is not None and trip[0] is mark:
                        self._tripped[number] = dated, trip[1]
        for at, version in enumerate(self.versions):
            if version.shard == number and version.from_ms is not None:
                time_ms = self._alerted(number, version.from_ms, version.time_ms, DATING["model"])
                if time_ms is not None:
                    self.versions[at] = replace(version, time_ms=time_ms, from_ms=None)

    def _alerted(self, number: int, from_ms: int, to_ms: int | None, kinds: Sequence[str]) -> int | None:
        """The one time within these at which alerts of these kinds were opened on a shard."""
        there = (one.alert for one in self.episodes.values() if one.shard == number and one.alert.kind in kinds)
        times = {one.opened_ms for one in there if from_ms <= one.opened_ms <= (to_ms or from_ms)}
        return times.pop() if len(times) == 1 else None

    def _trip(self, number: int, old: Note, new: Note, wall_ms: int) -> None:
        """Mark trips of the guard; those that follow each other soon are one mark."""
        before, time_ms, from_ms = old.guard, new.watermark_ms, from_ms_of(old, new)
        last = self._tripped.get(number)
        soon = last is not None and from_ms is None and wall_ms - last[0].wall_ms < TRIPS_TOGETHER_MS
        if last is not None and soon and last[0] in self.marks:
            self.marks.remove(last[0])
            before, time_ms, from_ms = last[1], last[0].time_ms, last[0].from_ms
        count, text = trips_between(before, new.guard)
        mark = Mark("guard", text, wall_ms, time_ms, number, count=min(count, NUMBER_MAX), from_ms=from_ms)
        if before is old.guard:
            self._trips.setdefault(number, deque(maxlen=MARKS_MAX)).append((wall_ms, before))
        self._tripped[number] = mark, before
        self.marks.append(mark)

    def trips_since(self, number: int, since_ms: int) -> str:
        """What a shard's guard did since then, in words; empty where it did nothing."""
        note = self.shards[number].note
        began = [counts for wall_ms, counts in self._trips.get(number, ()) if wall_ms >= since_ms]
        if note is None or not began:
            return ""
        count, text = trips_between(began[0], note.guard)
        return text if count else ""

    def _take_command(self, command: Command) -> None:
        key = (command.command[:NAME_MAX], command.by[:NAME_MAX], command.time_ms)
        if key in self._commands:
            return
        if len(self._commands) > MARKS_MAX:
            self._commands.clear()
        self._commands.add(key)
        by = f" by {key[1]}" if key[1] else ""
        self.marks.append(Mark("command", f"Command {key[0]}{by}", command.time_ms))

    def _end_episodes(self, shard: Shard) -> None:
        """Episodes that their shard does not have any more, though no message says so: it started over."""
        if shard.note is None or self.reading:
            return
        known = set(shard.note.episodes)
        for name, episode in self.episodes.items():
            lost = episode.shard == shard.number and name not in known and shard.noted_ms > episode.wall_ms + ENDED_MS
            if lost and episode.is_open:
                episode.state = "ended"

    # -- alerts, reviews, scores

    def take_alert(self, number: int, wall_ms: int, alert: Alert) -> None:
        """A message about an episode; repeats and late ones change nothing."""
        if len(alert.episode) > ID_MAX or number not in self.shards:
            return
        known = self.episodes.get(alert.episode)
        if known is None:
            shown = Episode(alert, number, cut(alert.sentence), wall_ms, wall_ms, alert.state)
            self.episodes[alert.episode] = shown
            self.marks.append(_opening(alert, number, wall_ms))
        elif alert.update <= known.alert.update:
            return
        else:
            if alert.severity == CRITICAL != known.alert.severity and alert.state != "resolved":
                self.marks.append(_opening(alert, number, wall_ms))
            known.alert, known.wall_ms, known.state = alert, wall_ms, alert.state
            self.episodes.move_to_end(alert.episode)
        self._date(number)
        if alert.state == "resolved" and alert.kind != ONCE:
            text = cut(alert.sentence)
            self.marks.append(Mark("resolved", text, wall_ms, alert.time_ms, number, "", alert.episode))
        while len(self.episodes) > EPISODES_MAX:
            over = (name for name, one in self.episodes.items() if not one.is_open)
            del self.episodes[next(over, next(iter(self.episodes)))]

    def take_review(self, review: Review) -> None:
        """A prediction that is held, or what was decided."""
        if len(key := repr(review.event_id)) > ID_MAX:
            return
        if review.state == HELD:
            self.reviews[key] = review
            while len(self.reviews) > REVIEWS_MAX:
                self.reviews.popitem(last=False)
        elif self.reviews.pop(key, None) is not None:
            self.decided += 1

    def take_score(self, score: Score) -> None:
        """One of the newest scores."""
        self.scores.append(score)

    # -- what Kafka itself knows

    def take_ends(self, ends: Mapping[int, Mapping[str, int]]) -> None:
        """Where the inputs of each shard end, by the names that its positions have."""
        for number, inputs in ends.items():
            shard = self.shards.get(number)
            if shard is not None and shard.note is not None:
                shard.backlog.take_ends(inputs, self.read_ms)

    def take_firsts(self, firsts: Mapping[int, Mapping[str, First]]) -> None:
        """Where the first record of an input was found that its shard has not read, by the names of positions."""
        for number, inputs in firsts.items():
            if number in self.shards:
                self.shards[number].backlog.take_firsts(inputs)

    def take_members(
        self, members: Iterable[tuple[str, str, Sequence[int]]], now_ms: int, *, whole: bool = True
    ) -> None:
        """Who is in the workers' group now: name, host and shards of each.

        Args:
            whole: those are all; else the broker does not say, and it is the worker of this page alone.
        """
        if whole is not self.whole:
            self.workers, self.whole = None, whole
        first = self.workers is None
        workers = self.workers = self.workers or {}
        there = set()
        for name, host, shards in list(members)[:WORKERS_MAX]:
            there.add(name)
            known = workers.get(name)
            if known is None or known.gone_ms is not None:
                workers[name] = Worker(name, host, tuple(shards), now_ms)
                if not first:
                    self.marks.append(Mark("worker", f"A worker joined ({cut(host, 60)})", now_ms))
            else:
                known.shards = tuple(shards)
        for worker in workers.values():
            if worker.name not in there and worker.gone_ms is None:
                worker.gone_ms = now_ms
                self.marks.append(Mark("worker", f"A worker left ({cut(worker.host, 60)})", now_ms))
        gone = [worker for worker in workers.values() if worker.gone_ms is not None]
        for worker in sorted(gone, key=lambda one: one.gone_ms or 0)[:-GONE_MAX]:
            del workers[worker.name]


def _opening(alert: Alert, number: int, wall_ms: int) -> Mark:
    """The mark of an episode's opening, or of its becoming critical."""
    text = cut(alert.sentence)
    return Mark("alert", text, wall_ms, alert.opened_ms or alert.time_ms, number, alert.severity[:20], alert.episode)
