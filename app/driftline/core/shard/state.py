"""One shard's state. Only `step` changes it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from driftline.core.alert.episode import Episodes, Moment
from driftline.core.alert.watch import Watch
from driftline.core.budget import Budget
from driftline.core.drift.monitors import DriftMonitors
from driftline.core.drift.reaction import Reactor
from driftline.core.forecast.forecasts import Forecasts
from driftline.core.guard.ahead import AheadLadder
from driftline.core.guard.kept import Kept
from driftline.core.guard.ladder import Ladder
from driftline.core.guard.quarantine import Quarantine
from driftline.core.guard.second import Second
from driftline.core.history.history import History
from driftline.core.label.early import EarlyLabels
from driftline.core.label.fate import ASSUMED, LABELLED, RETRACTED
from driftline.core.label.ledger import Ledger
from driftline.core.label.life import Rule, life_of, rules_of
from driftline.core.label.unmatched import LEAP_MS, Strays
from driftline.core.metric.evaluation import Evaluation
from driftline.core.metric.kpi import NEVER, Kpis
from driftline.core.metric.maturity import Maturity
from driftline.core.model.learner import Learner
from driftline.core.pipeline import HistoryFeature, Pipeline
from driftline.core.pipeline.learning import QuarantineForm
from driftline.core.pipeline.target import Target
from driftline.core.place import OWN, input_name
from driftline.core.record import LabelValue, Source
from driftline.core.shard.command import Commands
from driftline.core.shard.upload import Loading
from driftline.core.signal import CONCEPT
from driftline.core.task import task_of

_LABELS_TAKEN = ("joined", "late", "duplicate", "orphan", "failed", "corrected", "retracted", "unretracted")
FATES = ("joined", "orphan", "late", "duplicate", "expired")


class Terms(Struct, frozen=True, gc=False):
    """What the fold asks of its pipeline at each record, read once: a look into a pydantic model costs ten of these.

    Args:
        labelled: the pipeline declares a label.
        early_ms: how long a label waits for its event.
        bounded: labels are classes, of which there are `classes_max` at most.
        supervised: the model learns from labels, else from events.
        ahead: the truth of what is served is a later event.
        threshold: of a decision; None without one, and under a budget.
        decides: predictions are decided as yes or no.
        budgeted: decisions are made under a budget, of so much `per_ms`, in periods that begin `zone_ms` before UTC's.
        missing_watched: missing features may alert.
        waits_watched: how many labels come within the wait is watched.
        strays_watched: labels that find no event, or do not come, are alerted.
        computed: features are computed from the past, or from the event's time.
        label_history: some of them from labels.
        leap_ms: a move of the watermark at once that is worth remembering.
        events, labels: topics, with which output ids begin that are about an event, or about a label.
        slates: requests are answered with several items.
        limited: metrics have limits.
        unguarded: what the model predicts is served as it is.
        priced: the pipeline has KPIs.
        tests: labels are tested; where they are suspect, `holds`: they are held back from learning.
        odds: of the test's error rate.
        hold_ms, held_max: for how long, and how many of them.
        releases: they are learned then, and not dropped.
        freeze_on: kinds of alert, while which are open nothing is learned.
    """

    labelled: bool
    early_ms: int
    bounded: bool
    supervised: bool
    ahead: bool
    threshold: float | None
    decides: bool
    budgeted: bool
    per_ms: int
    zone_ms: int
    missing_watched: bool
    waits_watched: bool
    strays_watched: bool
    computed: bool
    label_history: bool
    leap_ms: int
    events: str
    labels: str
    slates: bool
    limited: bool
    unguarded: bool
    priced: bool
    tests: bool
    holds: bool
    odds: float
    hold_ms: int
    held_max: int
    releases: bool
    freeze_on: tuple[str, ...]

    @classmethod
    def of(cls, pipeline: Pipeline) -> Terms:
        label, decision, topics = pipeline.label, pipeline.decision, pipeline.topics
        task, quarantine, learning = task_of(pipeline.task), pipeline.quarantine, pipeline.learning
        form = QuarantineForm() if quarantine is None else quarantine  # of what is held still
        return cls(
            labelled=label is not None,
            early_ms=label.early_ms if label else 0,
            bounded=task.labels.textual,
            supervised=task.supervised,
            ahead=task.ahead,
            threshold=decision.threshold if decision else None,
            decides=decision is not None,
            budgeted=decision is not None and decision.budget is not None,
            per_ms=decision.per_ms if decision else 0,
            zone_ms=decision.offset_ms if decision else 0,
            missing_watched=bool(pipeline.alerts.missing_max),
            waits_watched=label is not None
            and (pipeline.alerts.label_coverage_min is not None or bool(pipeline.drift.label_rate)),
            strays_watched=label is not None and pipeline.alerts.unmatched_max < 1,
            computed=pipeline.event.computed,
            label_history=any(
                isinstance(one, HistoryFeature) and one.past.of_label for one in pipeline.event.features.values()
            ),
            leap_ms=min(LEAP_MS, max(60_000, label.wait_ms // 2)) if label else LEAP_MS,
            events=topics.events,
            labels=topics.labels or "",
            slates=task.slates,
            limited=bool(pipeline.alerts.performance),
            unguarded=pipeline.guard is None and not task.slates,
            priced=bool(pipeline.kpi),
            tests=quarantine is not None,
            holds=quarantine is not None and quarantine.action == "hold",
            odds=1.0 / form.error_rate,
            hold_ms=form.wait_ms,
            held_max=form.held_max,
            releases=form.then == "learn",
            freeze_on=() if learning is None else learning.freeze_on,
        )


class Shard:
    """Everything that one model of a pipeline knows. Changed by `step` only.

    Args:
        pipeline: what to do with the records.
        number: which of the pipeline's shards this is; see `core.place` for what it reads.

    Attributes:
        watermark_ms: the latest trusted event time folded; None before the first. Never goes back.
        begun_ms: the first watermark; None where a state of an earlier format did not keep it.
        stamp_ms: the latest record time folded: the timestamp of outputs that no input record causes, so that the
            broker, which took the inputs, takes them too.
        positions: next offset by input.
        counts: how often each thing happened since the first record, by name.
        drifts: how often each signal moved, by signal and what was seen (`drift rise`); improvements are only counted.
        classes: labels seen, by class, where labels are classes.
        episodes: what is wrong now, and whether that was published.
        watch: conditions beside drift.
        loading: a model file that is on its way in.
        commands: those of operators that were taken.
        life: the table of a label's life under the pipeline's rules.
        history: what past events, and their labels, say of the next ones.
        forecasts: what is known of the series that are forecast, beside their past; None of other tasks.
        maturity: how far labels have come in, and the metrics that know of it.
        strays: labels that found no event.
        kpis: what decisions cost and brought; empty without KPIs.
        quarantine: the test of labels, and those that are held back from learning.
        second: the guard's second model; None without one.
        budget: of alarms; as new where decisions need none. `alarms_max` are this shard's of each period.
        ladder: the guard's rungs; None without a guard. `kept` is what they remember.
        places: by topic and partition, see `place`; made as they are met.
    """

    def __init__(self, pipeline: Pipeline, number: int) -> None:
        self.pipeline = pipeline
        self.number = number
        self.terms = Terms.of(pipeline)
        self.places: dict[str, dict[int, tuple[str, str]]] = {}
        self.learner = Learner(pipeline)
        label = pipeline.label
        self.life = life_of(rules_of(label))
        self.labels_max = label.each_max if label else 1
        self.pending = _ledger(pipeline)
        self.early = EarlyLabels(label.early_max if label else 0, self.labels_max)
        self.evaluation = Evaluation.of(pipeline)
        self.monitors = DriftMonitors.of(pipeline)
        self.reactor = Reactor.of(pipeline)
        self.assumed = Target(label, pipeline).assumed if label else None
        self.watermark_ms: int | None = None
        self.begun_ms: int | None = None
        self.stamp_ms = 0
        self.positions: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.drifts: dict[tuple[str, str], int] = {}
        self.classes: dict[LabelValue, int] = {}
        self.frozen = False
        self.episodes = Episodes(f"{pipeline.name}-{number}-")
        self.watch = Watch()
        self.watch.adopt(pipeline)
        self.maturity = Maturity(pipeline)
        self.kpis = Kpis(pipeline)
        self.loading = Loading()
        self.strays = Strays()
        self.commands = Commands()
        self.history = History(pipeline)
        self.ladder = _ladder(pipeline)
        self.kept = Kept()
        self.quarantine = Quarantine()
        self.second = Second.of(pipeline)
        self.forecasts = None if pipeline.forecast is None else Forecasts(pipeline)
        self.budget = Budget()
        self.alarms_max = _alarms_max(pipeline, number)

    def place(self, topic: str, partition: int) -> tuple[str, str]:
        """The name of an input, and what the ids of outputs about its records begin with."""
        named = input_name(topic, partition, self.number), f"{topic}-{partition}-"
        self.places.setdefault(topic, {})[partition] = named
        return named

    def own(self, source: Source) -> int:
        """A record's partition as it is kept: `OWN` where it has the shard's number."""
        return OWN if source.partition == self.number else source.partition

    def count(self, what: str) -> None:
        counts = self.counts
        counts[what] = counts.get(what, 0) + 1

    def accepted(self) -> tuple[int, int]:
        """Events and labels that could be used; of labels, those of which it is known what became of them."""
        count = self.counts.get
        return count("scored", 0), sum([count(kind, 0) for kind in _LABELS_TAKEN])

    @property
    def stopped(self) -> bool:
        """Whether an alert is open that stops learning."""
        kinds = self.terms.freeze_on
        return bool(kinds) and any(episode.sign.kind in kinds for episode in self.episodes.open.values())

    @property
    def now_ms(self) -> int:
        """The watermark, and 0 before the first trusted time; what came by then counts from that time on."""
        return self.watermark_ms if self.watermark_ms is not None else 0

    @property
    def next_deadline_ms(self) -> int | None:
        """When something expires next, in event time: the watermark must pass it; never before time has begun."""
        if self.watermark_ms is None:
            return None
        deadlines = (
            self.pending.next_deadline_ms,
            self.early.next_deadline_ms,
            self.episodes.deadline_ms(self.moment()),
            self.watch.deadline_ms(self.episodes.open),
            self.loading.deadline_ms,
            self.kept.deadline_ms,
            self.kpis.next_ms if self.terms.priced and self.kpis.next_ms < NEVER else None,
            self.quarantine.deadline_ms,
            self.strays.deadline_ms(self.counts.get("scored", 0)) if self.terms.strays_watched else None,
        )
        known = [deadline for deadline in deadlines if deadline is not None]
        return min(known) if known else None

    @property
    def awaits_events(self) -> bool:
        """Whether labels find no event, and time has gone on without one: see `label.unmatched`."""
        return self.terms.strays_watched and self.strays.awaits_events(self.now_ms)

    def moment(self, place: str = "") -> Moment:
        """Now, for episodes; `place` names the record that is being folded."""
        scored = self.counts.get("scored", 0)
        gap_ms = 0.0 if self.begun_ms is None or not scored else (self.now_ms - self.begun_ms) / scored
        return Moment(self.now_ms, self.evaluation.label_count, scored, place, self.positions, gap_ms)

    @property
    def passed(self) -> dict[tuple[str, str], int]:
        """Records that were skipped, by input (`events`, `labels`) and kind (`core.record.PASSED`)."""
        counts = ((name.split("_"), count) for name, count in self.counts.items() if name.startswith("passed_"))
        return {(what, kind): count for (_, what, kind), count in counts}

    def summary(self) -> dict[str, Any]:
        """A few numbers for people: sizes, counts and current metric values."""
        return {
            "watermark_ms": self.watermark_ms,
            "pending": len(self.pending),
            "early": len(self.early),
            "labels": self.label_counts(),
            "rejected": dict(self.watch.rejected),
            "version": str(self.learner.version),
            "known": self.learner.known,
            "frozen": self.frozen,
            "loading": self.loading.progress,
            "commands": self.commands.values(),
            "counts": dict(self.counts),
            "drifts": {f"{signal} {detection}": count for (signal, detection), count in self.drifts.items()},
            **({"stopped_detectors": names} if (names := self.monitors.stopped()) else {}),
            "episodes": [episode.name for episode in self.episodes.open.values()],
            "acknowledged": [episode.name for episode in self.episodes.open.values() if episode.acknowledged],
            "metrics": self.evaluation.values(),
            "unanswered": self.evaluation.unanswered,
            **({"history": summary} if (summary := self.history.summary()) else {}),
            **({"guard": self.guarded()} if self.ladder is not None else {}),
            **({"learning": summary} if (summary := self.learning()) else {}),
            **self._forecast_summary(),
            **({"budget": self.budget.summary(self.alarms_max)} if self.terms.budgeted else {}),
            **({"kpi": self.kpis.summary()} if self.terms.priced else {}),
            **({"items_evicted": self.learner.model.evicted} if self.terms.slates else {}),
            "window_metrics": self.evaluation.window_values(),
            **self.maturity.values(
                self.pipeline,
                young=self.pending.young(self.now_ms),
                drifting=not self.episodes.open.keys().isdisjoint(CONCEPT),
            ),
        }

    def guarded(self) -> dict[str, Any]:
        """What the guard did, and what it remembers."""
        counts, kept = sorted(self.counts.items()), self.kept
        return {
            "tripped": {
                what.removeprefix("guard_").replace("_", " ", 1): count
                for what, count in counts
                if what.startswith("guard_")
            },
            "instead": {what.removeprefix("instead_"): count for what, count in counts if what.startswith("instead_")},
            "held": len(kept.held),
            "apart": len(kept.apart),
            "series": len(kept.series),
            "evicted": kept.evicted,
            "without_key": kept.keyless,
            **({"second_model": self.compared(self.second)} if self.second is not None else {}),
        }

    def compared(self, second: Second) -> dict[str, Any]:
        """The guard's second model: how often it was served, and how far off it was beside the first one."""
        count, labels = self.counts.get, second.labels
        return {
            "served": count("instead_second_model", 0),
            "failed": count("second_failed", 0),
            "version": str(second.learner.version),
            "known": second.learner.known,
            "labels": labels,
            "error": second.own_error / labels if labels else None,
            "first_error": second.first_error / labels if labels else None,
        }

    def learning(self) -> dict[str, Any]:
        """What is not learned, and why; empty where all is."""
        kept, prefix = self.quarantine, "quarantine_"
        counts = {name.removeprefix(prefix): n for name, n in sorted(self.counts.items()) if name.startswith(prefix)}
        made: dict[str, Any] = {"quarantine": counts} if counts else {}
        if kept.test.suspect:
            made["suspect"] = True
        if kept.held:
            made["held"], made["deadline_ms"] = len(kept.held), kept.deadline_ms
        if self.stopped:
            made["stopped"] = True
        return made

    def _forecast_summary(self) -> dict[str, Any]:
        forecasts, keys = self.forecasts, self.history.series
        return {} if forecasts is None or keys is None else {"forecast": forecasts.summary(keys)}

    def label_counts(self) -> dict[str, int]:
        """What became of labels since the first record; `early` are held now, and `expired` are events without one."""
        fates = {fate: self.counts.get(fate, 0) for fate in FATES}
        return {"early": len(self.early), **fates, "rejected": self.watch.rejected["labels"]}


