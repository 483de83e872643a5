"""Whether labels are lost, and why: judged now and then over what `label.unmatched` keeps.

    labels find no event    a cause that shows in them (`cause`): as soon as twenty found none and half of them show it
                            no cause shows: where neither the time by which labels have come before their events so far,
                            nor the delays so far explain it
    labels come too late    as soon as twenty did and their times lie behind; else once a hundred labels came
    no labels come          of two hundred events whose wait is over, or much longer than any pause and delay so far

Only a share of the labels beyond `alerts.unmatched_max` is alerted. A pipeline that has just begun gets labels of
events that it never saw, and a label may come first: neither shows a cause. Without one, a label counts once it is held
for ten times as long as any that met its event, and only if it came so long after the beginning that the delays so far,
ten times over, do not reach back to there. Where events do not begin at their topic's beginning, that is after a whole
wait. Where hardly any has met, it is judged by what else can be known (`unmet`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import structs

from driftline.core.alert.condition import LOST, SILENT, Condition
from driftline.core.alert.episode import Sign
from driftline.core.alert.watch import Verdict
from driftline.core.fold.unmet import LABELS_MIN, place_text, stopped_text, unmet_cause, unshown_text
from driftline.core.label.cause import STRAYS_MIN, Cause, Timing, late_cause, shown_cause, span_text
from driftline.core.label.unmatched import CHECK_EVENTS, LOOK_MS, NEVER, PATIENCE_MS, PROBES, STEP_MAX, Mark
from driftline.core.place import topic_of
from driftline.core.shard.state import Shard
from driftline.core.wording import percent

WINDOW_LABELS: Final = 200  # and after which the next begins
JOINED_MIN: Final = 100  # labels that met their event, before delays say anything
FACTOR: Final = 10  # by how much time must exceed what was seen, to be no mere tail of it
EVENTS_LOOKED: Final = 64  # of the latest
PROBES_LOOKED: Final = 24
GONE_SHOWN: Final = 10  # labels that are seen to come after the wait, before it is taken for the cause
SILENT_EXPECTED: Final = 50  # labels that would have come by the share that events had so far
ASSUMED_EVENTS: Final = 10_000  # where no label means one of the classes, labels may be rare
WEEK_MS, DAY_MS, MINUTE_MS = 7 * 86_400_000, 86_400_000, 60_000
SILENT_MS: Final = 10 * MINUTE_MS  # without a label, at least


def judge_strays(shard: Shard, *, timed: bool) -> Iterator[Verdict]:
    """Judge labels without events.

    Args:
        timed: time calls for the look, and not the number of such labels.
    """
    strays, now_ms = shard.strays, shard.now_ms
    if strays.began_ms is None:
        strays.began_ms = now_ms
    mark = _mark(shard)
    since = strays.since or mark
    unmet, late = max(0, (mark.held - since.held) - (mark.met - since.met)), mark.late - since.late
    labels, lost = mark.labels - since.labels, unmet + late
    share = min(1.0, lost / labels) if labels > 0 else 0.0
    opened = [signal for signal in LOST if signal in shard.episodes.open]
    limit = shard.pipeline.alerts.unmatched_max
    limit = limit * 0.9 if opened else limit
    cause = None
    if share > limit and lost >= STRAYS_MIN:
        cause = _cause(shard, labels, unmet, late, mark.gone - since.gone, timed=timed)
    if timed:
        found = tuple(strays.fresh.values())
        _age(shard)
        if cause is None and share > limit and unmet >= STRAYS_MIN:
            cause = unmet_cause(shard, found, whole=_whole(shard)) or _unexplained(shard, labels)
    if cause is not None:
        signal = Condition.MATCH.named(cause.name)
        yield Verdict(signal, _sign(shard, cause, lost, labels))
        yield from (Verdict(other, None) for other in opened if other != signal)
        strays.fresh.clear()
        strays.aged.clear()
    elif share <= limit and labels >= STRAYS_MIN and timed:
        yield from (Verdict(other, None) for other in opened)
    strays.step = min(2 * strays.step, STEP_MAX)
    _look_again(shard, mark, since, labels, found=cause is not None, timed=timed)


def begin_window(shard: Shard) -> None:
    """A label has just found no event, where all was well before."""
    since = shard.strays.since
    if since is not None and since.labels < 0:
        shard.strays.since = structs.replace(since, labels=_mark(shard).labels - 1)


def _mark(shard: Shard) -> Mark:
    strays = shard.strays
    labels = shard.accepted()[1] + len(shard.early)
    return Mark(shard.now_ms, labels, strays.held, strays.met, strays.late, strays.gone_count)


def _look_again(shard: Shard, mark: Mark, since: Mark, labels: int, *, found: bool, timed: bool) -> None:
    strays, now_ms = shard.strays, shard.now_ms
    strays.looked = (strays.count, shard.counts.get("scored", 0))
    strays.look_at = strays.count + strays.step
    if labels >= WINDOW_LABELS and (found or (timed and now_ms - since.now_ms >= LOOK_MS)):
        strays.since = mark
        if strays.count == since.held + since.late:
            strays.step = STRAYS_MIN
    elif strays.since is None:
        strays.since = since
    waits = strays.fresh or strays.aged or strays.count > strays.since.held + strays.since.late
    if waits or any(signal in shard.episodes.open for signal in LOST):
        begun = strays.since.now_ms
        strays.look_ms = now_ms + (LOOK_MS if strays.since is mark else max(LOOK_MS, (now_ms - begun) // 2))
    else:
        strays.look_ms = NEVER


def _cause(shard: Shard, labels: int, unmet: int, late: int, gone: int, *, timed: bool) -> Cause | None:
    """What shows in the labels themselves.

    Args:
        unmet, late, gone: of the labels, as in `Strays`.
    """
    strays = shard.strays
    timing = _timing(shard)
    probes = tuple(strays.fresh.values())[-PROBES_LOOKED:]
    if len(probes) >= STRAYS_MIN and unmet > late:
        ledger = shard.pending
        found = shown_cause(probes, ledger.latest(EVENTS_LOOKED), ledger.knows, shard.number, timing)
        if found is not None:
            return found
    if len(strays.tardy) < min(late + gone, GONE_SHOWN) or late + gone < GONE_SHOWN:
        return None
    cause = late_cause(tuple(strays.tardy)[-late - gone :], timing)
    return cause if cause.name in ("behind", "leap") or (timed and labels >= LABELS_MIN) else None


def _timing(shard: Shard) -> Timing:
    label = shard.pipeline.label
    delays = shard.maturity.delays
    delay_ms = delays.quantile_ms(0.9) if delays.count >= STRAYS_MIN else None
    leap = shard.strays.leap
    if leap is not None and shard.now_ms - leap.to_ms > (leap.to_ms - leap.from_ms) // FACTOR:
        leap = None  # time has gone on from there: it was a pause
    return Timing(label.wait_ms if label is not None else 0, delay_ms, leap)


# -- where no cause shows


def _age(shard: Shard) -> None:
    """Take what has been in the first sample for long enough over into the second, but for what is explained."""
    strays, now_ms = shard.strays, shard.now_ms
    oldest = next(iter(strays.fresh.values()), None)
    least_ms = max(PATIENCE_MS, min(2 * strays.lead_ms, DAY_MS))
    if oldest is None or len(strays.fresh) < STRAYS_MIN or now_ms - oldest.held_ms < least_ms:
        return
    explained_to_ms = (strays.began_ms or 0) + _reach_ms(shard)
    strays.aged = {key: probe for key, probe in strays.aged.items() if probe.held_ms > explained_to_ms}
    for key, probe in strays.fresh.items():
        if len(strays.aged) < PROBES and probe.held_ms > explained_to_ms:
            strays.aged.setdefault(key, probe)
    strays.fresh.clear()


def _unexplained(shard: Shard, labels: int) -> Cause | None:
    strays, now_ms = shard.strays, shard.now_ms
    patience_ms = _patience_ms(shard)
    # Labels that were read ahead of their events move time as well: what counts is how far events have come.
    passed_ms = min(now_ms, strays.event_ms)
    stopped = stopped_text(shard)
    overdue = [probe for probe in strays.aged.values() if passed_ms - probe.held_ms >= patience_ms]
    joined, held = shard.maturity.joined, strays.held
    never = not joined and held >= LABELS_MIN and now_ms - (strays.began_ms or 0) > shard.pending.wait_ms
    if not never and (labels < LABELS_MIN or len(overdue) < STRAYS_MIN):
        return None
    timing = _timing(shard)
    examples = [str(probe.event_id)[:60] for probe in (overdue or list(strays.aged.values()))[-3:]]
    evidence: dict[str, object] = {"examples": examples, "held_for_ms": 0 if never else patience_ms}
    if never:
        known = "no label has ever found its event"
    else:
        known = f"they have waited for {span_text(patience_ms)} or longer"
        if timing.delay_ms is not None:
            known += f", while 90% of matching labels arrive within {span_text(int(timing.delay_ms))} of their event"
    sentence = f"{known}. {stopped or unshown_text(examples)}"
    return Cause("unknown", len(overdue) or held, sentence, evidence)


def _patience_ms(shard: Shard) -> int:
    """How long a label that comes first may wait for its event, by what was seen."""
    strays = shard.strays
    if strays.met:
        return max(PATIENCE_MS, FACTOR * strays.lead_ms)
    return PATIENCE_MS if shard.maturity.joined >= JOINED_MIN else shard.terms.early_ms


def _reach_ms(shard: Shard) -> int:
    """How long after the beginning labels of earlier events may come, by what was seen."""
    wait_ms, delays = shard.pending.wait_ms, shard.maturity.delays
    if not _whole(shard) or delays.count < JOINED_MIN:
        return wait_ms
    longest_ms = delays.quantile_ms(0.99) or 0.0
    return min(wait_ms, PATIENCE_MS + int(FACTOR * longest_ms))


def _whole(shard: Shard) -> bool:
    """Whether events are read from the beginning of their topic."""
    first = shard.strays.first_offset
    return first is not None and first <= 2 * shard.watch.rejected["events"] + 1


# -- whether labels come at all


def judge_silence(shard: Shard) -> Iterator[Verdict]:
    """Judge whether labels arrive at all, now that some more events were scored."""
    strays, now_ms = shard.strays, shard.now_ms
    silence, scored = strays.silence, shard.counts.get("scored", 0)
    if strays.began_ms is None:
        strays.began_ms = now_ms
    if strays.first_offset is None:
        # A backtest's candidates read the first one's topics, which have other names, and from the beginning.
        events = shard.terms.events
        strays.first_offset = sum(at for name, at in shard.positions.items() if topic_of(name) == events) - 1
    strays.check_at = scored + CHECK_EVENTS
    labels = shard.accepted()[1] + len(shard.early) + shard.watch.rejected["labels"]
    if labels != silence.labels:
        if silence.quiet_ms is not None:
            silence.gap_ms = max(silence.gap_ms, now_ms - silence.quiet_ms)
        silence.labels, silence.events, silence.quiet_ms = labels, scored, None
        yield Verdict(SILENT, None)
        return
    if not shard.terms.supervised or shard.pipeline.alerts.unmatched_max >= 1:
        return
    joined, over = shard.maturity.joined, shard.maturity.unlabelled
    if not labels:
        enough = over >= (CHECK_EVENTS if shard.assumed is None else ASSUMED_EVENTS)
        leap = strays.leap
        leapt_ms = leap.to_ms - leap.from_ms if leap is not None and leap.to_ms > strays.began_ms else 0
        if enough and now_ms - strays.began_ms - leapt_ms > max(shard.pending.wait_ms, MINUTE_MS):
            yield Verdict(SILENT, _silent_sign(shard, scored, None))
        return
    expected = joined / max(1, silence.events) * (silence.quiet_events - silence.events)
    if silence.quiet_ms is None or expected < SILENT_EXPECTED:
        silence.quiet_ms, silence.quiet_events = now_ms, scored
        return
    if now_ms - silence.quiet_ms > _silent_ms(shard):
        yield Verdict(SILENT, _silent_sign(shard, scored - silence.events, now_ms - silence.quiet_ms))


def _silent_ms(shard: Shard) -> int:
    """How long no label need come, by the pauses and delays so far; within the first week a day may be one."""
    strays = shard.strays
    longest_ms = shard.maturity.delays.quantile_ms(0.99) or 0.0
    young = shard.now_ms - (strays.began_ms or 0) < WEEK_MS
    seen_ms = max(SILENT_MS, int(FACTOR * longest_ms), 4 * strays.silence.gap_ms, DAY_MS if young else 0)
    return min(seen_ms, max(shard.pending.wait_ms, MINUTE_MS))


# -- words


def _sign(shard: Shard, cause: Cause, lost: int, labels: int) -> Sign:
    name, lost = shard.pipeline.name, min(lost, labels)
    what = "came too late for their events" if cause.name in ("wait", "behind", "leap") else "found no event"
    share = lost / labels
    sentence = f"{lost:,} of the last {labels:,} labels of {name} ({percent(share)}) {what}: {cause.sentence}"
    evidence = {
        "signal": "label match", "cause": cause.name, "value": share, "limit": shard.pipeline.alerts.unmatched_max,
        "count": labels, "lost": lost, "shown_by": cause.count, **cause.evidence,
    }  # fmt: skip
    calm = f"Labels of {name} have found their events"
    return Condition.MATCH.sign("critical" if share > 0.5 and cause.sure else "warning", sentence, calm, evidence)


def _silent_sign(shard: Shard, events: int, span_ms: int | None) -> Sign:
    name, topic = shard.pipeline.name, shard.pipeline.topics.labels
    if span_ms is None:
        wait = span_text(shard.pending.wait_ms)
        head = f"{name} has never received a label, in {events:,} events and the whole wait of {wait}"
    else:
        head = f"{name} has received no label for {span_text(span_ms)}, while {events:,} events were scored"
    sentence = (
        f"{head}. Without labels the model cannot learn or be evaluated. "
        f"Check that labels are written to {topic}{place_text(shard)}."
    )
    evidence: dict[str, object] = {
        "signal": "label match", "cause": "silence", "count": events, "silent_ms": span_ms, "topic": topic,
    }  # fmt: skip
    return Condition.MATCH.sign("critical", sentence, f"Labels of {name} have arrived", evidence)
