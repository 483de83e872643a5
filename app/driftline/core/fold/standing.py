"""How things stand when a signal has been quiet: what the message that ends an episode says of the state.

A detector is quiet as soon as nothing changes any more, also where what changed has stayed as it is. So the end of a
drift is a question of levels: is the signal's mean, over what came since the last sign, back where it was before? Most
of the way (`BACK`) counts, and what is within its noise. If it is not, the episode stays open at the new level, until

* the level is back;
* the model has learned it, of a drift in events or predictions: its first metric, over a whole window of labels since,
  is no worse than it was when the episode opened, and no drift of its errors is open;
* an operator acknowledges the level, which says that this is normal now.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

from driftline.core.alert.condition import Condition
from driftline.core.alert.episode import Episode, Standing, Was
from driftline.core.drift.monitor import Drift, Monitor
from driftline.core.duration import spoken
from driftline.core.metric.evaluation import Evaluation
from driftline.core.pipeline import AlertKind
from driftline.core.river.building import build_metric
from driftline.core.shard.state import Shard
from driftline.core.signal import CONCEPT, Signal
from driftline.core.signal.sentence import Level, Subject
from driftline.core.task import task_of
from driftline.core.wording import percent, plain

BACK = 0.75  # of the way that a signal must have come back
VALUES_MIN, VALUES_MAX = 50, 1_000  # that say where it stands now: those since the last sign
NOISE = 3.0  # standard errors
RANK_SPREAD = 12**-0.5
SHOWN = 3  # signals in a sentence
INPUTS: frozenset[AlertKind] = frozenset({"data_drift", "score_drift"})
"""Kinds of drift that a model may learn to live with."""


def remember(shard: Shard, episode: Episode, drift: Drift) -> None:
    """Note where the signal stood before it drifted, and how good the model was then."""
    was = Was(drift.signal, drift.before, drift.after, drift.mean_before, drift.mean_after, drift.observed)
    episode.note(drift.monitor, was)
    if episode.update == 1 and episode.metric is None and episode.sign.kind in INPUTS:
        value = _first_metric(shard.evaluation)
        episode.metric = None if value is None else (value, shard.evaluation.taken)


def stand_of(shard: Shard, episode: Episode) -> Standing:
    """Whether what was wrong is over, in words."""
    if episode.was:
        return _of_levels(shard, episode)
    now = _now(shard, episode)
    figures, evidence = ("", {}) if now is None else (f": {now[0]}", {"now": now[1]})
    return Standing(True, f"{episode.sign.calm} for {spoken(episode.quiet_ms)}{figures}.", evidence)


# -- drift


def _of_levels(shard: Shard, episode: Episode) -> Standing:
    monitors = {monitor.name: monitor for monitor in shard.monitors.every()}
    back, stayed, shown = list[str](), list[str](), list[float]()
    for name, was in episode.was.items():
        monitor = monitors.get(name)
        if monitor is None:
            continue
        level, is_back = _level(monitor, was)
        shown.append(level.shown)
        (back if is_back else stayed).append(_phrase(shard, monitor, was, level))
    name, quiet = shard.pipeline.name, spoken(episode.quiet_ms)
    if not shown:
        return Standing(True, f"{episode.sign.calm} for {quiet}.")
    evidence = {"now": shown[0]}
    is_error = episode.sign.kind == "concept_drift"
    if not stayed:
        head = f"{name} has recovered" if is_error else "Back where it was"
        return Standing(True, f"{head}: {_listed(back)}.", evidence)
    head = f"{name} has not recovered" if is_error else "It has stayed at its new level"
    text = f"{head}: {_listed(stayed)}"
    if episode.accepted:
        by = f" by {episode.acknowledged_by}" if episode.acknowledged_by else ""
        return Standing(True, f"{text}. This was acknowledged{by} as the new normal.", evidence)
    if (learned := _learned(shard, episode)) is not None:
        return Standing(True, f"{text}. The model has learned it: {learned}.", evidence)
    more = f"Nothing else has changed for {quiet}; if this is normal now, acknowledge it and the episode ends"
    return Standing(False, f"{text}. {more}.", evidence)


def _level(monitor: Monitor, was: Was) -> tuple[Level, bool]:
    """Where the signal stands now, and whether it is back."""
    count = min(max(monitor.observed - was.observed, VALUES_MIN), VALUES_MAX)
    shown, mean, values = monitor.level(count)
    move = was.after - was.before
    left = (shown - was.before) * (1 if move >= 0 else -1)
    noise = 0.0
    if monitor.scale == 1 and monitor.unit != "raw":
        share = min(max(was.before, 0.0), 1.0)
        spread = sqrt(share * (1 - share)) if monitor.unit == "bit" else RANK_SPREAD
        noise = min(NOISE * spread / sqrt(max(values, 1)), abs(move) / 2)
    return Level(shown, mean, monitor.unit), left <= max((1 - BACK) * abs(move), noise)


def _phrase(shard: Shard, monitor: Monitor, was: Was, now: Level) -> str:
    """A signal's levels: now, before, and at the change."""
    pipeline = shard.pipeline
    signal, what = Signal.read(was.signal)
    subject = Subject(pipeline.name, task_of(pipeline.task), what, pipeline.quantity, pipeline.unit)
    row, (feature, _, value) = signal.row, what.partition("=")
    known = None not in (now.mean, was.mean_before, was.mean_after)
    before = Level(was.before, was.mean_before if known else None, monitor.unit)
    after = Level(was.after, was.mean_after if known else None, monitor.unit)
    now = now if known else Level(now.shown, None, monitor.unit)
    words = [row.level(subject, one) for one in (now, before, after)]
    stood = row.stood.format(pipeline.name, feature, repr(value))
    if signal is Signal.ERROR:  # the sentence begins with the pipeline already
        return f"{words[0]} now, {_short(words[1])} before, {_short(words[2])} at the change"
    return f"{stood} is {words[0]} now, {_short(words[1])} before, {_short(words[2])} at the change"


