"""Predictions that wait for a person: held, then decided by a command, or by their deadline in event time."""

from __future__ import annotations

from msgspec import structs

from driftline.core.error import InvariantError
from driftline.core.fold.decision import decide
from driftline.core.fold.incident import reject
from driftline.core.fold.kpi import decided
from driftline.core.guard.ahead import Holding
from driftline.core.guard.ladder import Judged
from driftline.core.output import (
    MODEL,
    Decided,
    Decision,
    Forecast,
    Guard,
    HeldBack,
    Instead,
    Prediction,
    Review,
    Score,
)
from driftline.core.record import Control, EventId, Ruling
from driftline.core.shard.outbox import Outbox
from driftline.core.shard.state import Shard

_NOTHING = Prediction()


def hold(shard: Shard, score: Score, passed: Judged, out: Outbox) -> None:
    """A prediction was held back: ask for a review."""
    ladder, holding = shard.ladder, passed.holding
    if ladder is None or holding is None or not score.unserved or score.unserved[0].name != MODEL:
        raise InvariantError("a prediction was held back that was not made")
    held = HeldBack(
        shard.now_ms + ladder.hold_ms,
        shard.own(score.source),
        score.source.key,
        score.time_ms,
        score.version,
        score.learned,
        score.tripped,
        score.unserved[0].prediction,
        score.features,
        holding.instead,
        structs.replace(holding.prediction),  # a copy: what several share would be one object here, and not in a replay
        holding.last,
        holding.key,
    )
    shard.kept.held[score.event_id] = held
    shard.count("review_held")
    out.outputs.append(_review(out, shard, "held", score.event_id, held))


def hold_ahead(shard: Shard, score: Score, holding: Holding, out: Outbox) -> None:
    """A forecast was held back, at all horizons: ask for a review."""
    ladder = shard.ladder
    if ladder is None:
        raise InvariantError("a forecast was held back where nothing holds any")
    held = HeldBack(
        shard.now_ms + ladder.hold_ms, shard.own(score.source), score.source.key, score.time_ms, score.version,
        score.learned, score.tripped, holding.made.nearest, score.features, holding.instead, holding.then.nearest,
        holding.last, holding.key, holding.made, holding.then,
    )  # fmt: skip
    shard.kept.held[score.event_id] = held
    shard.count("review_held")
    out.outputs.append(_review(out, shard, "held", score.event_id, held))


def end_holds(shard: Shard, time_ms: int, out: Outbox) -> None:
    """Decide what waits longer than it may, as the pipeline file says."""
    for event_id, held in shard.kept.overdue(time_ms):
        _decide(shard, event_id, held, "overdue", held.then, held.instead, None, out)


def rule(shard: Shard, control: Control, out: Outbox) -> None:
    """A person decides: of one event, or of all that one rung holds. Every shard gets the command."""
    ruling, kept = control.ruling, shard.kept
    if ruling is None:
        raise InvariantError("a review without a decision was decoded")
    if ruling.event_id is not None:
        held = kept.held.get(ruling.event_id)
        found = [] if held is None else [(ruling.event_id, held)]
    else:
        found = [(event_id, held) for event_id, held in kept.held.items() if held.tripped[-1].rung == ruling.rung]
    if not found:
        _unknown(shard, control, ruling, out)
        return
    if ruling.decision == "edit" and (detail := _not_to_edit(shard, ruling, found)) is not None:
        reject(shard, control.source, "review_invalid", detail, out)
        return
    for event_id, held in found:
        match ruling.decision:
            case "approve":
                _decide(shard, event_id, held, "approved", held.made, None, control, out)
            case "edit":
                _decide(shard, event_id, held, "edited", _edited(shard, ruling) or _NOTHING, None, control, out)
            case "refuse":
                _decide(shard, event_id, held, "refused", held.then, held.instead, control, out)


