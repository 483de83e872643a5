"""Whether what a state holds in bulk is what the code expects: events that wait, early labels, the past of keys.

A state that a key signed is ours. Without a key, anyone may have written it, of permitted classes and still impossible:
a label for an event that is nowhere, a past of one number too few. It would be found by the record that needs it, and
end the worker then, and after each start. So all of it is looked at before it is put to work. What is a matter of
meaning, such as a prediction that the task never makes, is for a trial: `sound` gives an example of each kind.

Cost: 3 us an event that waits or a key.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, Final

from driftline.core.forecast.series import series_fits
from driftline.core.label.early import EarlyLabels, Held
from driftline.core.label.fate import ASSUMED, EXPIRED, GONE, LABELLED, RETRACTED, WAITING
from driftline.core.label.ledger import Ledger
from driftline.core.label.pending import Settled, Waiting, unpack
from driftline.core.label.segment import SEGMENT, Segment
from driftline.core.metric.kpi import SPANS_MAX, Kpi, Span
from driftline.core.metric.price import SEGMENTS_MAX
from driftline.core.notation import is_factory
from driftline.core.output import Decision, Stakes
from driftline.core.place import OWN
from driftline.core.record import LabelValue
from driftline.core.shard.state import Shard
from driftline.core.state.form import Count, UnsoundError, conform, conform_model
from driftline.core.state.freeze import load_model
from driftline.core.state.shared import check_unshared

TURN: Final = 1_000  # events or keys between two pauses
KINDS_MAX: Final = 200  # of what waits
GAP_MAX: Final = 4_096  # segments of events that are gone, whose waits may be over
_NUMBER_MAX: Final = 2**64  # beyond all times that a record can have, with a wait
_FATES: Final = frozenset({GONE, WAITING, LABELLED, ASSUMED, EXPIRED, RETRACTED})


def sound(shard: Shard) -> Generator[None, None, tuple[list[Waiting], list[Held]]]:
    """Look at all of a shard's events, labels and keys, pausing now and then.

    Returns:
        One example of each kind of event that waits, and of each kind of early label.

    Raises:
        UnsoundError: something is not as it must be. What cannot be read raises other exceptions too.
    """
    waiting = yield from _Events(shard).look()
    early = yield from _early(shard)
    yield from _formed(shard)
    _check_kpis(shard)
    _check_pairs(shard)
    _check_held(shard)
    for keys in shard.history.keys:
        schemes = shard.history.plan.schemes  # those of forecasts' series come after them
        yield from keys.check(schemes[keys.store - 1].fits if keys.store <= len(schemes) else _fits_series(shard))
    return waiting, early


_FORMS: Final[dict[str, Any]] = {
    "watermark_ms": int | None,
    "begun_ms": int | None,
    "stamp_ms": int,
    "positions": dict[str, Count],
    "counts": dict[str, Count],
    "drifts": dict[tuple[str, str], Count],
    "classes": dict[LabelValue, Count],
    "frozen": bool,
}
"""Of what a shard keeps that is no object of a class of ours."""
_OF_CLASSES: Final = (
    *("learner", "evaluation", "monitors", "reactor", "episodes", "watch", "maturity", "loading", "strays"),
    *("commands", "kept", "forecasts", "kpis", "quarantine", "second"),
)


def _formed(shard: Shard) -> Generator[None, None, None]:
    """Look at the form of everything but events, early labels and keys; see `core.state.form`."""
    fresh = Shard(shard.pipeline, shard.number)
    for name, form in _FORMS.items():
        conform(getattr(shard, name), form, None, (name,))
    for name in _OF_CLASSES:
        yield
        part = getattr(shard, name)
        conform(part, type(part), getattr(fresh, name), (name,))
    yield from check_unshared({name: getattr(shard, name) for name in (*_FORMS, *_OF_CLASSES)})
    background, own = shard.reactor.background, fresh.learner.model
    models = {"model": shard.learner.model}
    copies = {
        "last good model": shard.learner.good,
        "model before held pairs": shard.quarantine.older,
        "model between held pairs": shard.quarantine.newer,
    }
    models |= {name: load_model(shard.pipeline, copy) for name, copy in copies.items() if copy is not None}
    if background is not None:
        models["background model"] = background.model
    for name, model in models.items():
        yield
        conform_model(model, own, name)
    second, like = shard.second, fresh.second
    if second is not None and like is not None:
        beside = [load_model(like.learner.pipeline, copy) for copy in second.frozen.values()]
        for model in (second.learner.model, *beside):
            yield
            conform_model(model, like.learner.model, "second model")


def _fits_series(shard: Shard) -> Callable[[list[Any]], bool]:
    """Whether a list is what is kept of a series."""
    form = shard.pipeline.forecast
    if form is None:
        return lambda kept: False
    features = len(shard.pipeline.event.names)
    return partial(series_fits, ring=form.ring, horizons=form.horizons, season=form.season, features=features)


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise UnsoundError(f"it holds {what}")


class _Events:
    """The ledger of a shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._ledger: Ledger = shard.pending
        self._features = len(shard.pipeline.event.names)
        self._keys = shard.history.label_schemes
        self._others = any(is_factory(one.model) for one in (shard.pipeline, shard.pipeline.second) if one is not None)
        self._kinds: dict[tuple[object, ...], Waiting] = {}
        self._kept: set[int] = set()
        self._alive = 0

    def look(self) -> Generator[None, None, list[Waiting]]:
        view = self._ledger.view()
        try:
            numbers, segments = view.numbers, view.segments
            for name, number in numbers.items():
                good = name == "keep" or (type(number) is int and -_NUMBER_MAX <= number <= _NUMBER_MAX)
                _must(
                    good and (number or 0) >= 0 if name not in ("keep", "origin_ms") else good,
                    f"{name} = {number!r:.40}",
                )
            now = self._shard.now_ms - numbers["origin_ms"]
            _must(-(2**63) <= now < 2**63, "events from before time began")
            _must(numbers["id_max"] > 0 and set(numbers["keep"]) <= _FATES - {GONE, WAITING}, "impossible bounds")
            self._check_places(numbers, segments)
            kept = array("q", view.kept)
            self._kept = set(kept)
            _must(len(self._kept) == len(kept), "labels that may be corrected twice")
            noted = 0
            for segment in segments:
                for start in range(0, len(segment.fates), TURN):
                    noted += self._check_slots(segment, range(start, min(start + TURN, len(segment.fates))), numbers)
                    yield
                _must(all(0 <= slot < len(segment.fates) for slot in segment.notes), "notes of no event")
            _must(noted == len(kept), "labels that may be corrected of events that are gone")
            _must(self._alive == self._ledger.known_count, "two events of one id")
        finally:
            view.release()
        return list(self._kinds.values())

    def _check_places(self, numbers: dict[str, Any], segments: tuple[Segment, ...]) -> None:
        """Whether the segments are those that the numbers speak of."""
        end, remembered, over = numbers["end"], numbers["remembered"], numbers["over"]
        there = [segment.number for segment in segments]
        _must(remembered <= end and over <= end and there == sorted(set(there)), "events in no order")
        last = (end - 1) // SEGMENT
        _must(not there if not end else bool(there) and there[-1] == last, "no place for the next event")
        for segment in segments:
            size = SEGMENT if segment.number < last else (end - 1) % SEGMENT + 1
            _must(segment.number >= 0 and len(segment.fates) == size, "half a segment of events")
        first = remembered // SEGMENT
        if remembered < end:
            _must(sum(number >= first for number in there) == last - first + 1, "ids that are remembered nowhere")
        if self._shard.terms.waits_watched:
            gone = last - over // SEGMENT + 1 - sum(number >= over // SEGMENT for number in there)
            _must(gone <= GAP_MAX, "too many events whose wait may be over")

    def _check_slots(self, segment: Segment, slots: range, numbers: dict[str, Any]) -> int:
        """Look at some events of a segment; returns how many have a label that may be corrected."""
        first, remembered, noted = segment.number * SEGMENT, numbers["remembered"], 0
        for slot in slots:
            fate, kept, note = segment.fates[slot], segment.packed[slot], segment.notes.get(slot)
            _must(fate in _FATES, f"an event of fate {fate}")
            if fate == GONE:
                _must(first + slot < remembered and note is None, "an id that is remembered and gone")
                continue
            self._alive += 1
            if fate == WAITING:
                self._check_waiting(segment, slot)
            elif note is not None:
                _must(first + slot in self._kept and type(note) is Settled, "a label that cannot be let go")
                _must(fate in numbers["keep"], "a label that may not be corrected")
                self._check_waiting(segment, slot)
                noted += 1
            else:
                _must(kept is None and first + slot >= remembered, "an event that nothing needs")
            if note is not None:
                _check_note(note)
        return noted

    def _check_waiting(self, segment: Segment, slot: int) -> None:
        """What an event carries, packed by the view unless a model of the user's own names what cannot be."""
        event_id, kept = segment.ids[slot], segment.packed[slot]
        if type(kept) is not bytes:
            _must(self._others and type(kept) is Waiting, "an event that carries nothing")
            return
        waiting = unpack(event_id, kept)
        _must(len(waiting.features) == self._features, "an event of other features")
        _must(len(waiting.keys) == self._keys, "an event of other keys")
        _check_stakes(waiting.stakes, self._shard.kpis.layouts)
        _must(waiting.partition == OWN or 0 <= waiting.partition < 2**31, "an event of no partition")
        made = [waiting.prediction, *(one.prediction for one in waiting.unserved)]
        kinds = [(type(one.label), type(one.value), _kinds(one.probabilities)) for one in made]
        kind = (*kinds, *map(type, waiting.features), type(waiting.series))
        if kind not in self._kinds:
            _must(len(self._kinds) < KINDS_MAX, "events of too many kinds")
            self._kinds[kind] = waiting


