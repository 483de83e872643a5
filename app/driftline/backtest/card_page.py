"""A model card for people: its sentences and tables, for a page (`card.html`) and for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson
from msgspec import Struct

from driftline.backtest.card import Card, KpiFigure, Trouble
from driftline.core.alert.kind import worded
from driftline.core.duration import spoken
from driftline.core.guard.beside import INSTEAD
from driftline.core.guard.beside import worded as compared
from driftline.core.pipeline import Pipeline
from driftline.core.task import task_of
from driftline.core.timestamp import written
from driftline.core.wording import RUNGS, money, percent
from driftline.operate.digest_page import GUARDED, counted_kind
from driftline.operate.sheet import sheet

_TIME: Final = "%Y-%m-%d %H:%M"


class Table(Struct, frozen=True):
    """Rows under a heading; numbers stand right where `numeric` has their column."""

    heading: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numeric: frozenset[int] = frozenset()


class Section(Struct, frozen=True):
    """A part of the card: sentences, a table, and what derives them again."""

    title: str
    sentences: list[str]
    table: Table | None
    command: str


def render(card: Card, pipeline: Pipeline) -> str:
    """The page of a card."""
    sections, warnings = list(_sections(card, pipeline)), list(_warnings(card))
    return sheet("driftline.backtest", "card.html", _title(card), _lead(card), sections, warnings)


def _title(card: Card) -> str:
    return f"{card.pipeline}: model card, generation {card.generation}"


def text(card: Card, pipeline: Pipeline) -> Iterator[str]:
    """The card as lines for a terminal."""
    yield _title(card)
    yield _lead(card)
    yield from _warnings(card)
    for section in _sections(card, pipeline):
        yield ""
        yield section.title.upper()
        yield from (f"  {sentence}" for sentence in section.sentences)
        if section.table is not None:
            yield from (f"  {row}" for row in _in_columns(section.table))
        yield f"  $ {section.command}"


def _in_columns(table: Table) -> Iterator[str]:
    """A table for a terminal, under its head; the last column may be long."""
    rows = [tuple(" ".join(cell.split("\n")) for cell in row) for row in (table.heading, *table.rows)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(table.heading))]
    for row in rows:
        cells = [
            cell.rjust(width) if place in table.numeric else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _lead(card: Card) -> str:
    served = card.served
    if not served.events:
        return f"Task {card.task}. It served no event of its own."
    span = f"{_when(served.first_ms)} to {_when(served.last_ms)} UTC, in event time"
    return f"Task {card.task}. It served {served.events:,} events, {span}."


def _warnings(card: Card) -> Iterator[str]:
    if not card.whole:
        yield "The beginning of the topics has been deleted: the figures cover what is left."
    if card.labels.coverage is not None and card.labels.coverage < 0.5:
        yield f"Only {percent(card.labels.coverage)} of the events whose wait is over got a label."
    still = [trouble for trouble in card.troubles if trouble.state == "open"]
    if still:
        alerts = "1 alert is" if len(still) == 1 else f"{len(still):,} alerts are"
        yield f"{alerts} still open: see the known troubles."


def _sections(card: Card, pipeline: Pipeline) -> Iterator[Section]:
    of = card.commands
    yield Section("What made it", list(_made(card)), None, of["troubles"])
    yield Section("What it served", list(_served(card)), None, of["served"])
    title = "Observations" if task_of(card.task).ahead else "Labels"
    yield Section(title, list(_labels(card)), None, of["labels"])
    yield Section("How good it was", [_judged(card)], _metrics(card, pipeline), of["metrics"])
    if card.segment is not None:
        yield Section(f"By {card.segment}", [], _segments(card), of["metrics"])
    for name, kpi in card.kpis.items():
        yield Section(_title_of(name), list(_kpi(kpi)), _kpi_segments(kpi), of["kpis"])
    yield Section("What bounds it", [], _rules(card), of["rules"])
    yield Section("Known troubles", [] if card.troubles else ["None."], _troubles(card.troubles), of["troubles"])


def _made(card: Card) -> Iterator[str]:
    for one in card.made:
        where = f"Shard {one.shard}: " if len(card.made) > 1 else ""
        when = "" if one.time_ms is None else f" ({_when(one.time_ms)} UTC)"
        yield f"{where}{one.what}{when}"
    yield (
        f"It had learned from {card.learned.first:,} labels or events when it first served, and from "
        f"{card.learned.last:,} when it last did."
    )
    if card.versions:
        yield f"Driftline {card.versions['app']}, River {card.versions['river']}."


def _served(card: Card) -> Iterator[str]:
    served = card.served
    text = f"{served.events:,} events"
    if card.rules.decision is not None:
        text += f", {served.positive:,} decided positive"
    yield f"{text}."
    for what, count in served.guard.items():
        if what != "served":
            yield f"{count:,} predictions were {GUARDED.get(what, what)}."
    for rung, count in served.tripped.items():
        yield f"The guard objected {count:,} times: {RUNGS.get(rung, rung)}."
    for name, count in served.instead.items():
        yield f"{count:,} times, {INSTEAD.get(name, name)} was served instead."
    if (second := card.second) is not None:
        yield compared(second.labels, second.first_error, second.error)


def _labels(card: Card) -> Iterator[str]:
    labels = card.labels
    if not labels.outcomes:
        yield "None yet."
        return
    yield ", ".join(f"{count:,} {kind}" for kind, count in labels.outcomes.items()) + "."
    if task_of(card.task).ahead:  # an observation is the truth of forecasts; no label follows it
        return
    if labels.coverage is not None:
        yield f"{percent(labels.coverage)} of the events whose wait is over got their label."
    if labels.delay_ms:
        half, most = spoken(labels.delay_ms["p50"]), spoken(labels.delay_ms["p90"])
        yield f"Half of the labels came within {half}, nine in ten within {most}."


def _judged(card: Card) -> str:
    if task_of(card.task).ahead:
        return f"Over {card.labelled:,} observations, of which {card.answered:,} had been forecast."
    return f"Over {card.labelled:,} events with a label, of which {card.answered:,} have a prediction."


def _metrics(card: Card, pipeline: Pipeline) -> Table:
    about = {metric.name: metric for metric in task_of(pipeline.task).measure.metrics}
    rows = [
        (name, _number(value), _better(about[name].better) if name in about else "", about[name].about)
        if name in about
        else (name, _number(value), "", "")
        for name, value in card.metrics.items()
    ]
    return Table(("metric", "value", "direction", "what it says"), rows, frozenset({1}))


def _better(sign: int) -> str:
    return {1: "higher is better", -1: "lower is better"}.get(sign, "")


def _segments(card: Card) -> Table:
    names = list(card.metrics)
    rows = [(one.name, f"{one.n:,}", *(_number(one.metrics.get(name)) for name in names)) for one in card.segments]
    return Table((card.segment or "", "labels", *names), rows, frozenset(range(1, len(names) + 2)))


def _kpi(kpi: KpiFigure) -> Iterator[str]:
    kinds = ", ".join(counted_kind(kind, count) for kind, count in kpi.by_kind.items())
    known = f"{money(kpi.known, kpi.unit)} known, from {kpi.known_events:,} events with a label"
    yield f"{known} ({kinds})." if kinds else f"{known}."
    if kpi.assumed_events:
        yield f"In addition, {money(kpi.assumed, kpi.unit)} from {kpi.assumed_events:,} assumed labels."
    if kpi.expired_events:
        text = f"In addition, {kpi.expired_events:,} events never got a label"
        estimate = kpi.expired_estimate
        yield f"{text}." if estimate is None else f"{text}; {money(estimate, kpi.unit)} is estimated for them."
    for what, bound in (("target", kpi.target), ("limit", kpi.limit)):
        if bound is not None:
            yield f"Its {what} is {money(bound, kpi.unit)} in each span."


def _kpi_segments(kpi: KpiFigure) -> Table | None:
    if not kpi.segments:
        return None
    rows = [(name, money(total, kpi.unit)) for name, total in kpi.segments.items()]
    return Table((kpi.by or "", "known"), rows, frozenset({1}))


def _title_of(name: str) -> str:
    return name[:1].upper() + name[1:].replace("_", " ")


def _rules(card: Card) -> Table:
    rules = card.rules
    rows = [("model", " ".join(rules.model.split())), ("features", ", ".join(rules.features))]
    for name, value in (
        ("label", rules.label), ("decision", rules.decision), ("guard", rules.guard), ("learning", rules.learning),
        ("limits of metrics", rules.alerts or None),
    ):  # fmt: skip
        rows.append((name, "none" if value is None else _document(value)))
    return Table(("rule", "in the pipeline file"), rows)


def _document(value: Any) -> str:
    """A section of the pipeline file on one line, without what it leaves out."""
    return orjson.dumps(_filled(value)).decode().replace('"', "").replace(",", ", ").replace(":", ": ")


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _filled(part) for name, part in value.items() if part not in (None, [], {})}
    return value


def _troubles(troubles: Sequence[Trouble]) -> Table | None:
    if not troubles:
        return None
    rows = [
        (
            _when(one.opened_ms),
            "open" if one.ended_ms is None else _when(one.ended_ms),
            worded(one.kind),
            one.sentence + (f" Acknowledged by {one.acknowledged_by}." if one.acknowledged_by else ""),
        )
        for one in reversed(troubles)
    ]
    return Table(("since", "until", "kind", "what"), rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _when(time_ms: int) -> str:
    return written(time_ms, _TIME)
