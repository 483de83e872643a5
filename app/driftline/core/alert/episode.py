"""Episodes: one per problem, from its first sign until its signal has been quiet, however many signs come between.

A detector fires many times at one change, a limit is crossed back and forth, a broken model breaks at each event. A
person wants one message when it begins, one when it is over, and a reminder now and then. So each signal
(the error, the features together, a metric, the rejected events ...) has at most one open episode:

    no sign    -> sign        opened    published at once
    open       -> sign        ongoing   published if `alerts.ongoing` has passed since the last one, or at once where
                                        it has become critical
    open       -> quiet       resolved  once `alerts.quiet` has passed without a sign, and the signal is back
                              ongoing   where it has stayed at its new level: nothing changes any more, and what was
                                        wrong still is. It is resolved when it is back, when the model has learned to
                                        live with it, or when an operator acknowledges that level

A sign is either a moment (a detection) or a condition that holds (a metric below its limit): while a condition holds,
its signal is not quiet. Quiet is more than silence: if nothing was observed of the signal since its last sign, the span
is waited for again.

Flapping is bounded twice. A condition ends at a stricter limit than the one at which it began (`watch`). And of
`alerts.episodes_max` episodes of one signal within `alerts.within`, the last one stays open until its signal has been
quiet for that whole span. So a signal publishes at most episodes_max openings in any such span.

All times are event time (the watermark), so that a replay publishes the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from msgspec import Struct, structs

from driftline.core.alert.kind import row_of
from driftline.core.output import AlertState
from driftline.core.pipeline import AlertKind, Alerts, Severity

QUIET_MS, QUIET_GAPS = 3_600_000, 4  # where the pipeline file is silent: whichever is longer, the gaps being those
ONGOING_MS, ONGOING_GAPS = 86_400_000, 7  # between events; of one event a day, an hour without a sign says nothing
WAS_MAX = 20  # signals of an episode whose past is kept; it is the features' that has so many
SILENCES_MAX = 1_000  # signals are a closed set, and this many silences of theirs are more than anyone will say
UNWATCHED = "The pipeline file has not included this check"
_EVER = 1 << 62


class Sign(Struct, frozen=True, gc=False):
    """A sign of a problem, as `alert` words it.

    Args:
        severity: by the kind's own rule; the pipeline file may say another.
        sentence: what happened, in plain English.
        calm: what will have been the case once it is over, to be followed by for how long.
        evidence: JSON-able numbers behind it.
        news: it is published at once, though its episode is known: the signal is something else now.
    """

    kind: AlertKind
    severity: Severity
    sentence: str
    calm: str
    evidence: dict[str, object]
    news: bool = False


class Was(Struct, frozen=True, gc=False):
    """Where a signal stood before its episode, and at its latest sign: what it is compared with in the end.

    Args:
        signal: its full name.
        before, after: its means as the detector is shown them; `mean_before`, `mean_after` those of the values
            themselves, where what is shown is their rank.
        observed: values of the monitor at the sign.
    """

    signal: str
    before: float
    after: float
    mean_before: float | None
    mean_after: float | None
    observed: int


class Standing(Struct, frozen=True, gc=False):
    """How things stand once a signal has been quiet.

    Args:
        over: what was wrong is so no more, or has been accepted.
        sentence: what is to be published of it.
        evidence: numbers to add to those of the last sign.
    """

    over: bool
    sentence: str
    evidence: Mapping[str, object] = {}


class Moment(Struct, frozen=True, gc=False):
    """When and where a sign was seen.

    Args:
        now_ms: the watermark.
        labels, events: how many were seen so far: what "observed since" is measured by.
        place: of the record that shows it, in an episode's name: `e8435` (an event's offset), `l` (a label's), `c` (a
            command's), `t` (a tick's slice). It makes the name unique forever, also after a fresh start.
        positions: next offsets by input topic.
        gap_ms: mean time between events so far.
    """

    now_ms: int
    labels: int
    events: int
    place: str
    positions: Mapping[str, int]
    gap_ms: float = 0.0

    def observed(self, kind: AlertKind) -> int:
        """How many values such a signal has had."""
        return self.labels if row_of(kind).counted == "labels" else self.events


@dataclass(slots=True)
class Episode:
    """One problem.

    Args:
        signed_ms: when its last sign was seen, or when its condition ended.
        told_ms: when something was last published of it.
        observed: values of its signal at its last sign.
        holds: its condition lasts; it cannot be over.
        quiet_ms: how long its signal must be quiet.
        update: number of its latest message, from 1.
        announced: one of its messages was not silenced, so whoever gets alerts knows of it.
        was: of a drift, where its monitors' signals stood before, at most `WAS_MAX`.
        metric: the value of the first metric when it opened, and the number of the latest label; None without one.
        stays: it was published that its signal stays at a new level; `accepted` once that was acknowledged.
    """

    signal: str
    name: str
    sign: Sign
    severity: Severity
    opened_ms: int
    opened_at: dict[str, int]
    signed_ms: int
    told_ms: int
    observed: int
    holds: bool
    quiet_ms: int
    flapping: bool
    update: int = 0
    announced: bool = False
    acknowledged: bool = False
    acknowledged_by: str = ""
    was: dict[str, Was] = field(default_factory=dict)
    metric: tuple[float, int] | None = None
    stays: bool = False
    accepted: bool = False

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        """States that were written before there was a level to come back to do not hold one."""
        for name, part in {"was": {}, "metric": None, "stays": False, "accepted": False, **state[1]}.items():
            setattr(self, name, part)

    def note(self, monitor: str, was: Was) -> None:
        """A monitor found that its signal moved: of several moves, it must come back to the past of the first."""
        first = self.was.get(monitor)
        if first is not None:
            self.was[monitor] = structs.replace(was, before=first.before, mean_before=first.mean_before)
        elif len(self.was) < WAS_MAX:
            self.was[monitor] = was

    @property
    def due_ms(self) -> int:
        """When it may be resolved."""
        return _EVER if self.holds else self.signed_ms + self.quiet_ms


class Notice(Struct, frozen=True, gc=False):
    """A message about an episode, for `alert` to address."""

    episode: Episode
    state: AlertState
    update: int
    severity: Severity
    sentence: str
    silenced: bool
    announced: bool


Stand: TypeAlias = Callable[[Episode], Standing]


@dataclass(slots=True)
class Episodes:
    """The open episodes of one shard, at most one a signal, and what is remembered of earlier ones.

    Attributes:
        open: by signal.
        openings: when each signal's latest episodes opened, at most `episodes_max` of them.
        silences: until when a signal's alerts are silenced.
    """

    prefix: str
    open: dict[str, Episode] = field(default_factory=dict)
    openings: dict[str, deque[int]] = field(default_factory=dict)
    silences: dict[str, int] = field(default_factory=dict)

    def sign(self, rules: Alerts, signal: str, sign: Sign, moment: Moment, *, holds: bool) -> Notice | None:
        """Take in a sign of a problem; returns what is to be published now, if anything.

        Args:
            holds: it is a condition, which lasts until `calm` is called.
        """
        severity = rules.severity.get(sign.kind, sign.severity)
        episode = self.open.get(signal)
        if episode is None:
            episode = self._opened(rules, signal, sign, severity, moment, holds)
            return self._notice(episode, "opened", sign.sentence, moment.now_ms)
        rises = severity == "critical" and episode.severity == "warning"
        if rises:
            episode.severity = severity
        news = sign.news and not episode.sign.news
        episode.sign, episode.holds, episode.stays = sign, holds, False
        episode.signed_ms, episode.observed = moment.now_ms, moment.observed(sign.kind)
        due = rises or (news and not episode.acknowledged) or self.reminds(rules, signal, moment)
        return self._notice(episode, "ongoing", sign.sentence, moment.now_ms) if due else None

    def reminds(self, rules: Alerts, signal: str, moment: Moment) -> bool:
        """Whether a further sign would be published because it lasts."""
        episode = self.open.get(signal)
        if episode is None or episode.acknowledged:
            return False
        return moment.now_ms - episode.told_ms >= ongoing_ms(rules, moment.gap_ms)

    def event(self, rules: Alerts, signal: str, sign: Sign, moment: Moment) -> Notice:
        """Something that happened and is over: an episode of one message."""
        severity = rules.severity.get(sign.kind, sign.severity)
        episode = self._episode(signal, sign, severity, moment, quiet_ms=0, holds=False, flapping=False)
        return self._notice(episode, "resolved", sign.sentence, moment.now_ms)

    def calm(self, signal: str, moment: Moment) -> None:
        """A condition does not hold any more: from here on its signal is quiet."""
        episode = self.open.get(signal)
        if episode is not None and episode.holds:
            episode.holds = False
            episode.signed_ms = moment.now_ms
            episode.observed = -1  # that it does not hold was observed

    def advance(self, moment: Moment, rules: Alerts, stand: Stand) -> list[Notice]:
        """Resolve what has been quiet for long enough, and is back.

        Args:
            stand: says how things stand with an episode.
        """
        notices = []
        for signal, episode in list(self.open.items()):
            if moment.now_ms < episode.due_ms:
                continue
            observed = moment.observed(episode.sign.kind)
            if observed == episode.observed:
                episode.signed_ms = moment.now_ms  # nothing was observed: silence is not quiet
                continue
            standing = stand(episode)
            if standing.evidence:
                episode.sign = structs.replace(episode.sign, evidence={**episode.sign.evidence, **standing.evidence})
            if standing.over:
                notices.append(self._notice(episode, "resolved", standing.sentence, moment.now_ms))
                del self.open[signal]
                continue
            episode.signed_ms, episode.observed = moment.now_ms, observed
            if not episode.stays or self.reminds(rules, signal, moment):
                notices.append(self._notice(episode, "ongoing", standing.sentence, moment.now_ms))
            episode.stays = True
        for signal, until_ms in list(self.silences.items()):
            if until_ms <= moment.now_ms:
                del self.silences[signal]
        return notices

    @property
    def due_ms(self) -> int:
        """When `advance` may have something to do."""
        return min([episode.due_ms for episode in self.open.values()], default=_EVER)

    def deadline_ms(self, moment: Moment) -> int | None:
        """When an episode will be over unless something happens; None where no passing of time alone ends one."""
        due = [
            episode.due_ms
            for episode in self.open.values()
            if not episode.holds and moment.observed(episode.sign.kind) != episode.observed
        ]
        return min(due, default=None)

    # -- operators

    def named(self, name: str) -> Episode | None:
        """The open episode of that name."""
        for episode in self.open.values():
            if episode.name == name:
                return episode
        return None

    def acknowledge(self, episode: Episode, now_ms: int, by: str = "") -> Notice | None:
        """It is acknowledged, and reported again only when it becomes critical, and when it is over.

        Of a signal that is known to stay at a new level, they accept that level: the episode ends at the next look.
        """
        if episode.acknowledged and not (episode.stays and not episode.accepted):
            return None
        if episode.stays:
            episode.accepted, episode.observed, episode.signed_ms = True, -1, now_ms - episode.quiet_ms
        episode.acknowledged, episode.acknowledged_by = True, by
        return self._notice(episode, "ongoing", episode.sign.sentence, now_ms)

    def silence(self, episode: Episode, now_ms: int, span_ms: int) -> Notice | None:
        """No one is to be notified of this signal for a span of event time: of this episode, nor of a next one."""
        if len(self.silences) >= SILENCES_MAX and episode.signal not in self.silences:
            del self.silences[next(iter(self.silences))]
        self.silences[episode.signal] = now_ms + span_ms
        return self._notice(episode, "ongoing", episode.sign.sentence, now_ms)

    def forget(self, signals: frozenset[str], moment: Moment) -> None:
        """The pipeline's rules changed: conditions that it does not watch any more hold no longer.

        No one knows whether the problem is over, so that is not what the end of the episode says.
        """
        for signal, episode in self.open.items():
            if signal not in signals and episode.holds:
                episode.sign = structs.replace(episode.sign, calm=UNWATCHED)
                self.calm(signal, moment)

    # -- inside

    def _opened(
        self, rules: Alerts, signal: str, sign: Sign, severity: Severity, moment: Moment, holds: bool
    ) -> Episode:
        now_ms = moment.now_ms
        recent = self.openings.get(signal)
        if recent is None or recent.maxlen != rules.episodes_max:
            recent = self.openings[signal] = deque(recent or (), rules.episodes_max)
        recent.append(now_ms)
        flapping = len(recent) == rules.episodes_max and now_ms - recent[0] <= rules.within_ms
        flapping = flapping and rules.episodes_max > 1
        span_ms = quiet_ms(rules, moment.gap_ms)
        if flapping:
            span_ms = max(span_ms, rules.within_ms)
        episode = self._episode(signal, sign, severity, moment, quiet_ms=span_ms, holds=holds, flapping=flapping)
        self.open[signal] = episode
        return episode

    def _episode(
        self,
        signal: str,
        sign: Sign,
        severity: Severity,
        moment: Moment,
        *,
        quiet_ms: int,
        holds: bool,
        flapping: bool,
    ) -> Episode:
        now_ms = moment.now_ms
        return Episode(
            signal=signal,
            name=f"{self.prefix}{signal}-{moment.place}",
            sign=sign,
            severity=severity,
            opened_ms=now_ms,
            opened_at=dict(moment.positions),
            signed_ms=now_ms,
            told_ms=now_ms,
            observed=moment.observed(sign.kind),
            holds=holds,
            quiet_ms=quiet_ms,
            flapping=flapping,
        )

    def _notice(self, episode: Episode, state: AlertState, sentence: str, now_ms: int) -> Notice:
        silenced = self.silences.get(episode.signal, -1) > now_ms
        episode.update += 1
        episode.told_ms = now_ms
        episode.announced = episode.announced or not silenced
        return Notice(episode, state, episode.update, episode.severity, sentence, silenced, episode.announced)


def quiet_ms(rules: Alerts, gap_ms: float) -> int:
    """How long a signal must be quiet for its episode to be over."""
    return max(QUIET_MS, int(QUIET_GAPS * gap_ms)) if rules.quiet_ms is None else rules.quiet_ms


def ongoing_ms(rules: Alerts, gap_ms: float) -> int:
    """How often an episode that lasts is reported again."""
    return max(ONGOING_MS, int(ONGOING_GAPS * gap_ms)) if rules.ongoing_ms is None else rules.ongoing_ms
