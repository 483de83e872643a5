"""`python -m benchmarks`: throughput, latency and backtest, or the ones named. `make bench` is the same."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from benchmarks import backtest, case, latency, profile, snapshot, throughput
from benchmarks.model import MODELS
from benchmarks.throughput import SUBJECTS, Asked

BENCHMARKS: Final = ("throughput", "latency", "backtest", "snapshot", "profile")
PAGE: Final = Path(__file__).parents[1] / "docs" / "performance.md"
_TABLES: Final = re.compile(
    r"(?<=<!-- written by python -m benchmarks throughput --write -->\n).*?(?=<!-- end -->)", re.S
)


def _names(known: Any) -> Any:
    """Reads names with commas between them."""

    def read(context: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
        asked = tuple(known) if value is None else tuple(value.split(","))
        if unknown := set(asked) - set(known):
            raise click.BadParameter(f"{', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return asked

    return read


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(BENCHMARKS))
@click.option("--rounds", default=3, show_default=True, help="Rounds of the comparisons.")
@click.option("--pairs", default=20_000, show_default=True, help="Events with labels; dear models get fewer.")
@click.option("--minutes", default=30.0, show_default=True, help="No round of throughput begins that ends later.")
@click.option("--models", callback=_names(MODELS), help=f"For throughput: {', '.join(MODELS)}.")
@click.option("--subjects", callback=_names(SUBJECTS), help=f"For throughput: {', '.join(SUBJECTS)}.")
@click.option("--model", type=click.Choice(list(MODELS)), default="numbers", show_default=True, help="For profile.")
@click.option("--shards", default=case.SHARDS, show_default=True, help="Shards of Driftline, for throughput.")
@click.option("--events", default=500, show_default=True, help="Events whose latency is measured, of each.")
@click.option("--pending", default=1_000_000, show_default=True, help="Events that wait at once, for snapshots.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
@click.option("--write", is_flag=True, help="Write the tables of throughput into docs/performance.md.")
def main(
    names: tuple[str, ...],
    rounds: int,
    pairs: int,
    minutes: float,
    models: tuple[str, ...],
    subjects: tuple[str, ...],
    model: str,
    shards: int,
    events: int,
    pending: int,
    as_json: bool,
    write: bool,
) -> None:
    """Measure Driftline beside what else one could use, on a real Kafka of its own (Java 17 or later, Maven once)."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a new Kafka has much to say
    console = Console(quiet=as_json)
    document: dict[str, Any] = {}
    asked = Asked(rounds, pairs, minutes, models, subjects, shards)
    for name in names or BENCHMARKS[:3]:
        with console.status(name) as status:

            def say(text: str, status: Any = status) -> None:
                status.update(text)
                console.log(text)

            report: Any
            match name:
                case "throughput":
                    report = throughput.measure(asked, say)
                    _show_throughput(console, report, write=write)
                case "profile":
                    report = profile.measure(pairs, say, shards=shards, name=model)
                    _show(console, profile.tables(report))
                case "backtest":
                    report = backtest.measure(rounds, say)
                    _show(console, backtest.tables(report))
                case "snapshot":
                    report = snapshot.measure(pending, say)
                    _show(console, snapshot.tables(report))
                case _:
                    report = latency.measure(events, say)
                    _show(console, latency.tables(report))
        for line in _setting(report.setting):
            console.print(f"[dim]{line}", soft_wrap=True, highlight=False)
        document[name] = report.document()
    if as_json:
        click.echo(json.dumps(document, indent=2))


def _show(console: Console, tables: Any) -> None:
    for table in tables:
        console.print(table)


def _show_throughput(console: Console, report: throughput.Report, *, write: bool) -> None:
    text = throughput.markdown(report)
    console.print(text, soft_wrap=True, highlight=False, markup=False)
    if write:
        setting = "; ".join(_setting(report.setting))
        page, count = _TABLES.subn(lambda _: f"\n{text}\n{setting}\n\n", PAGE.read_text())
        if count != 1:
            raise click.ClickException(f"{PAGE} has no place for the tables")
        PAGE.write_text(page)


def _setting(setting: dict[str, Any]) -> list[str]:
    return [
        f"{key}: {', '.join(f'{k} {v}' for k, v in value.items()) if isinstance(value, dict) else value}"
        for key, value in setting.items()
    ]


if __name__ == "__main__":
    main()