def _short(level: str) -> str:
    """A level after one that named what it is of."""
    for head in ("wrong ", "off by ", "a probability of ", "with errors "):
        level = level.removeprefix(head)
    return level.removesuffix(" of the time").removesuffix(" on average")


def _listed(phrases: list[str]) -> str:
    more = len(phrases) - SHOWN
    return "; ".join(phrases[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _learned(shard: Shard, episode: Episode) -> str | None:
    """How good the model is by now, where it is as good as before the change; None where it is not, or not known."""
    evaluation = shard.evaluation
    if episode.sign.kind not in INPUTS or episode.metric is None or not evaluation.tracks:
        return None
    before, taken = episode.metric
    value = _first_metric(evaluation)
    drifting = not shard.episodes.open.keys().isdisjoint(CONCEPT)
    if value is None or drifting or evaluation.taken - taken < evaluation.window:
        return None
    name = next(iter(evaluation.tracks))
    better = bool(getattr(build_metric(name, shard.pipeline), "bigger_is_better", False))
    worse = before - value if better else value - before
    is_share = 0 <= before <= 1
    noise = NOISE * (sqrt(before * (1 - before)) if is_share else abs(before)) / sqrt(evaluation.window)
    if worse > noise:
        return None
    return f"{name} is {plain(value)} now, {plain(before)} when the change was found"


def _first_metric(evaluation: Evaluation) -> float | None:
    for track in evaluation.tracks.values():
        if len(track.recent) < evaluation.window:
            return None
        value: float | None = track.window_value()
        return value
    return None


# -- limits


def _now(shard: Shard, episode: Episode) -> tuple[str, float] | None:
    """The value that was beyond its limit as it is now, in words and as a number; None where there is none to show."""
    condition, _, what = episode.signal.partition(":")
    then = episode.sign.evidence.get("value")
    show: Callable[[float], str] = percent
    value: float | None
    if condition == Condition.PERFORMANCE.row.name:
        track = shard.evaluation.tracks.get(what)
        value, show = (None if track is None else track.window_value()), plain
    elif condition == Condition.COVERAGE.row.name:
        over, labelled = (sum(block[i] for block in shard.watch.covered) for i in (0, 1))
        value = labelled / over if over else None
    elif condition == Condition.GUARD.row.name:
        tripped, count = shard.kept.recent(what)  # type: ignore[arg-type]  # an episode of a rung has its name
        return (f"{tripped:,} of the last {count:,}", tripped / count) if count else None
    else:
        return None
    return None if value is None else (_against(show, value, then, episode.sign.evidence.get("limit")), value)


def _against(show: Callable[[float], str], value: float, then: object, limit: object) -> str:
    text = f"{show(value)} now"
    if isinstance(then, int | float):
        text += f", {show(then)} when it was last reported"
    return text + (f" (limit: {show(limit)})" if isinstance(limit, int | float) else "")
