"""KPIs: what served decisions cost and brought, in the unit of the business, as labels come.

An event counts by its own time, in spans of a fixed length that begin at multiples of it (days in UTC), and in total.
What is known and what is estimated are never added (`account`). A span ends when it is over and no event of it waits
for a label, or when their wait is over; only then its target is judged, and a least value. A greatest cost is broken
as soon as the known costs pass it, since they only grow.

An event carries what is needed to price it (`Stakes`): prices may be of fields that the model does not see, and a
decision is priced (`price`) as it was served, whatever the threshold is when the label comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from driftline.core.metric.account import MICRO, Account
from driftline.core.metric.price import Plan, Terms
from driftline.core.output import Prediction, Priced, Stakes
from driftline.core.record import FeatureValue, LabelValue

if TYPE_CHECKING:
    from driftline.core.pipeline import KpiForm, Pipeline
    from driftline.core.record import Event

SPANS_MAX: Final = 400
ENDED_KEPT: Final = 32  # spans that ended and are kept, for corrections and for people
SPANS_SHOWN: Final = 8
NEVER: Final = 1 << 62


class Span(Account):
    """One span.

    Attributes:
        ended: it was judged.
        broken: its known costs are above the limit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ended = False
        self.broken = False


class Kpi:
    """The state of one KPI.

    Attributes:
        parts: by segment.
        spans: by the time at which each begins, in the order in which they were met.
        ended_ms: the latest beginning of a span that ended or was let go; one before it is not begun any more.
        first_ms: when the first span began, which may be met in part only.
        since: number of the latest label before the KPI was declared as it is now.
    """

    def __init__(self, since: int = 0) -> None:
        self.total = Account()
        self.parts: dict[str, Account] = {}
        self.spans: dict[int, Span] = {}
        self.ended_ms = -NEVER
        self.first_ms = NEVER
        self.since = since


class Judged(Struct, frozen=True):
    """A span against its target and limit.

    Args:
        passed: which of them it missed; None where it kept both.
        total: in the unit of the KPI.
        ended: nothing of it is still to come.
    """

    name: str
    form: KpiForm
    start_ms: int
    passed: str | None
    total: float
    bound: float
    ended: bool
    known: int
    waiting: int


