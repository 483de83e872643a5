"""`python -m benchmarks`: all benchmarks but the profile, or the ones named. `make bench` is the same."""

from __future__ import annotations

import json
import logging
from typing import Any

import click
from rich.console import Console

from benchmarks import backtest, case, latency, profile, snapshot, throughput

BENCHMARKS = ("throughput", "mixed", "history", "latency", "backtest", "snapshot", "profile")
KINDS: dict[str, case.Kind] = {"throughput": "numbers", "mixed": "mixed", "history": "history"}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(BENCHMARKS))
@click.option("--rounds", default=3, show_default=True, help="Rounds of the comparisons.")
@click.option(
    "--pairs", default=100_000, show_default=True, help="Events with labels, for Driftline and the bare loop."
)
@click.option("--agent-pairs", default=5_000, show_default=True, help="Events with labels, for the Faust app.")
@click.option("--shards", default=case.SHARDS, show_default=True, help="Shards of Driftline, for throughput.")
@click.option("--events", default=500, show_default=True, help="Events whose latency is measured, of each.")
@click.option("--pending", default=1_000_000, show_default=True, help="Events that wait at once, for snapshots.")
@click.option("--model", type=click.Choice(list(KINDS)), default="throughput", show_default=True, help="For profile.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
def main(
    names: tuple[str, ...],
    rounds: int,
    pairs: int,
    agent_pairs: int,
    shards: int,
    events: int,
    pending: int,
    model: str,
    as_json: bool,
) -> None:
    """Measure Driftline against plain loops, on a real Kafka of its own (Java 17 or later, Maven once)."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a new Kafka has much to say
    console = Console(quiet=as_json)
    document: dict[str, Any] = {}
    report: throughput.Report | profile.Report | latency.Report | backtest.Report | snapshot.Report
    for name in names or BENCHMARKS[:-1]:
        with console.status(name) as status:
            if name in KINDS:
                report = throughput.measure(
                    rounds,
                    pairs,
                    agent_pairs,
                    lambda text: _say(console, status, text),
                    shards=shards,
                    kind=KINDS[name],
                )
                tables = throughput.tables(report)
            elif name == "profile":
                report = profile.measure(
                    pairs, lambda text: _say(console, status, text), shards=shards, kind=KINDS[model]
                )
                tables = profile.tables(report)
            elif name == "backtest":
                report = backtest.measure(rounds, lambda text: _say(console, status, text))
                tables = backtest.tables(report)
            elif name == "snapshot":
                report = snapshot.measure(pending, lambda text: _say(console, status, text))
                tables = snapshot.tables(report)
            else:
                report = latency.measure(events, lambda text: _say(console, status, text))
                tables = latency.tables(report)
        for table in tables:
            console.print(table)
        for key, value in report.setting.items():
            shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            console.print(f"[dim]{key}: {shown}", soft_wrap=True, highlight=False)
        document[name] = report.document()
    if as_json:
        click.echo(json.dumps(document, indent=2))


def _say(console: Console, status: Any, text: str) -> None:
    status.update(text)
    console.log(text)


if __name__ == "__main__":
    main()