def _check_stakes(stakes: object, layouts: Sequence[Sequence[str]]) -> None:
    """What an event carries for KPIs; nothing where it was served before there were any."""
    if stakes is None:
        return
    _must(type(stakes) is Stakes and 0 <= stakes.layout < len(layouts), "an event of no KPI")
    if isinstance(stakes, Stakes):
        _must(len(stakes.values) == len(layouts[stakes.layout]), "an event with other fields of KPIs")
        _must(abs(stakes.at_ms) < _NUMBER_MAX, "an event of no time")


def _check_pairs(shard: Shard) -> None:
    """Pairs that are held back from learning, may still be undone or were seen have the pipeline's features."""
    features, kept = len(shard.pipeline.event.names), shard.quarantine
    pairs = [*(one.values for one in kept.held), *(one.values for one in kept.recent)]
    pairs += [] if shard.second is None else [one.values for one in shard.second.copies.recent]
    for values in (*pairs, *(one.values for one in kept.seen)):
        _must(len(values) == features, "a pair of other features")


def _check_held(shard: Shard) -> None:
    """Predictions that wait for a person have the pipeline's features; forecasts its series and horizons."""
    features, form = len(shard.pipeline.event.names), shard.pipeline.forecast
    for held in shard.kept.held.values():
        _must(len(held.features) == features, "a held prediction of other features")
        for forecast in (held.ahead, held.then_ahead):
            _must((forecast is None) == (form is None), "a held prediction of another task")
            if forecast is None or form is None:
                continue
            _must(len(forecast.series) == len(form.by), "a held forecast of no series")
            each = (forecast.values, forecast.lower, forecast.upper, forecast.naive)
            where_any = [one for one in (forecast.guard, forecast.instead) if one]
            _must({form.horizons}.issuperset(map(len, (*each, *where_any))), "a held forecast of other horizons")


