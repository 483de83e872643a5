"""What each generation of a model served, and how well, counted from the topics alone, for its `card`.

Counted are the events that it was asked about, which labels came, metrics, KPIs, what the guard did, and which episodes
were open meanwhile. Metrics are those of a backtest of what was served, counted by the same `Tally`, which
`backtest --against live --generation N` gives again. No clock, no state of a worker and no record time is asked, so the
same records give the same card.

Scores come first, then outcomes: which generations there are must be known.
"""

from __future__ import annotations

import shlex
from array import array
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from math import isfinite
from typing import Any, Final

import msgspec
from msgspec import Struct

from driftline.backtest.candidate import BUFFERED_MAX
from driftline.backtest.card import Card, KpiFigure, Labels, Learned, Made, Rules, Second, Segment, Span, Trouble
from driftline.backtest.measure import total_values
from driftline.backtest.part import segments_of
from driftline.backtest.tally import Tally
from driftline.codec.journal import EpochEntry
from driftline.codec.outcome import OutcomeReader, Version
from driftline.core.guard.beside import Beside
from driftline.core.metric.account import Account
from driftline.core.metric.price import MISSING, OTHER, SEGMENTS_MAX
from driftline.core.output import Guard, Instead, Outcome, Rung
from driftline.core.pipeline import Pipeline
from driftline.core.place import input_name
from driftline.core.wording import cut
from driftline.engine.published import offset_of
from driftline.operate.digest import DECIDED, NAME_MAX, AlertSeen, keep_latest
from driftline.operate.incident import shard_of

DIGITS: Final = 12  # of a figure: the sum of many floats depends in its last digits on their order
GENERATIONS_MAX: Final = 500  # others may have written scores of any; of more, the ones with the most events stay
TROUBLES_MAX: Final = 200  # of a card, the latest
_BY_NOW: Final = 1 << 62


class _Features(Struct):
    features: dict[str, Any] = {}


class _Limits(Struct):
    metrics: dict[str, Any] | None = None


class _Bounds(Struct):
    """What of a pipeline file `Rules` are made of."""

    event: _Features
    label: dict[str, Any] | None = None
    decision: dict[str, Any] | None = None
    guard: dict[str, Any] | None = None
    learning: dict[str, Any] | None = None
    alerts: _Limits | None = None


class _Trip(Struct):
    rung: Rung


class _Score(Struct):
    output_id: str
    event_time_ms: int
    guard: Guard
    model_version: Version
    learned: int = 0
    decision: bool | None = None
    tripped: list[_Trip] = []
    instead: Instead | None = None


class _Evidence(Struct):
    """What of an alert's evidence says how a model came to be."""

    reaction: Any = None
    by: Any = ""
    model_version: Any = ""

    def __post_init__(self) -> None:
        self.reaction, self.by, self.model_version = (
            cut(one, NAME_MAX) for one in (self.reaction, self.by, self.model_version)
        )


class _Alert(AlertSeen):
    opened_ms: int = 0
    evidence: _Evidence = msgspec.field(default_factory=_Evidence)


class _Episode(Struct):
    """An episode, as far as a card shows it: its first alert's sentence, its last alert, and whether any was
    critical."""

    sentence: str
    last: _Alert
    grave: bool = False

    @property
    def time_ms(self) -> int:
        return self.last.opened_ms


class _Generation:
    """What is counted of one generation."""

    def __init__(self, pipeline: Pipeline, segment: str | None) -> None:
        self._pipeline, self._segment = pipeline, segment
        self.accounts = {name: Account() for name in pipeline.kpi}
        self.parts: dict[str, dict[str, Account]] = {name: {} for name in pipeline.kpi}
        self.first_ms, self.last_ms = _BY_NOW, -_BY_NOW
        self.learned_first, self.learned_last = _BY_NOW, 0
        self.events = self.positive = 0
        self.guard: Counter[str] = Counter()
        self.tripped: Counter[str] = Counter()
        self.instead: Counter[str] = Counter()
        self.beside = Beside(pipeline.task)
        self.outcomes: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()  # the same, also of pairs at which the model raised
        self.delays_ms = array("q")
        self.spans: dict[int, tuple[int, int]] = {}  # by shard: event times of the first and last
        self.latest: dict[int, tuple[int, str, int]] = {}  # by shard: the last event's time, input and offset
        self.buffer: list[Outcome] = []

    @cached_property
    def tally(self) -> Tally:
        """Made when there is something to count: it takes half a megabyte, and others may name many generations."""
        return Tally(self._pipeline.model_copy(update={"kpi": {}}), self._segment)

    def flush(self) -> None:
        self.tally.add(self.buffer)
        self.buffer.clear()