class Kpis:
    """All KPIs of one shard.

    Args:
        pipeline: says which; one without any keeps an empty one of these, and asks nothing of it.

    Attributes:
        each: by name.
        layouts: the fields that `Stakes.values` are of, by number; the last is that of the pipeline.
        next_ms: when the next span is to be looked at.

    Cost: 4 us an event and KPI, from its score to its label.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.each: dict[str, Kpi] = {name: Kpi() for name in pipeline.kpi}
        self.layouts: list[tuple[str, ...]] = []
        self.next_ms = NEVER
        self.attach(pipeline)

    def attach(self, pipeline: Pipeline) -> None:
        """Work by this pipeline's definitions."""
        self._plan = Plan(pipeline) if pipeline.kpi else None
        if self._plan is not None and (not self.layouts or self.layouts[-1] != self._plan.fields):
            self.layouts.append(self._plan.fields)

    def __getstate__(self) -> dict[str, Any]:
        return {"each": self.each, "layouts": self.layouts, "next_ms": self.next_ms}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._plan = None

    @property
    def plan(self) -> Plan:
        """Of the pipeline, which declares KPIs."""
        if self._plan is None:
            raise TypeError("a pipeline without KPIs was to price an event")
        return self._plan

    # -- one event, from its score to its label

    def stakes(self, event: Event, decision: bool | None, now_ms: int) -> Stakes:
        """What the event has to carry."""
        at_ms = min(event.time_ms, now_ms) if now_ms else event.time_ms
        return Stakes(len(self.layouts) - 1, at_ms, decision, self.plan.read(event))

    def await_label(self, stakes: Stakes, prediction: Prediction) -> int:
        """An event was served and waits; returns when the earliest span ends that begins with it, `NEVER` of none."""
        values, due_ms = self._values(stakes), NEVER
        for name, kpi in self.each.items():
            priced = self.plan.estimate(name, values, prediction, stakes.decision)
            terms = self.plan.each[name]
            begun = len(kpi.spans)
            for account in self._accounts(kpi, terms, values, stakes.at_ms, begin=True):
                account.await_label(priced)
            if len(kpi.spans) > begun:
                due_ms = min(due_ms, _start(stakes.at_ms, terms.form.span_ms) + terms.form.span_ms)
        return due_ms

    def end_wait(self, stakes: Stakes, prediction: Prediction, *, expired: bool = False) -> tuple[Priced, ...]:
        """An event waits no longer; with its estimates where no label came."""
        values, found = self._values(stakes), []
        for name, kpi in self.each.items():
            priced = self.plan.estimate(name, values, prediction, stakes.decision)
            for account in self._accounts(kpi, self.plan.each[name], values, stakes.at_ms):
                account.await_label(priced, times=-1)
                if expired:
                    account.expire(priced)
            found.append(priced)
        return tuple(found)

    def settle(
        self, stakes: Stakes, prediction: Prediction, label: LabelValue, *, assumed: bool = False, number: int = NEVER
    ) -> tuple[Priced, ...]:
        """The label of an event came, or one was assumed.

        Args:
            number: that the shard's metrics took the label in under, where they did so before: a KPI that was declared
                since does not count it.
        """
        return self._settle(stakes, lambda _: prediction, label, assumed=assumed, times=1, number=number)

    def settle_ahead(self, stakes: Stakes, ahead: Mapping[int, Prediction], label: LabelValue) -> tuple[Priced, ...]:
        """Forecasts of one observation met their truth; a KPI counts the one of its horizon.

        Args:
            ahead: by horizon.
        """
        return self._settle(stakes, lambda form: ahead.get(form.horizon), label, assumed=False, times=1, number=NEVER)

    def take_back(
        self, stakes: Stakes, prediction: Prediction, label: LabelValue, number: int, *, assumed: bool
    ) -> None:
        """As if that label had not come.

        Args:
            number: that the shard's metrics took it in under.
        """
        self._settle(stakes, lambda _: prediction, label, assumed=assumed, times=-1, number=number)

    def _settle(
        self,
        stakes: Stakes,
        served: Callable[[KpiForm], Prediction | None],
        label: LabelValue,
        *,
        assumed: bool,
        times: int,
        number: int,
    ) -> tuple[Priced, ...]:
        values, found = self._values(stakes), []
        for name, kpi in self.each.items():
            prediction = served(self.plan.each[name].form)
            if number <= kpi.since or prediction is None:
                continue  # counted under another definition, or not forecast at this horizon
            priced = self.plan.price(name, values, label, prediction, stakes.decision)
            begin = times > 0
            for account in self._accounts(kpi, self.plan.each[name], values, stakes.at_ms, begin=begin):
                account.settle(priced, assumed=assumed, times=times)
            found.append(priced)
        return tuple(found)

    def current(self, stakes: Stakes | None) -> Stakes | None:
        """With the values of the pipeline's fields, whatever they were when the event was served."""
        if stakes is None or stakes.layout == len(self.layouts) - 1:
            return stakes
        return Stakes(len(self.layouts) - 1, stakes.at_ms, stakes.decision, tuple(self._values(stakes)))

    def _values(self, stakes: Stakes) -> Sequence[FeatureValue]:
        """The values of the pipeline's fields; a field that was not kept when the event was served is missing."""
        if stakes.layout == len(self.layouts) - 1:
            return stakes.values
        kept = dict(zip(self.layouts[stakes.layout], stakes.values, strict=True))
        return [kept.get(name) for name in self.plan.fields]

    def _accounts(
        self, kpi: Kpi, terms: Terms, values: Sequence[FeatureValue], at_ms: int, *, begin: bool = False
    ) -> Iterator[Account]:
        """Where an event counts.

        Args:
            begin: a span that is not there yet begins.
        """
        yield kpi.total
        segment = self.plan.segment(terms, values, kpi.parts)
        if segment is not None:
            part = kpi.parts.get(segment)
            if part is None:
                part = kpi.parts[segment] = Account()
            yield part
        start_ms = _start(at_ms, terms.form.span_ms)
        span = kpi.spans.get(start_ms)
        if span is None and begin and start_ms > kpi.ended_ms:
            span = kpi.spans[start_ms] = Span()
            kpi.first_ms = start_ms if kpi.first_ms == NEVER else kpi.first_ms
            if len(kpi.spans) > SPANS_MAX:
                _let_go(kpi, min(kpi.spans))
        if span is not None:
            yield span

    # -- targets and limits

    def judge_costs(self, stakes: Stakes) -> Iterator[Judged]:
        """The span of an event, just after its label: where its known costs have passed the limit."""
        for name, kpi in self.each.items():
            form = self.plan.each[name].form
            if form.limit is None or form.rising:
                continue
            start_ms = _start(stakes.at_ms, form.span_ms)
            span = kpi.spans.get(start_ms)
            if span is not None and not span.broken and span.known_sum()[1] > form.limit * MICRO:
                span.broken = True
                yield _judged(name, form, start_ms, span, "limit", form.limit)

    def judge_ended(self, now_ms: int) -> Iterator[Judged]:
        """Spans that have ended by now, the earliest first."""
        for name, kpi in self.each.items():
            form = self.plan.each[name].form
            for start_ms in sorted(kpi.spans):
                span, end_ms = kpi.spans[start_ms], start_ms + form.span_ms
                if span.ended or now_ms < end_ms:
                    continue
                if span.waiting[0] and now_ms < end_ms + self.plan.wait_ms:
                    continue
                span.ended = True
                kpi.ended_ms = max(kpi.ended_ms, start_ms)
                if form.rising and start_ms <= kpi.first_ms:
                    continue
                if (found := _verdict(name, form, start_ms, span)) is not None:
                    yield found
            ended = [start_ms for start_ms, span in sorted(kpi.spans.items()) if span.ended]
            for start_ms in ended[:-ENDED_KEPT]:
                _let_go(kpi, start_ms)

    def due_ms(self, now_ms: int) -> int:
        """When a span ends next, at the latest."""
        return min(
            (
                end_ms if end_ms > now_ms else end_ms + self.plan.wait_ms
                for name, kpi in self.each.items()
                for start_ms, span in kpi.spans.items()
                if not span.ended and (end_ms := start_ms + self.plan.each[name].form.span_ms)
            ),
            default=NEVER,
        )

    def is_over(self, stakes: Stakes, now_ms: int) -> bool:
        """Whether a span of the event is over and has nothing left to wait for."""
        for name, kpi in self.each.items():
            span_ms = self.plan.each[name].form.span_ms
            start_ms = _start(stakes.at_ms, span_ms)
            span = kpi.spans.get(start_ms)
            if span is not None and not span.ended and not span.waiting[0] and now_ms >= start_ms + span_ms:
                return True
        return False

    def broken(self, name: str) -> bool:
        """Whether a span that goes on is above the limit."""
        return any(span.broken and not span.ended for span in self.each[name].spans.values())

    # -- a changed pipeline

    def adopt(
        self,
        before: Pipeline,
        after: Pipeline,
        waiting: Iterable[tuple[Stakes | None, Prediction]],
        taken: int,
    ) -> None:
        """Go on under changed definitions: a KPI that stays as it was keeps its past, another one begins with what
        waits.

        Args:
            waiting: every event that waits.
            taken: number of the latest label.
        """
        if (before.kpi, before.label) == (after.kpi, after.label) and self.each.keys() == after.kpi.keys():
            return
        fresh = {
            name: Kpi(taken)
            for name, form in after.kpi.items()
            if name not in self.each or before.kpi.get(name) != form
        }
        kept = {name: kpi for name, kpi in self.each.items() if name in after.kpi and name not in fresh}
        if fresh:
            self.each = fresh
            for stakes, prediction in waiting:
                if stakes is not None:
                    self.await_label(stakes, prediction)
        self.each = {name: fresh.get(name) or kept[name] for name in after.kpi}
        self.next_ms = 0 if self.each else NEVER  # look at once: it costs little

    # -- for people

    def summary(self) -> dict[str, Any]:
        """Every KPI: in total, by segment, and the latest spans."""
        return {name: self._summary(name, kpi) for name, kpi in self.each.items()}

    def _summary(self, name: str, kpi: Kpi) -> dict[str, Any]:
        form = self.plan.each[name].form
        made: dict[str, Any] = {
            "unit": form.unit,
            "better": "higher" if form.rising else "lower",
            "target": form.target,
            "limit": form.limit,
            "span_ms": form.span_ms,
            "total": kpi.total.values(rising=form.rising),
        }
        if form.by is not None:
            made["by"] = form.by
            made["by_segment"] = {part: one.values(rising=form.rising) for part, one in sorted(kpi.parts.items())}
        made["spans"] = [
            {"start_ms": start_ms, "ended": kpi.spans[start_ms].ended} | kpi.spans[start_ms].values(rising=form.rising)
            for start_ms in sorted(kpi.spans)[-SPANS_SHOWN:]
        ]
        return made


