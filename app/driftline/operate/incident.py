"""Incidents: the alerts of one change, over shards and signals, as few messages for people.

The topic keeps each alert, for programs. A person wants one message when something begins, one when the model is
changed over it, and one when all of it is over. So alerts are gathered for `group` (wall time), and then:

* An episode belongs to the incident of its family (`family_of`) whose episodes opened within `TOGETHER_MS` of its own,
  in event time. A change of the world shows in features, scores, errors, limits and the guard: that is one family.
* Of an incident is posted: its beginning, with all that was gathered; when what was only seen in the data now shows in
  the predictions' quality, or becomes critical; a change of the model, the same one on other shards at most once in
  `TOGETHER_MS`; that it lasts, at most once in `TOGETHER_MS`; and its end, once all its episodes are over.
* Labels that contradict the predictions, and are learned all the same, are the first sign of a change of the world as
  of bad labels (`forebodes`). Nothing is to be done at once, so it waits a little for what else shows; and where it was
  posted, the drift of the error that follows says the same once more.
* Each message lists the latest word on each of its episodes, so one that opened in between, on another shard say, is
  in the next message. Nothing is left out for good: the end has all.

What is posted follows from the alerts and how they were gathered. A reader that starts recalls the records before its
place, so it knows what was posted of episodes that are still open. An episode that it does not know is an incident of
its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Literal, TypeAlias

import orjson
from msgspec import Struct

Alert: TypeAlias = Mapping[str, Any]
State: TypeAlias = Literal["opened", "ongoing", "resolved", "changed"]

TOGETHER_MS: Final = 3_600_000
FOREBODING_TIMES: Final = 20  # as long as others: 10 minutes where those are gathered for 30 s
INCIDENTS_MAX, EPISODES_MAX = 200, 200
KNOWN_BYTES_MAX: Final = 8 * 1024 * 1024  # of all alerts that are kept, as JSON: in memory some times as much
_CHANGE: Final = "change"
_FAMILIES: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("data_drift", "score_drift", "concept_drift", "performance", "kpi", "guard", "quarantine", "model_change"),
        _CHANGE,
    ),
    **dict.fromkeys(("label_coverage", "label_delay", "label_match"), "labels"),
    **dict.fromkeys(("data_quality", "throughput"), "data"),
}
_FOREBODING: Final = "quarantine"
_SIGNS: Final = frozenset({"data_drift", "score_drift", "model_change"})
"""Kinds that may leave the predictions as good as they were."""


def family_of(alert: Alert) -> str:
    """What its episode may be one incident with; a kind that is not known here is a family of its own."""
    kind = str(alert["kind"])
    return _FAMILIES.get(kind, kind)


def forebodes(alert: Alert) -> bool:
    """Whether it is the first sign of something, about which there is nothing to do yet."""
    return (alert["kind"], alert["state"], alert["severity"]) == (_FOREBODING, "opened", "warning")


def key_of(alert: Alert) -> str:
    """The idempotency key of one alert."""
    return f"{alert['episode']}:{alert['state']}:{alert['update']}"


def shard_of(alert: Alert) -> str:
    """The shard that an episode's name holds; empty where it is none of ours."""
    rest = str(alert["episode"]).removeprefix(f"{alert['pipeline']}-")
    number = rest.partition("-")[0]
    return number if number.isascii() and number.isdigit() and len(number) < 10 else ""


@dataclass(slots=True)
class Gathering:
    """How long alerts are gathered before the first of them is posted.

    A first sign, about which there is nothing to do yet, waits longer for what else shows; once that is there, all is
    posted as soon as usual.

    Args:
        begun_s: when the first one came.
        span_s: how long alerts are gathered.
    """

    begun_s: float
    span_s: float
    until_s: float = 0.0

    def add(self, alert: Alert | None, now_s: float) -> None:
        """One came; None where it is no alert."""
        waits = alert is not None and forebodes(alert)
        end_s = self.begun_s + self.span_s * FOREBODING_TIMES if waits else now_s + self.span_s
        self.until_s = min(self.until_s, end_s) if self.until_s else end_s


