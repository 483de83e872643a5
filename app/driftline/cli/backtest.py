"""`driftline backtest`: evaluate and compare pipelines on historical data."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click
from msgspec import structs
from rich.console import Console
from rich.table import Table as Grid

from driftline.backtest import report as reports
from driftline.backtest.baseline import candidates_of
from driftline.backtest.candidate import Spec
from driftline.backtest.daily import DailyReport, budget_of
from driftline.backtest.kpi import KpiReport
from driftline.backtest.page import render
from driftline.backtest.remark import UNTAUGHT
from driftline.backtest.report import Asked, CandidateReport, Report, Source, nothing_counted, summary_line
from driftline.backtest.run import Options, Outcome, Work, cores, run, run_parts
from driftline.backtest.score import check_folder, check_format, drafted, working_folder
from driftline.backtest.span import Order, Span, TopicSource
from driftline.backtest.start import COLD
from driftline.backtest.topic import TopicPart
from driftline.cli.command.backtest import Candidates, Counting, Reading, Results, edges_of, grid_of
from driftline.cli.command.history import Files
from driftline.cli.echo import echo
from driftline.cli.history import source_of
from driftline.cli.progress import bar
from driftline.cli.setting import settings_of
from driftline.codec.inputs import layout_of
from driftline.config import Settings, load_pipeline
from driftline.core.duration import format_duration
from driftline.core.error import InputFileError, PipelineError, TopicError
from driftline.core.pipeline import Pipeline, close_match, parse_pipeline
from driftline.core.place import Layout
from driftline.core.task import task_of
from driftline.core.task import tasks as every_task
from driftline.core.task.rule import Rule
from driftline.core.timestamp import written
from driftline.core.wording import money
from driftline.transport.port import Place

CANDIDATES_MAX = 64
PART = 1  # exit code: some of it could not be used
INTERRUPTED = 130
TERMINATED = 143
SHOWN_WIDTH = 80


@dataclass(frozen=True)
class Places:
    """Where reports go.

    Args:
        parts: a folder in which each process writes its scores, until they are put in place; None without `scores`.
        as_json: print the report as JSON, not its summary.
    """

    out: Path
    scores: Path | None
    parts: Path | None
    as_json: bool


def backtest(
    candidates: Candidates,
    history: Files,
    reading: Reading,
    counting: Counting,
    results: Results,
    processes: int | None,
) -> None:
    """What `driftline backtest` does."""
    specs, pipelines = _all_of(candidates)
    _check(pipelines, counting)
    places = _places(results)
    per_day = counting.per_day or budget_of(pipelines)
    options = Options(counting.segment, *counting.burn_in, per_day, counting.generation)
    if not history.given:
        _check_first(pipelines)
        topics = Topics(
            settings_of(bootstrap=reading.bootstrap),
            pipelines[0],
            span_of(reading.since, reading.until),
            reading.order,
            reading.warm,
            reading.against is not None,
        )
        asked = _asked([pipelines[0].topics.events], 0, counting)
        _over_topics(specs, topics, options, asked, places, processes)
        return
    source, names = source_of(history, pipelines[0])
    asked = _asked(names, history.label_delay_ms, counting)
    begun_s = time.monotonic()
    with bar(places.as_json) as moved:
        count = processes or min(cores(), len(specs))
        outcome = run(specs, source, options, processes=count, scores=places.parts, moved=moved)
    outcome.seconds = time.monotonic() - begun_s
    finish(specs, outcome, asked, places)


def _all_of(wanted: Candidates) -> tuple[list[Spec], list[Pipeline]]:
    """The variants of every file, then the baselines."""
    specs, pipelines = candidates(wanted.files, wanted.overrides, wanted.grids)
    first = pipelines[0]
    more = [*([naive(first)] if wanted.plain else []), *_baselines(first, wanted.rules)]
    return [*specs, *(spec for spec, _ in more)], [*pipelines, *(pipeline for _, pipeline in more)]


def _asked(names: list[str], label_delay_ms: int, counting: Counting) -> Asked:
    return Asked(names, "time", "", _burn_in(counting.burn_in), label_delay_ms, counting.segment, counting.cost)


def _check_first(pipelines: Sequence[Pipeline]) -> None:
    """The topics that are read are those of the first pipeline, and must do for all.

    Raises:
        click.UsageError: another one needs labels.
    """
    labelled = [one.name for one in pipelines if one.label is not None]
    if pipelines[0].label is None and labelled:
        raise click.UsageError(
            f"{pipelines[0].name}, whose topics are read, has no labels, but {labelled[0]} needs them; put that one "
            "first, or drop it"
        )


@dataclass(frozen=True)
class Topics:
    """Whose topics are read, and how."""

    settings: Settings
    live: Pipeline
    span: Span
    order: Order | None
    warm: bool
    against: bool


def span_of(since: str | None, until: str | None) -> Span:
    """`--from` and `--to`, each a time or `offset:N`."""
    (from_ms, from_offset), (to_ms, to_offset) = edges_of(since, until)
    return Span(from_ms, to_ms, from_offset, to_offset)


def _over_topics(
    specs: Sequence[Spec],
    topics: Topics,
    options: Options,
    asked: Asked,
    places: Places,
    processes: int | None,
) -> None:
    """Backtest over the first candidate's topics."""
    layout, order = asyncio.run(_look(topics))
    live = topics.live.model_copy(update={"shards": layout.shards}).resolved()
    source = TopicSource(live, layout, order, topics.span, topics.warm, topics.against, topics.settings.ring)

    shards = range(layout.shards)

    def parts(folder: str | None) -> list[Work]:
        return [TopicPart(number, tuple(specs), source, topics.settings, options, folder) for number in shards]

    begun_s = time.monotonic()
    with bar(places.as_json) as moved:
        at_once = min(processes or cores(), layout.shards)
        outcome = run_parts(specs, parts, processes=at_once, scores=places.parts, moved=moved)
    outcome.seconds = time.monotonic() - begun_s
    span = topics.span
    text = [
        f"{word} {f'offset {offset:,}' if offset is not None else _moment(time_ms)}"
        for word, offset, time_ms in (("from", span.from_offset, span.from_ms), ("to", span.to_offset, span.to_ms))
        if offset is not None or time_ms is not None
    ]
    if options.generation is not None:
        text.append(f"of generation {options.generation}")
    names = [name for name in (topics.live.topics.events, topics.live.topics.labels) if name is not None]
    asked = structs.replace(asked, names=names, order=order, span=" ".join(text))
    finish(specs, outcome, asked, places)


