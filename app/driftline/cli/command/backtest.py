"""`driftline backtest`: its options and its help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from driftline.cli.command.history import Files, history_options
from driftline.cli.lazy import does
from driftline.cli.option import DURATION, MOMENT, bootstrap_option, json_option, together
from driftline.core.task.cost import Cost
from driftline.core.task.rule import Rule, parse_rule

if TYPE_CHECKING:
    from driftline.backtest.span import Order

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
                self.fail(f"{part!r} is not a cost; write e.g. fp=1,fn=20", param, ctx)
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


class RuleType(click.ParamType):
    """A baseline: `last_of:card_id`."""

    name = "rule"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Rule:
        try:
            return parse_rule(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@dataclass(frozen=True)
class Candidates:
    """What is compared: pipeline files, their variants, and baselines."""

    files: tuple[Path, ...]
    overrides: tuple[str, ...]
    grids: tuple[str, ...]
    rules: tuple[Rule, ...]
    plain: bool


@dataclass(frozen=True)
class Reading:
    """Which part of the topics is read, and in which order."""

    bootstrap: str | None
    since: str | None
    until: str | None
    order: Order | None
    warm: bool
    against: str | None

    @property
    def given(self) -> bool:
        """Whether anything is asked for that only topics have."""
        return bool(self.since or self.until or self.order == "journal" or self.warm or self.against)


@dataclass(frozen=True)
class Counting:
    """What is counted, of which predictions."""

    burn_in: tuple[int, int]
    segment: str | None
    cost: Cost | None
    per_day: int
    generation: int | None


@dataclass(frozen=True)
class Results:
    """Where the results go."""

    out: Path
    scores: Path | None
    as_json: bool


def _check(candidates: Candidates, history: Files, reading: Reading, counting: Counting, **_: object) -> None:
    if counting.generation is not None and not reading.against:
        raise click.UsageError("--generation needs --against live: it counts generations of the live model")
    for grid in candidates.grids:
        grid_of(grid)
    if not history.given:
        history.check_none()
        edges_of(reading.since, reading.until)
        return
    if reading.given:
        raise click.UsageError("--from, --to, --order journal, --warm and --against need topics, not files")
    history.check()


def edges_of(since: str | None, until: str | None) -> tuple[Edge, Edge]:
    """`--from` and `--to`, each a time or `offset:N`."""

    def read(text: str | None, option: str) -> Edge:
        if text is None:
            return None, None
        kind, colon, number = text.partition(":")
        if colon and kind == "offset":
            if not (number.isascii() and number.isdigit()):
                raise click.UsageError(f"{option} {text!r}: write offset:N, N a whole number")
            return None, int(number)
        try:
            return MOMENT.convert(text, None, None), None
        except click.BadParameter as error:
            raise click.BadParameter(error.message, param_hint=option) from error

    low, high = read(since, "--from"), read(until, "--to")
    if any(one is not None and other is not None and other <= one for one, other in zip(low, high, strict=True)):
        raise click.UsageError("--to must be later than --from")
    return low, high


def grid_of(text: str) -> tuple[str, list[str]]:
    """`--grid key=a,b`: the key, and its values."""
    key, equals, values = text.partition("=")
    if not equals or not key or not values:
        raise click.UsageError(f"--grid {text!r}: write a key and values, as in params.lr=0.01,0.1,1")
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
    help="A pipeline file; repeat for more candidates. The first is the baseline.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a value in every pipeline file; repeatable.",
)
@click.option(
    "--grid",
    "grids",
    multiple=True,
    metavar="KEY=A,B,..",
    help="Add a candidate for each value; several --grid options are combined.",
)
@history_options
@bootstrap_option
@click.option("--from", "since", metavar="TIME|offset:N", help="Topics: start at this event time or offset.")
@click.option("--to", "until", metavar="TIME|offset:N", help="Topics: stop before this event time or offset.")
@click.option(
    "--order",
    type=click.Choice(["journal", "time"]),
    help="Topics: in the worker's order, or merged by time [default: journal, if there is one].",
)
@click.option("--warm", is_flag=True, help="Topics: start from a snapshot, the newest before --from, else the oldest.")
@click.option("--against", type=click.Choice(["live"]), help="Topics: list scores that differ from the served ones.")
@click.option(
    "--generation",
    type=click.IntRange(0),
    metavar="N",
    help="With --against live: count only predictions of this generation of the model.",
)
@click.option(
    "--burn-in",
    type=BurnType(),
    default=(0, 0),
    metavar="N|DURATION",
    help="Leave the first events of each partition out of the metrics.",
)
@click.option("--segment", metavar="FEATURE", help="Break results down by this feature's values.")
@click.option("--cost", type=CostType(), metavar="fp=1,fn=20", help="Cost of each decision (tp, fp, fn, tn).")
@click.option(
    "--alarms-per-day",
    "per_day",
    type=click.IntRange(0, 100_000),
    default=0,
    metavar="N",
    help="Count what would be found among the N highest scores of each day.",
)
@click.option(
    "--baseline",
    "rules",
    type=RuleType(),
    multiple=True,
    metavar="RULE",
    help="Add a baseline: majority, popularity, last, mean, median, last_of:KEY, mean_of:KEY or "
    "seasonal:PERIOD[:KEY]; repeatable.",
)
@click.option("--naive", "plain", is_flag=True, help="Add a naive candidate, such as repeating the last label.")
@click.option(
    "--scores", type=click.Path(path_type=Path), metavar="FILE", help="Write every score to FILE, .csv or .parquet."
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("backtest"),
    show_default=True,
    metavar="FOLDER",
    help="Folder for report.json and report.html.",
)
@click.option("--processes", type=click.IntRange(1), help="Number of processes [default: one per core].")
@json_option
@together("candidates", Candidates)
@together("reading", Reading)
@together("counting", Counting)
@together("results", Results)
@does("driftline.cli.backtest:backtest", check=_check)
def backtest() -> None:
    """Evaluate pipelines on historical data: how good would their predictions have been?

    Prequential evaluation by the code that runs live: each event is scored before its label is learned, in time order.
    Several candidates see the same data, and each is compared with the first.

    The data is a file of rows (--input), two files of records (--events, --labels) or, by default, the first pipeline's
    topics, read without a consumer group.

    Exit codes: 1 rows were skipped or rejected, a candidate failed, or nothing was learned before the last score; 130
    stopped by Ctrl-C, the report covers the part before.
    """
