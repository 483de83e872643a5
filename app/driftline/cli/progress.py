"""A command's progress through its rows, on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from driftline.cli.echo import echo

REPEAT_S = 5.0


@contextmanager
def bar(quiet: bool) -> Iterator[Any]:
    """Progress on stderr: a bar on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    begun_s = shown_s = time.monotonic()
    if quiet or not console.is_terminal:

        def say(done: int, total: int) -> None:
            nonlocal shown_s
            now_s = time.monotonic()
            if not quiet and now_s - shown_s >= REPEAT_S:
                shown_s = now_s
                rate = done / max(now_s - begun_s, 1e-9)
                echo(f"{done:,} of {total:,} rows, {rate:,.0f} per second", err=True)

        yield say
        return
    with rows_progress(console) as progress:
        row = progress.add_task("rows", total=None, rate="")

        def show(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - begun_s, 1e-9)
            progress.update(row, completed=done, total=total, rate=f"{rate:,.0f}")

        yield show


def rows_progress(console: Console) -> Progress:
    """A bar for rows, whose tasks have a field `rate`."""
    return Progress(
        TextColumn("rows"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}/s"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