async def _look(topics: Topics) -> tuple[Layout, Order]:
    """Which shards there are, and in which order to fold."""
    from driftline.kafka.broker import KafkaBroker  # here, as a backtest over files should not pay for it
    from driftline.kafka.client import admin, client_options, partition_counts

    live = topics.live.topics
    events, journal = live.events, live.journal
    async with admin(client_options(topics.settings)) as client:
        there = await partition_counts(client)
    if not there.get(events):
        raise TopicError(f"topic {events} does not exist; check the pipeline file and the broker's address")
    served = (live.scores, live.control, *([] if topics.span.whole else [live.snapshots]))
    for option, needed in (
        ("", [live.labels] if topics.live.label is not None and live.labels is not None else []),
        ("--warm", [live.snapshots] if topics.warm else []),
        ("--against live", served if topics.against else []),
        ("--order journal", [journal] if topics.order == "journal" else []),
    ):
        if missing := [name for name in needed if not there.get(name)]:
            raise TopicError(
                f"topic {missing[0]} does not exist"
                + (f", but {option} needs it: no worker of {topics.live.name} has run here" if option else "")
                + ". Topics are those of the first pipeline file"
                + (f"; put the live pipeline first, or drop {option}" if option else "")
            )
    layout = layout_of(topics.live, there)
    if topics.order is not None:
        return layout, topics.order
    if not there.get(journal):
        return layout, "time"
    broker = KafkaBroker(topics.live, topics.settings)
    ends = await broker.ends([Place(journal, number) for number in range(there[journal])])
    return layout, "journal" if all(ends.values()) else "time"


def _moment(time_ms: int | None) -> str:
    return written(time_ms or 0)


def candidates(
    files: Sequence[Path], overrides: Sequence[str], grids: Sequence[str]
) -> tuple[list[Spec], list[Pipeline]]:
    """Every combination of a file and the grids' values, each with a name of its own."""
    if not files:
        file = settings_of().pipeline
        if file is None:
            raise InputFileError("no pipeline: give its file with -p FILE, or set DRIFTLINE_PIPELINE")
        files = [file]
    choices = [[f"{key}={value.strip()}" for value in values] for key, values in map(grid_of, grids)]
    specs: list[Spec] = []
    pipelines = []
    taken: set[str] = set()
    for file in files:
        for chosen in itertools.product(*choices):
            if len(specs) >= CANDIDATES_MAX:
                raise click.UsageError(f"more than {CANDIDATES_MAX} candidates; give fewer values to --grid")
            try:
                pipeline = load_pipeline(file, (*overrides, *chosen), spare=True)
            except PipelineError as error:
                raise InputFileError(f"{file}: {error}" if len(files) > 1 else str(error)) from error
            name = _named(
                " ".join((pipeline.name, *(change.removeprefix("params.") for change in chosen))), file, taken
            )
            taken.add(name)
            specs.append(Spec(name, pipeline.resolved(), str(file), (*overrides, *chosen)))
            pipelines.append(pipeline)
    return specs, pipelines


