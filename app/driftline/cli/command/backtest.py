"""`driftline backtest`: its options and its help."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import click

from driftline.cli.command.history import Files, history_options
from driftline.cli.lazy import does
from driftline.cli.option import DURATION, MOMENT, bootstrap_option, json_option
from driftline.core.task.cost import Cost

Edge: TypeAlias = tuple[int | None, int | None]
"""A time, or an offset, or neither."""


class CostType(click.ParamType):
    """A cost matrix: `fp=1,fn=20`, and tp and tn."""

    name = "cost"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Cost:
        if isinstance(value, Cost):
            return value
        costs: dict[str, float] = {}
        for part in str(value).split(","):
            name, _, number = part.strip().partition("=")
            try:
                costs[name] = float(number)
            except ValueError:
                self.fail(f"{part!r} is not a cost; write for example fp=1,fn=20", param, ctx)
            if name not in ("tp", "fp", "fn", "tn") or not abs(costs[name]) <= 1e12:
                self.fail(f"{part!r}: costs are tp, fp, fn and tn, up to 1e12", param, ctx)
        return Cost(**costs)


class BurnType(click.ParamType):
    """A burn-in: a duration (`7d`), or a number of labelled events (`1000`)."""

    name = "burn-in"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        text = str(value).strip()
        if text.isascii() and text.isdigit():
            return 0, int(text)
        return DURATION.convert(text, param, ctx), 0


def _check(
    history: Files,
    grids: tuple[str, ...],
    since: str | None,
    until: str | None,
    order: str | None,
    warm: bool,
    against: str | None,
    **_: object,
) -> None:
    for grid in grids:
        grid_of(grid)
    if not history.given:
        history.check_none()
        edges_of(since, until)
        return
    if since or until or order == "journal" or warm or against:
        raise click.UsageError(
            "--from, --to, --order journal, --warm and --against are for topics: leave out the files"
        )
    history.check()


def edges_of(since: str | None, until: str | None) -> tuple[Edge, Edge]:
    """`--from` and `--to`, each a time or `offset:N`."""

    def read(text: str | None, option: str) -> Edge:
        if text is None:
            return None, None
        kind, colon, number = text.partition(":")
        if colon and kind == "offset":
            if not (number.isascii() and number.isdigit()):
                raise click.UsageError(f"{option} {text!r}: write offset:N with a whole number")
            return None, int(number)
        try:
            return MOMENT.convert(text, None, None), None
        except click.BadParameter as error:
            raise click.BadParameter(error.message, param_hint=option) from error

    low, high = read(since, "--from"), read(until, "--to")
    if any(one is not None and other is not None and other <= one for one, other in zip(low, high, strict=True)):
        raise click.UsageError("--to must lie behind --from")
    return low, high


def grid_of(text: str) -> tuple[str, list[str]]:
    """`--grid key=a,b`: the key, and its values."""
    key, equals, values = text.partition("=")
    if not equals or not key or not values:
        raise click.UsageError(f"--grid {text!r}: write a key and its values, as in params.lr=0.01,0.1,1")
    return key, _split(values)


def _split(values: str) -> list[str]:
    """At the commas that stand outside brackets and quotes: a value may be an expression."""
    parts, depth, quote = [""], 0, ""
    for sign in values:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        else:
            depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


@click.command()
@click.option(
    "-p",
    "--pipeline",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A pipeline file; each more is one more candidate. The first is what the others are compared with.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Put a value into every pipeline file.")
@click.option(
    "--grid",
    "grids",
    multiple=True,
    metavar="KEY=A,B,..",
    help="Try each of these values, as candidates of their own; several --grid are combined.",
)
@history_options
@bootstrap_option
@click.option("--from", "since", metavar="TIME|offset:N", help="Over topics: the first event, by time or offset.")
@click.option("--to", "until", metavar="TIME|offset:N", help="Over topics: where to end, without it.")
@click.option(
    "--order",
    type=click.Choice(["journal", "time"]),
    help="Over topics: as the worker folded, or merged by time [default: journal, where there is one].",
)
@click.option(
    "--warm", is_flag=True, help="Over topics: start from a snapshot, the newest before --from, else the oldest."
)
@click.option("--against", type=click.Choice(["live"]), help="Over topics: list each score unlike the one served.")
@click.option(
    "--burn-in",
    type=BurnType(),
    default=(0, 0),
    metavar="N|DURATION",
    help="Fold the first events, of each partition, without counting them.",
)
@click.option("--segment", metavar="FEATURE", help="Tell results apart by a feature's value.")
@click.option("--cost", type=CostType(), metavar="fp=1,fn=20", help="What wrong (and right: tp, tn) decisions cost.")
@click.option("--naive", "plain", is_flag=True, help="Add a candidate without a model: it repeats the last label.")
@click.option("--scores", type=click.Path(path_type=Path), metavar="FILE", help="Write every score: .csv or .parquet.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("backtest"),
    show_default=True,
    metavar="FOLDER",
    help="Where report.json and report.html go.",
)
@click.option("--processes", type=click.IntRange(1), help="Processes to share the candidates [default: one a core].")
@json_option
@does("driftline.cli.backtest:backtest", check=_check)
def backtest() -> None:
    """Fold a history as a worker would have, and tell how good the predictions would have been.

    Each event is scored before its label is learned, in the order of the records' times, by the code that runs
    live. Several candidates are folded over one reading and compared with the first, pair by pair.

    The history is a file of rows (--input), two files of records (--events, --labels) or, without either, the
    first pipeline's own topics, read without a group.

    Exit code 1: rows of a file were left out or rejected, a candidate failed, or nothing could be learned before the
    last score; 130: stopped by Ctrl-C, the report is
    of the part before.
    """