class Message(Struct, frozen=True):
    """What is posted of an incident.

    Args:
        state: `changed` where it is of the model alone.
        parts: the latest alert of each episode, the most important first.
        news: the alerts that came since the message before.
    """

    state: State
    parts: tuple[Alert, ...]
    news: tuple[Alert, ...]

    @property
    def key(self) -> str:
        """The same for the same content, and only for that."""
        first = min(self.parts, key=_opened)
        digest = sha256("\n".join(sorted(map(key_of, self.parts))).encode()).hexdigest()[:12]
        return f"{first['episode']}:{self.state}:{digest}"

    @property
    def severity(self) -> str:
        return "critical" if any(part["severity"] == "critical" for part in self.parts) else "warning"


@dataclass(slots=True)
class Incident:
    """One change, and what was posted of it.

    Attributes:
        latest: the last alert of each episode, by its name.
        posted_ms: event time of the last message; None before the first.
        weight: of what was posted: how much of it concerns the predictions, and whether it is critical.
        foreboded: that labels contradict the predictions was posted.
        changed_ms: event time of the last posted change of the model, by what it was.
        sizes: of each episode's last alert, in bytes of JSON.
    """

    family: str
    first_ms: int
    last_ms: int
    latest: dict[str, Alert] = field(default_factory=dict)
    unposted: list[Alert] = field(default_factory=list)
    posted_ms: int | None = None
    weight: tuple[bool, bool] = (False, False)
    foreboded: bool = False
    changed_ms: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Of the alerts that are kept, as JSON."""
        return sum(self.sizes.values())

    def near(self, alert: Alert) -> bool:
        opened_ms = int(alert["opened_ms"])
        return self.first_ms - TOGETHER_MS <= opened_ms <= self.last_ms + TOGETHER_MS

    def add(self, alert: Alert) -> None:
        episode = str(alert["episode"])
        self.latest[episode], self.sizes[episode] = alert, len(orjson.dumps(alert))
        opened_ms = int(alert["opened_ms"])
        self.first_ms, self.last_ms = min(self.first_ms, opened_ms), max(self.last_ms, opened_ms)

    @property
    def over(self) -> bool:
        return all(alert["state"] == "resolved" for alert in self.latest.values())

    def due(self, news: list[Alert]) -> bool:
        """Whether these alerts are worth a message."""
        if self.posted_ms is None or self.over:
            return True
        effects, critical = _weight(self.latest.values())
        if (effects and not self.weight[0]) or (critical and not self.weight[1] and not self._was_foretold()):
            return True
        if any(alert["kind"] == "model_change" and self._is_new(alert) for alert in news):
            return True
        lasts = any(alert["state"] == "ongoing" for alert in news)
        return lasts and max(map(_time, news)) - self.posted_ms >= TOGETHER_MS

    def _was_foretold(self) -> bool:
        """Whether all that is critical is the change of concept that contradictory labels announced."""
        critical = {str(alert["kind"]) for alert in self.latest.values() if alert["severity"] == "critical"}
        return self.foreboded and critical == {"concept_drift"}

    def _is_new(self, change: Alert) -> bool:
        """Whether no such change of the model was posted lately."""
        before_ms = self.changed_ms.get(_reaction(change))
        return before_ms is None or _time(change) - before_ms >= TOGETHER_MS

    def posted(self) -> None:
        """All that is known of it was posted."""
        self.posted_ms = max(map(_time, self.latest.values()))
        effects, critical = _weight(self.latest.values())
        self.weight = (self.weight[0] or effects, self.weight[1] or critical)
        self.foreboded = self.foreboded or any(alert["kind"] == _FOREBODING for alert in self.latest.values())
        for alert in self.latest.values():
            if alert["kind"] == "model_change":
                what, time_ms = _reaction(alert), _time(alert)
                self.changed_ms[what] = max(time_ms, self.changed_ms.get(what, time_ms))
        self.unposted.clear()

    def put_off(self) -> None:
        """Nothing is posted now: of each episode the next message has the latest alert."""
        latest = {id(alert) for alert in self.latest.values()}
        self.unposted = [alert for alert in self.unposted if id(alert) in latest]

    def message(self) -> Message:
        parts = tuple(sorted(self.latest.values(), key=_order))
        if all(part["kind"] == "model_change" for part in parts):
            state: State = "changed"
        elif self.over:
            state = "resolved"
        else:
            state = "opened" if self.posted_ms is None else "ongoing"
        if state == "resolved":  # how things stand now comes first, and what was done about them last
            parts = tuple(sorted(parts, key=lambda part: part["kind"] == "model_change"))
        return Message(state, parts, tuple(self.unposted))


class Incidents:
    """The incidents that a webhook knows of, at most `INCIDENTS_MAX`, and of `KNOWN_BYTES_MAX`; of more, the oldest is
    forgotten."""

    def __init__(self) -> None:
        self.known: list[Incident] = []

    def recall(self, alert: Alert) -> None:
        """An alert that an earlier reader took care of."""
        incident = self._of(alert)
        incident.add(alert)
        incident.posted()
        self._forget_over()

    def lead(self, alert: Alert) -> str:
        """The episode with which the change that an alert is of began, as far as it is known here."""
        incident = self._of(alert)
        incident.add(alert)
        first = min(incident.latest.values(), key=_opened)
        self._forget_over()
        return str(first["episode"])

    def take(self, alerts: Iterable[Alert]) -> list[Message]:
        """Alerts that were gathered, in order; returns what is to be posted now."""
        touched: dict[int, tuple[Incident, list[Alert]]] = {}
        for alert in alerts:
            incident = self._of(alert)
            incident.add(alert)
            incident.unposted.append(alert)
            touched.setdefault(id(incident), (incident, []))[1].append(alert)
        made = []
        for incident, news in touched.values():
            if incident.due(news):
                made.append(incident.message())
                incident.posted()
            else:
                incident.put_off()
        self._forget_over()
        return made

    def _of(self, alert: Alert) -> Incident:
        """The incident of an alert: its episode's, or that of its family and time, or a new one."""
        episode, family = str(alert["episode"]), family_of(alert)
        for incident in self.known:
            if episode in incident.latest:
                return incident
        for incident in reversed(self.known):
            if incident.family == family and incident.near(alert) and len(incident.latest) < EPISODES_MAX:
                return incident
        opened_ms = int(alert["opened_ms"])
        self.known.append(Incident(family, opened_ms, opened_ms))
        del self.known[:-INCIDENTS_MAX]
        return self.known[-1]

    def _forget_over(self) -> None:
        self.known = [incident for incident in self.known if not incident.over]
        left = sum(incident.size_bytes for incident in self.known) - KNOWN_BYTES_MAX
        while left > 0 and len(self.known) > 1:
            left -= self.known.pop(0).size_bytes


def _weight(alerts: Iterable[Alert]) -> tuple[bool, bool]:
    found = list(alerts)
    effects = any(alert["kind"] not in _SIGNS for alert in found)
    return effects, any(alert["severity"] == "critical" for alert in found)


def _reaction(change: Alert) -> str:
    """What was done to the model."""
    return str(change["evidence"].get("reaction", ""))


def _time(alert: Alert) -> int:
    return int(alert["opened_ms"] if alert["time_ms"] is None else alert["time_ms"])


def _opened(alert: Alert) -> tuple[int, str]:
    return int(alert["opened_ms"]), str(alert["episode"])


def _order(alert: Alert) -> tuple[bool, bool, bool, int, str]:
    """What still is, what is critical, and what concerns the predictions comes first."""
    over, kind = alert["state"] == "resolved", alert["kind"]
    return (over and kind != "model_change", alert["severity"] != "critical", kind in _SIGNS, *_opened(alert))
