"""The plots of a report. Colours can be distinguished by colour-blind people (after Okabe and Ito), and stand out from
the ground (3:1, WCAG 1.4.11) in the light theme and in the dark one, for which `page.js` takes those of `DARK`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from statistics import median
from typing import Any

from plotly.graph_objects import Bar, Figure, Scatter

from driftline.backtest.part import Part
from driftline.backtest.report import CandidateReport, Report
from driftline.backtest.trace import Point
from driftline.core.timestamp import TIME_MAX_MS

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#B85F92", "#A87400", "#2F8FC6", "#7A5195", "#767676")
INK, SOFT, GRID, GROUND, FAINT, BAND = "#1d2733", "#5b6775", "#edf0f3", "#fff", "#8a94a0", "rgba(0,114,178,0.18)"
DARK = {
    **dict(
        zip(
            COLOURS,
            ("#58A6E6", "#FF8A4C", "#3CC79B", "#E3A0C6", "#F0B440", "#8FD0F5", "#B996D6", "#A6A6A6"),
            strict=True,
        )
    ),
    INK: "#e6edf3",
    SOFT: "#9ba5b0",
    GRID: "#2a313a",
    GROUND: "#161b22",
    FAINT: "#78838f",
    BAND: "rgba(88,166,230,0.25)",
}
ALERT_LINES_MAX = 40
DRIFTS_MAX = 200
NAME_MAX = 28
FAR = 4  # times the size of the lines that stay: values beyond are cut
CUT_NAMED = 2
TITLE_MAX = 42  # as many letters as a phone shows


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def duration(span_ms: int) -> str:
    """A span in its greatest unit."""
    for unit_ms, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")):
        if span_ms >= unit_ms:
            return f"{span_ms / unit_ms:.3g} {unit}"
    return f"{span_ms} ms"


def in_parts(report: Report, metric: str) -> str:
    """A metric's name where it is shown by parts of a backtest."""
    return f"{metric} (binned)" if metric in report.binned_in_parts else metric


def baseline_of(report: Report) -> CandidateReport:
    """The baseline, which has results where any candidate has."""
    return next((one for one in report.candidates if one.name == report.baseline), report.candidates[0])


def over_time(report: Report, metric: str, *, alerts: bool = False) -> Figure:
    """A metric per stretch of time and candidate, with drifts and, if asked for, alerts."""
    figure = _figure(f"{in_parts(report, metric)} over time", 340)
    for index, one in enumerate(report.candidates):
        parts = [part for part in one.over_time if part.values.get(metric) is not None]
        figure.add_trace(
            Scatter(
                x=[_at(report, part.start_ms) for part in parts],
                y=[part.values[metric] for part in parts],
                customdata=[part.n for part in parts],
                name=_name(one),
                mode="lines",
                line={"color": colour(index), "width": 2},
                hovertemplate="%{y:.4f} (%{customdata:,} labels)",
            )
        )
        _drifts(figure, report, one, parts, metric, index)
        if alerts:
            _alerts(figure, report, one, index)
    lines = [_values(one.over_time, metric) for one in report.candidates]
    _keep_readable(figure, lines, [one.name for one in report.candidates])
    figure.update_layout(hovermode="x unified")
    figure.update_xaxes(title_text="row" if report.source.counted else None, nticks=6, tickangle=0)
    return figure


def _drifts(
    figure: Figure, report: Report, one: CandidateReport, parts: Sequence[Part], metric: str, index: int
) -> None:
    """Drifts as triangles on the candidate's line."""
    starts = [part.start_ms or 0 for part in parts]
    marks = [drift for drift in one.drifts if drift.time_ms is not None and drift.what.startswith("drift")][:DRIFTS_MAX]
    if parts and marks:
        nearest = [
            max((n for n, start in enumerate(starts) if start <= (mark.time_ms or 0)), default=0) for mark in marks
        ]
        figure.add_trace(
            Scatter(
                x=[_at(report, mark.time_ms) for mark in marks],
                y=[parts[n].values[metric] for n in nearest],
                text=[escape(f"{mark.signal}: {mark.what}") for mark in marks],
                mode="markers",
                marker={
                    "symbol": "triangle-up",
                    "size": 10,
                    "color": colour(index),
                    "line": {"width": 1, "color": GROUND},
                },
                name=f"{_name(one)}: drift",
                hovertemplate="%{text}",
            )
        )


def _alerts(figure: Figure, report: Report, one: CandidateReport, index: int) -> None:
    """Alerts as vertical lines."""
    opened = [alert for alert in one.alerts if alert.state == "opened" and alert.time_ms is not None]
    for alert in opened[:ALERT_LINES_MAX]:
        figure.add_vline(
            x=_at(report, alert.time_ms), line={"color": colour(index), "width": 1, "dash": "dot"}, opacity=0.45
        )


