"""Why hardly any label has ever met its event, where neither ids nor keys nor times show it; and events that stopped.

Labels that find no event from the beginning on may be of events from before it, or come before theirs. Which it is
shows where ids rise with time, as numbers from a counter do: a label whose id lies among those of the events that
came should have met its event. Ids that lie before or behind them are explained, for as long as a wait is.

Ids that do not rise say nothing, and no delay was seen. What is known then: had labels come at any time within the
wait alike, so many of them would have met their events by now. Where that is many more than did, it is alerted, as a
warning: labels that all come later than the pipeline is old would look the same for so long.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, TypeAlias

from driftline.core.label.cause import EVENTS_MIN, STRAYS_MIN, Cause, Probe, span_text
from driftline.core.label.unmatched import PATIENCE_MS
from driftline.core.record import EventId
from driftline.core.shard.state import Shard

LABELS_MIN: Final = 100  # labels in a window that a share is of where no cause shows
RARELY: Final = 50  # labels without an event, to each that met its own
EXPECTED_MIN: Final = 16  # labels that would have met their event, if delays were spread over the wait
SEEN_MS: Final = 120_000  # from the first label without an event on, at least
EVENTS_LOOKED: Final = 64  # of the latest
STOPPED_GAPS: Final = 10  # times as long as from event to event without one, to be named

_Order: TypeAlias = tuple[int, float | int | str]


def unmet_cause(shard: Shard, probes: Sequence[Probe], *, whole: bool) -> Cause | None:
    """Why labels find no event from the beginning on; None where they do, or what was seen explains it.

    Args:
        probes: the latest of them.
        whole: events are read from the beginning of their topic.
    """
    strays, joined = shard.strays, shard.maturity.joined
    passed_ms = min(shard.now_ms, strays.event_ms)
    probes = [probe for probe in probes if passed_ms - probe.held_ms >= PATIENCE_MS]
    if strays.held < LABELS_MIN or joined * RARELY > strays.held or len(probes) < STRAYS_MIN:
        return None
    silence, examples = strays.silence, [str(probe.event_id)[:60] for probe in probes[-3:]]
    span_ms = passed_ms - silence.first_ms
    evidence: dict[str, object] = {"examples": examples, "held_for_ms": PATIENCE_MS, "joined": joined}
    hardly = f"hardly any label has found its event since the first one arrived, {span_text(max(span_ms, 0))} ago"
    if not shard.counts.get("scored", 0):
        return Cause("unknown", len(probes), f"no event has been scored. {_events_text(shard)}", evidence)
    if (order := _rising(shard)) is not None:
        first, last = order
        among = [probe for probe in probes if _order(first) <= _order(probe.event_id) <= _order(last)]
        if len(among) < max(STRAYS_MIN, len(probes) / 2):
            return None
        sentence = (
            f"{hardly}, although their ids lie within the range of the events': a label has "
            f"{among[-1].event_id!s:.60}, events have {first!s:.60} to {last!s:.60}. "
            f"{stopped_text(shard) or unshown_text(examples)}"
        )
        return Cause("unknown", len(among), sentence, evidence)
    late = span_ms < max(SEEN_MS, (silence.first_ms - (strays.began_ms or 0)) // 2)
    expected = silence.span_ms // max(1, shard.pending.wait_ms)
    if late or not whole or expected < max(EXPECTED_MIN, 4 * joined):
        return None
    sentence = (
        f"{hardly}. {stopped_text(shard) or unshown_text(examples)} If the labels belong to events from before "
        f"{shard.pipeline.name} started, this resolves itself."
    )
    return Cause("unknown", len(probes), sentence, {**evidence, "expected": expected}, sure=False)


def _rising(shard: Shard) -> tuple[EventId, EventId] | None:
    """The first and the greatest id of an event that is known, if ids rise with time."""
    ids = [known.event_id for known in shard.pending.latest(EVENTS_LOOKED)]
    first = shard.pending.oldest()
    if first is None or len(ids) < EVENTS_MIN or len({isinstance(one, str) for one in (first, *ids)}) > 1:
        return None
    order = [_order(one) for one in (first, *ids)]
    falls = sum(one > other for one, other in pairwise(order))
    return (first, max(ids, key=_order)) if falls <= len(order) / 10 else None


def _order(event_id: EventId) -> _Order:
    """Where an id stands among others; texts of counters are longer the greater they are."""
    return (len(event_id), event_id) if isinstance(event_id, str) else (-1, event_id)


# -- words


def unshown_text(examples: Sequence[str]) -> str:
    return (
        "Neither ids nor keys show why. Check that `label.id` and `event.id` name the same thing, and that the events "
        f"of these labels were sent: {', '.join(examples) or 'none is still held'}."
    )


def stopped_text(shard: Shard) -> str:
    """That events have stopped coming; empty where they go on, or some may be left unread."""
    newest_ms, gap_ms = shard.pending.newest_ms(), shard.moment().gap_ms
    quiet_ms = 0 if newest_ms is None else min(shard.now_ms, shard.strays.event_ms) - newest_ms
    if quiet_ms < max(PATIENCE_MS, STOPPED_GAPS * gap_ms):
        return ""
    return f"No event has arrived for {span_text(quiet_ms)} of event time. {_events_text(shard)}"


def _events_text(shard: Shard) -> str:
    topic = shard.pipeline.topics.events
    return f"Check that events are written to {topic}{place_text(shard)}."


def place_text(shard: Shard) -> str:
    """Of a topic, which part of it to look at; empty where the shard reads all of it."""
    return "" if shard.pipeline.shards == 1 else f", partition {shard.number} included"