def _named(name: str, file: Path, taken: set[str]) -> str:
    """The name, or else with its file's, or else with a number."""
    numbered = (f"{name} ({number})" for number in itertools.count(2))
    by_file = [f"{name} ({file.stem})"] if file.stem not in taken else []
    return next(one for one in itertools.chain([name], by_file, numbered) if one not in taken)


def naive(first: Pipeline) -> tuple[Spec, Pipeline]:
    """The first candidate with no model at all: what it would take to be worth anything.

    Raises:
        click.UsageError: the task has no such rule.
    """
    simplest = task_of(first.task).naive
    if simplest is None:
        raise click.UsageError(f"--naive does not support task {first.task}")
    document = {
        **first.resolved(),
        "pipeline": "naive",
        "model": simplest.model,
        "params": {},
        "metrics": None,
        "drift": {},
    }
    pipeline = parse_pipeline({key: value for key, value in document.items() if value is not None})
    return Spec(simplest.name, pipeline.resolved(), "--naive"), pipeline


def _baselines(first: Pipeline, rules: Sequence[Rule]) -> list[tuple[Spec, Pipeline]]:
    """The baselines that were asked for.

    Raises:
        click.UsageError: one has no meaning for the first candidate.
    """
    try:
        return candidates_of(first, tuple(dict.fromkeys(rules)))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except PipelineError as error:
        raise click.UsageError(f"--baseline: {error}") from error


def _check(pipelines: Sequence[Pipeline], counting: Counting) -> None:
    """What must fit between the candidates and the flags."""
    tasks = sorted({pipeline.task for pipeline in pipelines})
    if len(tasks) > 1:
        raise click.UsageError(f"candidates must share one task, but these have {' and '.join(tasks)}")
    if counting.cost is not None and not task_of(tasks[0]).decides:
        deciding = ", ".join(task.name for task in every_task() if task.decides)
        raise click.UsageError(f"--cost needs decisions ({deciding}), but the task is {tasks[0]}")
    if counting.per_day and not task_of(tasks[0]).measure.bins:
        scored = ", ".join(task.name for task in every_task() if task.measure.bins)
        raise click.UsageError(f"--alarms-per-day needs scores of yes and no ({scored}), but the task is {tasks[0]}")
    features = list(dict.fromkeys(name for pipeline in pipelines for name in pipeline.event.features))
    segment = counting.segment
    if segment is not None and segment not in features:
        raise click.UsageError(
            f"--segment: no candidate has a feature {segment!r}; they have {', '.join(features)}"
            + close_match(segment, features)
        )


def _places(results: Results) -> Places:
    """Where reports and scores go; what is not needed any more is tidied up when the command ends."""
    out, scores, parts = results.out, results.scores, None
    context = click.get_current_context()
    context.with_resource(_tidy_when_terminated())
    context.with_resource(_folder(out))
    check_folder(out / "report.json")
    if scores is not None:
        check_format(scores)
        parts = context.with_resource(working_folder(scores))
    return Places(out, scores, parts, results.as_json)


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """The folder of the reports; a new one goes again if nothing was put into it."""
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputFileError(f"cannot create the folder {out} ({error.strerror}); choose another with --out") from error
    try:
        yield
    finally:
        with suppress(OSError):  # not empty
            for folder in new:
                folder.rmdir()


@contextmanager
def _tidy_when_terminated() -> Iterator[None]:
    """SIGTERM ends the command as an error would: working folders go."""

    def end(*_: object) -> None:
        sys.exit(TERMINATED)

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not in the main thread: signals are another's affair
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _burn_in(burn_in: tuple[int, int]) -> str:
    span_ms, events = burn_in
    return str(format_duration(span_ms)) if span_ms else f"{events} events" if events else "none"


def finish(specs: Sequence[Spec], outcome: Outcome, asked: Asked, places: Places) -> None:
    """Write the reports, say what was found, and set the exit code."""
    failed = {result.name: result.failure for result in outcome.results.values() if result.failure is not None}
    if failed and len(failed) == len(specs) and not any(result.has_results for result in outcome.results.values()):
        alike = len(set(failed.values())) == 1 and not any(result.records for result in outcome.results.values())
        text = next(iter(failed.values())) if alike else None  # of the history, not of a candidate
        raise InputFileError(text or "\n".join(f"{name}: {why}" for name, why in failed.items()))
    if not outcome.stopped and not any(result.records for result in outcome.results.values()):
        span = f" {asked.span}" if asked.span else " after the snapshot" if outcome.facts.start != COLD else ""
        bad = outcome.facts.bad_lines[:1]
        first = f"; {outcome.facts.bad:,} unusable rows, the first: {bad[0]}" if bad else ""
        raise InputFileError(f"no records in {' and '.join(asked.names)}{span}{first}")
    made = reports.build(specs, outcome, asked)
    if not outcome.stopped and specs[0].pipeline["label"] is not None and not any(c.counted for c in made.candidates):
        raise InputFileError(nothing_counted(made))
    document = reports.encode(made)
    with drafted(places.parts, places.scores):
        reports.write({places.out / "report.json": document, places.out / "report.html": render(made).encode()})
    if places.as_json:
        echo(document)
    else:
        _print_summary(made, places)
    if outcome.stopped:
        raise click.exceptions.Exit(INTERRUPTED)
    # Topics have bad records, as they had live; a file is given to be read whole.
    refused = not made.source.size_bytes and any(one.rejected for one in made.candidates)
    if failed or made.source.bad or refused or any(UNTAUGHT in warning for warning in made.warnings):
        raise click.exceptions.Exit(PART)