def differences(report: Report, metric: str) -> Figure:
    """Each candidate's difference to the baseline, with its interval."""
    names, values, below, above, colours = [], [], [], [], []
    order = [one.name for one in report.candidates]
    for comparison in reversed(report.comparisons):
        one = next(one for one in comparison.differences if one.metric == metric)
        if one.difference is None:
            continue
        names.append(_short(comparison.candidate))
        values.append(one.difference)
        below.append(one.difference - one.low if one.low is not None else 0)
        above.append(one.high - one.difference if one.high is not None else 0)
        colours.append(colour(order.index(comparison.candidate)))
    figure = _figure(f"{metric}: difference to the baseline", 110 + 46 * max(1, len(names)))
    figure.add_trace(
        Scatter(
            x=values,
            y=names,
            mode="markers",
            marker={"size": 11, "color": colours},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": above,
                "arrayminus": below,
                "thickness": 2,
                "color": SOFT,
            },
            hovertemplate="%{y}: %{x:.4f}<extra></extra>",
        )
    )
    _keep_short(figure, values, below, above)
    figure.add_vline(x=0, line={"color": SOFT, "width": 1})
    for index, name in enumerate(names):  # above its line: beside it, long names would leave no room on a telephone
        figure.add_annotation(
            text=name, xref="paper", x=0, y=index, xanchor="left", yanchor="bottom", yshift=7, showarrow=False,
            font={"size": 12},
        )  # fmt: skip
    better = next((one.better for one in report.metrics if one.name == metric), 1)
    side = "to the right is better" if better > 0 else "to the left is better"
    figure.update_xaxes(title_text=side, nticks=6, tickangle=0)
    figure.update_yaxes(showticklabels=False, range=[-0.6, len(names) - 0.2])
    return figure


def by_part(report: Report, metric: str, which: str, title: str) -> Figure:
    """A metric by segment or by the label's age."""
    figure = _figure(title, 340)
    for index, one in enumerate(report.candidates):
        parts: list[Part] = getattr(one, which)
        figure.add_trace(
            Bar(
                x=[_short(part.name) for part in parts],
                y=[part.values.get(metric) for part in parts],
                customdata=[part.n for part in parts],
                name=_name(one),
                marker={"color": colour(index)},
                hovertemplate="%{y:.4f} (%{customdata:,} labels)",
            )
        )
    bars = [[0.0, *_values(getattr(one, which), metric)] for one in report.candidates]
    _keep_readable(figure, bars, [one.name for one in report.candidates])
    figure.update_xaxes(type="category", tickangle=-35, automargin=True)
    return figure


def by_horizon(report: Report, metric: str) -> Figure:
    """A metric by how many steps ahead; of errors, the seasonal naive forecast's beside it."""
    figure = _figure(f"{metric} by horizon", 340)
    naive = {"MAE": "NaiveMAE", "MASE": "NaiveMASE"}.get(metric)
    for place, one in enumerate(report.candidates):
        for name, dash in ((metric, "solid"), *([(naive, "dot")] if naive is not None and place == 0 else [])):
            figure.add_trace(
                Scatter(
                    x=[int(part.name) for part in one.horizons],
                    y=[part.values.get(name) for part in one.horizons],
                    customdata=[part.n for part in one.horizons],
                    name=_name(one) if name == metric else "seasonal naive",
                    mode="lines+markers",
                    line={"color": colour(place) if name == metric else SOFT, "width": 2, "dash": dash},
                    hovertemplate="%{y:.4f} (%{customdata:,} forecasts)",
                )
            )
    figure.update_layout(hovermode="x unified")
    figure.update_xaxes(title_text="steps ahead", nticks=12, tickangle=0)
    figure.update_yaxes(rangemode="tozero")  # a hundredth would look like a cliff otherwise
    return figure


def forecasts(report: Report, one: CandidateReport, number: int) -> Figure:
    """The last observations of a series, what was forecast of them one step before, with its interval, and as many
    steps before as there are horizons."""
    trace = one.traces[number]
    times = [_at(report, point.time_ms) for point in trace.points]
    figure = _figure(f"{trace.series or 'The series'}: forecast and observed", 340)
    for known, part in groupby(zip(times, trace.points, strict=True), key=lambda one: one[1].lower is not None):
        if known:  # an area over a gap would be drawn across it
            stretch = list(part)
            _band(figure, [at for at, _ in stretch], [point for _, point in stretch])
    lines: tuple[tuple[str, list[float | None], str, str], ...] = (
        ("observed", [point.truth for point in trace.points], INK, "solid"),
        ("1 step before", [point.near for point in trace.points], COLOURS[0], "solid"),
        (f"{len(one.horizons)} steps before", [point.far for point in trace.points], COLOURS[1], "dot"),
    )
    for name, values, shade, dash in lines:
        if any(value is not None for value in values):
            figure.add_trace(
                Scatter(
                    x=times,
                    y=values,
                    mode="lines",
                    name=name,
                    line={"color": shade, "width": 1.5, "dash": dash},
                    hovertemplate="%{y:,.4g}",
                )
            )
    legend = {"orientation": "h", "y": -0.15, "traceorder": "normal"}
    figure.update_layout(hovermode="x unified", showlegend=True, legend=legend)
    figure.update_xaxes(title_text="row" if report.source.counted else None, nticks=6, tickangle=0)
    return figure