def _not_to_edit(shard: Shard, ruling: Ruling, found: list[tuple[EventId, HeldBack]]) -> str | None:
    """Why what is held cannot be edited so; None where it can."""
    if any(held.ahead is not None for _, held in found):
        return "a forecast has a value for each horizon; approve or refuse it"
    if _edited(shard, ruling) is None:
        return f"{ruling.value!r} is not a prediction that the guard's range lets pass"
    return None


def _edited(shard: Shard, ruling: Ruling) -> Prediction | None:
    """The prediction that a person gives. Each event has its own: events of a state share nothing."""
    return None if shard.ladder is None else shard.ladder.edited(ruling.value)


def _unknown(shard: Shard, control: Control, ruling: Ruling, out: Outbox) -> None:
    """Nothing of the kind is held here; of several shards, another one may hold it."""
    event_id = ruling.event_id
    if event_id is not None and shard.pending.find(event_id, shard.now_ms) is not None:
        detail = f"event {event_id!r} is not held: it was decided already, or never held"
    elif (shard.pipeline.shards or 1) == 1:
        detail = f"no event {event_id!r} is held" if event_id is not None else f"rung {ruling.rung!r} holds no event"
    else:
        shard.count("review_elsewhere")
        return
    reject(shard, control.source, "review_unknown", detail, out)


def _decide(
    shard: Shard,
    event_id: EventId,
    held: HeldBack,
    state: Guard,
    prediction: Prediction,
    instead: Instead | None,
    control: Control | None,
    out: Outbox,
) -> None:
    """Serve what was decided, and let the label be judged by it."""
    kept = shard.kept
    del kept.held[event_id]
    prediction, decision, spent = decide(shard, prediction)
    if decision is not None and isinstance(prediction.label, bool):  # it was made under another threshold, maybe
        prediction = structs.replace(prediction, label=decision)
    if held.ahead is None and _waits(shard, event_id, held):
        kept.decide(event_id, Decision(structs.replace(prediction), decided(shard, prediction)))
    value, ladder = prediction.value, shard.ladder
    forecast = None
    if held.ahead is not None and held.then_ahead is not None:
        forecast = held.ahead if state == "approved" else held.then_ahead
        _served_ahead(shard, held, forecast, trusted=state == "approved")
    elif state in ("approved", "edited") and held.series is not None and value is not None and ladder is not None:
        ladder.accept(kept, held.series, value, held.time_ms)
    shard.count(f"review_{state}")
    out.outputs.append(
        Decided(
            out.alert_id(),
            shard.stamp_ms,
            event_id,
            held.time_ms,
            held.key,
            held.partition,
            prediction,
            decision,
            state,
            held.version,
            held.learned,
            held.tripped,
            instead,
            forecast,
            spent,
        )
    )
    if shard.pipeline.topics.review is not None:  # the guard may have changed meanwhile
        out.outputs.append(_review(out, shard, state, event_id, held, prediction, control, forecast))


def _waits(shard: Shard, event_id: EventId, held: HeldBack) -> bool:
    """Whether a held event waits for its label: it, and not a later one of the same id."""
    place = shard.pending.find(event_id, shard.now_ms)
    waiting = None if place is None else shard.pending.unsettled(place)
    return waiting is not None and (waiting.time_ms, waiting.version) == (held.time_ms, held.version)


def _review(
    out: Outbox,
    shard: Shard,
    state: Guard,
    event_id: EventId,
    held: HeldBack,
    served: Prediction | None = None,
    control: Control | None = None,
    forecast: Forecast | None = None,
) -> Review:
    ruling = None if control is None else control.ruling
    by, why = ("", "") if control is None or ruling is None else (control.by, ruling.why)
    return Review(out.alert_id(), shard.stamp_ms, state, event_id, held, served, by, why, forecast)


def _served_ahead(shard: Shard, held: HeldBack, forecast: Forecast, *, trusted: bool) -> None:
    """A forecast is served late: its series learns of it, if it still is forecast."""
    forecasts, keys = shard.forecasts, shard.history.series
    if forecasts is not None and keys is not None and held.series is not None:
        forecasts.decide(keys, held.series, forecast, trusted=trusted)