class Cards:
    """Takes in the topics of a pipeline: journals, alerts, scores, outcomes, each partition in its order.

    Args:
        pipeline: of the file.
        shards: how many there are.
        segment: a feature by which metrics are shown; None shows no segments.
        whole: the topics still have their beginning.
    """

    def __init__(self, pipeline: Pipeline, shards: int, segment: str | None, *, whole: bool) -> None:
        self.pipeline, self.shards, self.segment, self.whole = pipeline, shards, segment, whole
        self.generations: dict[int, _Generation] = {}
        self._episodes: dict[str, _Episode] = {}
        self._changes: dict[str, _Alert] = {}  # of the model, by output id
        self._epochs: dict[int, list[EpochEntry]] = {}
        self._reader = OutcomeReader(pipeline)
        self._seen: set[str] = set()
        self._priced: dict[Any, Outcome] = {}
        label = pipeline.label
        self._corrected = label is not None and (label.retract or "correct" in (label.late, label.second))

    def _repeated(self, output_id: str, kind: str) -> bool:
        """At least once, an output may be there twice."""
        if self.pipeline.delivery == "exactly_once":
            return False
        repeated = (name := f"{output_id} {kind}") in self._seen
        self._seen.add(name)
        return repeated

    def epoch(self, shard: int, entry: EpochEntry) -> None:
        if _read(entry.pipeline, _Bounds) is None:
            return  # where there is no key, others may have written it
        self._epochs.setdefault(shard, []).append(entry)

    def alert(self, document: Mapping[str, Any]) -> None:
        alert = _read(document, _Alert)
        if alert is None or self._repeated(alert.output_id, "alert"):
            return
        if alert.kind == "model_change":
            if alert.evidence.reaction != "none":
                self._changes[alert.output_id] = alert
                keep_latest(self._changes)
            return
        episode = self._episodes.setdefault(alert.episode, _Episode(alert.sentence, alert))
        episode.last = alert
        episode.grave |= alert.severity == "critical"
        keep_latest(self._episodes)

    def score(self, document: Mapping[str, Any]) -> None:
        score = _read(document, _Score)
        if score is None or self._repeated(score.output_id, score.guard):
            return
        generation, _, _ = score.model_version.partition(".")
        topic, *place = score.output_id.rsplit("-", 3)
        partition, offset, ordinal = (map(offset_of, place)) if len(place) == 3 else (None, None, None)
        if partition is None or offset is None or ordinal is None:
            return
        found = self.generations.get(int(generation))
        if found is None:
            if len(self.generations) >= GENERATIONS_MAX:
                del self.generations[min(self.generations, key=lambda one: self.generations[one].events)]
            found = self.generations[int(generation)] = _Generation(self.pipeline, self.segment)
        found.guard[score.guard] += 1
        if score.guard in DECIDED:  # after the score that held it
            return
        found.events += 1
        found.positive += score.decision is True
        found.tripped.update(trip.rung for trip in score.tripped)
        found.instead.update([score.instead] if score.instead is not None else [])
        found.first_ms, found.last_ms = (
            min(found.first_ms, score.event_time_ms), max(found.last_ms, score.event_time_ms)
        )  # fmt: skip
        found.learned_first = min(found.learned_first, score.learned)
        found.learned_last = max(found.learned_last, score.learned)
        shard = partition % self.shards
        first_ms, last_ms = found.spans.get(shard, (_BY_NOW, -_BY_NOW))
        found.spans[shard] = (min(first_ms, score.event_time_ms), max(last_ms, score.event_time_ms))
        if score.event_time_ms >= found.latest.get(shard, (-_BY_NOW,))[0]:
            found.latest[shard] = (score.event_time_ms, input_name(topic, partition, shard), offset)

    def outcome(self, document: Mapping[str, Any]) -> None:
        one = self._reader.read(document)
        if one is None or one.version is None or self._repeated(one.output_id, one.kind):
            return
        found = self.generations.get(one.version.generation)
        if found is None:
            return
        found.outcomes[one.kind] += 1
        found.ended[one.ended] += 1
        if one.ended == "joined" and one.label_time_ms is not None and one.event_time_ms is not None:
            found.delays_ms.append(one.label_time_ms - one.event_time_ms)
        self._settle(found, one)
        if one.previous_label is None:
            found.beside.add(one)
        if one.label is not None and one.prediction is not None and one.event_time_ms is not None:
            found.buffer.append(one)
            if len(found.buffer) >= BUFFERED_MAX:
                found.flush()

    def _settle(self, found: _Generation, one: Outcome) -> None:
        if self._corrected and one.ended in ("corrected", "retracted", "joined"):
            before = self._priced.pop(one.event_id, None)
            if before is not None:
                self._price(found, before, times=-1)
        if one.priced and one.kind != "retracted":
            self._price(found, one)
            if self._corrected:
                self._priced[one.event_id] = one

    def _price(self, found: _Generation, one: Outcome, *, times: int = 1) -> None:
        for priced in one.priced:
            form, account = self.pipeline.kpi.get(priced.kpi), found.accounts.get(priced.kpi)
            if form is None or account is None:
                continue
            if one.kind == "expired":
                account.expire(priced)
                continue
            account.settle(priced, assumed=one.ended == "assumed", times=times)
            if form.by in self.pipeline.event.features and one.features is not None:
                value = one.features[list(self.pipeline.event.features).index(form.by)]
                parts, segment = found.parts[priced.kpi], MISSING if value is None else str(value)
                if segment not in parts and len(parts) >= SEGMENTS_MAX:
                    segment = OTHER
                parts.setdefault(segment, Account()).settle(priced, assumed=one.ended == "assumed", times=times)

    # -- the card

    def card(self, generation: int, file: str) -> Card:
        """The card of a generation that served.

        Args:
            file: the pipeline file, as commands name it; quoted for a shell.
        """
        found = self.generations[generation]
        found.flush()
        tally = found.tally
        column = dict(zip(tally.measure.sums, tally.total.sums[0], strict=True))
        metrics = {
            name: _rounded(value) if column["answered"] else None for name, value in total_values(tally, None).items()
        }
        epoch = self._epoch_of(found)
        versions = {} if epoch is None else {name: epoch.versions.get(name, "") for name in ("app", "river")}
        segments = [
            Segment(part.name, part.n, {name: _rounded(value) for name, value in part.values.items()})
            for part in segments_of(tally, None)
        ]
        return Card(
            self.pipeline.name,
            self.pipeline.task,
            generation,
            sorted(self.generations),
            versions,
            self.whole,
            self._made(generation, found),
            Learned(found.learned_first if found.events else 0, found.learned_last),
            Span(
                found.first_ms if found.events else 0,
                found.last_ms if found.events else 0,
                found.events,
                found.positive,
                dict(sorted(found.guard.items())),
                dict(sorted(found.tripped.items())),
                dict(sorted(found.instead.items())),
            ),
            _labels(found),
            int(column["n"]),
            int(column["answered"]),
            metrics,
            self.segment,
            segments,
            {name: self._kpi(found, name) for name in self.pipeline.kpi},
            None if (means := found.beside.means) is None else Second(found.beside.labels, means[1], means[0]),
            _rules(self.pipeline.resolved() if epoch is None else epoch.pipeline),
            self._troubles(found),
            _commands(self.pipeline, generation, self.segment, file),
        )

    def _epoch_of(self, found: _Generation) -> EpochEntry | None:
        """The epoch of the generation's last event, on the first shard that has one."""
        for shard, (_, name, offset) in sorted(found.latest.items()):
            before = [one for one in self._epochs.get(shard, ()) if one.positions.get(name, 0) <= offset]
            if before:
                return before[-1]
        return None

    def _made(self, generation: int, found: _Generation) -> list[Made]:
        made = []
        for shard in sorted(found.spans):
            ours = (one for one in self._changes.values() if shard_of(_named(one, self.pipeline.name)) == str(shard))
            first = next((one for one in ours if _generation_of(one) == generation), None)
            if first is not None:
                made.append(Made(shard, first.time_ms, first.sentence, first.evidence.by))
            elif generation == 0:
                made.append(Made(shard, None, "The model of the pipeline file, untrained at its first event."))
            else:
                made.append(Made(shard, None, "No alert says what made it: an operator's reset, or a restored state."))
        return made

    def _kpi(self, found: _Generation, name: str) -> KpiFigure:
        form = self.pipeline.kpi[name]
        values = found.accounts[name].values(rising=form.rising)
        known, assumed, expired = values["known"], values["assumed"], values["expired"]
        parts = {
            segment: part.values(rising=form.rising)["known"]["total"]
            for segment, part in sorted(found.parts[name].items())
        }
        return KpiFigure(
            form.unit,
            known["events"],
            known["total"],
            {kind: cell["events"] for kind, cell in known["by_kind"].items()},
            assumed["events"],
            assumed["total"],
            expired["events"],
            expired["total"] if expired["events"] else None,
            form.target,
            form.limit,
            form.by,
            parts,
        )

    def _troubles(self, found: _Generation) -> list[Trouble]:
        """Episodes that were open on a shard while the generation served there."""
        made = []
        for name, episode in self._episodes.items():
            last = episode.last
            shard = shard_of(_named(last, self.pipeline.name))
            span = found.spans.get(int(shard)) if shard else None
            ended_ms = last.time_ms if last.state == "resolved" else None
            if span is None or last.opened_ms > span[1] or (ended_ms is not None and ended_ms < span[0]):
                continue
            made.append(
                Trouble(
                    name,
                    last.kind,
                    "critical" if episode.grave else last.severity,
                    "resolved" if ended_ms is not None else "open",
                    last.opened_ms,
                    ended_ms,
                    episode.sentence if ended_ms is not None else last.sentence,
                    last.acknowledged_by,
                )
            )
        made.sort(key=lambda one: (one.opened_ms, one.episode))
        return made[-TROUBLES_MAX:]