def _band(figure: Figure, times: Sequence[Any], points: Sequence[Point]) -> None:
    """The intervals of observations without a gap between them."""
    bounds: tuple[tuple[list[float | None], str | None], ...] = (
        ([point.lower for point in points], None),
        ([point.upper for point in points], "tonexty"),
    )
    for edge, fill in bounds:
        figure.add_trace(
            Scatter(
                x=times,
                y=edge,
                mode="lines",
                line={"width": 0},
                fill=fill,
                fillcolor=BAND,
                hoverinfo="skip",
                showlegend=False,
            )
        )


def delays(report: Report) -> Figure:
    """When labels came."""
    figure = _figure("Labels by delay", 340)
    one = baseline_of(report)
    total = sum(part.n for part in one.label_ages) or 1
    figure.add_trace(
        Bar(
            x=[part.name for part in one.label_ages],
            y=[part.n / total for part in one.label_ages],
            marker={"color": SOFT},
            hovertemplate="%{y:.1%}<extra></extra>",
        )
    )
    figure.update_yaxes(tickformat=".0%")
    figure.update_xaxes(type="category", tickangle=-35, automargin=True)
    return figure


def calibration(report: Report) -> Figure:
    """Predicted against observed."""
    figure = _figure("Calibration: predicted against observed", 340)
    figure.add_trace(
        Scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            line={"color": FAINT, "dash": "dash"},
            showlegend=False,
            hoverinfo="skip",
        )
    )
    for index, one in enumerate(report.candidates):
        shares = [share for share in one.calibration if share.n >= 10]
        figure.add_trace(
            Scatter(
                x=[share.mean for share in shares],
                y=[share.positives / share.n for share in shares],
                customdata=[share.n for share in shares],
                name=_name(one),
                mode="lines+markers",
                line={"color": colour(index)},
                hovertemplate="predicted %{x:.1%}, observed %{y:.1%} (%{customdata:,} labels)",
            )
        )
    figure.update_xaxes(title_text="predicted probability", range=[-0.02, 1.02], tickformat=".0%")
    figure.update_yaxes(title_text="share of positives", range=[-0.02, 1.02], tickformat=".0%")
    return figure


def scores(report: Report) -> Figure:
    """How often each probability was predicted, for positives and for negatives."""
    figure = _figure("Scores: positives above, negatives below", 340)
    for index, one in enumerate(report.candidates):
        middle = [(share.low + share.high) / 2 for share in one.calibration]
        ups = sum(share.positives for share in one.calibration)
        downs = sum(share.n - share.positives for share in one.calibration)
        for values in (
            [share.positives / (ups or 1) for share in one.calibration],
            [-(share.n - share.positives) / (downs or 1) for share in one.calibration],
        ):
            figure.add_trace(
                Scatter(
                    x=middle,
                    y=values,
                    name=_name(one),
                    mode="lines",
                    line={"color": colour(index), "shape": "hvh"},
                    hovertemplate="%{y:.1%}",
                )
            )
    figure.add_hline(y=0, line={"color": SOFT, "width": 1})
    figure.update_xaxes(title_text="predicted probability", range=[0, 1], tickformat=".0%")
    figure.update_yaxes(title_text="share of the class", tickformat=".0%")
    return figure