def _check_kpis(shard: Shard) -> None:
    """KPIs are those of the pipeline, and all that they hold are whole numbers."""
    kpis = shard.kpis
    _must(kpis.layouts == [tuple(map(str, one)) for one in kpis.layouts], "fields of KPIs without a name")
    _must(list(kpis.each) == list(shard.pipeline.kpi), "other KPIs than the pipeline's")
    _must(type(kpis.next_ms) is int, "KPIs that are never due")
    for kpi in kpis.each.values():
        _must(type(kpi) is Kpi and len(kpi.spans) <= SPANS_MAX and len(kpi.parts) <= SEGMENTS_MAX + 1, "too many spans")
        _must(all(type(one) is int for one in (kpi.ended_ms, kpi.first_ms, kpi.since, *kpi.spans)), "spans of no time")
        _must(all(type(one) is Span for one in kpi.spans.values()), "spans that are none")
        for account in (kpi.total, *kpi.parts.values(), *kpi.spans.values()):
            cells = [*account.known.values(), *account.assumed.values(), [*account.lacking.values()]]
            sizes = [len(cell) == 3 for cell in cells[:-1]]
            sizes += [len(account.waiting) == len(account.expired) == 4]
            numbers = [*(number for cell in cells for number in cell), *account.waiting, *account.expired]
            _must(all(sizes) and all(type(number) is int for number in numbers), "amounts that are no whole numbers")


def _kinds(probabilities: dict[Any, float] | None) -> object:
    return None if probabilities is None else frozenset(map(type, probabilities))


def _check_note(note: Settled | int) -> None:
    if type(note) is Settled:
        times = (note.until_ms, note.number, 0 if note.label_time_ms is None else note.label_time_ms)
        _must(all(type(one) is int and -_NUMBER_MAX <= one <= _NUMBER_MAX for one in times), "a label of no time")
        _must(note.label is None or type(note.label) in (bool, int, float, str), "a label that is none")
        conform(note.decision, Decision | None, None, ("decision",))
    else:
        _must(type(note) is int and 0 <= note < _NUMBER_MAX, "an impossible count of labels")


def _early(shard: Shard) -> Generator[None, None, list[Held]]:
    """Look at the labels that came before their event."""
    label = shard.pipeline.label
    like = EarlyLabels(label.early_max if label else 0, shard.labels_max)
    found: dict[tuple[object, ...], Held] = {}
    for number, held in enumerate(shard.early.checked(like)):
        kind = (type(held.value), type(held.event_id))
        found.setdefault(kind, held)
        _must(held.partition == OWN or 0 <= held.partition < 2**31, "a label of no partition")
        _must(abs(held.deadline_ms) <= 2 * _NUMBER_MAX, "a label of no time")
        if number % TURN == 0:
            yield
    return list(found.values())
