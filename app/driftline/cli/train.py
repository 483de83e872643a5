"""`driftline train`: train a model on historical data, so that even the first event gets a useful score."""

from __future__ import annotations

import time
from pathlib import Path

import click
import msgspec

from driftline.backtest.report import write
from driftline.backtest.score import check_folder
from driftline.backtest.train import Training
from driftline.backtest.train import train as trained
from driftline.cli.command.history import Files
from driftline.cli.echo import echo, show
from driftline.cli.history import source_of
from driftline.cli.progress import bar
from driftline.cli.setting import pipeline_of, settings_of
from driftline.core.task import task_of

PART = 1  # exit code: rows were left out, or the model is of no use
INTERRUPTED = 130


def train(
    pipeline_file: Path | None,
    overrides: tuple[str, ...],
    history: Files,
    out: Path,
    as_json: bool,
) -> None:
    """What `driftline train` does."""
    settings = settings_of()
    pipeline = pipeline_of(settings, pipeline_file, overrides)
    check_folder(out)
    source, _ = source_of(history, pipeline)
    begun_s = time.monotonic()
    with bar(as_json) as moved:
        training = trained(pipeline, source, settings.ring, moved)
    if training is None:
        echo("stopped; nothing was written", err=True)
        raise click.exceptions.Exit(INTERRUPTED)
    write({out: training.content})
    _print_result(
        training,
        out,
        time.monotonic() - begun_s,
        not task_of(pipeline.task).supervised,
        history.path is not None,
        as_json,
    )
    if training.bad or training.rejected or training.manifest.diverged:
        raise click.exceptions.Exit(PART)


def _print_result(
    training: Training, out: Path, seconds: float, unsupervised: bool, of_rows: bool, as_json: bool
) -> None:
    manifest, result = training.manifest, training.result
    replaced = int(result.version.partition(".")[0])
    document = {
        "model": str(out),
        "file_bytes": len(training.content),
        "rows": training.rows,
        "bad_rows": training.bad,
        "rejected": training.rejected,
        "seconds": round(seconds, 3),
        "pending": result.pending,
        "unlabelled": training.unlabelled,
        "replaced": replaced,
        "diverged": None,
        **msgspec.to_builtins(manifest),
    }
    unit = "events" if unsupervised else "labels"
    lines = [
        f"{out}: learned from {manifest.learned:,} {unit} of {training.rows:,} "
        f"{'rows' if of_rows else 'records'} in {seconds:.1f} s; "
        f"{len(training.content):,} bytes{', signed' if manifest.signature else ''}",
        *(f"  {name}: {'-' if value is None else f'{value:.4f}'}" for name, value in manifest.metrics.items()),
    ]
    show(document, lambda: lines, as_json=as_json)
    if not as_json:
        if replaced:
            often = "once" if replaced == 1 else f"{replaced:,} times"
            why = "drift or failure; it has learned only from the labels since then"
            echo(f"note: the model was replaced {often} during training, after {why}", err=True)
        if training.unlabelled and not unsupervised:
            echo(f"note: {training.unlabelled:,} events have no label in this data", err=True)
    if manifest.diverged:
        echo(f"WARNING: {manifest.diverged}. The file says so as well.", err=True)
    if training.rejected:
        text = f"{training.rejected:,} rejected; the first: {training.result.rejected[0]}"
        echo(text, err=True)
    for line in training.bad_lines:
        echo(f"skipped: {line}", err=True)
    if training.bad > len(training.bad_lines):
        echo(f"skipped: {training.bad - len(training.bad_lines):,} more", err=True)