def _print_summary(made: Report, places: Places) -> None:
    console = Console(width=None if Console().is_terminal else SHOWN_WIDTH, soft_wrap=False, highlight=False)
    source = made.source
    echo(" ".join((", ".join(source.names), source.span)))
    echo(f"{_amount(source)} in {source.order} order, started {source.start}, in {made.seconds:.1f} s")
    untaught = [warning for warning in made.warnings if UNTAUGHT in warning]
    for warning in untaught:
        echo(warning)
    if made.partial:
        echo("PARTIAL: stopped before the end")
    for one in made.candidates:
        for kpi in one.kpis:
            echo(f"{one.name}: {_kpi(kpi)}")
    for first in range(0, max(1, len(made.metrics)), 5):
        console.print(_grid_of(made, [metric.name for metric in made.metrics[first : first + 5]]))
    for one in made.candidates:
        if one.daily is not None:
            echo(_daily(one.name, one.daily))
    for comparison in made.comparisons:
        echo(summary_line(made, comparison.candidate))
    for finding in made.findings:
        echo(finding)
    for warning in made.warnings:
        if warning not in untaught:
            echo(f"note: {warning}", err=True)
    echo(f"report: {places.out / 'report.html'}" + (f"; scores: {places.scores}" if places.scores else ""))


def _kpi(kpi: KpiReport) -> str:
    """What the decisions came to, and would have come to at the best threshold, in a line."""
    found = f"{kpi.name} {money(kpi.total, kpi.unit)} over {kpi.events:,} labels"
    if kpi.best is None:
        return found
    at = "never decided positive" if kpi.best.threshold > 1 else f"threshold {kpi.best.threshold:.3g}"
    return f"{found}; best in hindsight: {money(kpi.best.total, kpi.unit)} ({at})"


def _daily(name: str, one: DailyReport) -> str:
    """What so many alarms a day would have found, in a line."""
    found = f"{name}: at {one.per_day:,} alarms a day over {one.days:,} days, {one.tp:,} of {one.positives:,} found"
    if one.recall is None or one.precision is None:
        return found
    found += f" ({_rates(one.recall, one.precision, one.cost_per_day)})"
    own = one.decided
    if own.recall is None or own.precision is None:
        return found
    rates = _rates(own.recall, own.precision, own.cost_per_day)
    return f"{found}; as decided: {own.alarms:,} alarms, {own.most:,} a day at most ({rates})"


def _rates(recall: float, precision: float, cost_per_day: float | None) -> str:
    cost = f", cost {cost_per_day:,.1f} a day" if cost_per_day is not None else ""
    return f"recall {recall:.1%}, precision {precision:.1%}{cost}"


def _amount(source: Source) -> str:
    if source.size_bytes:
        size, unit = (source.size_bytes / 1e6, "MB") if source.size_bytes >= 1e6 else (source.size_bytes / 1e3, "kB")
        return f"{source.rows:,} records ({size:,.1f} {unit})"
    return f"{source.rows:,} rows"


def _grid_of(made: Report, metrics: Sequence[str]) -> Grid:
    grid = Grid(box=None, pad_edge=False, padding=(0, 1))
    grid.add_column("candidate", overflow="fold")
    grid.add_column("answers" if made.metrics else "scores", justify="right", no_wrap=True)
    for name in metrics:
        grid.add_column(_SHORT.get(name, name), justify="right", no_wrap=True)
    for candidate in made.candidates:
        shown = [_number(candidate.metrics.get(name)) for name in metrics]
        grid.add_row(_name(candidate), f"{candidate.answered if made.metrics else candidate.scored:,}", *shown)
    return grid


_SHORT = {"BalancedAccuracy": "BalAcc", "AveragePrecision": "AvgPrec", "CostPerEvent": "Cost"}


def _name(candidate: CandidateReport) -> str:
    return candidate.name + (" (failed)" if candidate.failure else "")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"
