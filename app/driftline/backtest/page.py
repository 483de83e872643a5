"""`report.html`: the report for people, one file that needs nothing else, not even a network.

What it looks like is in `page.html` and `page.css`; here are its sentences and numbers. Plots are drawn by Plotly,
whose code is part of the file. Everything that comes from the data or from a pipeline file is escaped: names may hold
anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from driftline.backtest import plot
from driftline.backtest.compare import Comparison
from driftline.backtest.kpi import KpiReport, KpiThreshold
from driftline.backtest.report import CandidateReport, Report, headline
from driftline.backtest.threshold import Threshold
from driftline.core.task.measure import Figure as FigureName
from driftline.core.timestamp import written
from driftline.core.wording import money
from driftline.operate.digest_page import counted_kind

ALERTS_SHOWN = 50
DIFFERENCES_SHOWN = 20
CONFUSED_SHOWN = 12
_CONFIG = {"displayModeBar": False, "responsive": True}

_FIGURES: dict[FigureName, Callable[[Report], Figure]] = {
    "calibration": plot.calibration,
    "scores": plot.scores,
    "thresholds": plot.thresholds,
}
_PROGRAMS = {"app": "Driftline", "river": "River", "python": "Python"}


def render(report: Report) -> str:
    """The whole page."""
    title, subtitle = _head(report)
    metrics = headline(report)
    return _page().render(
        report=report,
        candidates=list(enumerate(report.candidates)),
        names=[one.name for one in report.candidates],
        title=title,
        subtitle=subtitle,
        verdicts=list(_verdicts(report)) if report.comparisons else [_alone(report)],
        money=[card for one in report.candidates for card in _money(one)],
        first=metrics[0],
        timed=[name for name in metrics if name != "CostPerEvent" or report.cost is not None],
        best=_bests(report),
        in_parts=partial(plot.in_parts, report),
        when=partial(_when, report),
        covered=_covered(report),
        made_by=", ".join(f"{_PROGRAMS.get(name, name)} {version}" for name, version in report.versions.items()),
        plotly=Markup(get_plotlyjs()),  # noqa: S704  # ours, not the data's
    )


def _page() -> Template:
    environment = Environment(
        loader=PackageLoader("driftline.backtest", ""),
        autoescape=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(
        breakable=_breakable,
        count="{:,}".format,
        html=_html,
        number=number,
        seconds="{:,.1f}".format,
        share=_share,
        signed=signed,
    )
    environment.globals.update(
        alerts_max=ALERTS_SHOWN,
        confusion=_confusion,
        counts=_counts,
        differences_max=DIFFERENCES_SHOWN,
        figures=_FIGURES,
        hindsight=_hindsight,
        plot=plot,
    )
    return environment.get_template("page.html")


def _head(report: Report) -> tuple[str, str]:
    """The title, and a sentence about what was read."""
    source = report.source
    pieces = [
        f"{source.rows:,} {'records' if source.size_bytes else 'rows'} of {', '.join(source.names)}",
        f"in {'the order of the journal' if source.order == 'journal' else 'time order'}",
        f"started {source.start}",
    ]
    if source.span:
        pieces.append(source.span)
    if source.label_delay_ms:
        pieces.append(f"each label {plot.duration(source.label_delay_ms)} after its event")
    if source.burn_in != "none":
        pieces.append(f"burn-in of {source.burn_in} left out")
    what = "Partial backtest" if report.partial else "Backtest"
    count = len(report.candidates)
    title = f"{what}: {count} models on the same data" if count > 1 else f"{what} of {report.candidates[0].name}"
    if report.measure.horizons:
        return title, f"{', '.join(pieces)}. Each observation was forecast before it was learned."
    return title, f"{', '.join(pieces)}. Each event was scored before its label was learned."


class _Money(NamedTuple):
    """A card about a KPI: a sentence, and what is behind it."""

    words: Markup
    more: str


def _money(one: CandidateReport) -> Iterator[_Money]:
    """What the decisions of a candidate came to, and would have come to at the best threshold."""
    for kpi in one.kpis:
        words = Markup("<b>{}</b>: {} of <b>{}</b> over {:,} labelled events").format(
            one.name, kpi.name.replace("_", " "), money(kpi.total, kpi.unit), kpi.events
        )
        words += Markup(".") if kpi.best is None else _best_threshold(kpi, kpi.best)
        kinds = [
            f"{counted_kind(kind, int(cell['events']))} ({money(cell['total'], kpi.unit)})"
            for kind, cell in kpi.by_kind.items()
        ]
        more = [", ".join(kinds)]
        if kpi.assumed_events:
            amount = money(kpi.assumed_total, kpi.unit)
            more.append(f"apart from that, {amount} by {kpi.assumed_events:,} assumed labels")
        if one.pending:
            more.append(f"{one.pending:,} events had no label at the end and are not in it")
        more += [f"{count:,} events without an amount ({why})" for why, count in kpi.lacking.items()]
        if kpi.segments:
            parts = ", ".join(f"{part.name} {money(part.total, kpi.unit)}" for part in kpi.segments)
            more.append(f"by {kpi.by}: {parts}")
        yield _Money(words, "; ".join(more) + ".")


def _best_threshold(kpi: KpiReport, best: KpiThreshold) -> Markup:
    """What another threshold would have done, in hindsight."""
    saved = best.served - best.total if kpi.better == "lower" else best.total - best.served
    if saved <= 0:
        return Markup(". No other threshold would have done better.")
    at = "deciding negative for every event" if best.threshold > 1 else f"a threshold of {best.threshold:.3g}"
    verb = "cost least" if kpi.better == "lower" else "brought most"
    return Markup(". In hindsight, {} would have {}: {}, {} better than what was served.").format(
        at, verb, money(best.total, kpi.unit), money(saved, kpi.unit)
    )


class _Verdict(NamedTuple):
    """A card: its class, a sentence without its full stop, and the text below it."""

    kind: str
    words: Markup
    more: str


def _verdicts(report: Report) -> Iterator[_Verdict]:
    """Which is better, by how much, how sure: in sentences."""
    metrics = headline(report)
    for comparison in report.comparisons:
        by_name = {one.metric: one for one in comparison.differences}
        one = by_name[metrics[0]]
        if one.difference is None or one.baseline is None or one.candidate is None:
            continue
        names = {"rival": comparison.candidate, "base": comparison.baseline}
        if one.difference == one.low == one.high == 0:
            yield _Verdict("", Markup("<b>{rival}</b> has the same {} as {base}").format(one.metric, **names), "")
            continue
        mixed = {by_name[name].verdict for name in metrics if name in by_name} >= {"better", "worse"}
        kind = one.verdict if one.verdict in ("better", "worse") and not mixed else ""
        words = _MIXED if mixed else _WORDS.get(one.verdict, _ALIKE)
        text = f": {one.metric} {number(one.candidate)} against {number(one.baseline)}, {number(abs(one.difference))} "
        text += ("higher" if one.difference > 0 else "lower") + (f" ({one.verdict})" if mixed else "")
        if one.low is not None and one.high is not None:
            text += f"; the true difference is likely between {signed(one.low)} and {signed(one.high)}"
        if one.won is not None:
            text += f". It was better in {one.won:.0%} of {comparison.blocks} blocks of time"
        yield _Verdict(kind, words.format(**names) + text, _others(comparison, metrics[1:]))


_MIXED = Markup("<b>{rival}</b> against {base}: <b>mixed results</b>")
_ALIKE = Markup("No clear difference between <b>{rival}</b> and {base}")
_WORDS = {
    "better": Markup("<b>{rival}</b> is <b class=v>better</b> than {base}"),
    "worse": Markup("<b>{rival}</b> is <b class=v>worse</b> than {base}"),
}


def _others(comparison: Comparison, names: Sequence[str]) -> str:
    """The other metrics behind a verdict."""
    by_name = {one.metric: one for one in comparison.differences}
    metrics = [
        f"{name} {signed(other.difference)} ({other.verdict})"
        for name in names
        if (other := by_name.get(name)) is not None and other.difference is not None
    ]
    return f"Also: {'; '.join(metrics)}" if metrics else ""


def _alone(report: Report) -> _Verdict:
    """The text where nothing was compared."""
    if not report.metrics:
        scored = (Markup("<b>{}</b> scored {:,} events").format(one.name, one.scored) for one in report.candidates)
        advice = "Without labels nothing can be measured: add a `label` section to the pipeline file."
        return _Verdict("", Markup("; ").join(scored), advice)
    only = plot.baseline_of(report)
    metrics = ", ".join(f"{name} {number(only.metrics.get(name))}" for name in headline(report))
    naive, mase = only.metrics.get("NaiveMASE"), only.metrics.get("MASE")
    advice = "To see whether this beats something simple, add a second -p FILE, or --naive."
    if naive is not None and mase is not None:
        better = "Better" if mase < naive else "NOT better"
        advice = f"{better} than the seasonal naive forecast, whose MASE is {number(naive)}."
    if others := [one.name for one in report.candidates if one is not only]:
        advice = f"Nothing to compare it with: no results from {', '.join(others)}."
    return _Verdict("", Markup("<b>{}</b>: {}, over {}").format(only.name, metrics, _answered(only)), advice)


def _answered(one: CandidateReport) -> str:
    """How many events its metrics are of."""
    if one.answered == one.counted:
        return f"{one.counted:,} labelled events"
    return f"{one.answered:,} predictions for {one.counted:,} labelled events"


def _bests(report: Report) -> set[tuple[int, str]] | None:
    """Places of the candidates that have the best value of a metric, each with its name; None where they cannot be
    ranked: only what was reached over equally many events is, and a candidate that failed never is."""
    able = [(place, one) for place, one in enumerate(report.candidates) if one.failure is None]
    if len(able) < 2:
        return set()
    if len({(one.counted, one.answered) for _, one in able}) > 1:
        return None
    best = set()
    for metric in report.metrics:
        known = [(value, place) for place, one in able if (value := one.metrics.get(metric.name)) is not None]
        if known and metric.better:
            most = (max if metric.better > 0 else min)(value for value, _ in known)
            best |= {(place, metric.name) for value, place in known if value == most}
    return best


def _confusion(one: CandidateReport) -> tuple[list[str], list[tuple[str, list[tuple[int, float, str]]]]]:
    """Predictions, and for each label how many got each of them, as a number, a share and a colour."""
    labels = sorted({cell.label for cell in one.confusion}, reverse=True)[:CONFUSED_SHOWN]
    predictions = sorted({cell.prediction for cell in one.confusion}, reverse=True)[:CONFUSED_SHOWN]
    counts = {(cell.label, cell.prediction): cell.n for cell in one.confusion}
    rows = []
    for label in labels:
        total = sum(counts.get((label, name), 0) for name in predictions) or 1
        cells = []
        for name in predictions:
            n = counts.get((label, name), 0)
            shade = f"rgba(var(--{'right' if name == label else 'wrong'}),{0.45 * n / total:.2f})"
            cells.append((n, n / total, shade))
        rows.append((label, cells))
    return predictions, rows


def _hindsight(best: Threshold) -> str:
    """The best threshold in a sentence."""
    what = f"cost {number(best.cost)} per event" if best.cost is not None else "best F1"
    if best.threshold > 1:
        return f"In hindsight, deciding negative for every event was best ({what})."
    return f"In hindsight, the best threshold was {best.threshold:.3g} ({what})."


def _covered(report: Report) -> str:
    """The dates of the events and the price of decisions, in sentences."""
    source, cost = report.source, report.cost
    if source.counted:
        metrics = f"{source.rows:,} rows, with times counted from {_date(source.start_ms)} UTC."
    elif source.first_ms is None or source.last_ms is None:
        metrics = "The dates of the events are unknown."
    else:
        metrics = f"Events from {_date(source.first_ms)} to {_date(source.last_ms)} UTC."
    if cost is None:
        return metrics if any(one.kpis for one in report.candidates) else f"{metrics} No costs were given."
    prices = (
        ("true positive", cost.tp),
        ("false positive", cost.fp),
        ("false negative", cost.fn),
        ("true negative", cost.tn),
    )
    return f"{metrics} Costs: {', '.join(f'{price:g} for a {what}' for what, price in prices)}."


def _date(time_ms: int) -> str:
    return written(time_ms, "%Y-%m-%d %H:%M")


def _counts(one: CandidateReport) -> str:
    shown = {**one.counts, "pending": one.pending}
    named = ((count, _COUNTED.get(what, what.replace("_", " "))) for what, count in shown.items() if count)
    return ", ".join(f"{count:,} {text.replace('bursts', 'burst') if count == 1 else text}" for count, text in named)


_COUNTED = {
    "quarantine_opened": "bursts of suspect labels",
    "quarantine_held": "labels held back",
    "quarantine_undone": "learned labels taken back",
    "quarantine_released": "held labels released",
    "quarantine_dropped": "held labels dropped",
    "quarantine_withdrawn": "held labels withdrawn",
}


def _when(report: Report, time_ms: int | None) -> str:
    if time_ms is None:
        return "-"
    if report.source.counted:
        return f"row {(time_ms - report.source.start_ms) // report.source.step_ms:,}"
    return _date(time_ms)


def _html(figure: Figure) -> Markup:
    """A figure, without Plotly's code."""
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config=_CONFIG, default_width="100%")
    return Markup(drawn)  # noqa: S704  # Plotly escapes, as does `plot`


def _breakable(name: str) -> Markup:
    """A long name that may break between its words."""
    return Markup(re.sub(r"(?<=[a-z]{2})(?=[A-Z])", "<wbr>", escape(name)))  # noqa: S704  # escaped


def _share(share: float, digits: int = 0) -> str:
    return f"{share:.{digits}%}"


def number(value: float | None) -> str:
    """A number as people read it."""
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"


def signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}" if abs(value) < 100 else f"{value:+,.1f}"
