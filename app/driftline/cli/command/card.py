"""`driftline card`: its options and its help."""

from __future__ import annotations

from pathlib import Path

import click

from driftline.cli.lazy import does
from driftline.cli.option import bootstrap_option, json_option, pipeline_option


@click.command()
@pipeline_option
@bootstrap_option
@click.option(
    "--generation",
    type=click.IntRange(0),
    metavar="N",
    help="Which generation of the model [default: the latest that served].",
)
@click.option("--segment", metavar="FEATURE", help="Metrics by this feature's values [default: metric_by.segment].")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Output file, a page (.html) or a document (.json) [default: print it].",
)
@json_option
@does("driftline.cli.card:card")
def card() -> None:
    """Write the model card of a generation: what it served, which labels arrived, metrics by segment, KPIs, its limits,
    and known problems.

    Made from the topics alone: the same records give the same bytes. Reads only; joins no consumer group. Each part
    names the command that reproduces it.
    """