def _alarms_max(pipeline: Pipeline, number: int) -> int:
    """A shard's part of the budget of alarms; 0 without one."""
    if pipeline.decision is None or pipeline.decision.budget is None:
        return 0
    each, over = divmod(pipeline.decision.budget, pipeline.shards or 1)
    return each + (number < over)


def _ladder(pipeline: Pipeline) -> Ladder | None:
    guard = pipeline.guard
    if guard is None:
        return None
    return Ladder(pipeline, guard) if pipeline.forecast is None else AheadLadder(pipeline, guard)


def _ledger(pipeline: Pipeline) -> Ledger:
    """An empty ledger with the bounds of a pipeline."""
    label, dedupe = pipeline.label, pipeline.dedupe
    if label is None:
        return Ledger(horizon_ms=dedupe.horizon_ms, id_max=dedupe.id_max)
    rules, keep = rules_of(label), set()
    if not rules.isdisjoint({Rule.CORRECT, Rule.RETRACT}):
        keep |= {LABELLED, RETRACTED}
    if Rule.LATE in rules:
        keep.add(ASSUMED)
    return Ledger(
        wait_ms=label.wait_ms,
        pending_max=label.pending_max,
        horizon_ms=dedupe.horizon_ms,
        id_max=dedupe.id_max,
        correct_ms=label.correct_ms,
        correct_max=label.correct_max,
        keep=frozenset(keep),
    )