def thresholds(report: Report) -> Figure:
    """What decisions would have cost, or found, by threshold."""
    priced = report.cost is not None
    figure = _figure("Cost of decisions by threshold" if priced else "F1 of decisions by threshold", 340)
    for index, one in enumerate(report.candidates):
        values: list[float | None] = [
            point.cost if priced else 2 * point.tp / max(1, 2 * point.tp + point.fp + point.fn) for point in one.costs
        ]
        figure.add_trace(
            Scatter(
                x=[point.threshold for point in one.costs],
                y=values,
                name=_name(one),
                mode="lines",
                line={"color": colour(index)},
                hovertemplate="threshold %{x:.3f}: %{y:.4f}",
            )
        )
    for threshold in {one.decision_threshold: None for one in report.candidates if one.decision_threshold is not None}:
        figure.add_vline(x=threshold, line={"color": SOFT, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="threshold", range=[0, 1])
    figure.update_yaxes(title_text="cost per event" if priced else "F1")
    return figure


def _keep_short(figure: Figure, values: Sequence[float], below: Sequence[float], above: Sequence[float]) -> None:
    """Cut the axis of differences where one would hide all others; its number stands at the edge."""
    reach = [max(abs(value - low), abs(value + high)) for value, low, high in zip(values, below, above, strict=True)]
    if len(reach) < 2 or max(reach) <= 10 * sorted(reach)[(len(reach) - 1) // 2]:
        return
    edge = 1.15 * max((one for one in reach if one <= 10 * sorted(reach)[(len(reach) - 1) // 2]), default=1.0) or 1.0
    figure.update_xaxes(range=[-edge, edge])
    for index, value in enumerate(values):
        if abs(value) > edge:
            figure.add_annotation(
                text=f"axis cut: {value:+,.4g} {'▶' if value > 0 else '◀'}", x=edge if value > 0 else -edge, y=index,
                xanchor="right" if value > 0 else "left", showarrow=False, font={"size": 11, "color": SOFT},
            )  # fmt: skip


def _values(parts: Sequence[Part], metric: str) -> list[float]:
    return [value for part in parts if (value := part.values.get(metric)) is not None]


def readable_span(lines: Sequence[Sequence[float]]) -> tuple[float, float] | None:
    """The part of an axis on which most lines can be distinguished; None where that is all of it.

    A line that runs away, or a first block before a model has learned anything, would flatten all others. The half of
    the lines that lie closest together stay, but for the outermost twentieth of each, and what lies within `FAR` times
    their size or spread.
    """
    known = sorted((sorted(line) for line in lines if line), key=median)
    if not known:
        return None
    medians = [median(line) for line in known]
    core = _core_of(known, medians)
    low, high = min(line[len(line) // 20] for line in core), max(line[-1 - len(line) // 20] for line in core)
    room = FAR * max(high - low, abs(high), abs(low))
    least, most = min(line[0] for line in known), max(line[-1] for line in known)
    if least >= low - room and most <= high + room:
        return None
    shown = [value for line in known for value in line if low - room <= value <= high + room]
    margin = 0.05 * (max(shown) - min(shown)) or 0.05 * abs(high) or 1.0
    return min(shown) - margin, max(shown) + margin


def _core_of(lines: Sequence[Sequence[float]], medians: Sequence[float]) -> list[Sequence[float]]:
    """The half of the lines, at least one, whose medians lie closest together."""
    count = max(1, (len(lines) + 1) // 2)
    first = min(range(len(lines) - count + 1), key=lambda n: (medians[n + count - 1] - medians[n], abs(medians[n])))
    return list(lines[first : first + count])


def _keep_readable(figure: Figure, lines: Sequence[Sequence[float]], names: Sequence[str]) -> None:
    """Cut the axis where few values would flatten all others, and say on the plot what lies beyond."""
    span = readable_span(lines)
    if span is None:
        return
    low, high = span
    beyond = []
    for line, name in zip(lines, names, strict=True):
        outside = [value for value in line if not low <= value <= high]
        if outside:
            beyond.append(f"{_short(name)} reaches {max(outside, key=abs):,.4g}")
    more = f" and {len(beyond) - CUT_NAMED} more" if len(beyond) > CUT_NAMED else ""
    figure.update_yaxes(range=[low, high])
    figure.add_annotation(
        text=f"axis cut: {'; '.join(beyond[:CUT_NAMED])}{more}",
        xref="paper", yref="paper", x=0, y=1, xanchor="left", yanchor="bottom", showarrow=False,
        font={"size": 11, "color": SOFT},
    )  # fmt: skip


def _figure(title: str, height: int) -> Figure:
    figure = Figure()
    figure.update_layout(
        title={
            "text": _short(title, TITLE_MAX),
            "font": {"size": 15},
            "x": 0.01,
            "xanchor": "left",
            "xref": "container",
        },
        height=height,
        autosize=True,
        margin={"l": 52, "r": 12, "t": 46, "b": 30},
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
        paper_bgcolor=GROUND,
        plot_bgcolor=GROUND,
        showlegend=False,  # the page has the names: they flow at any width
        dragmode=False,
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True)
    return figure


def _at(report: Report, time_ms: int | None) -> Any:
    """A time on the axis: a date, or the number of the row where times were only counted."""
    if report.source.counted:
        return ((time_ms or 0) - report.source.start_ms) // report.source.step_ms
    return datetime.fromtimestamp(min(max(time_ms or 0, 0), TIME_MAX_MS) / 1000, UTC).replace(tzinfo=None)


def _name(one: CandidateReport) -> str:
    return _short(one.name)


def _short(text: str, most: int = NAME_MAX) -> str:
    return escape(text if len(text) <= most else text[: most - 1] + "…")