def _start(at_ms: int, span_ms: int) -> int:
    return at_ms // span_ms * span_ms


def _let_go(kpi: Kpi, start_ms: int) -> None:
    del kpi.spans[start_ms]
    kpi.ended_ms = max(kpi.ended_ms, start_ms)


def _verdict(name: str, form: KpiForm, start_ms: int, span: Span) -> Judged | None:
    """A span that ended; None where there is nothing to hold it against, or nothing in it is known."""
    if not span.known and not span.assumed:
        return None
    for what, bound in (("limit", form.limit), ("target", form.target)):
        if bound is not None:
            found = _judged(name, form, start_ms, span, what, bound)
            if found.total < bound if form.rising else found.total > bound:
                return found
    bound = form.target if form.target is not None else form.limit
    return None if bound is None else _judged(name, form, start_ms, span, None, bound)


def _judged(name: str, form: KpiForm, start_ms: int, span: Span, passed: str | None, bound: float) -> Judged:
    count, cost, value = span.known_sum()
    if span.ended:
        for cell in span.assumed.values():
            count, cost, value = count + cell[0], cost + cell[1], value + cell[2]
    total = (value - cost if form.rising else cost) / MICRO
    return Judged(name, form, start_ms, passed, total, bound, span.ended, count, span.waiting[0])
