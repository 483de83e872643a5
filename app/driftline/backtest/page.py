"""`report.html`: the report for people, one file that needs nothing else, not even a network.

Plots are drawn by Plotly, whose code is part of the file. Everything that comes from the data or from a pipeline
file is escaped: names may hold anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape

from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from driftline.backtest import plot
from driftline.backtest.report import CandidateReport, Report, Threshold, headline
from driftline.core.task.measure import Figure as FigureName
from driftline.core.timestamp import written

ALERTS_SHOWN = 50
DIFFERENCES_SHOWN = 20
_CONFIG = {"displayModeBar": False, "responsive": True}

_STYLE = """
:root{--ink:#1d2733;--soft:#5b6775;--line:#dfe4ea;--back:#f5f7f9;--good:#0a7d55;--bad:#b3411e}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink)}
body{font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:20px 16px 60px;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25;margin:.2em 0}
h2{font-size:1.2rem;margin:1.9em 0 .4em}
h3{font-size:1rem;margin:.2em 0 .3em}
p{margin:.4em 0;max-width:75ch}
.soft{color:var(--soft);font-size:.9rem}
.card{background:#fff;border:1px solid var(--line);border-radius:10px;padding:14px 16px;margin:10px 0}
.verdict{border-left:5px solid var(--soft);font-size:1.05rem}
.verdict.better{border-color:var(--good)}.verdict.worse{border-color:var(--bad)}
.better b.v{color:var(--good)}.worse b.v{color:var(--bad)}
.grid{display:grid;grid-template-columns:1fr;gap:12px}
.grid .card{margin:0;min-width:0}
@media(min-width:860px){.grid{grid-template-columns:1fr 1fr}}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:5px 8px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600;color:var(--soft);white-space:normal;vertical-align:bottom}
th:first-child,td:first-child,.text{text-align:left}
th{overflow-wrap:normal}
td.text,td.name{white-space:normal;min-width:9em}
td.best{font-weight:700;color:var(--good)}
td.better{color:var(--good)}td.worse{color:var(--bad)}
code,pre{font:13px/1.45 ui-monospace,Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
.note{background:#fff7e6;border-color:#f0d9a8}
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.45em;vertical-align:-.05em}
.plot{width:100%}
.keys span{display:inline-block;margin-right:1.1em;font-size:.85rem;overflow-wrap:anywhere}
.scroll td:first-child,.scroll th:first-child{position:sticky;left:0;background:#fff}
details summary{cursor:pointer;color:var(--soft)}
@media(max-width:600px){th,td{padding:4px 7px}h1{font-size:1.3rem}.card{padding:12px}}
"""


_FIGURES: dict[FigureName, Callable[[Report], Figure]] = {
    "calibration": plot.calibration,
    "scores": plot.scores,
    "thresholds": plot.thresholds,
}
_PROGRAMS = {"app": "Driftline", "river": "River", "python": "Python"}


def render(report: Report) -> str:
    """The whole page."""
    parts = [
        _head(report),
        _verdicts(report),
        _notes(report),
        _metrics(report),
        _differences(report),
        _time(report),
        _parts_of(report),
        _decisions(report),
        _alerts(report),
        _against(report),
        _method(report),
    ]
    title = "Backtest of " + ", ".join(one.name for one in report.candidates)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title[:120])}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def _head(report: Report) -> str:
    source = report.source
    names = ", ".join(source.names)
    pieces = [
        f"{source.rows:,} {'records' if source.size_bytes else 'rows'} of {names}",
        f"folded in {'the journaled order' if source.order == 'journal' else 'the order of their times'}",
        f"started {source.start}",
    ]
    if source.span:
        pieces.append(source.span)
    if source.label_delay_ms:
        pieces.append(f"each label {plot.duration(source.label_delay_ms)} after its event")
    if source.burn_in != "none":
        pieces.append(f"the first {source.burn_in} not counted")
    what = "Partial backtest" if report.partial else "Backtest"
    count = len(report.candidates)
    title = f"{what}: {count} models on one history" if count > 1 else f"{what} of {report.candidates[0].name}"
    told = f"{', '.join(pieces)}. Each event was scored before its label was learned."
    return f"<h1>{escape(title)}</h1><p class=soft>{escape(told)}</p>"


def _verdicts(report: Report) -> str:
    """Which is better, by how much, how sure: in sentences."""
    if not report.comparisons:
        return _alone(report)
    made = []
    first = headline(report)[0]
    for comparison in report.comparisons:
        by_name = {one.metric: one for one in comparison.differences}
        one = by_name[first]
        if one.difference is None or one.baseline is None or one.candidate is None:
            continue
        rival, base = escape(comparison.candidate), escape(comparison.baseline)
        more = "higher" if one.difference > 0 else "lower"
        words = {
            "better": f"<b>{rival}</b> is <b class=v>better</b> than {base}",
            "worse": f"<b>{rival}</b> is <b class=v>worse</b> than {base}",
        }.get(one.verdict, f"<b>{rival}</b> and {base} cannot be told apart")
        verdicts = {by_name[name].verdict for name in headline(report) if name in by_name}
        mixed = verdicts >= {"better", "worse"}
        if mixed:
            words = f"<b>{rival}</b> against {base} is <b>a mixed case</b>"
        if one.difference == one.low == one.high == 0:
            made.append(f'<div class="card verdict"><b>{rival}</b> gave the same {first} as {base}.</div>')
            continue
        text = f"{words}: {first} {number(one.candidate)} against {number(one.baseline)}, "
        text += f"{number(abs(one.difference))} {more}" + (f" ({one.verdict})" if mixed else "")
        if one.low is not None and one.high is not None:
            text += f"; the true difference is likely between {signed(one.low)} and {signed(one.high)}"
        if one.won is not None:
            text += f". It did better in {one.won:.0%} of {comparison.blocks} stretches of time"
        others = [
            f"{name} {signed(other.difference)} ({other.verdict})"
            for name in headline(report)[1:]
            if (other := by_name.get(name)) is not None and other.difference is not None
        ]
        tail = f"<br><span class=soft>Also: {escape('; '.join(others))}</span>" if others else ""
        kind = one.verdict if one.verdict in ("better", "worse") and not mixed else ""
        made.append(f'<div class="card verdict {kind}">{text}.{tail}</div>')
    return f"<h2>Which is better?</h2>{''.join(made)}"


def _alone(report: Report) -> str:
    if not report.metrics:
        scored = "; ".join(f"<b>{escape(one.name)}</b> scored {one.scored:,} events" for one in report.candidates)
        advice = "Nothing is measured without labels: give the pipeline a section `label` to see how good it is."
        return f'<div class="card verdict">{scored}.<br><span class=soft>{advice}</span></div>'
    only = plot.told_first(report)
    told = [f"{name} {number(only.metrics.get(name))}" for name in headline(report)]
    text = f"<b>{escape(only.name)}</b>: {escape(', '.join(told))}, over {_answered(only)}."
    advice = "Give a second -p FILE (a plain rule, say) to see whether this is better than something simple."
    if others := [escape(one.name) for one in report.candidates if one is not only]:
        advice = f"Nothing to compare it with: {', '.join(others)} gave no results."
    return f'<div class="card verdict">{text}<br><span class=soft>{advice}</span></div>'


def _answered(one: CandidateReport) -> str:
    """How many events its metrics are of."""
    if one.answered == one.counted:
        return f"{one.counted:,} labelled events"
    return f"{one.answered:,} answered events of {one.counted:,} that have a label"


def _notes(report: Report) -> str:
    told = [f'<div class="card">{escape(text)}</div>' for text in report.findings]
    return "".join((*told, *(f'<div class="card note">{escape(text)}</div>' for text in report.warnings)))


def _metrics(report: Report) -> str:
    """Every candidate by every metric, the best of each marked where that can be said."""
    head = "".join(f'<th title="{escape(metric.about)}">{_broken(metric.name)}</th>' for metric in report.metrics)
    best, why = _bests(report)
    rows = []
    for place, one in enumerate(report.candidates):
        cells = []
        for metric in report.metrics:
            value = one.metrics.get(metric.name)
            marked = value is not None and best.get(metric.name) == value and one.failure is None
            mark = " class=best" if marked else ""
            cells.append(f"<td{mark}>{number(value)}</td>")
        failed = " (failed)" if one.failure else ""
        name = f"{_key(place)}{escape(one.name)}{failed}"
        rows.append(
            f"<tr><td class=name>{name}</td><td>{one.answered if report.metrics else one.scored:,}</td>"
            f"{''.join(cells)}<td>{one.alert_count}</td></tr>"
        )
    about = "; ".join(f"{metric.name}: {metric.about}{_side(metric.better)}" for metric in report.metrics)
    meaning = f"<details><summary>What they mean</summary><p class=soft>{escape(about)}.</p></details>" if about else ""
    return (
        f"<h2>{'Metrics' if report.metrics else 'Scores'}</h2><div class=card><div class=scroll><table><tr>"
        f"<th>candidate</th><th>{'answers' if report.metrics else 'scores'}</th>"
        f"{head}<th>alerts</th></tr>{''.join(rows)}</table></div>{why}{meaning}</div>"
    )


def _bests(report: Report) -> tuple[dict[str, float], str]:
    """The best value of each metric, and why there is none: only what was reached over equally many events is ranked,
    and a candidate that failed never is."""
    able = [one for one in report.candidates if one.failure is None]
    if len(able) < 2:
        return {}, ""
    if len({(one.counted, one.answered) for one in able}) > 1:
        return {}, "<p class=soft>No best is marked: the candidates did not answer equally many events.</p>"
    best = {}
    for metric in report.metrics:
        known = [value for one in able if (value := one.metrics.get(metric.name)) is not None]
        if known and metric.better:
            best[metric.name] = max(known) if metric.better > 0 else min(known)
    return best, ""


def _side(better: int) -> str:
    return {1: " (more is better)", -1: " (less is better)"}.get(better, "")


def _differences(report: Report) -> str:
    if not report.comparisons:
        return ""
    rows = []
    for comparison in report.comparisons:
        place = [one.name for one in report.candidates].index(comparison.candidate)
        for number_of, one in enumerate(comparison.differences):
            name = f"{_key(place)}{escape(comparison.candidate)}" if not number_of else ""
            span = f"{signed(one.low)} to {signed(one.high)}" if one.low is not None and one.high is not None else "-"
            won = f"{one.won:.0%}" if one.won is not None else "-"
            rows.append(
                f"<tr><td class=name>{name}</td><td class=text>{escape(one.metric)}</td>"
                f"<td>{signed(one.difference)}</td>"
                f'<td>{span}</td><td class="text {one.verdict}">{escape(one.verdict)}</td><td>{won}</td></tr>'
            )
    figure = plot.differences(report, headline(report)[0])
    return (
        f"<h2>Differences to {escape(report.baseline)}, and how sure they are</h2><div class=card>{_plot(figure)}"
        "<details><summary>All metrics</summary><div class=scroll><table><tr><th>candidate</th>"
        "<th class=text>metric</th><th>difference</th><th>likely between</th><th class=text>verdict</th>"
        "<th>stretches won</th></tr>"
        f"{''.join(rows)}</table></div></details>"
        f"<p class=soft>{escape(report.comparisons[0].method)}.{_binned(report)} "
        "It takes the future to be like the stretches seen.</p>"
        "</div>"
    )


def _binned(report: Report) -> str:
    """Which numbers of a comparison are of bins."""
    if not (names := " and ".join(report.binned_in_parts)):
        return ""
    whole = any(one.binned for one in report.comparisons)
    return escape(f" {'Values and intervals' if whole else 'Intervals'} of {names} are of binned scores.")


def _keyed(report: Report, figure: Figure) -> str:
    """A plot with the names of its colours."""
    names = (f"<span>{_key(place)}{escape(one.name)}</span> " for place, one in enumerate(report.candidates))
    return f"{_plot(figure)}<div class=keys>{''.join(names)}</div>"


def _time(report: Report) -> str:
    names = [name for name in headline(report) if name != "CostPerEvent" or report.cost is not None]
    cards = [f"<div class=card>{_keyed(report, plot.over_time(report, name, alerts=True))}</div>" for name in names[:1]]
    others = [f"<div class=card>{_keyed(report, plot.over_time(report, name))}</div>" for name in names[1:3]]
    legend = "Triangles mark drifts that a detector saw; in the first plot, vertical lines are alerts that would have "
    legend += "gone out."
    return (
        f"<h2>Over time</h2>{''.join(cards)}<div class=grid>{''.join(others)}</div><p class=soft>{legend}</p>"
        if any(one.over_time for one in report.candidates)
        else ""
    )


def _parts_of(report: Report) -> str:
    made = []
    name = headline(report)[0]
    if report.segment is not None:
        figure = plot.by_part(report, name, "segments", f"{plot.in_parts(report, name)} by {report.segment}")
        table = _part_table(report, "segments")
        made.append(f"<h2>By {escape(report.segment)}</h2><div class=card>{_keyed(report, figure)}{table}</div>")
    if len(plot.told_first(report).label_ages) > 1:
        by_age = plot.by_part(report, name, "label_ages", f"{plot.in_parts(report, name)} by label delay")
        made.append(
            f"<h2>By the label's age</h2><div class=grid><div class=card>{_plot(plot.delays(report))}</div>"
            f"<div class=card>{_keyed(report, by_age)}</div></div>"
        )
    return "".join(made)


def _part_table(report: Report, which: str) -> str:
    names = [metric.name for metric in report.metrics]
    rows = []
    for place, one in enumerate(report.candidates):
        for part in getattr(one, which):
            cells = "".join(f"<td>{number(part.values.get(name))}</td>" for name in names)
            who = f"{_key(place)}{escape(one.name)}"
            rows.append(
                f"<tr><td class=name>{who}</td><td class=text>{escape(part.name)}</td><td>{part.n:,}</td>{cells}</tr>"
            )
    head = "".join(f"<th>{escape(plot.in_parts(report, name))}</th>" for name in names)
    return (
        "<details><summary>All metrics</summary><div class=scroll><table><tr><th>candidate</th><th class=text>part</th>"
        f"<th>labels</th>{head}</tr>{''.join(rows)}</table></div></details>"
    )


def _decisions(report: Report) -> str:
    measure = report.measure
    if not measure.decisions or not report.metrics:
        return ""
    plots = "".join(f"<div class=card>{_keyed(report, _FIGURES[name](report))}</div>" for name in measure.figures)
    confusions = "".join(_confusion(place, one) for place, one in enumerate(report.candidates) if one.confusion)
    return f"<h2>Scores and decisions</h2><div class=grid>{plots}{confusions}</div>{_budgets(report)}"


def _budgets(report: Report) -> str:
    """What each candidate finds where only some events can be looked at."""
    able = [(place, one) for place, one in enumerate(report.candidates) if one.budgets]
    if not able:
        return ""
    head = "".join(f"<th>{_key(place)}{escape(one.name)}</th>" for place, one in able)
    rows = "".join(
        f"<tr><td>{share:.1%} of the events</td>{''.join(_within(one, share) for _, one in able)}</tr>"
        for share in sorted({budget.share for _, one in able for budget in one.budgets})
    )
    return (
        "<div class=card><h3>If only so many events can be looked at, those with the highest scores</h3>"
        f"<div class=scroll><table><tr><th>at most</th>{head}</tr>{rows}</table></div>"
        "<p class=soft>Found: the share of all positives. There are fewer alarms where the events that come next all "
        "have one score.</p></div>"
    )


def _within(one: CandidateReport, share: float) -> str:
    """What a candidate finds within a budget, as a cell."""
    budget = next((budget for budget in one.budgets if budget.share == share), None)
    if budget is None:
        return "<td>-</td>"
    right = f"{budget.tp / budget.alarms:.0%} of {budget.alarms:,} alarms right" if budget.alarms else "no alarm"
    came = one.costs[0].tp + one.costs[0].fn
    return f"<td>{budget.tp / came:.1%} found<br><span class=soft>{right}</span></td>"


def _confusion(place: int, one: CandidateReport) -> str:
    labels = sorted({cell.label for cell in one.confusion}, reverse=True)[:12]
    said = sorted({cell.prediction for cell in one.confusion}, reverse=True)[:12]
    counts = {(cell.label, cell.prediction): cell.n for cell in one.confusion}
    head = "".join(f"<th>said {escape(name)}</th>" for name in said)
    rows = []
    for label in labels:
        total = sum(counts.get((label, name), 0) for name in said) or 1
        cells = []
        for name in said:
            n = counts.get((label, name), 0)
            shade = f"rgba({'0,114,178' if name == label else '213,94,0'},{0.45 * n / total:.2f})"
            cells.append(f'<td style="background:{shade}">{n:,}<br><span class=soft>{n / total:.1%}</span></td>')
        rows.append(f"<tr><td>was {escape(label)}</td>{''.join(cells)}</tr>")
    at = (
        f"at threshold {one.decision_threshold:g}"
        if one.decision_threshold is not None
        else "by the more probable class"
    )
    best = f"<p class=soft>{_hindsight(one.best)}</p>" if one.best is not None else ""
    return (
        f"<div class=card><h3>{_key(place)}{escape(one.name)}: decisions {at}</h3>"
        f"<div class=scroll><table><tr><th></th>{head}</tr>{''.join(rows)}</table></div>{best}</div>"
    )


def _hindsight(best: Threshold) -> str:
    """The best threshold in a sentence."""
    what = f"cost {number(best.cost)} an event" if best.cost is not None else "best F1"
    if best.threshold > 1:
        return f"In hindsight it was best to say no to every event ({what})."
    return f"In hindsight the best threshold was {best.threshold:.3g} ({what})."


def _alerts(report: Report) -> str:
    rows = [
        f"<tr><td class=name>{_key(place)}{escape(one.name)}</td><td class=text>{_when(report, alert.time_ms)}</td>"
        f"<td class=text>{escape(alert.severity)}</td><td class=text>{escape(alert.sentence)}</td></tr>"
        for place, one in enumerate(report.candidates)
        for alert in one.alerts[:ALERTS_SHOWN]
    ]
    if not rows:
        return "<h2>Alerts</h2><p class=soft>None would have gone out.</p>"
    return (
        "<h2>Alerts that would have gone out</h2><div class=card><div class=scroll><table><tr><th>candidate</th>"
        "<th class=text>when</th><th class=text>severity</th><th class=text>what it says</th></tr>"
        f"{''.join(rows)}</table></div></div>"
    )


def _against(report: Report) -> str:
    """Scores that differ from the served ones."""
    told = []
    for place, one in enumerate(report.candidates):
        if one.against is None:
            continue
        found = one.against
        rows = "".join(
            f"<tr><td class=name>{escape(str(example['event_id']))}</td><td>{example['partition']}</td>"
            f"<td>{example['offset']:,}</td><td>{escape(str(example['served']))}</td>"
            f"<td>{escape(str(example['backtested']))}</td></tr>"
            for example in found.examples[:DIFFERENCES_SHOWN]
        )
        removed = f"; those of {found.removed:,} earlier events are not kept any more" if found.removed else ""
        proven = " Folded as the journal says, with every digest compared." if one.live else ""
        table = (
            "<div class=scroll><table><tr><th>event</th><th>partition</th><th>offset</th><th>served</th>"
            f"<th>backtested</th></tr>{rows}</table></div>"
        )
        told.append(
            f"<div class=card><h3>{_key(place)}{escape(one.name)}: {found.differing:,} of {found.compared:,} differ"
            "</h3>"
            f"<p class=soft>{found.missing:,} were never served{removed}.{proven}</p>{table if rows else ''}</div>"
        )
    return f"<h2>Against what was served</h2><div class=grid>{''.join(told)}</div>" if told else ""


def _method(report: Report) -> str:
    models = "".join(
        f"<h3>{_key(place)}{escape(one.name)}</h3><p class=soft>{escape(one.file)}"
        f"{escape(' with ' + ', '.join(one.changes)) if one.changes else ''}; "
        f"{escape(_counts(one))}; {one.cpu_seconds:,.1f} s of CPU</p><pre>{escape(one.model)}</pre>"
        for place, one in enumerate(report.candidates)
    )
    made = ", ".join(f"{_PROGRAMS.get(name, name)} {version}" for name, version in report.versions.items())
    foot = f"<p class=soft>Made in {report.seconds:,.1f} s by {escape(made)}.</p>"
    return f"<h2>What was compared</h2><div class=card><p>{escape(_covered(report))}</p>{models}</div>{foot}"


def _covered(report: Report) -> str:
    """The dates of the events and the price of decisions, in sentences."""
    source, cost = report.source, report.cost
    if source.counted:
        told = f"{source.rows:,} rows, whose times were counted from {_date(source.start_ms)} UTC on."
    elif source.first_ms is None or source.last_ms is None:
        told = "The dates of the events are not known."
    else:
        told = f"Events from {_date(source.first_ms)} to {_date(source.last_ms)} UTC."
    if cost is None:
        return f"{told} No costs were given."
    prices = (("true alarm", cost.tp), ("false alarm", cost.fp), ("missed positive", cost.fn), ("rightful no", cost.tn))
    return f"{told} Costs: {', '.join(f'{price:g} for a {what}' for what, price in prices)}."


def _date(time_ms: int) -> str:
    return written(time_ms, "%Y-%m-%d %H:%M")


def _counts(one: CandidateReport) -> str:
    shown = {**one.counts, "still waiting for a label": one.pending}
    return ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in shown.items() if count)


def _when(report: Report, time_ms: int | None) -> str:
    if time_ms is None:
        return "-"
    if report.source.counted:
        return f"row {(time_ms - report.source.start_ms) // report.source.step_ms:,}"
    return _date(time_ms)


def _plot(figure: Figure) -> str:
    drawn: str = figure.to_html(full_html=False, include_plotlyjs=False, config=_CONFIG, default_width="100%")
    return f'<div class="plot">{drawn}</div>'


def _key(place: int) -> str:
    return f'<span class=key style="background:{plot.colour(place)}"></span>'


def _broken(name: str) -> str:
    """A long name that may break between its words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "<wbr>", escape(name))


def number(value: float | None) -> str:
    """A number as people read it."""
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"


def signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}" if abs(value) < 100 else f"{value:+,.1f}"