def _labels(found: _Generation) -> Labels:
    delays = sorted(found.delays_ms)
    shown = {}
    if delays:
        shown = {"p50": delays[len(delays) // 2], "p90": delays[len(delays) * 9 // 10], "max": delays[-1]}
    came = found.ended["joined"]
    over = came + sum(found.ended[kind] for kind in ("assumed", "expired"))
    return Labels(dict(sorted(found.outcomes.items())), _rounded(came / over) if over else None, shown)


def _rules(document: Mapping[str, Any]) -> Rules:
    event = document.get("event") or {}
    label = document.get("label")
    return Rules(
        str(document.get("model")),
        [str(name) for name in event.get("features") or ()],
        None if label is None else {name: label[name] for name in ("value", "wait", "missing") if name in label},
        document.get("decision"),
        document.get("guard"),
        document.get("learning"),
        dict((document.get("alerts") or {}).get("metrics") or {}),
    )


def _commands(pipeline: Pipeline, generation: int, segment: str | None, file: str) -> dict[str, str]:
    """What gives each part of the card again."""

    def tail(topic: str, program: str) -> str:
        text = f"driftline tail {topic} -p {file} --from-beginning --timeout 5 | jq -c '{program}'"
        return f"{text} | sort | uniq -c"

    ours = f'select((.model_version // "") | startswith("{generation}."))'
    by = f" --segment {shlex.quote(segment)}" if segment is not None else ""
    return {
        "metrics": f"driftline backtest -p {file} --against live --generation {generation}{by}",
        "served": tail("scores", f"{ours} | .guard"),
        "labels": tail("outcomes", f"{ours} | .kind"),
        "troubles": f"driftline tail alerts --pretty -p {file} --from-beginning --timeout 5",
        "rules": f"driftline verify -p {file}",
    } | ({"kpis": f"driftline backtest -p {file} --against live --generation {generation}"} if pipeline.kpi else {})


def _named(alert: _Alert, pipeline: str) -> Mapping[str, Any]:
    return {"episode": alert.episode, "pipeline": pipeline}


def _generation_of(alert: _Alert) -> int | None:
    text = str(alert.evidence.model_version).partition(".")[0]
    return offset_of(text)


def _rounded(value: float | None) -> float | None:
    if value is None or not isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")


def _read(document: Mapping[str, Any], form: Any) -> Any:
    """A record of an output topic; None where it has another form, as others may have written it."""
    try:
        return msgspec.convert(document, form)
    except msgspec.ValidationError:
        return None
